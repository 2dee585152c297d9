"""Verifying: everything in an archive read and held against what its commits say.

What is checked, for every commit: the frames part opens, has its schema, and its pages have their checksums; its rows
are the frames `first` to `last`, of its recorder, session and date, and have the commit's digest, counts and late runs;
each partition holds the commit's rows, with the commit's digest; every frame that a topic claims has its rows there,
and every row its frame; what footers say of columns is so. Between commits: each session's frames follow one another
from 0 to its last, in parts and journal together; each session's predecessor is there up to the frame that its
successor names. Beside commits: no file that nobody answers for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recorder.archive.catalog import FramesPart, frames_parts
from recorder.archive.commit import Commit
from recorder.archive.continuity import check_continuity
from recorder.archive.covered import covered_partitions, covering_parts, partition_key
from recorder.archive.digest import TableDigest
from recorder.archive.frames_check import FramesCheck
from recorder.archive.holes import Hole
from recorder.archive.layout import Layout
from recorder.archive.ledger_check import Mark, check_ledger
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
_WORKERS: Final = 2
_AHEAD: Final = 2  # commits that are read while one is judged


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
    marks: list[Mark] | None = None


def verify(layout: Layout, topics: Topics, *, rederive: bool = False, done: Callable[[int], None]) -> Report:
    """Check an archive; `done` hears how many frames were checked so far.

    With `rederive`, the rows of each commit are derived again from its frames and compared. Nothing is changed. What
    a flush adds meanwhile may be left out, what a compaction replaces is checked as it is then.
    """
    problems: dict[Path, Problem] = {}
    results: dict[FramesPart, _Checked] = {}
    pool = ThreadPoolExecutor(_WORKERS)
    checker = _Checker(layout, topics, pool, rederive=rederive)
    try:
        for _ in range(_TRIES):
            parts = _readable(layout, problems)
            fresh = [part for part in parts if part not in results]
            if not fresh:
                break
            for part, checked in zip(fresh, checker.check_all(fresh), strict=True):
                if checked is not None:
                    results[part] = checked
                    done(sum(found.frames for found in results.values()))
    finally:
        pool.shutdown(cancel_futures=True)
    found = [results.get(part, _gone(part)) for part in parts]
    listed = [*problems.values(), *(problem for checked in found for problem in checked.problems)]
    continuity = check_continuity(layout)
    listed += [Problem(one.kind, one.path, one.what) for one in continuity.breaks]
    broken = {problem.path for problem in listed if problem.kind == "damaged"}
    listed += [Problem(*stray) for stray in find_strays(layout, damaged=broken)]
    marks = {part.path: checked.marks for part, checked in results.items() if checked.marks is not None}
    listed += [Problem("gaps", *misfit) for misfit in check_ledger(layout, marks)]
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


class _Shares(NamedTuple):
    """A commit's rows of a topic, partition by partition; `found` has a flag for each frame that has any."""

    topic: Topic
    found: npt.NDArray[np.bool_]
    jobs: list[Future[int]]


class _Reading(NamedTuple):
    """A commit whose frames and partitions are being read, side by side."""

    part: FramesPart
    commit: Commit
    frames: FramesCheck
    read: Future[None]
    shares: list[_Shares]


