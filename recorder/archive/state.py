"""State: the last known values of each thing of a topic as of a moment.

1. It is what the rows up to and with the moment say, of the session that ran then, or the last one before it: a session
   begins with full rows, and what was known before it may have changed while nobody listened.
2. It is folded backwards: the newest rows first, and of older ones only the columns of which some thing has no value
   yet. Columns that are read seldom hold anything, so a day of ten million rows costs little more than its last ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.archive.chunks import chunks
from recorder.archive.commit import Commit, damage
from recorder.archive.covered import check_count, covered_partitions, covered_table, covering_parts, group_stamps
from recorder.archive.parts import first_rows, open_part
from recorder.archive.pieces import Piece, check_holes, list_pieces
from recorder.archive.reading import Reader, Span, begin
from recorder.archive.row_decoder import empty_table, with_partition
from recorder.archive.things import OWN, flags, fold, identity_of, numbered
from recorder.errors import Damaged
from recorder.protocol.tables import TIME, topic_schema
from recorder.protocol.topics import Topic

_THREADS: Final = 4
_Thing = tuple[object, ...]


def state_at(
    reader: Reader, topic: Topic, at: int, *, conids: Sequence[int] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Give one row for each thing of a topic: all that was known of it at a moment (microseconds), that included.

    The table has `date`, `conid`, `ts_recv`, the topic's identity and the columns that are asked for (default: all);
    what belongs to a row itself is that of the thing's last one. Rows are in the order of `conid` and identity. Of what
    several recorders recorded, the latest row counts.
    """
    names = topic_schema(topic).names
    asked = {"ts_recv", *topic.identity, *(names if columns is None else columns)}
    asked |= {price for flag, price in flags(topic).items() if flag in asked}
    fold_ = _Fold(reader, topic, at, conids, [name for name in names if name in asked])
    of_recorder = fold_.last_rows if topic.whole else fold_.of_recorder
    found = [of_recorder(recorder) for recorder in reader.recorders()]
    table = pa.concat_tables([fold_.empty, *found])
    if topic.whole or len(reader.recorders()) > 1:
        table = _latest(table, topic)
    order = [(name, "ascending") for name in identity_of(topic)]
    return table.take(pc.sort_indices(table, sort_keys=order))


def _latest(table: pa.Table, topic: Topic) -> pa.Table:
    """Leave the row of each thing that came last."""
    table = table.take(pc.sort_indices(table, sort_keys=[("ts_recv", "ascending")]))
    things = zip(*(table[name].to_pylist() for name in identity_of(topic)), strict=True)
    last = {thing: row for row, thing in enumerate(things)}
    return table.take(pa.array(last.values(), pa.int64()))


class _Chosen(NamedTuple):
    """The pieces of one session that have rows before the moment, in order, and when the session began."""

    pieces: list[Piece]
    begin: int


class _Known:
    """The columns of which a thing's last value is known, after some folds; worked out only when it is asked for."""

    def __init__(self, topic: Topic, columns: Sequence[str]) -> None:
        self._topic = topic
        self._columns = [name for name in columns if name != "extra"]
        self._folds: list[pa.Table] = []
        self._found: dict[_Thing, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._folds or self._found)

    def note(self, folded: pa.Table) -> None:
        """Note a fold of older rows than those before."""
        self._folds.append(folded)

    def missing(self, things: set[_Thing], name: str) -> bool:
        """Say whether some thing has no value of a column yet."""
        for folded in self._folds:
            self._take(folded)
        self._folds.clear()
        return any(name not in self._found.get(thing, ()) for thing in things)

    def _take(self, folded: pa.Table) -> None:
        valid = {name: np.asarray(folded[name].is_valid()) for name in self._columns}
        for flag, price in flags(self._topic).items():
            if flag in valid:
                valid[flag] = valid[price]
        for row, thing in enumerate(_rows_of(folded, list(self._topic.identity))):
            found = self._found.setdefault(thing, {name for name in OWN if name != "extra"})
            found.update(name for name, of in valid.items() if of[row])


