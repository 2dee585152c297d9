"""Limits: when a recording is not good enough, and what then is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from recorder.research.quality import DayQuality, StreamQuality


class Limits(NamedTuple):
    """The least coverage (a share), the longest gap and latency (seconds), the greatest share of rows not live."""

    min_coverage: float = 0.99
    max_gap: float = 300.0
    max_latency: float = 2.0
    max_delayed: float = 0.05


class Problem(NamedTuple):
    """What is beyond a limit: `what` is a name that stays, `conids` the contracts it is true of (0: no single one)."""

    what: str
    recorder: str | None
    topic: str | None
    conids: tuple[int, ...]
    text: str


def problems(quality: DayQuality, limits: Limits) -> list[Problem]:
    """List what is beyond the limits, one problem a topic and limit."""
    found = [
        *_of("coverage", quality, _uncovered(limits), _coverage),
        *_of("gap", quality, lambda one: one.longest_gap - limits.max_gap, _gap),
        *_of("latency", quality, lambda one: _late(one) - limits.max_latency, _latency),
        *_of("delayed", quality, lambda one: _delayed(one) - limits.max_delayed, _not_live),
    ]
    clock = quality.clock
    if clock is not None and abs(clock.p50) > limits.max_latency:
        text = f"the recorder's clock and the broker's differ by {clock.p50:.1f} s"
        found.append(Problem("clock", None, None, (), text))
    return found


def _of(
    what: str,
    quality: DayQuality,
    excess: Callable[[StreamQuality], float],
    say: Callable[[StreamQuality], str],
) -> Iterator[Problem]:
    """Give a problem for each topic of which some streams are beyond a limit; the worst of them tells."""
    beyond: dict[tuple[str, str], list[StreamQuality]] = {}
    for one in quality.streams:
        if excess(one) > 0:
            beyond.setdefault((one.recorder, one.topic), []).append(one)
    for (recorder, topic), streams in beyond.items():
        worst = max(streams, key=excess)
        name = topic if not worst.conid else f"{topic} of {worst.symbol or worst.conid}"
        more = f" (the worst of {len(streams)} contracts)" if len(streams) > 1 else ""
        conids = tuple(one.conid for one in streams)
        yield Problem(what, recorder, topic, conids, f"{name}: {say(worst)}{more}")


def _uncovered(limits: Limits) -> Callable[[StreamQuality], float]:
    return lambda one: 0.0 if one.coverage is None else limits.min_coverage - one.coverage


def _late(one: StreamQuality) -> float:
    return 0.0 if one.latency is None else one.latency.p99


def _delayed(one: StreamQuality) -> float:
    return (one.not_live or 0) / one.rows


def _coverage(one: StreamQuality) -> str:
    return f"{(one.coverage or 0) * 100:.2f}% of the hours are covered"


def _gap(one: StreamQuality) -> str:
    worst = max((gap for gap in one.gaps if not gap.information), key=lambda gap: gap.longest)
    return f"a gap of {worst.longest:,.0f} s ({worst.cause})"


def _latency(one: StreamQuality) -> str:
    return f"one row in a hundred came {_late(one):.1f} s or more after the broker sent it"


def _not_live(one: StreamQuality) -> str:
    return f"{_delayed(one) * 100:.1f}% of the rows are delayed, frozen or not subscribed (field 6509)"
