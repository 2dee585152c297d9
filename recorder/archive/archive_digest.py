"""The archive digest: one line for all that an archive holds, the same after compaction, re-encoding and copying.

A leaf is a `TableDigest` of rows in the order of (seq, item): of frames by date, session and blocks of 65,536 sequence
numbers; of a topic by date, contract and session. The root is the SHA-256 of the sorted lines `key digest`. Frames that
are still in the journal, and their rows, count as if they were archived, so a flush changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa

from recorder.archive.covered import covered_partitions, covered_tables
from recorder.archive.digest import TableDigest
from recorder.archive.parts import ROW_GROUP
from recorder.archive.pieces import Piece, check_holes, frame_batches, list_pieces
from recorder.archive.reading import Reader
from recorder.errors import ArchiveError
from recorder.protocol.tables import frames_table
from recorder.protocol.topics import Topic

BLOCK: Final = 65_536
_TRIES: Final = 100


class ArchiveDigest:
    """The leaves of an archive, by key."""

    def __init__(self) -> None:
        self._leaves: dict[str, TableDigest] = {}

    def add(self, key: str, table: pa.Table) -> None:
        """Take the next rows of a leaf in."""
        self._leaves.setdefault(key, TableDigest()).update(table)

    def hexdigest(self) -> str:
        """Give the root, 64 hex digits."""
        lines = sorted(f"{key} {leaf.hexdigest()}" for key, leaf in self._leaves.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def archive_digest(reader: Reader, *, done: Callable[[int], None]) -> ArchiveDigest:
    """Compute an archive's digest; `done` hears how many frames were read so far.

    It begins anew when a file vanishes: it became a part, or was merged into one.
    """
    for _ in range(_TRIES):
        try:
            return _archive_digest(reader, done)
        except FileNotFoundError:
            continue
    raise ArchiveError(f"{reader.layout.root} changes faster than it can be read", hint="try again in a while")


def _archive_digest(reader: Reader, done: Callable[[int], None]) -> ArchiveDigest:
    digest = ArchiveDigest()
    frames = 0
    for _, pieces in sorted(list_pieces(reader.layout).items()):
        check_holes(pieces, None, None)
        for piece in pieces:
            frames += _add_frames(digest, reader, piece)
            for topic in reader.topics:
                _add_rows(digest, reader, piece, topic)
            done(frames)
    return digest


def _add_frames(digest: ArchiveDigest, reader: Reader, piece: Piece) -> int:
    count = 0
    date = reader.date_of(piece)
    for batch in frame_batches(piece):
        unclaimed = pa.nulls(len(batch), pa.string())
        table = frames_table(batch, unclaimed, recorder=piece.recorder, session=piece.session).drop_columns("topic")
        blocks = np.arange(batch.first_seq, batch.last_seq + 1) // BLOCK
        for block in np.unique(blocks).tolist():
            begin, end = np.searchsorted(blocks, block), np.searchsorted(blocks, block, side="right")
            digest.add(f"frames date={date} session={piece.session} block={block}", table.slice(begin, end - begin))
        count += len(batch)
    return count


def _add_rows(digest: ArchiveDigest, reader: Reader, piece: Piece, topic: Topic) -> None:
    commit = piece.commit
    if commit is not None and commit.topics.get(topic.name) == topic.fingerprint:
        for conid in covered_partitions(commit, topic.name):
            for table in covered_tables(reader.layout, commit, topic, conid, rows=ROW_GROUP):
                digest.add(f"{topic.name} date={commit.date} conid={conid} session={piece.session}", table)
        return
    table = reader.decode(piece, topic).sort_by([("conid", "ascending"), ("seq", "ascending"), ("item", "ascending")])
    conids = table["conid"].to_numpy()
    date = reader.date_of(piece)
    for conid in np.unique(conids).tolist():
        begin, end = np.searchsorted(conids, conid), np.searchsorted(conids, conid, side="right")
        rows = table.slice(begin, end - begin).drop_columns(["date", "conid"])
        digest.add(f"{topic.name} date={date} conid={conid} session={piece.session}", rows)
