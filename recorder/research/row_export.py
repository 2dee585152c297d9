"""Row export: a topic's rows as a table of plain values, for CSV.

Rows are as they came: what is absent did not change. Of rows that replace each other (executions) the last one stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pyarrow as pa

from recorder.archive.reading import Reader, Span
from recorder.archive.row_decoder import empty_table
from recorder.protocol.tables import EXTRA, topic_schema
from recorder.protocol.topics import Topic
from recorder.research.revisions import last_revisions


def export_schema(topic: Topic) -> pa.Schema:
    """Give the columns of a topic's export: `recorder`, `conid`, then the topic's own; `extra` is a JSON object."""
    plain = [field.with_type(pa.string()) if field.type == EXTRA else field for field in topic_schema(topic)]
    return pa.schema([pa.field("recorder", pa.string()), pa.field("conid", pa.int64()), *plain])


def export_rows(reader: Reader, topic: Topic, *, conids: Sequence[int] | None, span: Span) -> Iterator[pa.Table]:
    """Read a topic's rows in tables of bounded size, one recorder behind another, each in the order of recording.

    Of a topic with revisions all rows of a recorder are one table: the last one decides what stands.
    """
    names = topic_schema(topic).names
    for recorder in reader.recorders():
        tables = reader.tables(recorder, topic, conids=conids, span=span, columns=names)
        if topic.revision_of is not None:
            whole = pa.concat_tables([empty_table(topic, names), *tables])
            tables = iter([last_revisions(whole, topic)])
        for table in tables:
            if table.num_rows:
                yield _plain(table, topic, recorder)


def _plain(table: pa.Table, topic: Topic, recorder: str) -> pa.Table:
    schema = export_schema(topic)
    place = table.column_names.index("extra")
    texts = [
        None if pairs is None else msgspec.json.encode(dict(pairs)).decode() for pairs in table["extra"].to_pylist()
    ]
    table = table.set_column(place, "extra", pa.array(texts, pa.string()))
    table = table.append_column("recorder", pa.repeat(recorder, table.num_rows))
    return table.select(schema.names).cast(schema)
