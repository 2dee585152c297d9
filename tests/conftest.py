"""What several tests share: archives, sessions written by the real journal, an emulated gateway, commands."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import settings

from recorder.archive.archiver import Archiver, News
from recorder.archive.catalog import frames_parts
from recorder.archive.commit import Commit
from recorder.archive.layout import Layout, make_layout
from recorder.capture.capture import Capture, Outcome
from recorder.capture.journal import Journal, Limits
from recorder.capture.settings import CaptureSettings
from recorder.disk import make_folder
from recorder.errors import DiskError
from recorder.library import Archive
from recorder.lock import MAINTENANCE, RecorderLock
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.server_requests import STARTS
from recorder.protocol.server_session import Rules
from recorder.protocol.topics import Topics, load_topics
from recorder.recording import record
from recorder.replay.feed import Due, Instrument, Update
from recorder.replay.gateway import Gateway, serve
from recorder.types import Frame, Kind, Op

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""For the hundreds of processes that tests start: threads of numpy that nobody uses cost each of them 0.1 s."""

ROOT: Final = Path(__file__).parent.parent
DAY: Final = 86_400_000_000  # microseconds
NOON: Final = 1_795_176_000_000_000  # 2026-11-20 12:00 UTC, microseconds
SESSION: Final = "20261120T120000aaaa"
AAPL: Final = 265598
IBM: Final = 8314
LIMITS: Final = Limits(
    write_within=0.01, sync_every=0.05, flush_frames=1_000_000, flush_bytes=1 << 30, journal_memory=1 << 28
)
QUICK: Final = Rules(ready_after=20_000)
PATIENCE: Final = 120.0
"""Seconds to wait for what must happen: long, since only a failure takes them, and a loaded machine is no failure."""
END_RECORD: Final = 8 + 9
"""Bytes that a finished segment has and one of a dead session lacks."""


# ------------------------------------------------------------------ archives


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Make an empty archive whose days begin at midnight, UTC."""
    return make_layout(tmp_path / "data", DayBoundary("00:00 UTC"))


settings.register_profile("suite", deadline=None)  # a loaded machine is no failure; speed is the benchmarks' business
settings.load_profile("suite")


@pytest.fixture(scope="session")
def topics() -> Topics:
    """Read the recorder's own topics."""
    return load_topics()


class Given(NamedTuple):
    """One frame to be written: its time in microseconds, its bytes, and what it is."""

    ts: int
    data: bytes
    kind: Kind = "in"
    op: Op = "text"


def quote(number: int, fields: Mapping[str, str] | None = None, *, conid: int = AAPL) -> bytes:
    """Make a frame of market data; by default its bid tells its number."""
    row: dict[str, Any] = {"topic": f"smd+{conid}", "conid": conid, "_updated": NOON // 1000 + number}
    return json.dumps(row | dict(fields or {"84": f"{number / 4}"})).encode()


def quotes(count: int, *, first: int = 0, start: int = NOON, step: int = 1000, conid: int = AAPL) -> list[Given]:
    """Make numbered frames of market data, one each millisecond."""
    return [Given(start + number * step, quote(number, conid=conid)) for number in range(first, first + count)]


def order(order_id: int, **values: Any) -> bytes:
    """Make a frame with one row of an order; without `conid` it is a delta."""
    return json.dumps({"topic": "sor", "args": [{"acct": "DU1", "orderId": order_id, **values}]}).encode()


def write_session(
    layout: Layout,
    frames: Sequence[Given],
    *,
    recorder: str = "main",
    session: str = SESSION,
    limits: Limits = LIMITS,
    rotations: Collection[int] = (),
    dead: bool = False,
) -> list[Path]:
    """Write a session's segments with the real journal; give the paths of the recorder's segments.

    `rotations` are the frames before which the journal is told to rotate. A `dead` session lacks its last end record.
    """
    folder = layout.journal(recorder)
    make_folder(folder, below=layout.root)

    async def write() -> None:
        now = [frames[0].ts]
        journal = Journal(
            folder,
            recorder=recorder,
            session=session,
            boundary=layout.boundary,
            limits=limits,
            on_failure=raise_failure,
            on_pressure=lambda _high: None,
            masker=Masker(),
            now=lambda: now[0] * 1000,
        )
        for number, frame in enumerate(frames):
            if number in rotations:
                journal.rotate()
            now[0] = frame.ts
            journal.note(frame.data, frame.kind, frame.op)
        await journal.close()

    asyncio.run(write())
    paths = layout.segments(recorder)
    if dead:
        cut(paths[-1], END_RECORD)
    return paths


def raise_failure(failure: DiskError) -> None:
    """Let a journal's failure fail the test."""
    raise failure


def miscount_levels(path: Path) -> None:
    """Flip the bit of a part's footer that makes it count repetition levels of a column that has none.

    pyarrow ends the process when it is asked for the metadata of such a column.
    """
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[content.index(b"\x06\x19\x26", footer)] ^= 0x20  # thrift: an empty list, then one of two integers
    path.write_bytes(content)


def cut(path: Path, count: int) -> None:
    """Take bytes off a file's end."""
    os.truncate(path, path.stat().st_size - count)


def archive(layout: Layout, *, recorder: str = "main", tell: Callable[[News], None] | None = None) -> list[Commit]:
    """Archive what is in a recorder's journal, as `recorder flush` does."""
    return Archiver(layout, load_topics(), recorder, tell=tell or (lambda _news: None)).archive_dead(live=None)


@contextmanager
def maintaining(layout: Layout) -> Iterator[None]:
    """Hold the lock that a compaction or a rebuild holds, so that an archiver leaves its folder in `.tmp/` alone."""
    lock = RecorderLock(layout.root / "journal", MAINTENANCE, root=layout.root)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def commits(layout: Layout) -> list[Commit]:
    """Read the footers of all frames parts, in order."""
    return [part.commit() for part in frames_parts(layout)]


def parts(layout: Layout) -> list[str]:
    """List all Parquet files of an archive, finished or not, by path from its folder."""
    return sorted(str(path.relative_to(layout.root)) for path in layout.root.rglob("*.parquet"))


def payloads(root: Path, *, kind: Kind = "in") -> list[bytes]:
    """Read the frames of a kind, in the order of replay."""
    return [frame.data for frame in Archive(root).frames(kinds=[kind])]


def frames_of(root: Path) -> list[Frame]:
    """Read all frames, in the order of replay."""
    return list(Archive(root).frames())


# ------------------------------------------------------------------ event loops


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own, for some minutes at most."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(3 * PATIENCE):
                await test(**fixtures)

        asyncio.run(bounded())

    return run


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.01)