class _Fold:
    """One fold: of a topic, up to a moment."""

    def __init__(
        self, reader: Reader, topic: Topic, at: int, conids: Sequence[int] | None, columns: Sequence[str]
    ) -> None:
        self._reader = reader
        self._topic = topic
        self._span = Span(None, at + 1)
        self._at = at
        self._conids = conids
        self._columns = columns
        self._texts = [field.name for field in topic_schema(topic) if field.type == pa.string()]
        self.empty = empty_table(topic, columns)

    def of_recorder(self, recorder: str) -> pa.Table:
        """Fold the rows of one recorder."""
        while True:
            pieces = list_pieces(self._reader.layout).get(recorder, [])
            try:
                chosen = _running(pieces, self._at)
                if chosen is None:
                    return self.empty
                check_holes(pieces, chosen.begin, self._at + 1)
                return self._of_session(chosen.pieces)
            except FileNotFoundError:
                continue  # a segment became a part meanwhile, or parts were merged
            except Damaged:
                if all(self._reader.is_current(piece) for piece in pieces):
                    raise

    def last_rows(self, recorder: str) -> pa.Table:
        """Give the last row of each thing of one recorder: of a topic whose rows tell all, that is its state."""
        span = self._span._replace(start=self._reader.sessions_start(self._at))
        tables = self._reader.tables(recorder, self._topic, conids=self._conids, span=span, columns=self._columns)
        found = [table.select(self.empty.column_names) for table in tables]
        return _latest(pa.concat_tables([self.empty, *found]), self._topic)

    def _of_session(self, pieces: Sequence[Piece]) -> pa.Table:
        """Fold the rows of one session's pieces: each contract's typed rows for themselves, then all in order."""
        partitions: dict[int, list[Piece]] = {}
        folded: list[tuple[int, pa.Table]] = []
        for piece in pieces:
            if not self._reader.is_typed(piece, self._topic):
                folded.append((piece.first, self._decoded(piece)))
                continue
            assert piece.commit is not None, "typed rows are those of a commit"
            for conid in covered_partitions(piece.commit, self._topic.name):
                if self._conids is None or conid in self._conids:
                    partitions.setdefault(conid, []).append(piece)
        with ThreadPoolExecutor(_THREADS) as pool:
            alone = len(partitions) == 1
            for found in pool.map(lambda conid: self._of_partition(partitions[conid], conid, alone=alone), partitions):
                folded.extend(found)
        folded.sort(key=lambda pair: pair[0])
        return fold(pa.concat_tables([self.empty, *(table for _, table in folded)]), self._topic)

    def _decoded(self, piece: Piece) -> pa.Table:
        tables = self._reader.rows(piece, self._topic, self._conids, self._columns, exact=False)
        found = [fold(self._span.cut(table), self._topic) for _, table in tables]
        return pa.concat_tables([self.empty, *found])

    def _of_partition(self, pieces: Sequence[Piece], conid: int, *, alone: bool) -> list[tuple[int, pa.Table]]:
        """Fold a contract's typed rows, each piece's for themselves, beginning with the last."""
        known = _Known(self._topic, self._columns)
        folded: list[tuple[int, pa.Table]] = []
        for piece in reversed(pieces):
            assert piece.commit is not None, "as above"
            backwards = list(self._of_commit(piece.commit, conid, known, alone=alone))
            folded.extend((piece.first, table) for table in reversed(backwards))
        return folded

    def _of_commit(self, commit: Commit, conid: int, known: _Known, *, alone: bool) -> Iterator[pa.Table]:
        """Fold a commit's rows of a contract by row groups, beginning with the last."""
        layout, topic = self._reader.layout, self._topic
        parts = covering_parts(layout, commit, topic, conid)
        if any(name.first < commit.first or name.last > commit.last for _, name in parts):
            table = covered_table(layout, commit, topic, conid, columns=self._columns, end=self._span.end)
            yield self._folded(with_partition(self._span.cut(table), commit.date, conid), {}, known)
            return
        found = 0
        for path, _ in reversed(parts):
            file = open_part(path, topic_schema(topic), coded=self._texts)
            with damage(path):
                stamps = group_stamps(file)
                found += sum(map(len, stamps))
                for group in reversed(range(len(stamps))):
                    if (stamps[group] <= self._at).any():
                        said = _said_of_all(file, group) | {"session": commit.session}
                        rows = self._of_group(file, group, stamps[group], said, known, threads=alone)
                        yield self._folded(with_partition(rows, commit.date, conid), said, known)
        check_count(layout, commit, topic, conid, found=found, parts=parts)

    def _of_group(
        self,
        file: pq.ParquetFile,
        group: int,
        stamps: npt.NDArray[np.int64],
        said: Mapping[str, object],
        known: _Known,
        *,
        threads: bool,
    ) -> pa.Table:
        """Read of a row group's rows what is not known yet of their things, and what is not `said` of all of them."""
        identity, wanted = list(self._topic.identity), [*self._columns]
        inside = stamps <= self._at
        count = int(np.flatnonzero(inside)[-1]) + 1  # later rows need no decoding
        if known:
            table = first_rows(file, group, count, columns=identity or ["seq"], threads=threads)
            things = _distinct(table, identity)
            wanted = [name for name in wanted if known.missing(things, name)]
        read = [name for name in self._columns if name in identity or (name in wanted and name not in said)]
        table = first_rows(file, group, count, columns=[name for name in read if name != "ts_recv"], threads=threads)
        table = table.add_column(0, "ts_recv", pa.array(stamps[:count]).cast(TIME))
        return table if inside[:count].all() else table.filter(pa.array(inside[:count]))

    def _folded(self, table: pa.Table, said: Mapping[str, object], known: _Known) -> pa.Table:
        """Fold rows, add what is `said` of all of them, and note what is known then; other columns are null."""
        folded = fold(table, self._topic)
        columns = [
            _typed(folded[field.name], field.type)
            if field.name in folded.column_names
            else pa.array([said.get(field.name)] * folded.num_rows, field.type)
            for field in self.empty.schema
        ]
        folded = pa.Table.from_arrays(columns, schema=self.empty.schema)
        known.note(folded)
        return folded


