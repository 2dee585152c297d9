"""The broker's values mean what they say, or nothing at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.dialect import (
    PARSERS,
    format_price,
    format_short,
    format_size,
    parse_flag,
    parse_integer,
    parse_number,
    parse_percent,
    parse_price,
    parse_price_flag,
    parse_size,
    parse_text,
    parse_time_ms,
    parse_time_s,
    parse_time_text,
)
from recorder.protocol.topics import PARSER_TYPES, Parser

NUMBERS = (parse_price, parse_size, parse_number, parse_percent)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PYTHON_TYPES = {"float64": float, "int64": int, "string": str, "bool": bool, "timestamp": int}

MEANINGS: list[tuple[Parser, Any, Any]] = [
    ("price", "189.52", 189.52),
    ("price", "C188.10", 188.1),
    ("price", "H12.34", 12.34),
    ("price", "C1,188.10", 1188.1),
    ("price", "C-1.50", -1.5),
    ("price", "+1.05", 1.05),
    ("price", "-0.25", -0.25),
    ("price", "1,234,567.5", 1234567.5),
    ("price", " 189.52 ", 189.52),
    ("price", ".5", 0.5),
    ("price", "5.", 5.0),
    ("price", 372, 372.0),
    ("price", 382.4, 382.4),
    ("price_flag", "C188.10", "C"),
    ("price_flag", "H12.34", "H"),
    ("price_flag", "188.10", None),
    ("price_flag", "CLOSED", None),
    ("price_flag", "C", None),
    ("price_flag", 188.1, None),
    ("size", "1,300", 1300.0),
    ("size", "24.2M", 24200000.0),
    ("size", "0.3K", 300.0),
    ("size", "1.1B", 1100000000.0),
    ("size", "2.5T", 2500000000000.0),
    ("size", "-700", -700.0),
    ("size", "1,024K", 1024000.0),
    ("size", 24200000.0, 24200000.0),
    ("size", "0.0001", 0.0001),
    ("number", "2.42E7", 24200000.0),
    ("number", "1e-3", 0.001),
    ("number", "0", 0.0),
    ("number", -12, -12.0),
    ("percent", 0.04, 0.04),
    ("percent", "42.0%", 42.0),
    ("percent", "+0.56", 0.56),
    ("percent", "1,200%", 1200.0),
    ("integer", 265598, 265598),
    ("integer", "265598", 265598),
    ("integer", 265598.0, 265598),
    ("integer", "-5", -5),
    ("integer", 2**63 - 1, 2**63 - 1),
    ("text", "RpB", "RpB"),
    ("text", " kept ", " kept "),
    ("text", "NaN", "NaN"),
    ("text", 1785600001, "1785600001"),
    ("text", True, "true"),
    ("text", ["Yes", "No"], '["Yes","No"]'),
    ("text", {"a": None}, '{"a":null}'),
    ("text", [], "[]"),
    ("flag", "1", True),
    ("flag", "0", False),
    ("flag", 1, True),
    ("flag", 0, False),
    ("flag", True, True),
    ("flag", "false", False),
    ("flag", "true", True),
    ("time_ms", 1785763811020, 1785763811020000),
    ("time_ms", "1785763811020", 1785763811020000),
    ("time_ms", 1.78576381102e12, 1785763811020000),
    ("time_ms", 0, 0),
    ("time_s", 1785763811, 1785763811000000),
    ("time_s", "1785763811", 1785763811000000),
    ("time_s", 1785763811.5, 1785763811500000),
    ("time_text", "20260803-13:30:15", 1785763815000000),
    ("time_text", "260803133015", 1785763815000000),
    ("time_text", "200708173551", 1594229751000000),
]
NO_NUMBERS: list[Any] = [
    "abc",
    "nan",
    "inf",
    "-Infinity",
    "1_000",
    "1 000",
    "0x10",
    "--5",
    "1,5",
    "٣",
    True,
    [],
    {},
    "$5",
]
NONSENSE: list[tuple[Parser, Any]] = [
    *[(parser, value) for parser in ("price", "size", "number", "percent", "integer") for value in NO_NUMBERS],
    *[(parser, math.inf) for parser in ("price", "size", "number", "percent", "integer", "time_ms", "time_s")],
    *[(parser, "1e999") for parser in ("price", "size", "number", "percent")],
    *[(parser, 10**400) for parser in ("price", "size", "number", "percent", "integer", "time_ms")],
    ("price", "C"),
    ("price", "CH5"),
    ("price", "C C5"),
    ("price", "5C"),
    ("price", "24.2M"),
    ("price", "5%"),
    ("size", "24.2m"),
    ("size", "M"),
    ("size", "1e3M"),
    ("size", "24.2 M"),
    ("size", "1,30"),
    ("size", "1300,000"),
    ("size", "C5"),
    ("number", "42%"),
    ("number", "."),
    ("percent", "%"),
    ("percent", "5%%"),
    ("percent", "5K%"),
    ("percent", "C5%"),
    ("percent", "5 bp"),
    ("percent", "-0.56 %"),
    ("integer", "1,300"),
    ("integer", "1.5"),
    ("integer", 1.5),
    ("integer", 2**63),
    ("integer", -(2**63) - 1),
    ("integer", "9223372036854775808"),
    ("integer", 1e19),
    ("flag", "2"),
    ("flag", 2),
    ("flag", 1.0),
    ("flag", "yes"),
    ("flag", []),
    ("time_ms", "soon"),
    ("time_ms", 2**62),
    ("time_ms", True),
    ("time_ms", []),
    ("time_s", "20260803-13:30:15"),
    ("time_text", "20261303-13:30:15"),
    ("time_text", "20260803 13:30:15"),
    ("time_text", "2026803-13:30:15"),
    ("time_text", "261399250000"),
    ("time_text", 260803133015),
]


@pytest.mark.parametrize(("parser", "value", "meaning"), MEANINGS)
def test_a_value_means_what_it_says(parser: Parser, value: Any, meaning: Any) -> None:
    """Each way of writing that the broker has is read, exactly."""
    result = PARSERS[parser](value)

    assert result == meaning
    assert type(result) is type(meaning)


@pytest.mark.parametrize(("parser", "value"), NONSENSE)
def test_what_means_nothing_is_refused(parser: Parser, value: Any) -> None:
    """Nothing is guessed from a text that could be anything."""
    with pytest.raises(ValueError, match=r"\w"):
        PARSERS[parser](value)


@pytest.mark.parametrize("parser", get_args(Parser))
@pytest.mark.parametrize("value", [None, ""])
def test_nothing_is_null(parser: Parser, value: Any) -> None:
    """Null and an empty text are no value, whatever the column."""
    assert PARSERS[parser](value) is None


@pytest.mark.parametrize("parse", [*NUMBERS, parse_integer])
@pytest.mark.parametrize("value", ["NaN", " ", math.nan])
def test_not_a_number_is_null(parse: Callable[[Any], Any], value: Any) -> None:
    """NaN, as JSON of some writers has it, is no value; so are blanks."""
    assert parse(value) is None


def test_every_parser_of_the_topic_files_is_there() -> None:
    """A topic file cannot name a parser that does not exist."""
    assert set(PARSERS) == set(get_args(Parser)) == set(PARSER_TYPES)


@given(value=JSON)
@pytest.mark.parametrize("parser", get_args(Parser))
def test_any_json_is_read_or_refused(parser: Parser, value: Any) -> None:
    """A parser gives its type or None, or raises ValueError; never NaN, never infinity, never another error."""
    try:
        result = PARSERS[parser](value)
    except ValueError:
        return

    assert result is None or type(result) is PYTHON_TYPES[PARSER_TYPES[parser]]
    assert not isinstance(result, float) or math.isfinite(result)


@given(FINITE)
def test_a_number_is_read_back_from_its_text(number: float) -> None:
    """All digits that Python writes are read, exponents too."""
    for parse in NUMBERS:
        assert parse(repr(number)) == number
        assert parse(number) == number


@given(FINITE)
def test_a_percentage_is_read_with_and_without_its_sign(number: float) -> None:
    """The percent sign changes nothing."""
    assert parse_percent(f"{number!r}%") == parse_percent(repr(number)) == number


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_read_back_from_its_text(number: int) -> None:
    """All 64 bits are kept."""
    assert parse_integer(str(number)) == parse_integer(number) == number


@given(st.integers(0, 10**15))
def test_a_size_is_read_back(size: int) -> None:
    """Commas go in and out."""
    assert parse_size(format_size(size)) == size


@given(st.decimals(0, 10**6, places=4).map(float))
def test_a_size_with_a_fraction_is_read_back(size: float) -> None:
    """Fractions of shares exist."""
    assert parse_size(format_size(size)) == size


@given(st.integers(-(10**9), 10**9), st.integers(0, 8), st.sampled_from(["", "C", "H"]))
def test_a_price_is_read_back_with_its_flag(ticks: int, decimals: int, flag: str) -> None:
    """The letter goes to one column, the price to the other."""
    price = float(f"{ticks}e-{decimals}")

    text = flag + format_price(price, decimals)

    assert parse_price(text) == price
    assert (parse_price_flag(text) or "") == flag


@given(st.integers(0, 999 * 10**12))
def test_a_short_size_is_near_the_size(size: int) -> None:
    """One decimal is kept, and never four digits before it."""
    text = format_short(size)
    read = parse_size(text)

    assert read is not None
    assert math.isclose(read, size, rel_tol=0.051)
    assert len(text.rstrip("KMBT").partition(".")[0]) <= 3


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (500, "500"), (999.6, "1.0K"), (1300, "1.3K"), (24_200_000, "24.2M"), (999_960, "1.0M"), (3e12, "3.0T")],
)
def test_a_short_size_is_written_as_displays_do(size: float, text: str) -> None:
    """Three digits at most before the point."""
    assert format_short(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(1300, "1,300"), (1300.0, "1,300"), (0.5, "0.5"), (0, "0"), (1234.5, "1,234.5")]
)
def test_a_size_is_written_with_commas(size: float, text: str) -> None:
    """Whole sizes have no point."""
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("price", "decimals", "text"), [(189.5, 2, "189.50"), (-0.001, 2, "0.00"), (-1.5, 1, "-1.5"), (7, 0, "7")]
)
def test_a_price_is_written_with_its_decimals(price: float, decimals: int, text: str) -> None:
    """There is no negative zero."""
    assert format_price(price, decimals) == text


@given(st.datetimes(datetime(2000, 1, 1), datetime(2068, 12, 31)))  # noqa: DTZ001  hypothesis wants naive bounds
def test_a_time_is_read_back_from_its_text(moment: datetime) -> None:
    """Both ways of writing a time mean UTC, whatever the machine's zone."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    expected = int(moment.timestamp()) * 1_000_000

    assert parse_time_text(moment.strftime("%Y%m%d-%H:%M:%S")) == expected
    assert parse_time_text(moment.strftime("%y%m%d%H%M%S")) == expected


@given(st.integers(-(2**63) // 10**6 + 1, 2**63 // 10**6 - 1))
def test_a_time_in_seconds_or_milliseconds_is_exact(seconds: int) -> None:
    """Times are integers from end to end."""
    assert parse_time_s(seconds) == parse_time_s(str(seconds)) == seconds * 1_000_000
    assert parse_time_ms(seconds) == parse_time_ms(str(seconds)) == seconds * 1000


@given(JSON)
def test_text_is_kept_or_becomes_json(value: Any) -> None:
    """What is no text can be read again as JSON."""
    text = parse_text(value)

    if value is None or value == "":
        assert text is None
    elif isinstance(value, str):
        assert text == value
    else:
        assert text == msgspec.json.encode(value).decode()


@given(st.booleans())
def test_a_flag_is_read_in_all_its_forms(flag: bool) -> None:  # noqa: FBT001  hypothesis passes it by position
    """JSON booleans, numbers and texts agree."""
    assert (
        parse_flag(flag) is parse_flag(int(flag)) is parse_flag(str(int(flag))) is parse_flag(str(flag).lower()) is flag
    )
