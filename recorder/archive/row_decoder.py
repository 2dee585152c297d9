"""The row decoder: frames of one session in, rows of some topics out, as they would stand in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.decode import Decoder
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.segment import FrameBatch
from recorder.protocol.tables import complete, topic_schema
from recorder.protocol.topics import Topic, Topics

LATEST: Final = "@latest"
"""The column of T, microseconds, in tables that are asked for it."""
_CONSTANT: Final = 131_072


class RowDecoder:
    """Decodes frames of one session, batch by batch in order; with a `date`, the tables have it.

    `chosen` names the topics that are wanted and the columns of each, `conids` narrows to contracts. `state` is what
    the frames before left. With `exact`, tables have the column `LATEST` last; T is then given with each batch.
    """

    def __init__(
        self,
        topics: Topics,
        chosen: Mapping[str, Sequence[str]],
        *,
        session: str,
        date: str | None = None,
        state: DecodingState | None = None,
        conids: Sequence[int] | None = None,
        exact: bool = False,
    ) -> None:
        wanted = [topics[name] for name in chosen]
        only_marks = all(topic.mark is not None for topic in wanted)  # of marks alone nothing else has to be read
        self._decoder = Decoder(Topics(wanted) if only_marks else topics, state)
        self._schemas = {topic.name: topic_schema(topic) for topic in wanted}
        self._chosen = chosen
        self._session = session
        self._date = date
        self._conids = None if conids is None else pa.array(conids, pa.int64())
        self._exact = exact

    @property
    def state(self) -> DecodingState:
        """What the frames so far left."""
        return self._decoder.state

    def tables(self, batch: FrameBatch, latest: npt.NDArray[np.int64]) -> dict[str, pa.Table]:
        """Give the rows of a batch by topic, in order, with `conid` in front; a topic without rows is left out.

        `latest` is T of each frame.
        """
        decoded = self._decoder.decode(batch).rows
        tables = {}
        for name, columns in self._chosen.items():
            rows = decoded.get(name)
            if rows is None:
                continue
            table = complete(rows.table, self._schemas[name], session=self._session).select(list(columns))
            table = with_partition(table, self._date, rows.conid)
            if self._exact:
                table = table.append_column(LATEST, pa.array(latest[rows.table["seq"].to_numpy() - batch.first_seq]))
            if self._conids is not None:
                table = table.filter(pc.is_in(table["conid"], self._conids))
            tables[name] = table
        return tables


Decode = Callable[[str, FrameBatch, npt.NDArray[np.int64]], dict[str, pa.Table]]


def session_decoder(
    topics: Topics,
    chosen: Mapping[str, Sequence[str]],
    conids: Sequence[int] | None,
    session: str,
    state: DecodingState,
) -> Decode:
    """Make what decodes batches of one session after another; that `session` begins from a state, others anew."""
    states, decoders = {session: state}, dict[str, RowDecoder]()

    def decode(session: str, batch: FrameBatch, latest: npt.NDArray[np.int64]) -> dict[str, pa.Table]:
        if session not in decoders:
            decoders.clear()  # sessions follow one another
            decoders[session] = RowDecoder(
                topics, chosen, session=session, state=states.get(session), conids=conids, exact=True
            )
        return decoders[session].tables(batch, latest)

    return decode


def with_partition(table: pa.Table, date: str | None, conid: int | npt.NDArray[np.int64]) -> pa.Table:
    """Put `date` (unless it is None) and `conid`, which stand in the path, in front of rows."""
    count = table.num_rows
    conids = _repeated(np.int64(conid), pa.int64(), count) if isinstance(conid, int) else pa.array(conid)
    table = table.add_column(0, "conid", conids)
    if date is None:
        return table
    return table.add_column(0, "date", _repeated(np.datetime64(date, "D").astype(np.int32), pa.date32(), count))


def _repeated(value: np.integer, type_: pa.DataType, count: int) -> pa.ChunkedArray:
    """Give a column of one value; its chunks are all the same memory."""
    chunk = pa.array(np.full(min(count, _CONSTANT), value)).view(type_)
    rest = chunk.slice(0, count % _CONSTANT)
    return pa.chunked_array([*([chunk] * (count // _CONSTANT)), *([rest] if len(rest) else [])], type_)


def empty_table(topic: Topic, columns: Sequence[str]) -> pa.Table:
    """Give a table without rows, as readers would."""
    table = topic_schema(topic).empty_table().select(list(columns))
    return with_partition(table, "1970-01-01", 0)