def _said_of_all(file: pq.ParquetFile, group: int) -> dict[str, object]:
    """Give the one value that all rows of a row group have, by column, where its footer says so; None for none.

    It has to say so twice, by its count of nulls and by its bounds, as no checksum covers it: of all rows without a
    value there are no bounds, and of all rows with one value the bounds are equal.
    """
    rows = file.metadata.row_group(group).num_rows
    said: dict[str, object] = {}
    for chunk in chunks(file, group):
        found = chunk.statistics
        if found is None or not found.has_null_count or "." in chunk.path_in_schema:
            continue
        if found.null_count == rows and not found.has_min_max:
            said[chunk.path_in_schema] = None
        elif (
            chunk.physical_type == "BYTE_ARRAY"
            and (found.null_count, found.has_min_max) == (0, True)
            and found.min_raw == found.max_raw
        ):
            said[chunk.path_in_schema] = found.min_raw.decode()
    return said


def _typed(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == type_ else column.cast(type_)


def _rows_of(table: pa.Table, names: Sequence[str]) -> list[_Thing]:
    """Give the values of some columns by rows."""
    if not names:
        return [()] * table.num_rows
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _distinct(table: pa.Table, names: Sequence[str]) -> set[_Thing]:
    """Give the things that rows speak of."""
    table = table.unify_dictionaries()
    _, count = numbered(table, names)
    if count == 1:
        table = table.slice(0, 1)
    return set(_rows_of(table, names))


def _running(pieces: Sequence[Piece], at: int) -> _Chosen | None:
    """Choose the session that ran at a moment, or the last one before it."""
    begun = [piece for piece in pieces if begin(piece) <= at]
    if not begun:
        return None
    own = [piece for piece in pieces if piece.session == begun[-1].session and piece.touches(None, at + 1)]
    return _Chosen(own, min(begin(piece) for piece in own))
