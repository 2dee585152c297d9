"""What the tests and the soak of kills share: what is on disk, what a clean run gives, a sender that logs, rounds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from forge import Forge
from run_delay import Executioner

from recorder.archive.archive_digest import archive_digest
from recorder.archive.archiver import Archiver
from recorder.archive.layout import FRAMES, make_layout, open_layout
from recorder.archive.reading import Reader
from recorder.archive.verify import verify
from recorder.capture import status_file
from recorder.disk import make_folder
from recorder.library import Archive
from recorder.lock import ARCHIVER, CAPTURE, MAINTENANCE
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.segment import Header, Scan, code_of, encode_batch, encode_end, encode_header, segment_name
from recorder.protocol.topics import Topics, load_topics
from recorder.replay.batch import Batch
from recorder.replay.connection import Connection
from recorder.replay.feed import Due, Instrument, Update
from recorder.replay.gateway import Gateway
from recorder.replay.tally import Tally
from recorder.types import Frame

STAYING: Final = {CAPTURE, ARCHIVER, MAINTENANCE, "names.lock", status_file.NAME, status_file.UNFINISHED}
"""What stays in journal/ for good: locks, and what a capture last said of itself, or was saying when it was killed."""
CONIDS: Final = (265598, 8314)
WRITE_WITHIN: Final = 0.05
SYNC_EVERY: Final = 0.25
_PATIENCE: Final = 120.0  # only a failure takes it
SLACK: Final = 0.1
"""Seconds that a machine with work to do may take to carry a frame from the sender to the recorder's clock."""

Frames = dict[tuple[str, int], Frame]
"""Frames by session and sequence number."""


# ------------------------------------------------------------------ what is on disk


def on_disk(root: Path) -> Frames:
    """Read every whole frame in parts and journal, with none of the recorder's readers of archives.

    A segment that was committed and is not removed yet holds what its part does.
    """
    found: Frames = {}
    for path in (root / FRAMES).rglob("*.parquet"):
        table = pq.ParquetFile(path).read(columns=list(Frame._fields))
        stamps = table["ts_recv"].cast(pa.int64())
        table = table.set_column(table.column_names.index("ts_recv"), "ts_recv", stamps)
        for row in table.to_pylist():
            key = row["session"], row["seq"]
            assert key not in found, f"{key} is archived twice"
            found[key] = Frame(**row)
    for path in (root / "journal").rglob("*.seg"):
        scan = Scan(path.read_bytes())
        for batch in scan:
            assert scan.header is not None
            for frame in batch.frames(scan.header.recorder, scan.header.session):
                key = frame.session, frame.seq
                other = found.setdefault(key, frame)
                assert other == frame, f"{key} differs between journal and archive: {other}, {path.name}: {frame}"
    return found


def typed(root: Path) -> dict[str, pa.Table]:
    """Read every partition as any other program would, its rows in the order of frames."""
    tables: dict[str, list[pa.Table]] = {}
    for topic in open_layout(root).topics():
        for path in (root / topic).rglob("*.parquet"):
            tables.setdefault(str(path.parent.relative_to(root)), []).append(pq.ParquetFile(path).read())
    order = [(name, "ascending") for name in ("session", "seq", "item")]
    return {key: pa.concat_tables(parts).sort_by(order) for key, parts in tables.items()}


def strays(root: Path) -> list[str]:
    """List the files that must not be there once everything is archived."""
    found = [path for path in (root / ".tmp").rglob("*") if path.is_file()]
    found += [path for path in (root / "journal").rglob("*") if path.is_file() and path.name not in STAYING]
    found += [path for path in root.glob(".*") if path.is_file()]
    return sorted(str(path.relative_to(root)) for path in found)


class Clean(NamedTuple):
    """What an archive holds that was made of the same frames by a run that nothing disturbed."""

    frames: Frames
    typed: dict[str, pa.Table]
    digest: str


