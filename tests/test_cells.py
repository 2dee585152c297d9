"""A column of cells holds what the parser makes of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.protocol.cells import Cells, joined, to_column
from recorder.protocol.dialect import PARSERS
from recorder.protocol.topics import Parser

NUMBERS = st.from_regex(
    r"[+-]?([0-9]{1,3}(,[0-9]{3}){0,2}|[0-9]{0,20})(\.[0-9]{0,18})?([eE]-?[0-9]{1,3}|[KM%])?", fullmatch=True
)
NEAR_NUMBERS = st.text("0123456789+-.,eKH%x n", max_size=7)
LETTERED = st.sampled_from(
    ["C188.10", "H5", "H", "", " ", "NaN", "nan", "inf", "+inf", "-0", "+-5", "++5", "1e400", "0x1F", "x"]
)


def parsed(parser: Parser, value: Any) -> tuple[Any, bool]:
    """Give what a parser makes of a value, and whether it was rejected."""
    try:
        return PARSERS[parser](value), False
    except ValueError:
        return None, True


@pytest.mark.parametrize("parser", ["price", "price_flag", "at_price", "at_size", "size", "number", "percent", "text"])
@given(
    values=st.lists(NUMBERS, min_size=1, max_size=6)
    | st.lists(NUMBERS | NEAR_NUMBERS | LETTERED, min_size=1, max_size=4)
)
@example(values=["1,300", "+1,300.5", "-1,300", "+.5", "5."])
@example(values=["1,30", "5"])
@example(values=["+1.60", "+-1.60"])
@example(values=["9007199254740993", "0.1", "2.2250738585072011e-308", "179769313486231570000000000000000000"])
def test_texts_in_bulk_mean_what_each_means(parser: Parser, values: list[str]) -> None:
    """To the bit, and what has no meaning is handed back."""
    rejected: list[tuple[int, Any]] = []
    column = to_column(
        Cells(np.arange(len(values)), pa.array(values)),
        parser,
        len(values),
        lambda row, value: rejected.append((row, value)),
    )
    expected = [parsed(parser, value) for value in values]

    assert repr([value for value, _ in expected]) == repr(column.to_pylist())
    assert [(row, values[row]) for row, (_, refused) in enumerate(expected) if refused] == rejected


MIXED = st.sampled_from(["a", "1,300", 7, 2**63, 1.5, 1.0, True, None])
PIECES = st.lists(
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2).map(pa.array)
    | st.lists(st.integers(-5, 2**62), min_size=1, max_size=2).map(lambda found: pa.array(found, pa.int64()))
    | st.lists(st.floats(allow_nan=False), min_size=1, max_size=2).map(lambda found: pa.array(found, pa.float64()))
    | st.lists(MIXED, min_size=1, max_size=2),
    min_size=1,
    max_size=3,
)


@given(PIECES)
def test_joined_cells_are_all_cells(pieces: list[Any]) -> None:
    """With values of the types that they had, whether they stood in arrays or in lists."""
    cells = [Cells(np.arange(len(piece)) + 10 * number, piece) for number, piece in enumerate(pieces)]
    expected = [pair for each in cells for pair in each.pairs()]

    assert repr(expected) == repr(list(joined(cells).pairs()))
