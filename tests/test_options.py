"""Options that commands share: lists and times."""

from __future__ import annotations

import pytest

from recorder.cli.options import parse_time, split
from recorder.errors import UsageError


@pytest.mark.parametrize(
    ("values", "pieces"),
    [
        (None, ()),
        (["a,b", "c"], ("a", "b", "c")),
        ([" a , ,b,a"], ("a", "b")),
        (["1;;;2/1,3/-1", "4"], ("1;;;2/1,3/-1", "4")),
    ],
)
def test_values_are_separated_by_commas_or_repeated(values: list[str] | None, pieces: tuple[str, ...]) -> None:
    """Each value once, in order; a combo contract stays whole."""
    assert pieces == split(values)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        (None, None),
        ("1970-01-02", 86_400_000_000),
        ("1970-01-01T00:00:01.000002", 1_000_002),
        ("1970-01-01 00:00Z", 0),
        ("1970-01-01T00:00-05:00", 18_000_000_000),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str | None, micros: int | None) -> None:
    """Dates, times, zones; None stays None."""
    assert micros == parse_time(text, option="--start")


def test_a_bad_time_names_its_option() -> None:
    """The error names the option, the hint shows how to write it."""
    with pytest.raises(UsageError) as caught:
        parse_time("yesterday", option="--end")

    assert str(caught.value) == "--end: 'yesterday' is not a time"
    assert "2026-11-20T14:30" in str(caught.value.hint)
