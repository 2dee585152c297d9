"""Gaps as they are decided live: what opens one, from when on, and what closes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from talk import (
    AUTHENTICATED,
    GONE,
    HEARTBEAT,
    OUR_TIC,
    PNL,
    REFUSED,
    STREAMS,
    SUCCESS,
    TOKEN,
    Talk,
    full,
    market_data,
    ready,
    stamp,
)

from recorder.protocol.connection_states import AWAY, LOST, READY
from recorder.protocol.coverage import SETTLED, SNAPSHOT_WITHIN
from recorder.protocol.ledger import Ledger

COMPETING = {"topic": "sts", "args": {"authenticated": False, "competing": True}}
ORDER = {"topic": "sor", "args": []}


def whole(talk: Talk) -> set[tuple[str, str, float, float | None]]:
    """Give the gaps of whole topics that opened and closed since it was last asked."""
    return {(topic, cause, start, end) for topic, conid, cause, start, end in talk.gaps() if conid is None}


# ------------------------------------------------------------------ the end of a connection


def test_a_connection_that_ends_opens_a_gap_in_each_topic() -> None:
    """From the last frame received on, of whatever topic."""
    talk = ready()
    talk.wait(35)
    talk.lose()

    assert {(topic, "disconnected", 1030.0, None) for topic in ("market_data", "orders", "pnl")} == whole(talk)
    assert talk.session.state is AWAY


def test_each_topic_s_gap_ends_when_it_flows_again() -> None:
    """Market data and P&L with their first frame, orders when their snapshot was recorded too."""
    talk = ready()
    talk.lose()
    whole(talk)
    talk.reopen(3.0)
    talk.now += 0.25
    talk.hear(full("265598"), PNL)

    assert {("market_data", "disconnected", 1000.0, 1003.25), ("pnl", "disconnected", 1000.0, 1003.25)} == whole(talk)
    talk.now += 1
    talk.session.snapshot_taken("orders", talk.now)
    talk.hear(ORDER)
    assert set() == whole(talk), "a refusal may still come"
    talk.wait(SETTLED)
    assert {("orders", "disconnected", 1000.0, 1004.25)} == whole(talk)


def test_orders_are_covered_from_their_subscription_on_where_no_snapshot_can_be_had() -> None:
    """It is not waited for without end."""
    talk = ready()
    talk.lose()
    talk.reopen(3.0)
    talk.wait(SNAPSHOT_WITHIN - 2)
    assert "orders" not in {topic for topic, _, _, end in whole(talk) if end is not None}
    talk.wait(3)

    assert ("orders", "disconnected", 1000.0, 1003.0) in whole(talk)


def test_a_contract_that_stays_silent_after_a_reconnect_has_a_gap_of_its_own() -> None:
    """From the moment on at which its topic's gap was closed, so that nothing lies between the two."""
    talk = ready()
    talk.lose()
    talk.reopen()
    talk.now += 0.5
    talk.hear(full("265598"))
    talk.gaps()
    talk.speak(40, "265598")

    assert [("market_data", 8314, "subscription_refused", 1002.5, None)] == [
        gap for gap in talk.gaps() if gap[0] == "market_data"
    ]
    talk.hear(full("8314@NYSE"))
    assert [("market_data", 8314, "subscription_refused", 1002.5, talk.now)] == talk.gaps()


def test_a_connection_that_is_lost_again_before_it_flows_is_one_gap() -> None:
    """Its start and its first cause stay."""
    talk = ready()
    talk.lose()
    talk.reopen()
    talk.gaps()
    talk.lose("again")
    assert [] == talk.gaps()
    talk.reopen()
    talk.hear(full("265598"))

    assert [("market_data", None, "disconnected", 1000.0, talk.now)] == talk.gaps()


def test_without_heartbeats_a_gap_begins_with_the_topic_s_last_frame() -> None:
    """Orders were well as long as anything was heard: they speak only on change."""
    talk = ready()
    talk.hear(PNL)
    talk.now += 4
    talk.hear(market_data("265598"))
    talk.now += 5
    talk.hear(HEARTBEAT)
    talk.wait(25, beating=False)

    assert talk.session.state is LOST
    assert {
        ("market_data", "heartbeat_lost", 1004.0, None),
        ("pnl", "heartbeat_lost", 1000.0, None),
        ("orders", "heartbeat_lost", 1009.0, None),
    } == whole(talk)
    talk.session.farewell()
    talk.lose("we left")
    assert [] == talk.gaps(), "the cause is known"


