"""Loading: a topic's rows in order, for those who want all of them in memory.

A piece with one partition, as compaction leaves it for each contract and session, is read at once and as it is: its
part is in order. Pieces with several partitions go through windows, as for those who want bounded memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.covered import covered_partitions, covered_table
from recorder.archive.parts import coded_schema
from recorder.archive.pieces import Piece
from recorder.archive.reading import Reader, Span, latest_of
from recorder.archive.row_decoder import LATEST, with_partition
from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Topic

_ORDER = ("ts_recv", "seq", "item")


def loaded(
    reader: Reader,
    recorder: str,
    topic: Topic,
    *,
    conids: Sequence[int] | None,
    span: Span,
    columns: Sequence[str],
    coded: Collection[str] = (),
    exact: bool = False,
) -> Iterator[tuple[str, pa.Table]]:
    """Give a recorder's rows of a topic in order, in tables of any size, each with the session that it is of.

    A table has `date`, `conid`, `ts_recv` and the columns that were asked for; with `exact`, `LATEST` comes last, as
    `Reader.tables` gives it. Texts of `coded` columns are dictionaries.
    """
    names = topic_schema(topic).names
    given = [name for name in names if name in {"ts_recv", *columns}]
    windowed = [name for name in names if name in {*_ORDER, *columns}]

    def read(piece: Piece, behind: int) -> Iterator[tuple[int, tuple[str, pa.Table]]]:
        conid = only_partition(reader, piece, topic, conids)
        if conid is not None:
            assert piece.commit is not None, "a partition is one of a commit"
            extra = {"seq"} if exact or piece.first <= behind else set()
            wanted = [name for name in names if name in {*given, *extra}]
            table = _whole(reader, piece, topic, conid, span=span, columns=wanted, coded=coded)
            tables: Iterable[tuple[int, pa.Table]] = [(piece.commit.last, table)]
        else:
            tables = reader.rows(piece, topic, conids, windowed, exact=exact)
        for last_seq, table in tables:
            if last_seq > behind:
                fresh = table if piece.first > behind else table.filter(pc.greater(table["seq"], behind))
                latest = [LATEST] if exact else []
                if exact and LATEST not in fresh.column_names:
                    assert piece.commit is not None, "as above"
                    fresh = fresh.append_column(LATEST, pa.array(latest_of(fresh, piece.commit)))
                inside = fresh if _is_inside(piece, span) else span.cut(fresh)
                yield last_seq, (piece.session, _with_codes(inside.select(["date", "conid", *given, *latest]), coded))

    yield from reader.stream(recorder, read, span)


def only_partition(reader: Reader, piece: Piece, topic: Topic, conids: Sequence[int] | None) -> int | None:
    """Give the contract of the one partition that has a piece's rows of a topic; None if there are several, or none."""
    if piece.commit is None or not reader.is_typed(piece, topic):
        return None
    chosen = [conid for conid in covered_partitions(piece.commit, topic.name) if conids is None or conid in conids]
    return chosen[0] if len(chosen) == 1 else None


def _whole(
    reader: Reader,
    piece: Piece,
    topic: Topic,
    conid: int,
    *,
    span: Span,
    columns: Sequence[str],
    coded: Collection[str],
) -> pa.Table:
    assert piece.commit is not None, "a partition is one of a commit"
    table = covered_table(
        reader.layout, piece.commit, topic, conid, columns=columns, coded=coded, start=span.start, end=span.end
    )
    return with_partition(table, piece.commit.date, conid)


def _is_inside(piece: Piece, span: Span) -> bool:
    """Say whether all of a piece's rows lie in a span; of a segment that is not known before it is read."""
    if span == Span():
        return True
    commit = piece.commit
    return (
        commit is not None
        and (span.start is None or commit.ts_min >= span.start)
        and (span.end is None or commit.ts_max < span.end)
    )


def _with_codes(table: pa.Table, coded: Collection[str]) -> pa.Table:
    schema = coded_schema(table.schema, coded)
    return table if schema.equals(table.schema) else table.cast(schema)
