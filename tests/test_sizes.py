"""Sizes are written with a unit, and read back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.cli.sizes import format_size, parse_size
from recorder.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("12B", 12), ("500kB", 500_000), ("256MB", 256_000_000), ("256mb", 256_000_000), ("1.5 GiB", 1_610_612_736)],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    """MB are millions, MiB powers of two; case does not matter."""
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "MB", "12TB", "-1MB", "1 M B"])
def test_anything_else_is_refused(text: str) -> None:
    """The error shows what was given, the hint how to write it."""
    with pytest.raises(UsageError) as caught:
        parse_size(text)

    assert f"{text!r} is not a size" == str(caught.value)
    assert "256MB" in str(caught.value.hint)


def test_a_plain_number_is_told_that_it_needs_a_unit() -> None:
    """Bytes or megabytes? Neither is guessed."""
    with pytest.raises(UsageError, match="has no unit"):
        parse_size("256")


@given(st.integers(min_value=0, max_value=2**53))
def test_a_size_reads_back_as_it_was(size: int) -> None:
    """Writing and reading lose nothing."""
    assert size == parse_size(format_size(size))
