"""Faults: what a bad night at the broker does to a gateway, and when. Pure: randomness comes in as an argument."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

LENGTH_S: Final = 20.0
"""How long a fault that lasts does so, unless it is told."""


class Kind(NamedTuple):
    """One kind of fault.

    `options` are its variants, the first being what it does without one; `free` says what other option it takes.
    `lasts`: it has a length. Of two faults with the same `lever` only one can be at work.
    """

    options: tuple[str, ...] = ()
    free: str | None = None
    lasts: bool = True
    lever: str | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "disconnect": Kind(("clean", "abrupt", "mid-frame"), lasts=False),
    "silence": Kind(("all", "one"), free="a contract id"),
    "freeze": Kind(lever="freeze"),
    "rollover": Kind(lasts=False),
    "deauth": Kind(lever="brokerage session"),
    "competing": Kind(lever="brokerage session"),
    "refuse": Kind(lever="refuse"),
    "expire": Kind(lasts=False),
    "rest": Kind(("429", "500", "slow"), lever="rest"),
    "away": Kind(lever="away"),
    "malformed": Kind(lasts=False),
    "large": Kind(lasts=False),
    "burst": Kind(free="a number of frames", lasts=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: `at` seconds after the first client came, for `lasts` seconds (0 if it has no length)."""

    kind: str
    option: str | None = None
    at: float
    lasts: float = 0.0

    @property
    def end(self) -> float:
        """When it is over."""
        return self.at + self.lasts

    @property
    def name(self) -> str:
        """How it is written in a script, without its times."""
        return self.kind if self.option is None else f"{self.kind}={self.option}"


def variants() -> list[tuple[str, str | None]]:
    """List every kind of fault with each of its options."""
    return [(name, option) for name, kind in KINDS.items() for option in kind.options or (None,)]


def random_faults(rng: random.Random, *, every_s: float, length_s: float = LENGTH_S) -> Iterator[Fault]:
    """Give faults without end, `every_s` seconds apart in the mean, those that last `length_s` in the mean.

    They come as cards from a deck that holds every variant once and is shuffled when it is used up. None begins before
    the one before it is over.
    """
    deck: list[tuple[str, str | None]] = []
    at = 0.0
    while True:
        if not deck:
            deck = variants()
            rng.shuffle(deck)
        kind, option = deck.pop()
        pause = every_s * rng.uniform(0.5, 1.5)
        lasts = min(length_s * rng.uniform(0.5, 1.5), every_s / 2) if KINDS[kind].lasts else 0.0
        at += pause
        yield Fault(kind=kind, option=option, at=round(at, 3), lasts=round(lasts, 3))


def clash(faults: Iterable[Fault]) -> tuple[Fault, Fault] | None:
    """Find two faults that cannot be at work together: the same lever is theirs."""
    last: dict[str, Fault] = {}
    for fault in sorted(faults, key=lambda one: one.at):
        lever = KINDS[fault.kind].lever
        if lever is None:
            continue
        before = last.get(lever)
        if before is not None and fault.at < before.end:
            return before, fault
        last[lever] = fault
    return None
