"""Durations are written with a unit, and read back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.cli.durations import format_duration, parse_duration
from recorder.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("3s", 3.0),
        ("15m", 900.0),
        ("8h", 28_800.0),
        ("1d", 86_400.0),
        ("1.5h", 5_400.0),
        (" 10 s ", 10.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    """Each unit counts as its seconds; fractions and blanks are taken."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize("text", ["", "s", "3x", "-3s", "3 s 2", "1e3s", "infs", "٣s", "1h30m", "3S"])
def test_anything_else_is_refused(text: str) -> None:
    """The error shows what was given, the hint how to write it."""
    with pytest.raises(UsageError) as caught:
        parse_duration(text)

    assert f"{text!r} is not a duration" == str(caught.value)
    assert "15m" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["60", "0.5"])
def test_a_plain_number_is_told_that_it_needs_a_unit(text: str) -> None:
    """Seconds or minutes? Neither is guessed."""
    with pytest.raises(UsageError, match="has no unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.05, "50ms"), (1, "1s"), (90, "90s"), (5_400, "90m"), (86_400, "1d"), (0.0505, "0.0505s")],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    """No fraction where a smaller unit has none."""
    assert text == format_duration(seconds)


@given(st.floats(min_value=0, max_value=1e9, allow_subnormal=False))
def test_a_duration_reads_back_as_it_was(seconds: float) -> None:
    """Writing and reading lose nothing."""
    assert seconds == parse_duration(format_duration(seconds))
