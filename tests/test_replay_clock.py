"""The replay clock, by itself: whatever is done to it in whatever order, it goes on from where it is."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recorder.protocol.replay_clock import ReplayClock

BEGIN = 1_795_176_000_000_000
NOW = 1_800_000_000_000_000
SPEEDS = st.sampled_from([0.25, 1.0, 20.0, 1_000.0])
SPANS = st.integers(0, 10**9)


class Steered(RuleBasedStateMachine):
    """Presses, in any order, what a terminal and the control calls offer; a loop at the end is a seek.

    `expected` is where the clock has to be, by adding up what passed at each speed since the last seek: exactly, and
    `changes` counts the roundings to whole microseconds, of which each change may leave one behind.
    """

    @initialize(speed=SPEEDS)
    def begin(self, speed: float) -> None:
        """Make a clock; it stands."""
        self.clock = ReplayClock(BEGIN, speed=speed)
        self.now, self.expected, self.changes, self.before = NOW, float(BEGIN), 0, BEGIN

    @rule(span=SPANS)
    def wait(self, span: int) -> None:
        """Let time pass."""
        if self.clock.running and self.clock.speed is not None:
            self.expected += span * self.clock.speed
        self.now += span

    @rule()
    def look(self) -> None:
        """Ask for the time, as every slice does: looking must not move it."""
        self.clock.at(self.now)

    @rule()
    def pause(self) -> None:
        """Let it stand."""
        self.clock.pause(self.now)
        self.changes += 1

    @rule()
    def resume(self) -> None:
        """Let it go on; twice is once."""
        self.clock.start(self.now)

    @rule(speed=SPEEDS)
    def change_speed(self, speed: float) -> None:
        """Go on at another pace."""
        self.clock.change_speed(speed, self.now)
        self.changes += 1

    @rule(ahead=SPANS)
    def rush(self, ahead: int) -> None:
        """Go on at no pace: the clock is where the recording was given out to, and never behind that."""
        self.clock.change_speed(None, self.now)
        self.changes += 1
        moment = self.clock.at(self.now)
        self.clock.reach(moment + ahead)
        self.clock.reach(moment)
        self.expected += ahead
        assert moment + ahead == self.clock.at(self.now + 10**9)

    @rule(moment=st.integers(BEGIN, BEGIN + 10**12))
    def seek(self, moment: int) -> None:
        """Put it elsewhere: the one thing that may turn it back."""
        self.clock.seek(moment, self.now)
        self.expected, self.changes, self.before = float(moment), 0, moment
        assert moment == self.clock.at(self.now)

    @precondition(lambda self: self.clock.running and self.clock.speed is not None)
    @rule(ahead=SPANS)
    def ask_when_due(self, ahead: int) -> None:
        """Ask when a moment is due: it is reached then, and not a microsecond of the present before."""
        moment = self.clock.at(self.now) + ahead
        due = self.clock.due(moment, self.now)
        assert due is not None
        assert due >= self.now
        assert self.clock.at(due) >= moment
        if due > self.now:
            assert self.clock.at(due - 1) < moment

    @precondition(lambda self: not self.clock.running)
    @rule(ahead=SPANS)
    def ask_while_it_stands(self, ahead: int) -> None:
        """Nothing is due while it stands, however long."""
        assert self.clock.due(self.clock.at(self.now) + ahead, self.now) is None

    @rule(back=SPANS)
    def step_back(self, back: int) -> None:
        """Hand in a present that stepped back: the clock is not ahead of where it was."""
        moment = self.clock.at(self.now - back)
        assert moment <= self.clock.at(self.now)

    @invariant()
    def stays_where_it_should_be(self) -> None:
        """Hold that it turns back by a seek only, and does not drift: what is off is rounding, once for each change."""
        moment = self.clock.at(self.now)
        assert moment >= self.before
        assert abs(moment - self.expected) <= self.changes + 1 + 1e-9 * (abs(self.expected - BEGIN))
        self.before = moment


TestSteered = Steered.TestCase
TestSteered.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
