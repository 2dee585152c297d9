"""Pieces: the runs of frames that are on disk, in committed parts and in the journal, and how they are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.archive.catalog import FramesPart, frames_parts
from recorder.archive.commit import Commit, damage
from recorder.archive.holes import Hole, known_from, read_holes
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import FRAMES, Layout
from recorder.archive.parts import check_schema, coded_schema
from recorder.errors import Damaged
from recorder.protocol.segment import CHUNK, FrameBatch, code_of_places, gathered
from recorder.protocol.tables import FRAMES as FRAMES_SCHEMA
from recorder.types import KINDS, OPS

_CODED: Final = ["kind", "op"]
_COLUMNS: Final = ("ts_recv", "seq", "conn", "kind", "op", "data")


class Piece(NamedTuple):
    """A run of one session's frames on disk: a committed part, or a segment of the journal.

    `following` is the first frame of the session's next piece; None if there is none yet. `lost` frames before the
    piece, and `lost_behind` frames before the next one, are known to be lost.
    """

    recorder: str
    session: str
    first: int
    path: Path
    commit: Commit | None
    following: int | None = None
    lost: int = 0
    lost_behind: int = 0

    def touches(self, start: int | None, end: int | None) -> bool:
        """Say whether any frame may lie between two stamps; of a segment that is not known before it is read."""
        if self.commit is None:
            return True
        return (start is None or self.commit.ts_max >= start) and (end is None or self.commit.ts_min < end)


def list_pieces(layout: Layout, *, damaged: list[Damaged] | None = None) -> dict[str, list[Piece]]:
    """List what is on disk by recorder, in order; lists again when a file vanishes meanwhile.

    A frames part whose footer cannot be read is left out and added to `damaged`, or raised if there is no such list.
    """
    ignored: list[Damaged] = []
    while True:
        try:
            return _list_pieces(layout, {exc.path for exc in ignored})
        except FileNotFoundError:
            continue
        except Damaged as exc:
            if damaged is None:
                raise
            ignored.append(exc)
            damaged.append(exc)


def _list_pieces(layout: Layout, ignored: Collection[Path]) -> dict[str, list[Piece]]:
    segments = {recorder: layout.segments(recorder) for recorder in layout.recorders()}
    pieces: dict[str, list[Piece]] = {}
    covered = set()
    for part in _frames_parts(layout, ignored):
        commit = part.commit()
        covered.add((commit.session, commit.first))
        pieces.setdefault(commit.recorder, []).append(
            Piece(commit.recorder, commit.session, commit.first, part.path, commit)
        )
    for recorder, paths in segments.items():
        for path in paths:
            reader = SegmentReader(path)
            if (reader.session, reader.first_seq) not in covered:
                piece = Piece(recorder, reader.session, reader.first_seq, path, None)
                pieces.setdefault(recorder, []).append(piece)
    holes = read_holes(layout)  # last: a repair notes a hole before it makes it
    return {recorder: _linked(found, holes) for recorder, found in pieces.items()}


def _frames_parts(layout: Layout, ignored: Collection[Path]) -> list[FramesPart]:
    """List the frames parts; once more if a folder was exchanged meanwhile, which could hide some of them."""
    while True:
        before = _folders(layout)
        parts = frames_parts(layout, ignoring=ignored)
        if before == _folders(layout):
            return parts


def _folders(layout: Layout) -> dict[str, int]:
    return {date: layout.frames(date).stat().st_ino for date in layout.dates(FRAMES)}


def _linked(pieces: list[Piece], holes: list[Hole]) -> list[Piece]:
    ordered = sorted(pieces, key=lambda piece: (piece.session, piece.first))
    if holes:
        ordered = [
            piece._replace(lost=piece.first - known_from(holes, piece.session, piece.first)) for piece in ordered
        ]
    linked = [
        piece._replace(following=after.first, lost_behind=after.lost) if after.session == piece.session else piece
        for piece, after in pairwise(ordered)
    ]
    return [*linked, ordered[-1]]


def check_holes(pieces: Iterable[Piece], start: int | None, end: int | None) -> None:
    """Raise `Damaged` if frames between two stamps are missing among a recorder's committed pieces, or are there twice.

    What is missing came behind the last stamp before the hole and before the first one behind it. Known holes are none.
    """
    before: Piece | None = None
    for piece in pieces:
        what = hole(_end(before, piece), piece)
        if what is not None:
            lowest = before.commit.ts_max if before is not None and before.commit is not None else None
            highest = piece.commit.ts_min if piece.commit is not None else None
            if (start is None or highest is None or start <= highest) and (
                end is None or lowest is None or end > lowest
            ):
                hint = (
                    "restore the file, or let `recorder verify --repair` note the hole;"
                    " before and behind it can be read with start and end"
                )
                raise Damaged(what, path=piece.path, offset=0, hint=hint)
        before = piece


def _end(before: Piece | None, piece: Piece) -> int:
    """Give the frame that follows the piece before; how far a segment goes shows when it is read."""
    if before is None or before.session != piece.session:
        return 0
    return piece.first if before.commit is None else before.commit.last + 1


def hole(expected: int, piece: Piece) -> str | None:
    """Say what is wrong if a piece does not begin with the frame that is expected, nor behind a known hole."""
    if piece.first - piece.lost <= expected <= piece.first:
        return None
    first, last = sorted((expected, piece.first))
    what = "are missing before it" if piece.first > expected else "are there twice"
    return f"frames {first} to {last - 1} of session {piece.session} {what}"


def frame_batches(piece: Piece) -> Iterator[FrameBatch]:
    """Give a piece's frames in batches of some ten thousand; `Damaged` if they are not all there."""
    if piece.commit is None:
        return read_on(piece, SegmentReader(piece.path))
    return _of_part(piece.path, piece.commit)