def clean_run(frames: Frames, root: Path, *, topics: Topics | None = None) -> Clean:
    """Archive frames into a new folder; tell what is in it then."""
    topics = topics or load_topics()
    layout = make_layout(root, DayBoundary("00:00 UTC"))
    make_folder(layout.journal("main"), below=root)

    def run_of(frame: Frame) -> tuple[str, str]:
        return frame.session, layout.boundary.day_of(frame.ts_recv).date.isoformat()

    for (session, date), group in groupby((frames[key] for key in sorted(frames)), key=run_of):
        own = list(group)
        header = Header(recorder="main", session=session, first_seq=own[0].seq, date=date)
        columns = zip(*((one.ts_recv, one.conn, code_of(one.kind, one.op), one.data) for one in own), strict=True)
        batch = encode_batch(own[0].seq, *columns)
        path = layout.journal("main") / segment_name(session, own[0].seq)
        path.write_bytes(encode_header(header) + batch + encode_end(own[-1].seq))
    Archiver(layout, topics, "main", tell=lambda _news: None).archive_dead(live=None)
    return Clean(frames, typed(root), digest_of(root, topics))


def digest_of(root: Path, topics: Topics) -> str:
    """Give the archive digest."""
    return archive_digest(Reader(open_layout(root), topics), done=lambda _frames: None).hexdigest()


def assert_readable(root: Path, frames: Frames, case: object) -> None:
    """Check that readers get every frame once and in order, whatever state the archive is in."""
    assert [frames[key] for key in sorted(frames)] == list(Archive(root).frames()), case


def assert_sound(root: Path, clean: Clean, case: object, *, topics: Topics | None = None) -> None:
    """Check an archive after a restart: everything once, tables as of a clean run, nothing broken, nothing left.

    Many kills end in the same archive: what has the very bytes of one that was checked is not read again.
    """
    topics = topics or load_topics()
    state = _state(root), clean.digest, tuple(topic.fingerprint for topic in topics)
    if state in _SOUND:
        return
    assert clean.frames == on_disk(root), case
    assert_readable(root, clean.frames, case)
    assert [] == verify(open_layout(root), topics, rederive=True, done=lambda _frames: None).problems, case
    found = typed(root)
    assert clean.typed.keys() == found.keys(), case
    differing = [key for key, table in clean.typed.items() if not table.equals(found[key])]
    assert [] == differing, (case, differing)
    assert clean.digest == digest_of(root, topics), case
    assert [] == strays(root), case
    _SOUND.add(state)


_SOUND: Final[set[tuple[str, str, tuple[str, ...]]]] = set()


def _state(root: Path) -> str:
    """Digest the names and bytes of all files of an archive, but for the ids of processes in its locks."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.name in STAYING:
            content = re.sub(rb'"pid":\d+', b"", content)
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


# ------------------------------------------------------------------ processes


def archivers(root: Path) -> list[int]:
    """List the archiver processes of an archive."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and os.fsencode(root) in (words := (folder / "cmdline").read_bytes().split(b"\0")):
                found += [int(folder.name)] if b"recorder.archive.follower" in words else []
    return found


async def gone(root: Path) -> None:
    """Wait until no archiver process of an archive is left."""
    async with asyncio.timeout(_PATIENCE):
        while archivers(root):  # noqa: ASYNC110  it is nobody's child here
            await asyncio.sleep(0.02)


def kill(process: int) -> None:
    """Kill a process, if it still runs."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


# ------------------------------------------------------------------ the sender


class Log(Tally):
    """What one connection was sent, and when (seconds since the Unix epoch)."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[float, bytes]] = []

    def take(self, batch: Batch) -> None:
        """Take the next frames in."""
        super().take(batch)
        now = time.time()
        self.sent.extend((now, data) for data in batch.data)