@pytest.mark.parametrize("by", ["tic", "tickle"])
def test_a_rollover_s_gap_begins_where_the_session_was_last_known_to_be_ours(by: str) -> None:
    """By `/tickle`: heartbeats go on after it, and a `tic` of our session may be the socket's own for ever."""
    talk = ready()
    talk.now += 10
    talk.session.tickled(TOKEN, authenticated=True, now=talk.now)
    talk.now += 5
    talk.hear(market_data("265598"), HEARTBEAT, OUR_TIC)
    talk.now += 5
    if by == "tic":
        talk.hear(HEARTBEAT, OUR_TIC | {"id": "another"})
    else:
        talk.session.tickled("another", authenticated=True, now=talk.now)

    assert (LOST, ["session_rollover"]) == (talk.session.state, talk.said())
    assert {
        ("market_data", "session_rollover", 1015.0, None),
        ("pnl", "session_rollover", 1010.0, None),
        ("orders", "session_rollover", 1010.0, None),
    } == whole(talk)


def test_a_tickle_of_our_session_proves_it() -> None:
    """And changes nothing else."""
    talk = ready()
    talk.now += 10
    talk.session.tickled("5f0c1e2d3b4a59687766554433221100", authenticated=True, now=talk.now)

    assert ([], []) == (talk.session.texts(), talk.said())
    talk.session.tickled("another", authenticated=True, now=talk.now + 1)
    assert {1010.0} == {start for _, _, start, _ in whole(talk)}


# ------------------------------------------------------------------ the brokerage session


@pytest.mark.parametrize(("frame", "cause"), [(GONE, "not_authenticated"), (COMPETING, "competing")])
def test_a_brokerage_session_that_goes_opens_gaps_in_what_needs_one(frame: dict[str, Any], cause: str) -> None:
    """P&L flows on."""
    talk = ready()
    talk.speak(3, "265598")
    talk.hear(frame)

    assert {("market_data", cause, 1003.0, None), ("orders", cause, 1003.0, None)} == whole(talk)
    talk.now += 60
    talk.hear(AUTHENTICATED if cause == "not_authenticated" else {"topic": "sts", "args": {"competing": False}})
    talk.hear(AUTHENTICATED, full("265598"))
    assert ("market_data", cause, 1003.0, 1063.0) in whole(talk)


def test_a_competing_session_that_leaves_us_logged_in_is_no_reason_to_stop_renewing() -> None:
    """Data that flows on closes its gap; what came of the rest is seen when it ends."""
    talk = ready()
    talk.hear({"topic": "sts", "args": {"competing": True}})
    assert (READY, ["competing"]) == (talk.session.state, talk.said())
    talk.now += 1
    talk.hear(full("265598"))
    assert ("market_data", "competing", 1000.0, 1001.0) in whole(talk)
    talk.now += 1

    sent = talk.hear({"topic": "sts", "args": {"competing": False}})
    assert ["smd+265598", "smd+8314@NYSE", "sor"] == [text.rpartition("+")[0] for text in sent]


def test_what_tickle_says_of_the_brokerage_session_counts_too() -> None:
    """The socket may never hear of it."""
    talk, token = ready(), TOKEN
    talk.session.tickled(token, authenticated=False, now=talk.now)
    assert ["not_authenticated"] == talk.said()
    talk.now += 60
    talk.session.tickled(token, authenticated=True, now=talk.now)

    assert READY is talk.session.state
    assert 3 == len(talk.session.texts())


def test_a_gateway_that_never_speaks_of_a_brokerage_session_leaves_a_gap() -> None:
    """From the connection's beginning on."""
    talk = Talk()
    talk.hear(SUCCESS, PNL)
    talk.wait(40)

    assert {(topic, "not_authenticated", 1000.0, None) for topic in ("market_data", "orders")} == whole(talk)


