"""Spans of time: sorted stretches that do not touch, and what is left of some where others are taken away."""

from __future__ import annotations

from collections.abc import Iterable

Stretch = tuple[int, int]
"""From, to (not included), in microseconds since the Unix epoch."""


def union(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join what overlaps or touches; empty ones are left out."""
    joined: list[Stretch] = []
    for start, end in sorted(stretch for stretch in stretches if stretch[0] < stretch[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def common(some: Iterable[Stretch], others: Iterable[Stretch]) -> list[Stretch]:
    """Give what lies in both."""
    left, right = union(some), union(others)
    found: list[Stretch] = []
    first = second = 0
    while first < len(left) and second < len(right):
        start = max(left[first][0], right[second][0])
        end = min(left[first][1], right[second][1])
        if start < end:
            found.append((start, end))
        if left[first][1] <= right[second][1]:
            first += 1
        else:
            second += 1
    return found


def length(stretches: Iterable[Stretch]) -> int:
    """Add up, microseconds; what overlaps counts once."""
    return sum(end - start for start, end in union(stretches))