class Sender:
    """A feed of numbered quotes, `rate` of them a second; `logs` are those of its connections, in order."""

    lossless = True

    def __init__(self, *, rate: int) -> None:
        self.accounts: Sequence[str] = ("DU1234",)
        self.instruments: Mapping[int, Instrument] = {
            conid: Instrument(conid=conid, symbol=str(conid), company=str(conid)) for conid in CONIDS
        }
        self.logs: list[Log] = []
        self.numbers = 0
        self.turns: list[float] = []
        self._rate = rate
        self._streams: list[str] = []
        self._since = 0

    def tap(self, gateway: Gateway) -> None:
        """Log what the gateway's clients are sent from now on."""
        join = gateway.hub.join

        def tapped(client: Connection) -> None:
            self.logs.append(Log())
            client.tally = self.logs[-1]
            join(client)

        vars(gateway.hub)["join"] = tapped

    @property
    def wanted(self) -> bool:
        """Whether some client has subscribed to quotes."""
        return bool(self._streams)

    def want(self, streams: Collection[str]) -> None:
        """Take note of the streams that some client has now."""
        self._streams = sorted(stream for stream in streams if stream.startswith("smd+"))
        self._since = 0

    def snapshot(self, stream: str, now: int) -> bytes | None:  # noqa: ARG002  quotes are all there is
        """Give no full frame."""
        return None

    def orders(self, now: int) -> Sequence[Mapping[str, object]]:  # noqa: ARG002  as above
        """Give an order of the day."""
        return [{"acct": "DU1234", "orderId": 1, "conid": CONIDS[0], "status": "Submitted"}]

    async def due(self, now: int) -> Due:
        """Give the quotes that are due since the last call."""
        self.turns.append(time.time())
        self._since = self._since or now
        count = (now - self._since) * self._rate // 1_000_000 if self._streams else 0
        self._since += count * 1_000_000 // self._rate
        updates = [self._quote() for _ in range(min(count, 1_000))]
        return Due(updates, now + 2_000)

    def _quote(self) -> Update:
        self.numbers += 1
        stream = self._streams[self.numbers % len(self._streams)]
        row = {"topic": stream, "conid": int(stream[4:]), "_updated": self.numbers, "84": str(self.numbers / 4)}
        return Update(stream, json.dumps(row).encode())

    def lag(self, moment: float) -> float:
        """Tell the longest pause of this process in the two seconds before a moment: the machine was busy."""
        turns = [moment - 2.0, *(turn for turn in self.turns if moment - 2.0 < turn < moment), moment]
        del self.turns[:-2_000]
        pauses = [after - before for before, after in pairwise(turns[1:])]
        return max(0.0, max(pauses, default=0.0) - 0.01)


def settings(gateway: Gateway, **more: Any) -> dict[str, Any]:
    """Give the settings of a capture, for a forge."""
    return {
        "gateway": gateway.base_url,
        "conid": CONIDS_TEXT,
        "field": ("bid_price",),
        "reconnect_delay": 0.05,
        "flush_every": 0.3,
        **more,
    }


CONIDS_TEXT: Final = tuple(str(conid) for conid in CONIDS)


# ------------------------------------------------------------------ rounds of kills


class Round(NamedTuple):
    """What a kill did: frames on disk after it, frames lost beyond the promise, seconds of the oldest frame lost.

    `allowed` is how old a lost frame may be; `waited` is the part of it that the capture waited for a processor.
    """

    kind: str
    frames: int
    sent: int
    lost: int
    oldest: float
    allowed: float
    waited: float


KINDS: Final = ("capture", "both", "archiver", "power")


def _window(kind: str) -> float:
    """Give the window of the promise, seconds."""
    return SYNC_EVERY if kind == "power" else WRITE_WITHIN