def read_on(piece: Piece, reader: SegmentReader) -> Iterator[FrameBatch]:
    """Read on in a segment as far as it goes; to its end, if it has one or another segment of its session follows."""
    yield from gathered(reader.batches())
    if reader.bad is not None and reader.foreign:
        raise reader.damage()
    if not reader.finished:
        yield from gathered(reader.batches())  # it may have been finished since it was read
    if not reader.finished and (piece.following is not None or reader.followed()):
        raise reader.damage()
    following = reader.next_seq if piece.following is None else piece.following
    if reader.next_seq > following:
        raise Damaged(
            f"frames {following} to {reader.next_seq - 1} of session {piece.session} are in it, and the piece of the"
            f" session behind it begins with frame {following}: one of both was put back, or is a copy,",
            path=piece.path,
            offset=reader.offset,
            hint="move one of both out of the archive, and keep it until `recorder verify` finds nothing",
        )
    if reader.next_seq < following - piece.lost_behind:
        raise Damaged(
            f"frames {reader.next_seq} to {following - 1} of session {piece.session} are missing behind it",
            path=piece.path,
            offset=reader.offset,
            hint="restore the missing segment beside it, or let `recorder verify --repair` note the hole",
        )


def _of_part(path: Path, commit: Commit) -> Iterator[FrameBatch]:
    following = commit.first
    with damage(path):
        file = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=_CODED)
        check_schema(file, coded_schema(FRAMES_SCHEMA, _CODED), path)
        for rows in file.iter_batches(CHUNK, columns=list(_COLUMNS)):
            batch = _batch_of(rows, path)
            if not np.array_equal(rows["seq"].to_numpy(), np.arange(following, following + len(batch))):
                raise _misfit(path, f"its frames do not follow {following} one by one")
            following += len(batch)
            yield batch
    if following != commit.last + 1:
        raise _misfit(path, f"its frames end before {following}, where its commit says {commit.last}")


def _places(texts: pa.DictionaryArray, known: Sequence[str]) -> pa.Array:
    """Give the place of each text among those that are known, null where it is none of them."""
    places = pc.index_in(texts.dictionary, pa.array(known, pa.string()))
    return places.take(texts.indices)


def _misfit(path: Path, what: str) -> Damaged:
    return Damaged(what, path=path, offset=0, hint="run `recorder verify`")


def _batch_of(rows: pa.RecordBatch, path: Path) -> FrameBatch:
    """Make a batch of frames of a frames part's rows, which follow one another."""
    count = rows.num_rows
    kinds, ops = _places(rows["kind"], KINDS), _places(rows["op"], OPS)
    if any(column.null_count for column in (kinds, ops, *rows.columns)):
        raise _misfit(path, "its frames lack values, or are of no known kind")
    data = rows["data"].cast(pa.large_binary())
    _, edges, blob = data.buffers()
    offsets = np.frombuffer(edges, np.int64)[data.offset : data.offset + count + 1]
    return FrameBatch(
        int(rows["seq"][0].as_py()),
        rows["ts_recv"].cast(pa.int64()).to_numpy(),
        rows["conn"].to_numpy(),
        code_of_places(kinds.to_numpy(), ops.to_numpy()),
        offsets - offsets[0],
        memoryview(blob if blob is not None else b"")[int(offsets[0]) : int(offsets[-1])],
    )
