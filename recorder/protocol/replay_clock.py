"""The replay clock: which moment of a recording it is at a moment of the present. Pure: the present comes in."""

from __future__ import annotations

import math


class ReplayClock:
    """Maps the present to the time of a recording, both in microseconds since the Unix epoch.

    It stands until `start`, and while it is paused. `speed` is how many seconds of the recording pass in one; None is
    as fast as can be: then it stands where `reach` has put it, which is how far the recording was given out. Changes
    keep the moment it is at: nothing is replayed twice or passed over but by `seek`.
    """

    def __init__(self, begin: int, *, speed: float | None = 1.0) -> None:
        self.speed = speed
        self._moment = begin  # of the recording, at `_since`
        self._since: int | None = None  # the present when it last began to run; None: it stands

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._since is not None

    def at(self, now: int) -> int:
        """Give the moment of the recording. A present that steps back holds it, and turns it never back."""
        if self._since is None or self.speed is None:
            return self._moment
        return self._moment + max(0, int((now - self._since) * self.speed))

    def due(self, moment: int, now: int) -> int | None:
        """Say when a moment of the recording is due; `now` if it is past, None while the clock stands."""
        if self._since is None:
            return None
        if self.speed is None or moment <= self._moment:
            return now
        return max(now, self._since + math.ceil((moment - self._moment) / self.speed))

    def start(self, now: int) -> None:
        """Let it run, from where it stands."""
        if self._since is None:
            self._since = now

    def pause(self, now: int) -> None:
        """Let it stand."""
        self._moment, self._since = self.at(now), None

    def seek(self, moment: int, now: int) -> None:
        """Put it somewhere else; it goes on running, or standing."""
        self._moment = moment
        if self._since is not None:
            self._since = now

    def reach(self, moment: int) -> None:
        """Take note of how far the recording was given out; of matter only where there is no pace."""
        if self.speed is None:
            self._moment = max(self._moment, moment)

    def change_speed(self, speed: float | None, now: int) -> None:
        """Go on at another speed."""
        self.seek(self.at(now), now)
        self.speed = speed
