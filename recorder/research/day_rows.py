"""Day rows: everything that was recorded on one date, contract by contract and in order, in bounded memory.

Typed rows are read partition by partition, some at a time; frames that have none (of the journal, or archived under
another schema) are decoded once for all topics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from recorder.archive.covered import covered_partitions, covered_tables
from recorder.archive.pieces import Piece, check_holes, frame_batches, list_pieces
from recorder.archive.reading import Reader
from recorder.protocol.decode import Decoder
from recorder.protocol.tables import complete, topic_schema
from recorder.protocol.topics import Topic
from recorder.research.stream_check import checked_columns

_ROWS: Final = 131_072
"""Rows that are in memory at once."""

Key = tuple[str, int]
"""A topic and a contract."""


class DayPieces(NamedTuple):
    """A recorder's pieces of one date, in order, and what surrounds them.

    `first` and `last` bound the ts_recv of their frames. `before` are the topics and contracts of which there are rows
    of earlier dates; None if nothing was recorded earlier. `goes_on` says whether there is a later date.
    """

    recorder: str
    pieces: Sequence[Piece]
    first: int
    last: int
    before: frozenset[Key] | None
    goes_on: bool


class Rows(NamedTuple):
    """The next rows of a topic and contract, of one session, with their `checked_columns`."""

    topic: Topic
    conid: int
    session: str
    table: pa.Table


def last_date(reader: Reader) -> str | None:
    """Find the latest date of which there is anything; None if there is nothing."""
    found = [pieces[-1] for pieces in list_pieces(reader.layout).values()]
    return max((reader.date_of(piece) for piece in found), default=None)


def day_pieces(reader: Reader, date: str) -> list[DayPieces]:
    """List what was recorded on a date, by recorder; `FileNotFoundError` if a file is replaced meanwhile."""
    found = []
    for recorder, pieces in sorted(list_pieces(reader.layout).items()):
        dated = [(reader.date_of(piece), piece) for piece in pieces]
        own = [piece for other, piece in dated if other == date]
        bounds = [_bounds(piece) for piece in own]
        stamps = [stamp for bound in bounds if bound is not None for stamp in bound]
        if not stamps:
            continue
        check_holes(pieces, min(stamps), max(stamps) + 1)
        earlier = [piece for other, piece in dated if other < date]
        before = {_key(name) for piece in earlier if piece.commit is not None for name in piece.commit.partitions}
        found.append(
            DayPieces(
                recorder,
                own,
                min(stamps),
                max(stamps),
                frozenset(before) if earlier else None,
                any(other > date for other, _ in dated),
            )
        )
    return found


def _bounds(piece: Piece) -> tuple[int, int] | None:
    """Find the lowest and highest ts_recv of a piece; a segment may have no frame yet."""
    if piece.commit is not None:
        return piece.commit.ts_min, piece.commit.ts_max
    stamps = [(int(batch.ts_recv.min()), int(batch.ts_recv.max())) for batch in frame_batches(piece)]
    return (min(low for low, _ in stamps), max(high for _, high in stamps)) if stamps else None


def _key(partition: str) -> Key:
    topic, _, conid = partition.split("/")
    return topic, int(conid.removeprefix("conid="))


def rows_of(reader: Reader, piece: Piece) -> Iterator[Rows]:
    """Give all rows of a piece, each contract's in order; `FileNotFoundError` if a file is replaced meanwhile."""
    typed = [topic for topic in reader.topics if reader.is_typed(piece, topic)]
    for topic in typed:
        yield from _typed(reader, piece, topic)
    if len(typed) < len(list(reader.topics)):
        yield from _decoded(reader, piece, without={topic.name for topic in typed})


def _typed(reader: Reader, piece: Piece, topic: Topic) -> Iterator[Rows]:
    assert piece.commit is not None, "typed rows are those of a commit"
    columns = checked_columns(topic)
    for conid in covered_partitions(piece.commit, topic.name):
        for table in covered_tables(reader.layout, piece.commit, topic, conid, columns=columns, rows=_ROWS):
            yield Rows(topic, conid, piece.session, table)


def _decoded(reader: Reader, piece: Piece, *, without: set[str]) -> Iterator[Rows]:
    decoder = Decoder(reader.topics, reader.state_before(piece))
    for batch in frame_batches(piece):
        for name, rows in decoder.decode(batch).rows.items():
            if name in without or not rows.table.num_rows:
                continue
            topic = reader.topics[name]
            table = complete(rows.table, topic_schema(topic), session=piece.session).select(checked_columns(topic))
            order = np.argsort(rows.conid, kind="stable")
            cuts = np.flatnonzero(np.diff(rows.conid[order])) + 1
            for places in np.split(order, cuts):
                yield Rows(topic, int(rows.conid[places[0]]), piece.session, table.take(pa.array(places)))
