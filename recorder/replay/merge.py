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


def merge(streams: Mapping[str, Iterable[T]]) -> Iterator[tuple[int, T]]:
    """Merge streams by recorder into (T, recorder, session, seq, item) order; gives T with each element.

    T is the highest ts_recv of the recorder so far, so a clock that steps back reorders nothing. Each stream is in
    order already, items of one frame included.
    """
    if len(streams) == 1:
        (only,) = streams.values()
        yield from running(only)
        return
    named = [_named(recorder, stream) for recorder, stream in sorted(streams.items())]
    for (latest, _, _, _), element in heapq.merge(*named, key=lambda pair: pair[0]):
        yield latest, element


def running(stream: Iterable[T]) -> Iterator[tuple[int, T]]:
    """Give each element with the highest ts_recv so far."""
    latest = -(2**63)
    for element in stream:
        latest = max(latest, element.ts_recv)
        yield latest, element


def _named(recorder: str, stream: Iterable[T]) -> Iterator[tuple[tuple[int, str, str, int], T]]:
    for latest, element in running(stream):
        yield (latest, recorder, element.session, element.seq), element