class Rounds:
    """Captures into one archive, each killed at a random time, each the restart of the one before."""

    def __init__(self, forge: Forge, data: Path, gateway: Gateway, sender: Sender, chance: random.Random) -> None:
        self.frames: Frames = {}
        self._forge = forge
        self._data = data
        self._gateway = gateway
        self._sender = sender
        self._chance = chance
        self._masker = Masker()
        self._masker.learn(gateway.identity.session)
        self._syncs = data.with_suffix(".syncs")

    async def kill_one(self, kind: str) -> Round:
        """Start a capture, kill at a random time, and check what is there."""
        chance, sender = self._chance, self._sender
        first_log = len(sender.logs)
        capture = self._forge.start("capture", self._data, syncs=str(self._syncs), **settings(self._gateway))
        executioner = Executioner(capture)
        if kind == "power" or chance.random() < 0.85:  # else it may die in its first moments
            async with asyncio.timeout(_PATIENCE):
                while not sender.wanted:  # noqa: ASYNC110  a feed has no such event
                    await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0.0, 1.2))
        if chance.random() < 0.25:
            await self._gateway.hub.drop_clients(clean=True)
            await asyncio.sleep(chance.uniform(0.0, 0.5))
        if kind == "archiver":
            for process in archivers(self._data):
                kill(process)
            await asyncio.sleep(chance.uniform(0.0, 1.0))
        moment = await asyncio.to_thread(executioner.kill)
        if kind in ("both", "power"):
            for process in archivers(self._data):
                kill(process)
        assert -signal.SIGKILL == await self._forge.ended(capture), self._forge.printed()
        await gone(self._data)
        if kind == "power":
            self._lose_power()
        waited = executioner.granted(_window(kind) + SLACK)
        return self._check(kind, moment, sender.logs[first_log:], waited=waited)

    def _lose_power(self) -> None:
        """Cut what the journal had not synced off the segments that are left."""
        synced: dict[str, int] = {}
        for line in self._syncs.read_text("utf-8").splitlines() if self._syncs.exists() else ():
            size, _, name = line.partition(" ")
            synced[name] = int(size)
        for path in (self._data / "journal").rglob("*.seg"):
            os.truncate(path, min(synced.get(str(path), 0), path.stat().st_size))

    def _check(self, kind: str, moment: float, logs: Sequence[Log], *, waited: float = 0.0) -> Round:
        """Hold what is on disk against what was sent, and against what was there before."""
        frames = on_disk(self._data)
        assert self.frames.items() <= frames.items(), "what was on disk before is there no more"
        self.frames = frames
        allowed = _window(kind) + SLACK + self._sender.lag(moment) + waited
        sent, lost, oldest = 0, 0, 0.0
        session = self._session() if logs else ""
        for conn, log in enumerate(logs, 1):
            given = [(at, self._masker(data)) for at, data in log.sent]
            kept = list(self._received(session, conn))
            assert [data for _, data in given[: len(kept)]] == kept, f"connection {conn} is no prefix of what was sent"
            missing = [moment - at for at, _ in given[len(kept) :]]
            sent += len(given)
            lost += sum(age > allowed for age in missing)
            oldest = max([oldest, *missing])
        return Round(kind, len(frames), sent, lost, oldest, allowed, waited)

    def _received(self, session: str, conn: int) -> Iterator[bytes]:
        for key in sorted(self.frames):
            frame = self.frames[key]
            if frame.session == session and frame.conn == conn and frame.kind == "in":
                yield frame.data

    def _session(self) -> str:
        said = json.loads((self._data / "journal" / "main" / CAPTURE).read_bytes())
        return str(said["session"])

    async def finish(self, folder: Path) -> Round:
        """Let one more capture archive everything, and stop it; check the whole. `folder` takes the clean run."""
        first_log = len(self._sender.logs)
        capture = self._forge.start("capture", self._data, **settings(self._gateway))
        lock = self._data / "journal" / "main" / CAPTURE  # a killed capture's streams may be wanted a moment longer
        async with asyncio.timeout(_PATIENCE):
            while not (lock.exists() and f'"pid":{capture},' in lock.read_text()):  # noqa: ASYNC110  as above
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            while not self._sender.wanted:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        os.kill(capture, signal.SIGTERM)
        assert 0 == await self._forge.ended(capture), self._forge.printed()
        done = self._check("stop", time.time(), self._sender.logs[first_log:])
        assert 0.0 == done.oldest, "a clean stop loses nothing"
        assert_sound(self._data, clean_run(self.frames, folder), "after the last capture")
        return done
