"""Merging: the streams of several recorders as one, in the one order that is documented."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar


class Stamped(Protocol):
    """Anything with a place in the order within its recorder."""

    @property
    def ts_recv(self) -> int: ...  # noqa: D102
    @property
    def session(self) -> str: ...  # noqa: D102
    @property
    def seq(self) -> int: ...  # noqa: D102


T = TypeVar("T", bound=Stamped)


def merge(streams: Mapping[str, Iterable[tuple[int, T]]]) -> Iterator[tuple[int, T]]:
    """Merge streams by recorder into (T, recorder, session, seq, item) order; each gives T with each element.

    T is the highest ts_recv of the recorder so far, so a clock that steps back reorders nothing. Each stream is in
    order already, items of one frame included.
    """
    if len(streams) == 1:
        (only,) = streams.values()
        yield from only
        return
    named = [_named(recorder, stream) for recorder, stream in sorted(streams.items())]
    for _, pair in heapq.merge(*named, key=lambda entry: entry[0]):
        yield pair


def running(stream: Iterable[T]) -> Iterator[tuple[int, T]]:
    """Give each element of one recorder's stream with the highest ts_recv among them so far."""
    latest = -(2**63)
    for element in stream:
        latest = max(latest, element.ts_recv)
        yield latest, element


def _named(recorder: str, stream: Iterable[tuple[int, T]]) -> Iterator[tuple[tuple[int, str, str, int], tuple[int, T]]]:
    for pair in stream:
        latest, element = pair
        yield (latest, recorder, element.session, element.seq), pair
