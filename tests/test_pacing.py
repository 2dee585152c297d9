"""The pace of REST calls and of tries to connect."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.backoff import Backoff, Ending
from recorder.protocol.pacing import FIRST_PENALTY, OVERALL, PENALTY, SPACING, Pacer

WORKED: Ending = "worked"
AWAY: Ending = "away"
REFUSED: Ending = "refused"
CALLS = st.lists(
    st.tuples(st.sampled_from([*SPACING, "/iserver/accounts", "/iserver/auth/status"]), st.floats(0, 2)), max_size=60
)


@given(CALLS)
def test_no_call_is_above_the_limits(calls: list[tuple[str, float]]) -> None:
    """Ten a second in all, each path with its own spacing, whatever is asked for when."""
    pacer, now, made = Pacer(), 0.0, list[tuple[float, str]]()
    for path, pause in calls:
        now += pause
        wait = pacer.reserve(path, now)
        assert wait >= 0
        made.append((now + wait, path))
    made.sort()

    for later in range(OVERALL, len(made)):
        assert made[later][0] - made[later - OVERALL][0] > 1 - 1e-9
    for path, spacing in SPACING.items():
        times = [at for at, one in made if one == path]
        assert all(second - first > spacing - 1e-9 for first, second in pairwise(times))


def test_a_call_with_nobody_before_it_does_not_wait() -> None:
    """Neither does one of another path."""
    pacer = Pacer()

    assert [0.0, 0.0, 5.0] == [
        pacer.reserve("/iserver/account/orders", 100.0),
        pacer.reserve("/tickle", 100.0),
        pacer.reserve("/iserver/account/orders", 100.0),
    ]


def test_a_path_that_was_called_too_often_is_left_alone() -> None:
    """For a minute at first; other paths are not."""
    pacer = Pacer()

    assert FIRST_PENALTY == pacer.bar("/tickle", 100.0)
    assert (60.0, 1.0, None) == tuple(pacer.barred("/tickle", at) for at in (100.0, 159.0, 160.0))
    assert pacer.barred("/iserver/accounts", 100.0) is None


def test_a_path_that_is_refused_again_is_left_alone_for_longer() -> None:
    """Up to the broker's quarter of an hour; once it answers, the next refusal is a new one."""
    pacer = Pacer()

    assert [60.0, 120.0, 240.0, 480.0, PENALTY, PENALTY] == [pacer.bar("/tickle", 0.0) for _ in range(6)]
    pacer.answered("/tickle")
    assert FIRST_PENALTY == pacer.bar("/tickle", 0.0)


def pauses(*endings: Ending, first: float = 1.0, draw: float = 0.5) -> list[float]:
    """Give the pauses after some tries."""
    backoff = Backoff(first)
    return [round(backoff.pause(ending, draw=draw), 3) for ending in endings]


def test_a_gateway_that_is_away_is_tried_each_four_seconds_at_the_least() -> None:
    """So that a recording goes on within five after it is back."""
    assert [1.0, 2.0, 3.3, 3.3, 3.3] == pauses(*[AWAY] * 5)
    assert max(pauses(*[AWAY] * 50, draw=1.0)) < 4.0


def test_the_wait_for_an_answer_that_never_comes_counts_as_pause() -> None:
    """Else a try of four seconds and its pause make eight; one that was refused is spared its pause all the same."""
    assert [0.0, 0.5] == [Backoff(1.0).pause(AWAY, draw=0.5, spent=spent) for spent in (4.0, 0.5)]
    assert 1.0 == Backoff(1.0).pause(REFUSED, draw=0.5, spent=4.0)


def test_a_gateway_that_refuses_is_asked_after_growing_pauses() -> None:
    """Up to a minute."""
    assert [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] == pauses(*[REFUSED] * 8)


def test_a_connection_that_worked_is_replaced_after_the_first_pause() -> None:
    """However often; and what failed before is forgotten."""
    assert [1.0, 1.0, 1.0] == pauses(*[WORKED] * 3)
    assert [1.0, 2.0, 1.0, 1.0, 1.0] == pauses("refused", "refused", "worked", "refused", "away")


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 0.8), (1.0, 1.2)])
def test_pauses_are_not_all_the_same(draw: float, expected: float) -> None:
    """Several recorders do not come back at the same moment."""
    assert [expected] == pauses("refused", draw=draw)


def test_a_first_pause_that_is_longer_counts() -> None:
    """It is the user's word."""
    assert [10.0, 10.0, 10.0] == pauses("away", "away", "worked", first=10.0)
