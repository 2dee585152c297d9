"""Whatever comes, in whatever order: what the client session never does, and what always holds of its gaps."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from talk import (
    ALLOWED,
    AUTHENTICATED,
    BROKERAGE,
    GONE,
    HEARTBEAT,
    OUR_TIC,
    REFUSED,
    SESSION_MESSAGE,
    STREAMS,
    SUCCESS,
    TOKEN,
    WAITING,
    Talk,
    full,
    market_data,
    stamp,
)

from recorder.protocol.connection_states import AWAY, LOST, OPENED, READY
from recorder.protocol.ledger import Closed, Key, read_gap
from recorder.protocol.subscriptions import Stream

SOME: st.SearchStrategy[Any] = st.sampled_from([True, False, None, 1, "x", [], {}, "N", "DPB"])
TARGETS = st.sampled_from(["265598", "8314@NYSE"])
KNOWN = st.sampled_from([WAITING, SUCCESS, HEARTBEAT, AUTHENTICATED, GONE, REFUSED, OUR_TIC, {"topic": "spl"}])
ODD = st.builds(
    lambda topic, key, value: {"topic": topic, key: value},
    st.sampled_from(["system", "sts", "tic", "sor", "spl", "smd+265598", "smd", None, 5]),
    st.sampled_from(["args", "success", "hb", "id", "error", "message", "6509", "84"]),
    SOME,
)
STATUS = st.builds(
    lambda key, value: {"topic": "sts", "args": {key: value}}, st.sampled_from(["authenticated", "competing"]), SOME
)
FRAMES = (
    (KNOWN | ODD | STATUS).map(lambda frame: json.dumps(frame, separators=(",", ":")).encode())
    | st.builds(full, TARGETS, st.integers(0, 2))
    | st.builds(lambda target, bid: market_data(target, **{"84": bid}), TARGETS, SOME)
    | st.binary(max_size=40)
)
TIMES = st.floats(0, 700)
STEPS = st.lists(
    st.tuples(st.just("frame"), FRAMES)
    | st.tuples(st.just("passed"), st.lists(FRAMES, max_size=3))
    | st.tuples(st.just("wait"), TIMES)
    | st.tuples(st.sampled_from(["due", "close", "open", "leave", "pause", "resume"]), st.none())
    | st.tuples(st.just("tickle"), st.tuples(st.sampled_from([TOKEN, "other"]), st.sampled_from([True, False, None])))
    | st.tuples(st.just("clock"), st.sampled_from([-90.0, -0.3, 0.0, 0.3, 90.0]))
    | st.tuples(st.just("snapshot"), st.none())
    | st.tuples(st.just("change"), st.sets(st.sampled_from(STREAMS)).map(list)),
    max_size=40,
)


class Story:
    """A talk, and the gaps as their marks tell them."""

    def __init__(self, *, ready: bool) -> None:
        self.talk = Talk(stale_after=60.0)
        self.open: dict[Key, int] = {}
        self.steps = 0.0
        if ready:
            self.talk.hear(SUCCESS, AUTHENTICATED, full("265598"), full("8314@NYSE"))

    def act(self, step: str, value: Any) -> None:
        """Take one step."""
        getattr(self, f"_{step}")(value)

    def _frame(self, data: bytes) -> None:
        self.talk.session.received(data, self.talk.now)

    def _passed(self, frames: list[bytes]) -> None:
        talk = self.talk
        talk.session.passed([(stamp(talk.now), 0, data) for data in frames], len(frames), talk.now)

    def _wait(self, seconds: float) -> None:
        self.talk.now += seconds
        self.talk.session.tick(self.talk.now)
        assert self.talk.session.deadline > self.talk.now

    def _due(self, _value: None) -> None:
        due = self.talk.session.deadline
        self._wait(0.0 if due == math.inf else due - self.talk.now)

    def _close(self, _value: None) -> None:
        self.talk.session.closed("it ended")

    def _open(self, _value: None) -> None:
        self.talk.session.opened(TOKEN, self.talk.now)

    def _leave(self, _value: None) -> None:
        assert [] == [text for text in self.talk.session.farewell() if not ALLOWED.fullmatch(text)]

    def _pause(self, _value: None) -> None:
        self.talk.session.paused("slow", self.talk.now)

    def _resume(self, _value: None) -> None:
        self.talk.session.resumed(self.talk.now)

    def _tickle(self, said: tuple[str, bool | None]) -> None:
        self.talk.session.tickled(said[0], authenticated=said[1], now=self.talk.now)

    def _clock(self, step: float) -> None:
        self.steps += step
        self.talk.session.clock(self.talk.now, stamp(self.talk.now + self.steps))

    def _snapshot(self, _value: None) -> None:
        self.talk.session.snapshot_taken("orders", self.talk.now)

    def _change(self, streams: list[Stream]) -> None:
        self.talk.session.change_streams(streams, self.talk.now)

    def sent(self) -> None:
        """Check what is sent."""
        state, sent = self.talk.session.state, self.talk.session.texts()
        assert [] == [text for text in sent if not ALLOWED.fullmatch(text)]
        assert state is READY or not set(sent) & set(BROKERAGE)
        assert state is not OPENED or {text for text in sent if text[0] != "u"} <= {SESSION_MESSAGE}
        assert state is not AWAY or not sent
        assert all(news.text and TOKEN not in news.text for news in self.talk.session.news())

    def noted(self) -> None:
        """Follow the marks."""
        for mark in self.talk.session.marks():
            read = read_gap(mark)
            assert read is not None
            if not isinstance(read, Closed):
                assert self.open.setdefault(read.key, read.start) == read.start, "one gap at a time"
                continue
            assert read.end >= read.gap.start
            if self.open.get(read.gap.key) == read.gap.start:
                del self.open[read.gap.key]
        health = self.talk.session.health(self.talk.now)
        assert {gap.key for topic in health for gap in topic.gaps} == self.open.keys(), "health shows what is open"


@given(st.booleans(), STEPS)
@settings(max_examples=200)
def test_whatever_comes_rules_hold(ready: bool, steps: list[tuple[str, Any]]) -> None:  # noqa: FBT001
    """No error, nothing sent that may not be sent or not yet, one gap at a time, and always a time to come."""
    story = Story(ready=ready)
    for step, value in steps:
        before = story.talk.session.state
        story.act(step, value)
        if before is LOST and step != "close":
            assert story.talk.session.state is LOST
        story.sent()
        story.noted()
    story.talk.session.stopped(story.talk.now)
    story.noted()

    assert {} == story.open, "a stop closes every gap"


@given(st.booleans(), STEPS)
def test_after_whatever_came_a_new_connection_brings_everything_back(ready: bool, steps: list[tuple[str, Any]]) -> None:  # noqa: FBT001
    """Each stream is subscribed, and each gap is closed once all of them flow."""
    story = Story(ready=ready)
    for step, value in steps:
        if step not in ("pause", "change"):
            story.act(step, value)
    talk = story.talk
    talk.lose()
    talk.session.texts()
    assert {stream.subscribe for stream in STREAMS} == set(talk.reopen())
    talk.session.snapshot_taken("orders", talk.now)
    talk.hear(full("265598"), full("8314@NYSE"), {"topic": "spl", "args": {}})
    talk.wait(5)

    assert () == tuple(gap for topic in talk.session.health(talk.now) for gap in topic.gaps)
