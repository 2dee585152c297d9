"""The inventory: what an archive holds, counted.

1. Of what is archived only footers are read, of the journal every frame is decoded.
2. Nothing is changed and no lock is taken: a capture that runs is not disturbed.
3. A file that vanishes meanwhile has become something else; the count begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from recorder.archive.catalog import foreign_schema
from recorder.archive.commit import Commit
from recorder.archive.footers import Partitions, unclaimed_frames
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, list_pieces
from recorder.errors import Damaged
from recorder.protocol.decode import Decoded, Decoder
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.segment import FrameBatch, gathered
from recorder.protocol.topics import Topic, Topics
from recorder.types import KINDS, Frame

SAMPLES: Final = 5
"""How many of the unclaimed frames are given."""
_TRIES: Final = 20

End = Literal["clean", "torn", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session: its first and last ts_recv, its frames by kind, and how it ended.

    `end` is `clean` if its last segment has its end record, `torn` if a segment broke off (`torn` says how), `open` if
    it is in the journal without one: it runs, or died and was not archived yet.
    """

    recorder: str
    session: str
    first: int | None
    last: int | None
    kinds: dict[str, int]
    end: End
    torn: str | None

    @property
    def frames(self) -> int:
        """Frames of all kinds."""
        return sum(self.kinds.values())


@dataclass(slots=True)
class TopicCount:
    """One topic: where it has rows, how many (in parts, and in the journal), and what its parts take on disk.

    `first` and `last` bound the ts_recv of its rows. `undecoded` counts received frames, or items of them, that it
    claims and that gave no row. `underived` counts archived frames of it whose rows are not in parts under our schema:
    reading decodes them again. `differs` is a part with another schema.
    """

    topic: str
    dates: set[str] = field(default_factory=set)
    conids: set[int] = field(default_factory=set)
    rows: int = 0
    journal_rows: int = 0
    first: int | None = None
    last: int | None = None
    parts: int = 0
    bytes: int = 0
    undecoded: int = 0
    underived: int = 0
    differs: Path | None = None


@dataclass(slots=True)
class Inventory:
    """What an archive holds. Frames `in_journal` are those not archived yet; sizes are bytes on disk.

    `samples` are the first few of the `unclaimed` frames: received, and of no topic that is known.
    """

    sessions: list[Session] = field(default_factory=list)
    topics: dict[str, TopicCount] = field(default_factory=dict)
    archived: int = 0
    parts: int = 0
    part_bytes: int = 0
    in_journal: int = 0
    segments: int = 0
    segment_bytes: int = 0
    unclaimed: int = 0
    samples: list[Frame] = field(default_factory=list)
    quarantined: list[Path] = field(default_factory=list)


def take_inventory(
    layout: Layout,
    topics: Topics,
    *,
    session: str | None = None,
    date: str | None = None,
    watch: Callable[[float], None] = lambda _bytes: None,
) -> Inventory:
    """Count what an archive holds, or one session or date (`2026-11-22`) of it.

    `watch` hears how many bytes of the journal were read so far. `Damaged` names a file that cannot be read, or that
    is gone for good.
    """
    for _ in range(_TRIES):
        try:
            return _Count(layout, topics, session, date, watch).take()
        except FileNotFoundError as exc:
            gone = Path(exc.filename) if exc.filename else layout.root
    raise Damaged("the file is missing", path=gone, offset=0, hint="restore it from a copy")


