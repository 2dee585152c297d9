"""What one stream of market data does: when it spoke last, how often it does, and what it said.

It answers the question whether a silence has cost anything. The broker confirms nothing, so a silent stream is asked
for again; the full frame that this brings is compared with the state as it was known before the silence.

1. The state is that of the frames since the subscription, folded as they come. Where frames came too fast to be looked
   at, the state is not known until a full frame is seen: then a silence counts as a hole. Nothing is guessed.
2. A frame is full if it has every key that the state has. A frame with less is a change, and proves nothing about what
   was missed before it.
3. Intervals are sampled: frames within `SAMPLE` of each other count as one, so that a burst makes no stream impatient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any, Final, Literal

Verdict = Literal["whole", "missed"]
"""What a full frame after a silence says: nothing changed meanwhile, or something did."""

SAMPLE: Final = 1.0
INTERVALS: Final = 31
FEWEST: Final = 5
"""Intervals that a median needs; a stream with less is measured by `stale_after` alone."""
PATIENCE_MOST: Final = 1024.0
ENVELOPE: Final = frozenset({"topic", "conid", "conidEx", "server_id", "_updated", "6119", "6508", "6509"})
"""Keys that say nothing about the market, or come and go without being asked for (seen in captures)."""


class StreamWatch:
    """Follows one stream; times are seconds of a clock that never steps."""

    def __init__(self) -> None:
        self.last: float | None = None
        """When its last frame came on this connection."""
        self.asked_at: float | None = None
        """When it was asked for again, for being silent; None: it is not suspected."""
        self.silent_from: float = 0.0
        """When the silence began for which it is suspected."""
        self.twice = False
        """Whether it was asked for a second time."""
        self.gentle = False
        """Whether it was due to be asked for anyway: no answer means nothing then."""
        self.spoke_at: float | None = None
        """When a change came since it was asked for again."""
        self.patience = 1.0
        """How many times longer a silence may be: it doubles each time a silence turned out to be harmless."""
        self._values: dict[str, Any] | None = None
        self._keys: frozenset[str] = frozenset()
        self._fresh = True
        self._sampled: float | None = None
        self._intervals: deque[float] = deque(maxlen=INTERVALS)

    @property
    def suspected(self) -> bool:
        """Whether it was too long silent, and nothing has cleared it yet."""
        return self.asked_at is not None

    @property
    def interval(self) -> float | None:
        """Its median interval in seconds; None while too little is known."""
        return median(self._intervals) if len(self._intervals) >= FEWEST else None

    def subscribed(self) -> None:
        """Begin anew: the next frame is a full one."""
        self.clear()
        self.last = self._sampled = None
        self._values, self._fresh = None, True

    def suspect(self, now: float, *, gentle: bool = False) -> None:
        """Take note that it was asked for again, for a silence that has lasted since its last frame."""
        self.asked_at, self.twice, self.gentle, self.spoke_at = now, False, gentle, None
        self.silent_from = now if self.last is None else self.last

    def clear(self) -> None:
        """Suspect it no more."""
        self.asked_at, self.twice, self.gentle, self.spoke_at = None, False, False, None

    def passed(self, now: float) -> None:
        """Take note of frames that nobody looked at, the last of them at `now`."""
        self._note(now)
        self._values, self._fresh = None, False

    def heard(self, frame: Mapping[str, Any], now: float) -> Verdict | None:
        """Look at a frame. While it is suspected, a full frame gives a verdict, and ends the suspicion."""
        said = {key: value for key, value in frame.items() if key not in ENVELOPE}
        full = self._fresh or (bool(self._keys) and self._keys <= said.keys())
        verdict: Verdict | None = None
        if self.suspected and full:
            whole = self._values is not None and not self._fresh and self._values == said
            verdict = "whole" if whole else "missed"
            self.patience = min(2 * self.patience, PATIENCE_MOST)
            self.clear()
        elif self.suspected:
            self.spoke_at = self.spoke_at or now
        elif said != self._values:
            self.patience = 1.0  # it speaks by itself
        self._note(now)
        self._fold(said, full=full)
        return verdict

    def _fold(self, said: dict[str, Any], *, full: bool) -> None:
        if full:
            self._values = said
        elif self._values is not None:
            self._values.update(said)
        self._fresh = False
        if self._values is not None and len(self._values) != len(self._keys):
            self._keys = frozenset(self._values)

    def _note(self, now: float) -> None:
        self.last = now
        if self._sampled is None:
            self._sampled = now
        elif now - self._sampled >= SAMPLE:
            self._intervals.append(now - self._sampled)
            self._sampled = now
