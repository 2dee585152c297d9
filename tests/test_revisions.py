"""Revisions: of an execution that was sent again, the last thing that was said about it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.tables import EXTRA
from recorder.protocol.topics import load_topics
from recorder.research.revisions import last_revisions

TRADES, PNL = load_topics()["trades"], load_topics()["pnl"]
Execution = tuple[str | None, float | None, list[tuple[str, str]] | None]


def table_of(rows: list[Execution]) -> pa.Table:
    """Make a table of executions: id, commission, extra; `seq` numbers the rows."""
    return pa.table(
        {
            "seq": pa.array(range(len(rows)), pa.int64()),
            "execution_id": pa.array([row[0] for row in rows], pa.string()),
            "commission": pa.array([row[1] for row in rows], pa.float64()),
            "extra": pa.array([row[2] for row in rows], EXTRA),
        }
    )


def kept(rows: list[Execution]) -> list[Any]:
    """Give the numbers of the rows that count."""
    return last_revisions(table_of(rows), TRADES)["seq"].to_pylist()  # type: ignore[no-any-return]


def test_the_row_with_the_commission_counts() -> None:
    """The first came without; other executions stay where they are."""
    assert [1, 2] == kept([("a", None, None), ("b", 1.0, None), ("a", 1.0, None)])


def test_a_mere_repeat_is_no_revision() -> None:
    """After a reconnect a day's executions come again: what is known was known before."""
    assert [1, 2] == kept([("a", None, None), ("a", 1.0, None), ("b", None, None), ("a", 1.0, None), ("b", None, None)])


def test_a_key_nobody_knows_makes_a_revision() -> None:
    """All that was said counts."""
    assert [1] == kept([("a", 1.0, None), ("a", 1.0, [("tax", "1")])])


def test_what_went_away_and_came_back_is_the_last() -> None:
    """A value that is as it was two revisions ago is a revision all the same."""
    assert [2] == kept([("a", 1.0, None), ("a", 2.0, None), ("a", 1.0, None)])


def test_rows_without_an_id_stay() -> None:
    """Nothing says what they replace."""
    assert [0, 1] == kept([(None, 1.0, None), (None, 1.0, None)])


def test_topics_without_revisions_stay_as_they_are() -> None:
    """Every row counts."""
    table = table_of([("a", None, None), ("a", None, None)])

    assert table is last_revisions(table, PNL)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([None, 1.0, 2.0]), st.none())))
def test_one_row_an_execution_says_what_was_said_last(rows: list[Execution]) -> None:
    """And it is the first row of the repeats that say so."""
    expected = [number for number, row in enumerate(rows) if row[0] is None]
    for name in {row[0] for row in rows} - {None}:
        own = [(number, row) for number, row in enumerate(rows) if row[0] == name]
        last = own[-1][0]
        for number, row in reversed(own):
            if row != own[-1][1]:
                break
            last = number
        expected.append(last)

    assert sorted(expected) == kept(rows)
