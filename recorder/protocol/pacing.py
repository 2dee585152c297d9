"""The pace of REST calls: never above the broker's documented limits.

All calls together 10 a second; some paths far less. A refusal for too many calls (HTTP 429) puts a path aside for a
minute, and twice as long with each further one, up to the 15 minutes that the broker's penalty box is said to last (one
of its documents says 10): without `/tickle` no login is noticed that was renewed meanwhile, so a refusal that was not
meant to last must not cost a quarter of an hour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

OVERALL: Final = 10
FIRST_PENALTY: Final = 60.0
PENALTY: Final = 900.0
"""Seconds: how long a path is put aside at first, and at most."""
SPACING: Final[Mapping[str, float]] = {
    "/tickle": 1.0,
    "/sso/validate": 60.0,
    "/iserver/account/orders": 5.0,
    "/iserver/account/trades": 5.0,
    "/iserver/account/pnl/partitioned": 5.0,
    "/portfolio/accounts": 5.0,
}
"""Seconds between two calls of a path; the broker's document."""


class Pacer:
    """Says when a call may be made; times are seconds of a clock that never steps."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=OVERALL)
        self._next: dict[str, float] = {}
        self._barred: dict[str, float] = {}
        self._penalty: dict[str, float] = {}

    def reserve(self, path: str, now: float) -> float:
        """Take the next free place for a call; give how many seconds to wait until it."""
        at = max(now, self._next.get(path, now))
        if len(self._recent) == OVERALL:
            at = max(at, self._recent[0] + 1.0)
        self._recent.append(at)
        self._recent = deque(sorted(self._recent), maxlen=OVERALL)
        self._next[path] = at + SPACING.get(path, 0.0)
        return at - now

    def bar(self, path: str, now: float) -> float:
        """Take note that the broker refused a path for too many calls; give for how many seconds it is put aside."""
        penalty = self._penalty.get(path, FIRST_PENALTY)
        self._penalty[path] = min(2 * penalty, PENALTY)
        self._barred[path] = now + penalty
        return penalty

    def answered(self, path: str) -> None:
        """Take note that the broker answers a path again: the next refusal is a new one."""
        self._penalty.pop(path, None)

    def barred(self, path: str, now: float) -> float | None:
        """Give how many seconds a path is put aside yet; None if it is not."""
        left = self._barred.get(path, now) - now
        return left if left > 0 else None
