"""Blocks: runs of what is replayed, merged whole, so that nothing is done for each element but to make it.

1. A block's elements are made as they are taken, once, and before the next block is asked for.
2. Order is (T, recorder, place within the recorder): each source is one recorder's, in its own order, T never falling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

NEVER: Final = -(2**63)
_SHORT: Final = 4  # elements: shorter runs cost more to cut out than one by one


class Block(NamedTuple):
    """Elements that follow one another, and T of each (microseconds)."""

    latest: npt.NDArray[np.int64]
    elements: Iterator[Any]

    def part(self, count: int) -> Block:
        """Give the first elements; the rest is to be taken behind them."""
        return Block(self.latest[:count], islice(self.elements, count))

    def rest(self, count: int) -> Block:
        """Give what is behind the first elements, which are to be taken before."""
        return Block(self.latest[count:], self.elements)


class Elements(chain[Any]):
    """Elements one by one, without a step of Python's for each; can be closed, as a generator can."""

    blocks: Iterable[Block]

    def close(self) -> None:
        """Give no more, and read no more."""
        close = getattr(self.blocks, "close", None)
        if close is not None:
            close()
        self.__class__ = _Closed  # a chain would go on with what is left of its block


class _Closed(Elements):
    def __next__(self) -> Any:
        raise StopIteration


def elements_of(blocks: Iterable[Block]) -> Elements:
    """Give the elements one by one."""
    elements = cast(
        "Elements", Elements.from_iterable(block.elements for block in blocks)
    )  # of the class it is called on
    elements.blocks = blocks
    return elements


def numbers(values: npt.NDArray[Any]) -> Iterable[Any]:
    """Give an array's values as Python has them, each made when it is taken."""
    return np.require(values, requirements=["C", "ALIGNED"]).data  # of a journal's bytes they may not be


def in_turns(elements: Sequence[Iterator[Any]], turns: npt.NDArray[np.int64] | None) -> Iterator[Any]:
    """Give elements of several sources by turns; None where there is but one."""
    if turns is None:
        (only,) = elements
        return only
    ends = np.append(np.flatnonzero(turns[1:] != turns[:-1]) + 1, len(turns))
    if len(ends) * _SHORT > len(turns):
        return map(next, map(elements.__getitem__, numbers(turns)))
    runs = np.diff(ends, prepend=0)
    whose = map(elements.__getitem__, numbers(turns[ends - 1]))
    return chain.from_iterable(map(islice, whose, numbers(runs)))


def running(blocks: Iterable[Block]) -> Iterator[Block]:
    """Give blocks with the highest T so far in place of each."""
    highest = NEVER
    for block in blocks:
        latest = np.maximum.accumulate(np.maximum(block.latest, highest))
        highest = int(latest[-1])
        yield Block(latest, block.elements)


class Source:
    """One recorder's blocks, and how far they are known.

    `horizon` is what T cannot fall below of anything that is not in `block`; it is infinite at the end.
    """

    def __init__(self, recorder: str, blocks: Iterator[Block]) -> None:
        self.recorder = recorder
        self.block: Block | None = None
        self._blocks = blocks

    @property
    def horizon(self) -> tuple[float, str]:
        """Below which all is known, as the first two parts of the order."""
        latest = float("inf") if self.block is None else int(self.block.latest[-1])
        return latest, self.recorder

    def fill(self) -> None:
        """Have a block, if there is one."""
        if self.block is None:
            self.block = next((block for block in self._blocks if len(block.latest)), None)

    def take(self, bound: tuple[float, str]) -> Block | None:
        """Take the elements that come before everything beyond the bound, itself included."""
        block = self.block
        if block is None:
            return None
        if self.horizon <= bound:
            self.block = None
            return block
        count = int(np.searchsorted(block.latest, bound[0], "right" if self.recorder < bound[1] else "left"))
        self.block = block.rest(count)
        return block.part(count) if count else None


def merge_blocks(streams: Mapping[str, Iterator[Block]]) -> Iterator[Block]:
    """Merge the blocks of recorders into one stream."""
    if len(streams) == 1:
        (only,) = streams.values()
        yield from only
        return
    sources = [Source(recorder, blocks) for recorder, blocks in sorted(streams.items())]
    while True:
        for source in sources:
            source.fill()
        sources = [source for source in sources if source.block is not None]
        if not sources:
            return
        yield from merged_to(min(source.horizon for source in sources), sources)


def merged_to(bound: tuple[float, str], sources: Sequence[Source]) -> Iterator[Block]:
    """Give what sources, in the order of recorders, have up to a bound, as one block."""
    taken = [block for source in sources if (block := source.take(bound)) is not None]
    if len(taken) == 1:
        yield taken[0]
    elif taken:
        latest = np.concatenate([block.latest for block in taken])
        of = np.repeat(np.arange(len(taken)), [len(block.latest) for block in taken])
        order = np.argsort(latest, kind="stable")
        yield Block(latest[order], in_turns([block.elements for block in taken], of[order]))
