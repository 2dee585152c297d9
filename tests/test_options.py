"""Options that commands share: lists and times."""

from __future__ import annotations

import pytest

from recorder.cli.options import split


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
