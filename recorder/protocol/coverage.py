"""The coverage of what is recorded: opens a gap where data may be missing, and closes it where it flows again.

1. A gap of a whole topic ends at the first frame of a stream that the broker answers at once. Streams of single
   contracts that stay silent after that get a gap of their own, from that moment on.
2. A stream that speaks only on change proves nothing by its silence: its gap ends when its subscription has stood for
   `SETTLED` without a refusal and, where REST has a snapshot, that was recorded too or could not be had.
3. What can be heard while the gateway waits for us (`pause`) was sent before, and closes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from recorder.protocol.ledger import Cause, Gap, Ledger
from recorder.protocol.subscriptions import Line, Subscriptions

SETTLED: Final = 2.0
SNAPSHOT_WITHIN: Final = 30.0
CLOCK_STEP: Final = 1.0
"""Seconds that the wall clock may run away between two looks before it counts as a step."""


class Coverage:
    """The gaps of a recorder's topics; `marks` is what is to be journaled, in order.

    Times are seconds of a clock that never steps; `wall` is the microseconds of the wall clock at `now`.
    """

    def __init__(self, subscriptions: Subscriptions, ledger: Ledger, *, now: float, wall: int) -> None:
        self.marks: list[bytes] = []
        self.snapshots: dict[str, float] = {}
        """When a topic's snapshot was recorded, or given up."""
        self._subscriptions = subscriptions
        self._ledger = ledger
        self._offset = wall / 1e6 - now
        self._paused = False
        self._lost: dict[str, float] = {}  # by topic; moments, since the wall clock may have stepped meanwhile

    def stamp(self, at: float) -> int:
        """Give a moment as microseconds since the epoch."""
        return int((at + self._offset) * 1e6)

    def moment(self, ts: int, now: float) -> float:
        """Give a stamp's moment; never one to come."""
        return min(now, ts / 1e6 - self._offset)

    def gap(self, topic: str, conid: int | None = None) -> Gap | None:
        """Find the open gap of a topic, or of one contract."""
        return next((gap for gap in self._ledger.open_gaps if gap.key == (topic, conid)), None)

    def lose(self, topics: Iterable[str], cause: Cause, evidence: str, *, since: Callable[[str], float]) -> None:
        """Open gaps of whole topics; `since` says from when on."""
        for topic in topics:
            self._lost[topic] = since(topic)
            self._open(topic, None, since(topic), cause, evidence)

    def lose_stream(self, line: Line, since: float, cause: Cause, evidence: str) -> None:
        """Open the gap of one stream; of its topic, if it is the topic's only one and of no contract."""
        stream = line.stream
        line.holed = stream.conid is not None
        self._open(stream.topic, stream.conid, since if line.hole_from is None else line.hole_from, cause, evidence)

    def note_stream(self, line: Line, since: float, until: float, cause: Cause, evidence: str) -> None:
        """Note a gap of one stream that is over already."""
        stream = line.stream
        if self._ledger.is_open(stream.topic, stream.conid):
            self._open(stream.topic, stream.conid, since, cause, evidence)
            return
        mark = self._ledger.note(
            stream.topic,
            stream.conid,
            start=self.stamp(since),
            end=self.stamp(until),
            cause=cause,
            evidence=evidence,
        )
        self._put(mark)

    def flows(self, line: Line, now: float) -> None:
        """Close what a frame of a stream shows to be over."""
        stream = line.stream
        if self._paused or not stream.answered:
            return
        if self._ledger.is_open(stream.topic):
            self._put(self._ledger.close(stream.topic, end=self.stamp(now)))
            self._leave_holes(line, now)
        line.hole_from = None
        if line.holed and line.entitled:
            self._close_stream(line, now)

    def settle(self, now: float) -> None:
        """Close the gaps of topics that speak only on change, and whose subscription stands."""
        for topic in self._subscriptions.topics:
            if self._paused or not self._ledger.is_open(topic):
                continue
            lines = self._subscriptions.of_topic(topic)
            ends = [self._settled_at(line, now) for line in lines if not line.stream.answered]
            known = [end for end in ends if end is not None]
            if ends and len(known) == len(lines) and max(known) >= self._lost.get(topic, -math.inf):
                self._put(self._ledger.close(topic, end=self.stamp(max(known))))

    def pause(self, now: float, evidence: str) -> None:
        """Take note that nothing is read any more."""
        self._paused = True
        for topic in self._subscriptions.topics:
            self._open(topic, None, now, "backpressure", evidence)

    def resume(self, now: float) -> None:
        """Take note that reading goes on: what the gateway held comes now."""
        self._paused = False
        for topic in self._subscriptions.topics:
            gap, lines = self.gap(topic), self._subscriptions.of_topic(topic)
            if gap is not None and gap.cause == "backpressure" and not any(line.stream.answered for line in lines):
                self._put(self._ledger.close(topic, end=self.stamp(now)))

    def clock(self, now: float, wall: int) -> str | None:
        """Compare the clocks; a step of the wall clock gets a row in each topic, from one reading to the other.

        Gives the step in words, None if there was none.
        """
        expected = self.stamp(now)
        self._offset = wall / 1e6 - now
        step = (wall - expected) / 1e6
        if abs(step) < CLOCK_STEP:
            return None
        evidence = f"the wall clock went from {_written(expected)} to {_written(wall)}, a step of {step:+.1f} s"
        for topic in self._subscriptions.topics:
            start, end = min(expected, wall), max(expected, wall)
            self._put(self._ledger.note(topic, start=start, end=end, cause="clock_step", evidence=evidence))
        return evidence

    def forget(self, line: Line, now: float) -> None:
        """Close the gaps of a stream that is not wanted any more (it is out of the subscriptions already)."""
        if line.holed:
            self._close_stream(line, now)
        if not self._subscriptions.of_topic(line.stream.topic):
            self._put(self._ledger.close(line.stream.topic, end=self.stamp(now)))

    def note_closed(self, since: float, until: float) -> None:
        """Note the time in which nothing was to be expected."""
        start, end, evidence = self.stamp(since), self.stamp(until), "outside the calendar's sessions"
        for topic in self._subscriptions.topics:
            self._put(self._ledger.note(topic, start=start, end=end, cause="market_closed", evidence=evidence))

    def end(self, now: float) -> None:
        """Close every gap: the recording ends."""
        self.marks += self._ledger.close_all(end=self.stamp(now))
        for line in self._subscriptions.lines.values():
            line.holed = False

    def _leave_holes(self, line: Line, now: float) -> None:
        """Take note which streams are still silent when their topic's gap is closed for a stream that is not."""
        for other in self._subscriptions.of_topic(line.stream.topic):
            if other is not line and other.state != "flowing":
                other.hole_from = now
                if other.state == "refused":
                    self.lose_stream(other, now, "subscription_refused", "refused before, and not heard since")

    def _settled_at(self, line: Line, now: float) -> float | None:
        stream, asked = line.stream, line.asked_at
        if line.state not in ("asked", "flowing") or asked is None or now < asked + SETTLED:
            return None
        taken = self.snapshots.get(stream.topic)
        if not stream.snapshot or now >= asked + SNAPSHOT_WITHIN:
            return asked
        return max(asked, taken) if taken is not None and taken >= asked else None

    def _close_stream(self, line: Line, now: float) -> None:
        line.holed, stream = False, line.stream
        same = [other for other in self._subscriptions.of_topic(stream.topic) if other.stream.conid == stream.conid]
        if not any(other.holed for other in same):  # one contract may be asked for at two exchanges
            self._put(self._ledger.close(stream.topic, stream.conid, end=self.stamp(now)))

    def _open(self, topic: str, conid: int | None, since: float, cause: Cause, evidence: str) -> None:
        self.marks += self._ledger.open_all([Gap(topic, conid, self.stamp(since), cause, evidence)])

    def _put(self, mark: bytes | None) -> None:
        if mark is not None:
            self.marks.append(mark)


def _written(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1e6, UTC).isoformat(timespec="milliseconds")