class _Count:
    """One attempt at the inventory."""

    def __init__(
        self, layout: Layout, topics: Topics, session: str | None, date: str | None, watch: Callable[[float], None]
    ) -> None:
        self._layout = layout
        self._topics = topics
        self._session = session
        self._date = date
        self._watch = watch
        self._found = Inventory()
        self._commits: list[Commit] = []
        self._read = 0

    def take(self) -> Inventory:
        found = self._found
        for _, pieces in sorted(list_pieces(self._layout).items()):
            sessions: dict[str, _SessionCount] = {}
            for piece in pieces:
                counted = sessions.setdefault(piece.session, _SessionCount(piece.recorder, piece.session))
                if piece.commit is not None:
                    counted.state = piece.commit.state
                    self._add_commit(piece, piece.commit, counted)
                elif self._session in (None, piece.session):
                    self._add_segment(piece, counted)
            found.sessions += [one.session() for one in sessions.values() if one.frames]
        for topic in self._topics:
            self._note_schema(topic)
        self._add_partitions()
        if self._layout.quarantine.is_dir():
            found.quarantined = sorted(path for path in self._layout.quarantine.iterdir() if path.is_file())
        return found

    def _topic(self, name: str) -> TopicCount:
        return self._found.topics.setdefault(name, TopicCount(name))

    def _add_commit(self, piece: Piece, commit: Commit, counted: _SessionCount) -> None:
        if self._session not in (None, commit.session) or self._date not in (None, commit.date):
            return
        found = self._found
        self._commits.append(commit)
        counted.add(commit.kinds, commit.ts_min, commit.ts_max)
        counted.end, counted.torn = ("clean" if commit.torn is None else "torn"), commit.torn
        found.archived += commit.last - commit.first + 1
        found.parts += 1
        found.part_bytes += piece.path.stat().st_size
        found.unclaimed += commit.unclaimed
        for name, missed in commit.undecoded.items():
            self._topic(name).undecoded += missed
        for name, frames in commit.claimed.items():
            known = name in self._topics and commit.topics.get(name) == self._topics[name].fingerprint
            self._topic(name).underived += 0 if known else frames
        for name, rows in commit.rows.items():
            self._topic(name).rows += rows
        if commit.unclaimed and len(found.samples) < SAMPLES:
            self._add_samples(unclaimed_frames(piece, most=SAMPLES))

    def _add_partitions(self) -> None:
        """Count the typed parts that commits answer for."""
        partitions = Partitions(self._layout, self._commits)
        for name, date, conid, sizes in partitions.sizes():
            count = self._topic(name)
            count.dates.add(date)
            count.conids.add(conid)
            count.parts += len(sizes)
            count.bytes += sum(sizes)
        for count in self._found.topics.values():
            count.first, count.last = partitions.bounds(count.topic, count.first, count.last)

    def _add_segment(self, piece: Piece, counted: _SessionCount) -> None:
        found, decoder = self._found, Decoder(self._topics, counted.state)
        size = piece.path.stat().st_size
        reader, date = SegmentReader(piece.path), self._date
        for batch in gathered(reader.batches()):
            assert reader.header is not None, "a segment's batches follow its header"
            decoded, date = decoder.decode(batch), reader.header.date
            if self._date in (None, date):
                self._add_batch(piece, batch, decoded, date)
                kinds = np.bincount(batch.code % 8, minlength=len(KINDS)).tolist()
                counted.add(dict(zip(KINDS, kinds, strict=True)), int(batch.ts_recv.min()), int(batch.ts_recv.max()))
                found.in_journal += len(batch)
            self._watch(self._read + reader.offset)
        self._read += size
        counted.state = decoder.state
        if self._date in (None, date):
            found.segments += 1
            found.segment_bytes += size
            counted.end, counted.torn = ("clean" if reader.finished else "open"), None

    def _add_batch(self, piece: Piece, batch: FrameBatch, decoded: Decoded, date: str) -> None:
        for name, missed in decoded.undecoded.items():
            self._topic(name).undecoded += missed
        for name, rows in decoded.rows.items():
            count = self._topic(name)
            count.dates.add(date)
            count.conids.update(np.unique(rows.conid).tolist())
            count.journal_rows += len(rows.conid)
            stamps = np.asarray(rows.table["ts_recv"].cast(pa.int64()))
            low, high = int(stamps.min()), int(stamps.max())
            count.first = low if count.first is None else min(count.first, low)
            count.last = high if count.last is None else max(count.last, high)
        received = batch.code % 8 == KINDS.index("in")
        places = np.flatnonzero(received & np.asarray(decoded.frame_topics.is_null()))
        self._found.unclaimed += len(places)
        if len(places) and len(self._found.samples) < SAMPLES:
            frames = list(batch.frames(piece.recorder, piece.session))
            self._add_samples(frames[place] for place in places[:SAMPLES].tolist())

    def _add_samples(self, frames: Iterable[Frame]) -> None:
        samples = self._found.samples
        samples += list(frames)[: SAMPLES - len(samples)]

    def _note_schema(self, topic: Topic) -> None:
        differs = foreign_schema(self._layout, topic)
        if differs is not None:
            self._topic(topic.name).differs = differs


@dataclass(slots=True)
class _SessionCount:
    """A session while it is counted."""

    recorder: str
    name: str
    frames: int = 0
    first: int | None = None
    last: int | None = None
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    end: End = "open"
    torn: str | None = None
    state: DecodingState = field(default_factory=DecodingState)

    def add(self, kinds: dict[str, int], first: int, last: int) -> None:
        for kind, count in kinds.items():
            self.kinds[kind] += count
            self.frames += count
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def session(self) -> Session:
        return Session(
            recorder=self.recorder,
            session=self.name,
            first=self.first,
            last=self.last,
            kinds=self.kinds,
            end=self.end,
            torn=self.torn,
        )
