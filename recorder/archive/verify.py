"""Verifying: everything in an archive read and held against what its commits say.

What is checked, for every commit: the frames part opens, has its schema, and its pages have their checksums; its rows
are the frames `first` to `last`, of its recorder, session and date, and have the commit's digest, counts and late runs;
each partition holds the commit's rows, with the commit's digest; every frame that a topic claims has its rows there,
and every row its frame; what footers say of columns is so. Between commits: each session's frames follow one another
from 0 to its last, in parts and journal together; each session's predecessor is there up to the frame that its
successor names. Beside commits: no file that nobody answers for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.catalog import FramesPart, frames_parts
from recorder.archive.commit import Commit
from recorder.archive.continuity import check_continuity
from recorder.archive.covered import covered_partitions, covering_parts, partition_key
from recorder.archive.digest import TableDigest
from recorder.archive.frames_check import FramesCheck
from recorder.archive.holes import Hole
from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, frame_batches
from recorder.archive.reading import Reader
from recorder.archive.rederivation import rederive
from recorder.archive.statistics import checked_tables
from recorder.archive.strays import find_strays
from recorder.errors import Damaged
from recorder.protocol.decode import Decoder
from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Topic, Topics

_SHOWN: Final = 3
_TRIES: Final = 100


class Problem(NamedTuple):
    """Something that is not as it must be: of which kind, where, and what."""

    kind: str
    path: Path
    what: str


class Report(NamedTuple):
    """What a verification found; an archive without problems is whole, but for known `holes`."""

    commits: int
    frames: int
    rows: int
    problems: list[Problem]
    notes: list[str]
    holes: list[Hole]


class _Checked(NamedTuple):
    frames: int
    rows: int
    problems: list[Problem]


def verify(layout: Layout, topics: Topics, *, rederive: bool = False, done: Callable[[int], None]) -> Report:
    """Check an archive; `done` hears how many frames were checked so far.

    With `rederive`, the rows of each commit are derived again from its frames and compared. Nothing is changed. What
    a flush adds meanwhile may be left out, what a compaction replaces is checked as it is then.
    """
    problems: dict[Path, Problem] = {}
    results: dict[FramesPart, _Checked] = {}
    checker = _Checker(layout, topics, rederive=rederive)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(_TRIES):
            parts = _readable(layout, problems)
            fresh = [part for part in parts if part not in results]
            if not fresh:
                break
            for part, checked in zip(fresh, pool.map(checker.check, fresh), strict=True):
                if checked is not None:
                    results[part] = checked
                    done(sum(found.frames for found in results.values()))
    found = [results.get(part, _gone(part)) for part in parts]
    listed = [*problems.values(), *(problem for checked in found for problem in checked.problems)]
    continuity = check_continuity(layout)
    listed += [Problem(one.kind, one.path, one.what) for one in continuity.breaks]
    broken = {problem.path for problem in listed if problem.kind == "damaged"}
    listed += [Problem(*stray) for stray in find_strays(layout, damaged=broken)]
    frames, rows = sum(checked.frames for checked in found), sum(checked.rows for checked in found)
    return Report(len(parts), frames, rows, list(dict.fromkeys(listed)), continuity.notes, continuity.holes)


def _readable(layout: Layout, problems: dict[Path, Problem]) -> list[FramesPart]:
    """List the frames parts whose commits can be read, and note those that cannot."""
    while True:
        parts = frames_parts(layout, ignoring=problems)
        known = len(problems)
        try:
            for part in parts:
                try:
                    part.commit()
                except Damaged as exc:
                    problems[part.path] = Problem("damaged", part.path, str(exc))
        except FileNotFoundError:
            continue
        if len(problems) == known:
            return parts


def _gone(part: FramesPart) -> _Checked:
    return _Checked(0, 0, [Problem("damaged", part.path, "files of it vanish faster than they can be read")])


class _Checker:
    """Checks one commit at a time."""

    def __init__(self, layout: Layout, topics: Topics, *, rederive: bool) -> None:
        self._layout = layout
        self._topics = topics
        self._rederive = rederive

    def check(self, part: FramesPart) -> _Checked | None:
        """Check a commit; None if a file vanished, because something else came in its place."""
        try:
            return self._check(part, part.commit())
        except FileNotFoundError:
            return None

    def _check(self, part: FramesPart, commit: Commit) -> _Checked:
        frames = FramesCheck(self._layout, part.path, commit)
        try:
            frames.read()
        except Damaged as exc:
            return _Checked(0, 0, [Problem("damaged", part.path, str(exc))])
        problems = [Problem("frames", part.path, what) for what in frames.problems]
        rows = 0
        for topic in self._topics:
            if commit.topics.get(topic.name) == topic.fingerprint and frames.in_order:
                rows += self._check_topic(part, commit, topic, frames.claims(topic.name), problems)
        if self._rederive and frames.in_order:
            reader = Reader(self._layout, self._topics)
            try:
                problems += [Problem("derived", part.path, what) for what in rederive(reader, _piece(part, commit))]
            except Damaged as exc:
                what = f"its rows cannot be derived again before {exc.path} is repaired"
                problems.append(Problem("derived", part.path, what))
        return _Checked(commit.last - commit.first + 1, rows, problems)

    def _check_topic(
        self, part: FramesPart, commit: Commit, topic: Topic, claimed: npt.NDArray[np.int64], problems: list[Problem]
    ) -> int:
        """Check a topic's partitions; give the number of rows."""
        rows, seqs = 0, [np.empty(0, np.int64)]
        whole = True
        for conid in covered_partitions(commit, topic.name):
            try:
                for table in self._share(commit, topic, conid):
                    rows += table.num_rows
                    seqs.append(table["seq"].to_numpy())
            except Damaged as exc:
                problems.append(Problem("damaged", exc.path, str(exc)))
                whole = False
        if whole:
            problems += self._one_to_one(part, commit, topic, np.unique(np.concatenate(seqs)), claimed)
        return rows

    def _share(self, commit: Commit, topic: Topic, conid: int) -> Iterator[pa.Table]:
        """Read a commit's rows of a partition; `Damaged` if they are not those that were written."""
        key = partition_key(topic.name, commit.date, conid)
        parts, digest = covering_parts(self._layout, commit, topic, conid), TableDigest()
        for path, _ in parts:
            for table in checked_tables(path, topic_schema(topic), fingerprint=topic.fingerprint):
                seq = table["seq"].to_numpy()
                begin, end = np.searchsorted(seq, commit.first), np.searchsorted(seq, commit.last, side="right")
                digest.update(table.slice(begin, end - begin))
                yield table.slice(begin, end - begin)
        info = commit.partitions[key]
        if (digest.rows, digest.hexdigest()) == (info.rows, info.digest):
            return
        if covering_parts(self._layout, commit, topic, conid) != parts:
            raise FileNotFoundError(f"{key} was replaced meanwhile")
        found = (
            f"{digest.rows:,} rows, where {info.rows:,} were" if digest.rows != info.rows else "other rows than were"
        )
        whose = f"of frames {commit.first} to {commit.last} of session {commit.session}"
        where = parts[0][0] if len(parts) == 1 else self._layout.root / key
        raise _damaged(where, f"it holds {found} written {whose}")

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


def _piece(part: FramesPart, commit: Commit) -> Piece:
    return Piece(commit.recorder, commit.session, commit.first, part.path, commit)


def _damaged(path: Path, what: str) -> Damaged:
    return Damaged(what, path=path, offset=0)


def _some(seqs: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(str(seq) for seq in seqs[:_SHOWN])
    return f"{shown} … ({len(seqs):,} in all)" if len(seqs) > _SHOWN else shown
