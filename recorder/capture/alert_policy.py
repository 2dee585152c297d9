"""The alert policy: when to tell people that a capture became unhealthy, or well again.

1. Pure: the problems come in with `now`, seconds of a clock that never steps; an alert comes out, or nothing.
2. An alert is due when a problem begins, and when the last one ends. Two alerts are at least `every` apart.
3. Nothing is swallowed: what began or ended meanwhile is counted, and the next alert says it. An alert that could not
   be delivered counts as not told, and is tried again after `every`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from recorder.capture.verdict import Problem

WELL = "well"
"""The name of the event that the last problem ended."""


@dataclass(frozen=True, slots=True)
class Held:
    """An event that no delivered alert has told yet: the problem that began, or `WELL`; and how often it happened."""

    what: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Alert:
    """What is to be told: what is wrong now (nothing: the capture is well again), and what was held back till now."""

    problems: tuple[Problem, ...]
    held: tuple[Held, ...]
    told: tuple[Held, ...]

    @property
    def healthy(self) -> bool:
        """Whether all is well."""
        return not self.problems

    @property
    def text(self) -> str:
        """Say it to people."""
        now = "; ".join(problem.text for problem in self.problems) if self.problems else "all is well again"
        if not self.held:
            return now
        held = "; ".join(one.text if one.count == 1 else f"{one.text} ({one.count} times)" for one in self.held)
        return f"{now}. Held back since the last alert: {held}"


class AlertPolicy:
    """Follows the problems of one capture, which is taken to be well at first."""

    def __init__(self, *, every: float) -> None:
        self._every = every
        self._next = -math.inf
        self._present: frozenset[str] = frozenset()
        self._counts: Counter[str] = Counter()
        self._texts: dict[str, str] = {}

    def step(self, problems: Iterable[Problem], now: float) -> Alert | None:
        """Take in what is wrong now; give the alert that is due."""
        found = tuple(problems)
        before = self._counts.copy()
        self.note(found)
        if not self._counts or now < self._next:
            return None
        return self._alert(found, before, now)

    def note(self, problems: Iterable[Problem]) -> None:
        """Take in what is wrong now, at a moment at which nobody can be told."""
        found = tuple(problems)
        present = frozenset(problem.what for problem in found)
        for problem in found:
            if problem.what not in self._present:
                self._counts[problem.what] += 1
                self._texts[problem.what] = problem.text
        if self._present and not present:
            self._counts[WELL] += 1
            self._texts[WELL] = "it was well again"
        self._present = present

    @property
    def owes(self) -> bool:
        """Whether people were not told something, or were last told that something is wrong."""
        return bool(self._present or self._counts)

    def last(self, problems: Iterable[Problem]) -> Alert | None:
        """Give what is left to tell when the capture ends, however short ago the last alert was."""
        found = tuple(problems)
        before = self._counts.copy()
        self.note(found)
        return self._alert(found, before, math.inf) if self._counts else None

    def failed(self, alert: Alert) -> None:
        """Learn that an alert was not delivered: what it told waits for the next."""
        for one in alert.told:
            self._counts[one.what] += one.count
            self._texts.setdefault(one.what, one.text)

    def _alert(self, found: tuple[Problem, ...], before: Counter[str], now: float) -> Alert:
        held = tuple(Held(what, self._texts[what], count) for what, count in before.items())
        told = tuple(Held(what, self._texts[what], count) for what, count in self._counts.items())
        self._next = now + self._every
        self._counts.clear()
        self._texts.clear()
        return Alert(found, held, told)
