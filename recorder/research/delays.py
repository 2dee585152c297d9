"""Delays: how they are distributed, in bounded memory."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

_RATIO: Final = math.log(1.01)
_SIZE: Final = 3_000
"""Bins on either side of zero: the last one is of what takes longer than a hundred days."""


class Delays:
    """Counts delays (microseconds, also below zero) in bins that are 1% wide.

    Lowest and highest are exact, shares in between to 1%.
    """

    def __init__(self) -> None:
        self.count = 0
        self.low = 0
        self.high = 0
        self._bins = np.zeros(2 * _SIZE + 1, np.int64)

    def add(self, delays: npt.NDArray[np.int64]) -> None:
        """Count some."""
        if not len(delays):
            return
        low, high = int(delays.min()), int(delays.max())
        self.low, self.high = (min(self.low, low), max(self.high, high)) if self.count else (low, high)
        self.count += len(delays)
        places = np.log1p(np.abs(delays.astype(np.float64))) / _RATIO
        signed = np.copysign(np.minimum(np.rint(places), _SIZE), delays).astype(np.int64)
        self._bins += np.bincount(signed + _SIZE, minlength=2 * _SIZE + 1)

    def merge(self, other: Delays) -> None:
        """Count what another has counted."""
        if not other.count:
            return
        self.low = min(self.low, other.low) if self.count else other.low
        self.high = max(self.high, other.high) if self.count else other.high
        self.count += other.count
        self._bins += other._bins

    def at(self, share: float) -> int | None:
        """Give the delay below which this share of them lies (0.5: the median); None if there are none."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        place = int(np.searchsorted(np.cumsum(self._bins), rank)) - _SIZE
        value = round(math.copysign(math.expm1(abs(place) * _RATIO), place))
        return min(max(value, self.low), self.high)