class _Checker:
    """Checks commits: what they consist of is read in the pool, a commit ahead of the one that is judged."""

    def __init__(self, layout: Layout, topics: Topics, pool: Executor, *, rederive: bool) -> None:
        self._layout = layout
        self._topics = topics
        self._pool = pool
        self._rederive = rederive
        self._schemas = {topic.name: topic_schema(topic) for topic in topics}

    def check_all(self, parts: Sequence[FramesPart]) -> Iterator[_Checked | None]:
        """Check commits; None for each of which a file vanished, because something else came in its place."""
        begun: deque[_Reading | None] = deque()
        for part in parts:
            begun.append(self._begin(part))
            if len(begun) > _AHEAD:
                yield self._end(begun.popleft())
        while begun:
            yield self._end(begun.popleft())

    def _begin(self, part: FramesPart) -> _Reading | None:
        try:
            commit = part.commit()
        except FileNotFoundError:
            return None
        frames = FramesCheck(self._layout, part.path, commit)
        read = self._pool.submit(frames.read)
        shares = []
        for topic in self._topics:
            if commit.topics.get(topic.name) == topic.fingerprint:
                found = np.zeros(commit.last - commit.first + 1, bool)
                conids = covered_partitions(commit, topic.name)
                jobs = [self._pool.submit(self._share, commit, topic, conid, found) for conid in conids]
                shares.append(_Shares(topic, found, jobs))
        return _Reading(part, commit, frames, read, shares)

    def _end(self, reading: _Reading | None) -> _Checked | None:
        if reading is None:
            return None
        try:
            return self._judge(reading)
        except FileNotFoundError:
            return None

    def _judge(self, reading: _Reading) -> _Checked:
        part, commit, frames = reading.part, reading.commit, reading.frames
        try:
            reading.read.result()
        except Damaged as exc:
            return _Checked(0, 0, [Problem("damaged", part.path, str(exc))])
        problems = [Problem("frames", part.path, what) for what in frames.problems]
        rows = 0
        if frames.in_order:
            for shares in reading.shares:
                rows += self._judge_topic(reading, shares, problems)
        if self._rederive and frames.in_order:
            reader = Reader(self._layout, self._topics)
            try:
                problems += [Problem("derived", part.path, what) for what in rederive(reader, _piece(part, commit))]
            except Damaged as exc:
                what = f"its rows cannot be derived again before {exc.path} is repaired"
                problems.append(Problem("derived", part.path, what))
        return _Checked(commit.last - commit.first + 1, rows, problems, frames.marks if frames.in_order else None)

    def _judge_topic(self, reading: _Reading, shares: _Shares, problems: list[Problem]) -> int:
        """Judge a topic's partitions; give the number of rows of those that are whole."""
        rows, whole = 0, True
        for job in shares.jobs:
            try:
                rows += job.result()
            except Damaged as exc:
                problems.append(Problem("damaged", exc.path, str(exc)))
                whole = False
        if whole:
            problems += self._one_to_one(reading, shares)
        return rows

    def _share(self, commit: Commit, topic: Topic, conid: int, found: npt.NDArray[np.bool_]) -> int:
        """Read a commit's rows of a partition, and flag their frames; give their number.

        `Damaged` if they are not those that were written.
        """
        key = partition_key(topic.name, commit.date, conid)
        parts, digest = covering_parts(self._layout, commit, topic, conid), TableDigest()
        seqs = [np.empty(0, np.int64)]
        for path, _ in parts:
            for table, laid_out in checked_tables(path, self._schemas[topic.name], fingerprint=topic.fingerprint):
                seq = table["seq"].to_numpy()
                begin, end = np.searchsorted(seq, commit.first), np.searchsorted(seq, commit.last, side="right")
                if end - begin == len(seq):
                    digest.take(laid_out, len(seq))
                else:
                    digest.update(table.slice(begin, end - begin))
                seqs.append(seq[begin:end] - commit.first)
        info = commit.partitions[key]
        if (digest.rows, digest.hexdigest()) == (info.rows, info.digest):
            places = np.concatenate(seqs)
            if len(places) and (places.min() < 0 or places.max() >= len(found)):
                raise _damaged(parts[0][0], "its rows are not in the order of frames")
            found[places] = True
            return digest.rows
        if covering_parts(self._layout, commit, topic, conid) != parts:
            raise FileNotFoundError(f"{key} was replaced meanwhile")
        counts = f"{digest.rows:,} rows, where {info.rows:,} were"
        holds = counts if digest.rows != info.rows else "other rows than were"
        whose = f"of frames {commit.first} to {commit.last} of session {commit.session}"
        where = parts[0][0] if len(parts) == 1 else self._layout.root / key
        raise _damaged(where, f"it holds {holds} written {whose}")

    def _one_to_one(self, reading: _Reading, shares: _Shares) -> Iterator[Problem]:
        """Hold the frames that have rows against those that the topic claims."""
        part, commit, topic, found = reading.part, reading.commit, shares.topic, shares.found
        claimed = reading.frames.claims(topic.name)
        extra = np.flatnonzero(found & ~claimed) + commit.first
        if len(extra):
            what = f"{topic.name} has rows of frames that it does not claim: {_some(extra)}"
            yield Problem("rows", part.path, what)
        missing = np.flatnonzero(claimed & ~found) + commit.first
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