# ------------------------------------------------------------------ the gateway's side


class Script:
    """A feed that sends exactly what a test tells it to, in that order.

    What is pushed before anybody ever subscribed to its stream waits for the first who does: a capture that has just
    logged in may be a moment away from that.
    """

    lossless = True

    def __init__(self, *, orders: Iterable[Mapping[str, object]] = ()) -> None:
        self.accounts: Sequence[str] = ("DU1234",)
        self.instruments: Mapping[int, Instrument] = {
            conid: Instrument(conid=conid, symbol=symbol, company=symbol)
            for conid, symbol in ((AAPL, "AAPL"), (IBM, "IBM"))
        }
        self.wanted: set[str] = set()
        self._known: set[str] = set()
        self._orders = list(orders)
        self._queue: list[Update] = []

    def push(self, stream: str, *frames: bytes) -> None:
        """Send frames to whoever has the stream; one that cannot be subscribed to goes to all."""
        self._queue.extend(Update(stream, data) for data in frames)

    def want(self, streams: Collection[str]) -> None:
        """Take note of all streams that some client has now."""
        self.wanted = set(streams)
        self._known |= self.wanted

    def snapshot(self, stream: str, now: int) -> bytes | None:  # noqa: ARG002  a script knows no state
        """Give no full frame."""
        return None

    def orders(self, now: int) -> Sequence[Mapping[str, object]]:  # noqa: ARG002  as above
        """Give the rows of the orders of the day."""
        return self._orders

    async def due(self, now: int) -> Due:
        """Give what was pushed."""
        ready = len(self._queue)
        for number, update in enumerate(self._queue):
            if update.stream[:3] in STARTS and update.stream not in self._known:
                ready = number
                break
        updates, self._queue = self._queue[:ready], self._queue[ready:]
        return Due(updates, now + 2_000)


@asynccontextmanager
async def gateway_with(
    feed: Script, *, rules: Rules = QUICK, binary: bool = False, session: str | None = None, port: int = 0
) -> AsyncIterator[Gateway]:
    """Serve a script."""
    async with serve(feed, rules=rules, binary=binary, session=session, port=port) as gateway:
        yield gateway


# ------------------------------------------------------------------ the recorder's side


class Recording:
    """A capture that runs in the test's own loop, with an archiver process of its own."""

    def __init__(self, settings: CaptureSettings) -> None:
        self.settings = settings
        self.capture: Capture
        self._task: asyncio.Task[Outcome]

    async def start(self) -> None:
        """Start it, and wait until it has subscribed."""
        made: asyncio.Future[Capture] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(record(self.settings, ready=made.set_result))
        await eventually(lambda: self._task.done() or made.done())
        if not made.done():
            await self._task
        self.capture = await made
        await eventually(lambda: self._task.done() or self.state == "recording")
        if self._task.done():
            await self._task

    @property
    def state(self) -> str:
        """What the capture is doing."""
        return self.capture.counters.state

    @property
    def received(self) -> int:
        """How many frames it received."""
        return self.capture.counters.received

    async def ended(self) -> Outcome:
        """Wait until it ends by itself."""
        return await self._task

    async def stop(self) -> Outcome:
        """Stop it."""
        self.capture.stop("the test is over")
        return await self._task


def settings_for(gateway: Gateway | str, data: Path, **settings: Any) -> CaptureSettings:
    """Make the settings of a quick capture."""
    url = gateway if isinstance(gateway, str) else gateway.base_url
    quick: dict[str, Any] = {"conid": (str(AAPL),), "write_within": 0.01, "reconnect_delay": 0.05}
    return CaptureSettings(gateway=url, data=data, **quick | settings)


@asynccontextmanager
async def recording(settings: CaptureSettings) -> AsyncIterator[Recording]:
    """Record while the context lasts; it is stopped at the end unless it was before."""
    running = Recording(settings)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


# ------------------------------------------------------------------ the command line


class Ended(NamedTuple):
    """A command that has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def command(*arguments: str) -> list[str]:
    """Give the command line of a recorder's command."""
    return [sys.executable, "-W", "error", "-c", "from recorder.cli.main import main; main()", *arguments]


def environment() -> dict[str, str]:
    """Give the environment of a command: this checkout, and no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECORDER_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start a command in a folder, as the leader of a process group of its own."""
    return await asyncio.create_subprocess_exec(
        *command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def end(process: asyncio.subprocess.Process) -> Ended:
    """Wait until a command ends."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(folder: Path, *arguments: str) -> Ended:
    """Run a command in a folder."""
    return await end(await start(folder, *arguments))


def at(text: str) -> int:
    """Give a time, UTC, as microseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000
