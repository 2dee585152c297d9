"""Percentiles of times, as the benchmarks of latency say them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PERCENTS = (50, 99, 99.9, 100)


def percentiles(name: str, milliseconds: npt.NDArray[np.float64]) -> dict[str, float]:
    """Give the percentiles of a figure, and its maximum."""
    return {f"{name} p{percent:g} ms": round(float(np.percentile(milliseconds, percent)), 2) for percent in PERCENTS}
