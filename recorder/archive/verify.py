"""Verifying: everything in an archive read and held against what its commits say.

What is checked, for every commit: the frames part opens and its pages have their checksums; its rows are the frames
`first` to `last`, of its session and date, and have the commit's digest and counts; each partition holds the commit's
rows, with the commit's digest; every frame that a topic claims has its rows there, and every row its frame. Between
commits: each session's frames follow one another from 0 to its last, in parts and journal together; each session's
predecessor is there up to the frame that its successor names. Beside commits: no file that nobody answers for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from recorder.archive.catalog import FramesPart, frames_parts
from recorder.archive.commit import Commit
from recorder.archive.continuity import check_continuity
from recorder.archive.covered import covered_partitions, covered_rows, partition_key
from recorder.archive.digest import TableDigest, table_digest
from recorder.archive.layout import Layout
from recorder.archive.parts import read_tables
from recorder.archive.reading import Piece, Reader, frame_batches
from recorder.archive.strays import find_strays
from recorder.errors import Damaged
from recorder.protocol.decode import Decoder
from recorder.protocol.tables import FRAMES
from recorder.protocol.topics import Topic, Topics

_SHOWN: Final = 3


class Problem(NamedTuple):
    """Something that is not as it must be: of which kind, where, and what."""

    kind: str
    path: Path
    what: str


class Report(NamedTuple):
    """What a verification found; an archive without problems is whole."""

    commits: int
    frames: int
    rows: int
    problems: list[Problem]
    notes: list[str]


class _Checked(NamedTuple):
    frames: int
    rows: int
    problems: list[Problem]


def verify(layout: Layout, topics: Topics, *, rederive: bool = False, done: Callable[[int], None]) -> Report:
    """Check an archive; `done` hears how many frames were checked so far.

    With `rederive`, the rows of each commit are derived again from its frames and compared. Nothing is changed.
    """
    problems: list[Problem] = []
    parts: list[FramesPart] = []
    for part in frames_parts(layout):
        try:
            part.commit()
        except Damaged as exc:
            problems.append(Problem("damaged", part.path, str(exc)))
        else:
            parts.append(part)
    checker = _Checker(layout, topics, rederive=rederive)
    frames = rows = 0
    with ThreadPoolExecutor(2) as pool:
        for checked in pool.map(checker.check, parts):
            frames += checked.frames
            rows += checked.rows
            problems += checked.problems
            done(frames)
    breaks, notes = check_continuity(
        layout, unreadable={problem.path for problem in problems if problem.kind == "damaged"}
    )
    problems += [Problem("continuity", path, what) for path, what in breaks]
    problems += [Problem(*stray) for stray in find_strays(layout, [part.commit() for part in parts])]
    return Report(len(parts), frames, rows, problems, notes)


class _Checker:
    """Checks one commit at a time."""

    def __init__(self, layout: Layout, topics: Topics, *, rederive: bool) -> None:
        self._layout = layout
        self._topics = topics
        self._rederive = rederive

    def check(self, part: FramesPart) -> _Checked:
        commit = part.commit()
        problems: list[Problem] = []
        claimed = self._check_frames(part, commit, problems)
        rows = 0
        for topic in self._topics:
            if commit.topics.get(topic.name) == topic.fingerprint and claimed is not None:
                rows += self._check_topic(part, commit, topic, claimed.get(topic.name), problems)
        if self._rederive and claimed is not None:
            problems += self._check_rederived(part, commit)
        return _Checked(commit.last - commit.first + 1, rows, problems)

    def _check_frames(
        self, part: FramesPart, commit: Commit, problems: list[Problem]
    ) -> dict[str, npt.NDArray[np.int64]] | None:
        """Check the frames part; give the frames that each topic claims, or None if it cannot be read."""
        digest = TableDigest()
        claims: dict[str, list[npt.NDArray[np.int64]]] = {}
        following = commit.first
        bounds = self._layout.boundary.day_of(commit.ts_min)
        try:
            for table in read_tables(part.path, schema=FRAMES):
                digest.update(table.drop_columns("topic"))
                seq = table["seq"].to_numpy()
                if not np.array_equal(seq, np.arange(following, following + len(seq))):
                    problems.append(Problem("frames", part.path, f"its frames do not follow {following} one by one"))
                    return None
                following += len(seq)
                for name in table["topic"].unique().drop_null().to_pylist():
                    mine = pc.equal(table["topic"], name).fill_null(False)
                    claims.setdefault(name, []).append(seq[mine.to_numpy()])
        except Damaged as exc:
            problems.append(Problem("damaged", part.path, str(exc)))
            return None
        checks = {
            "its frames do not end where its name says": following - 1 == commit.last == part.name.last,
            "its frames are not those of its commit (digest)": digest.hexdigest() == commit.digest,
            f"its frames are of another date than {commit.date}": bounds.date.isoformat() == commit.date == part.date
            and bounds.start <= commit.ts_min <= commit.ts_max < bounds.end,
        }
        problems += [Problem("frames", part.path, what) for what, holds in checks.items() if not holds]
        return {name: np.concatenate(found) for name, found in claims.items()}

    def _check_topic(
        self,
        part: FramesPart,
        commit: Commit,
        topic: Topic,
        claimed: npt.NDArray[np.int64] | None,
        problems: list[Problem],
    ) -> int:
        """Check a topic's partitions; give the number of rows."""
        rows, seqs = 0, [np.empty(0, np.int64)]
        for conid in covered_partitions(commit, topic.name):
            key = partition_key(topic.name, commit.date, conid)
            folder = self._layout.root / key
            try:
                table = covered_rows(self._layout, commit, topic, conid)
            except (Damaged, FileNotFoundError) as exc:
                path = exc.path if isinstance(exc, Damaged) else folder
                problems.append(Problem("damaged", path, str(exc)))
                return rows
            rows += table.num_rows
            seqs.append(table["seq"].to_numpy())
            if table_digest(table) != commit.partitions[key].digest:
                what = (
                    f"rows of frames {commit.first} to {commit.last} of session {commit.session} are not those written"
                )
                problems.append(Problem("rows", folder, what))
        found = np.unique(np.concatenate(seqs))
        expected = np.empty(0, np.int64) if claimed is None else claimed
        problems += self._one_to_one(part, commit, topic, found, expected)
        return rows

    def _one_to_one(
        self,
        part: FramesPart,
        commit: Commit,
        topic: Topic,
        found: npt.NDArray[np.int64],
        expected: npt.NDArray[np.int64],
    ) -> Iterator[Problem]:
        extra = np.setdiff1d(found, expected, assume_unique=True)
        if len(extra):
            what = f"{topic.name} has rows of frames that it does not claim: {_some(extra)}"
            yield Problem("rows", part.path, what)
        missing = np.setdiff1d(expected, found, assume_unique=True)
        if len(missing):
            lost = self._with_rows(part, commit, topic, missing)
            if len(lost):
                yield Problem("rows", part.path, f"{topic.name} lacks the rows of frames {_some(lost)}")

    def _with_rows(
        self, part: FramesPart, commit: Commit, topic: Topic, missing: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Give those of the frames that have rows at all: a frame may rightly have none, such as an empty list."""
        decoder = Decoder(self._topics)
        lost = []
        for batch in frame_batches(_piece(part, commit)):
            inside = missing[(missing >= batch.first_seq) & (missing <= batch.last_seq)]
            if len(inside):
                rows = decoder.decode(batch).rows.get(topic.name)
                seqs = np.empty(0, np.int64) if rows is None else rows.table["seq"].to_numpy()
                lost.append(np.intersect1d(inside, seqs))
        return np.concatenate(lost) if lost else np.empty(0, np.int64)

    def _check_rederived(self, part: FramesPart, commit: Commit) -> Iterator[Problem]:
        reader = Reader(self._layout, self._topics)
        for topic in self._topics:
            if commit.topics.get(topic.name) != topic.fingerprint:
                continue
            table = reader.decode(_piece(part, commit), topic)
            for conid in pc.unique(table["conid"]).to_pylist():
                rows = table.filter(pc.equal(table["conid"], conid)).drop_columns(["date", "conid"])
                info = commit.partitions.get(partition_key(topic.name, commit.date, conid))
                if info is None or info.digest != table_digest(rows):
                    what = f"{topic.name} of contract {conid} is not what its frames decode to"
                    yield Problem("derived", part.path, f"{what}; `recorder rebuild --topic {topic.name}` derives it")


def _piece(part: FramesPart, commit: Commit) -> Piece:
    return Piece(commit.recorder, commit.session, commit.first, part.path, commit)


def _some(seqs: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(str(seq) for seq in seqs[:_SHOWN])
    return f"{shown} … ({len(seqs):,} in all)" if len(seqs) > _SHOWN else shown