# ------------------------------------------------------------------ refusals


def test_a_stream_of_whatever_topic_that_never_answers_is_refused() -> None:
    """P&L is answered at once: thirty seconds without are a refusal, from its subscription to its first frame."""
    talk = Talk()
    talk.hear(SUCCESS, AUTHENTICATED, full("265598"), full("8314@NYSE"))
    talk.wait(31)
    assert {("pnl", "subscription_refused", 1000.0, None)} == whole(talk)
    assert "spl+{}" in talk.wait(31), "it is asked for again"
    talk.hear(PNL)

    assert {("pnl", "subscription_refused", 1000.0, talk.now)} == whole(talk)


def test_a_refused_topic_has_a_gap_from_its_subscription_to_the_next_that_stands() -> None:
    """Orders: after each refusal it is asked again; then nothing says that it was heard."""
    talk = ready()
    talk.now += 0.2
    talk.hear(REFUSED)

    assert [("orders", None, "subscription_refused", 1000.0, None)] == talk.gaps()
    talk.wait(1.5)
    talk.session.snapshot_taken("orders", talk.now)
    talk.wait(SETTLED + 1)
    assert [("orders", None, "subscription_refused", 1000.0, 1001.7)] == talk.gaps()


def test_a_refused_contract_has_a_gap_of_its_own() -> None:
    """From its last frame on, to its next."""
    talk = ready()
    talk.speak(5, "265598", "8314@NYSE")
    talk.hear(market_data("265598", error="too many lines"))
    assert [("market_data", 265598, "subscription_refused", 1005.0, None)] == talk.gaps()
    talk.speak(2, "8314@NYSE")
    talk.hear(full("265598"))

    assert [("market_data", 265598, "subscription_refused", 1005.0, 1007.0)] == talk.gaps()


def test_data_that_the_account_is_not_subscribed_to_is_a_gap() -> None:
    """Frames come all the same, with 6509 beginning with N; it ends when the letters change."""
    talk = ready()
    talk.hear(market_data("265598", **{"6509": "N"}))
    talk.now += 1
    talk.hear(market_data("265598", **{"84": "3"}))

    assert [("market_data", 265598, "subscription_refused", 1000.0, None)] == talk.gaps()
    assert ["not_subscribed"] == talk.said()
    talk.hear(market_data("265598", **{"6509": "RpB"}))
    assert [("market_data", 265598, "subscription_refused", 1000.0, 1001.0)] == talk.gaps()


def test_delayed_data_is_said_once_and_is_no_gap() -> None:
    """It is all there, later."""
    talk = ready()
    talk.hear(market_data("265598", **{"6509": "DPB"}), market_data("265598", **{"6509": "DPB"}))

    assert (["delayed"], []) == (talk.said(), talk.gaps())


# ------------------------------------------------------------------ our own fault


def test_a_disk_that_is_too_slow_is_a_gap_and_no_reason_to_leave() -> None:
    """Nothing is read meanwhile, heartbeats neither; what was read before the pause closes nothing."""
    talk = ready()
    talk.hear(PNL)
    talk.session.paused("slow", talk.now)
    talk.hear(market_data("265598"))
    assert {(topic, "backpressure", 1000.0, None) for topic in ("market_data", "orders", "pnl")} == whole(talk)
    talk.wait(100, beating=False)
    assert READY is talk.session.state
    talk.session.resumed(talk.now)
    assert {("orders", "backpressure", 1000.0, 1100.0)} == whole(talk)
    talk.now += 1
    talk.hear(market_data("265598"), PNL)

    assert {(topic, "backpressure", 1000.0, 1101.0) for topic in ("market_data", "pnl")} == whole(talk)


@pytest.mark.parametrize("step", [-3600.0, -1.5, 1.5, 3600.0])
def test_a_step_of_the_wall_clock_is_noted_in_each_topic(step: float) -> None:
    """With what it showed before and after; later stamps follow it."""
    talk = ready()
    talk.session.clock(talk.now + 1, stamp(talk.now + 1 + step))
    rows = talk.gaps()

    low, high = sorted((1001.0, 1001.0 + step))
    assert {(topic, None, "clock_step", low, high) for topic in ("market_data", "orders", "pnl")} == set(rows)
    assert ["clock_step"] == talk.said()
    talk.session.clock(talk.now + 2, stamp(talk.now + 2 + step))
    talk.now += 3
    talk.hear(GONE)
    assert 1000.0 + step == min(start for _, _, start, _ in whole(talk))


