"""Views: a topic's rows as a reader wants them, holes refused or marked, replaced rows left out, contracts named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import pyarrow as pa

from recorder.archive.gaps import refuse_gaps
from recorder.archive.reading import Reader, Span
from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Topic
from recorder.research.contracts import contract_symbols, with_symbols
from recorder.research.gaps import AFTER_GAP, mark_after_gaps
from recorder.research.load import load_table, select
from recorder.research.revisions import last_revisions

Gaps = Literal["raise", "mark", "ignore"]
"""What holes in the data come to when rows are loaded."""


class View(NamedTuple):
    """How rows are wanted: deltas carried forward, what holes come to, all revisions, a column `symbol`."""

    fill: bool = False
    gaps: Gaps = "ignore"
    revisions: bool = False
    symbols: bool = False


def view_table(
    reader: Reader,
    topic: Topic,
    view: View,
    *,
    conids: Sequence[int] | None,
    span: Span,
    columns: Sequence[str] | None,
) -> pa.Table:
    """Read a topic's rows in order, as `load_table`, and make the view of them; `GapError` for a hole to be raised."""
    if view.gaps == "raise":
        refuse_gaps(reader, topics=[topic.name], conids=conids, span=span)
    given = select(topic, columns).given
    replaced = topic.revision_of is not None and not view.revisions
    wide = columns
    if columns is not None:
        # What makes a revision is all that a row says, not only what is asked for.
        wide = [
            *columns,
            *(topic_schema(topic).names if replaced else []),
            *(["session"] if view.gaps == "mark" else []),
        ]
    table = load_table(reader, topic, conids=conids, span=span, columns=wide, fill=view.fill)
    if replaced:
        table = last_revisions(table, topic)
    if view.gaps == "mark":
        table = mark_after_gaps(table, topic, reader, conids=conids, span=span)
        given = [*given, AFTER_GAP]
    table = table.select(given)
    return with_symbols(table, contract_symbols(reader)) if view.symbols else table
