"""The row decoder: frames of one session in, rows of some topics out, as they would stand in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class RowDecoder:
    """Decodes frames of one session and date, batch by batch in order.

    `chosen` names the topics that are wanted and the columns of each, `conids` narrows to contracts. `state` is what
    the frames before left. With `exact`, tables have the column `LATEST` last; T is then given with each batch.
    """

    def __init__(
        self,
        topics: Topics,
        chosen: Mapping[str, Sequence[str]],
        *,
        session: str,
        date: str,
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
        """Give the rows of a batch by topic, in order, with `date` and `conid` in front; topics without rows are not.

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


def with_partition(table: pa.Table, date: str, conid: int | npt.NDArray[np.int64]) -> pa.Table:
    """Put `date` and `conid`, which stand in the path, in front of rows."""
    count = table.num_rows
    conids = pa.repeat(pa.scalar(conid, pa.int64()), count) if isinstance(conid, int) else pa.array(conid)
    dates = pa.repeat(pa.scalar(date).cast(pa.date32()), count)
    return table.add_column(0, "conid", conids).add_column(0, "date", dates)


def empty_table(topic: Topic, columns: Sequence[str]) -> pa.Table:
    """Give a table without rows, as readers would."""
    table = topic_schema(topic).empty_table().select(list(columns))
    return with_partition(table, "1970-01-01", 0)