def test_a_clock_that_drifts_does_not_step() -> None:
    """It may run away slowly, however far."""
    talk = ready()
    for second in range(100):
        talk.session.clock(talk.now + second, stamp(talk.now + second * 1.5))

    assert [] == talk.gaps()


def test_the_gaps_of_the_session_before_end_when_their_topics_flow() -> None:
    """The process was down, and is up again."""
    ledger = Ledger()
    for topic in ("market_data", "orders", "pnl"):
        ledger.open(topic, start=stamp(900), cause="process_down", evidence="killed")
    talk = Talk(ledger=ledger)
    talk.hear(SUCCESS, AUTHENTICATED, full("265598"), PNL)
    talk.session.snapshot_taken("orders", talk.now)
    talk.wait(3)

    assert {(topic, "process_down", 900.0, 1000.0) for topic in ("market_data", "orders", "pnl")} == whole(talk)


def test_a_stop_closes_every_gap() -> None:
    """With or without a connection."""
    talk = ready()
    talk.hear(market_data("265598", error="no"))
    talk.lose()
    talk.gaps()
    talk.now += 7
    talk.session.stopped(talk.now)

    assert {("market_data", 265598), ("market_data", None), ("orders", None), ("pnl", None)} == {
        (topic, conid) for topic, conid, _, _, end in talk.gaps() if end == 1007.0
    }


# ------------------------------------------------------------------ other streams


def test_streams_can_be_changed_on_a_living_connection() -> None:
    """New ones are asked for, those that are gone are cancelled, and their gaps are closed."""
    talk = ready()
    talk.hear(market_data("265598", error="no"), REFUSED)
    talk.gaps()
    kept = [stream for stream in STREAMS if stream.key == "smd+8314@NYSE"]
    new = kept[0]._replace(key="smd+5", subscribe="smd+5+{}", cancel="umd+5+{}", conid=5)
    talk.session.change_streams([*kept, new], talk.now + 1)

    assert ["umd+265598+{}", "uor+{}", "upl+{}", "smd+5+{}"] == talk.session.texts()
    assert {("market_data", 265598, 1001.0), ("orders", None, 1001.0)} == {
        (topic, conid, end) for topic, conid, _, _, end in talk.gaps()
    }
    assert {"umd+8314@NYSE+{}", "umd+5+{}"} == set(talk.session.farewell())


def test_streams_that_are_changed_while_away_are_asked_for_later() -> None:
    """Nothing can be sent without a connection."""
    talk = ready()
    talk.lose()
    talk.session.change_streams(STREAMS[:1], talk.now)

    assert [] == talk.session.texts()
    assert [STREAMS[0].subscribe] == talk.reopen()


def test_health_is_told_topic_by_topic() -> None:
    """P&L may flow while market data is dead."""
    talk = ready()
    talk.speak(100, "265598", every=0.5)
    talk.hear(market_data("8314@NYSE", error="no"), PNL)
    talk.now += 2
    data, orders, pnl = talk.session.health(talk.now)

    assert ("market_data", "flowing", 2.0, None) == (data.topic, data.state, data.age, data.gap)
    assert 1.8 < data.rate < 2.1
    assert [("smd+265598", 265598, "flowing", 2.0), ("smd+8314@NYSE", 8314, "refused", 102.0)] == [
        (one.key, one.conid, one.state, one.age) for one in data.streams
    ]
    assert ["subscription_refused"] == [gap.cause for gap in data.gaps]
    assert [("flowing", None), ("flowing", 2.0)] == [(one.state, one.age) for one in (orders, pnl)]
    talk.lose()
    assert ["waiting", "waiting", "waiting"] == [one.state for one in talk.session.health(talk.now)]
    assert "disconnected" == json.loads(talk.session.marks()[-1])["cause"]
