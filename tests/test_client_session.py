"""Our side of one connection, without a connection: what is sent, when, and what is said about its health."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk import (
    ALLOWED,
    AUTHENTICATED,
    BROKERAGE,
    GONE,
    HEARTBEAT,
    OUR_TIC,
    PNL,
    REFUSED,
    SESSION_MESSAGE,
    SMD,
    SMD_NYSE,
    STREAMS,
    SUCCESS,
    TOKEN,
    TOPICS,
    WAITING,
    Talk,
    market_data,
    ready,
)

from recorder.protocol.connection_states import LOST, OPENED, READY, WELCOMED
from recorder.protocol.stream_plan import streams_of
from recorder.protocol.streams import SILENCE, News
from recorder.protocol.subscriptions import RETRY_MOST

# ------------------------------------------------------------------ streams


def test_streams_are_asked_for_as_the_topic_files_say() -> None:
    """One for each contract, or one in all; a topic that comes by itself has none."""
    assert [
        ("market_data", "smd+265598", SMD, "umd+265598+{}"),
        ("market_data", "smd+8314@NYSE", SMD_NYSE, "umd+8314@NYSE+{}"),
        ("orders", "sor", "sor+{}", "uor+{}"),
        ("pnl", "spl", "spl+{}", "upl+{}"),
    ] == [(stream.topic, stream.key, stream.subscribe, stream.cancel) for stream in STREAMS]
    assert [(True, True), (True, True), (True, False), (False, False)] == [
        (stream.brokerage, stream.renew) for stream in STREAMS
    ]


def test_targets_may_come_from_an_iterator() -> None:
    """Two topics of contracts would each get all of them."""
    topics = [TOPICS["market_data"], TOPICS["market_data"]]

    assert 4 == len(streams_of(topics, targets=iter(["1", "2"]), fields=[]))


# ------------------------------------------------------------------ login and subscription


def test_the_session_message_is_sent_when_it_is_waited_for() -> None:
    """Without a good cookie the server asks for it; after the login nothing does."""
    talk = Talk()

    assert [SESSION_MESSAGE] == talk.hear(WAITING)
    assert [SESSION_MESSAGE] == talk.hear(WAITING)
    assert ["spl+{}"] == talk.hear(SUCCESS)
    assert [] == talk.hear(WAITING)


def test_nothing_is_subscribed_before_the_welcome() -> None:
    """What is sent earlier vanishes at the broker without an error."""
    talk = Talk()

    assert [] == talk.hear(HEARTBEAT, AUTHENTICATED, {"topic": "act", "args": {}}, OUR_TIC)
    assert (OPENED, []) == (talk.session.state, talk.said())


def test_the_welcome_subscribes_what_needs_no_brokerage_session() -> None:
    """Profit and loss flows before `sts` says anything."""
    talk = Talk()

    assert ["spl+{}"] == talk.hear(SUCCESS)
    assert (WELCOMED, "trader01") == (talk.session.state, talk.session.username)
    assert ["welcomed", "subscribed"] == talk.said()


def test_authentication_subscribes_the_rest() -> None:
    """Each once, though `sts` says it again."""
    talk = Talk()
    talk.hear(SUCCESS)
    talk.said()

    assert BROKERAGE == talk.hear(AUTHENTICATED)
    assert READY is talk.session.state
    assert ["ready", "subscribed", "subscribed", "subscribed"] == talk.said()
    assert [] == talk.hear(AUTHENTICATED, SUCCESS, AUTHENTICATED)


def test_an_early_status_counts_once_the_welcome_comes() -> None:
    """The order of the first frames is not promised."""
    assert [*BROKERAGE, "spl+{}"] == Talk().hear(AUTHENTICATED, SUCCESS)


@pytest.mark.parametrize(
    "pieces",
    [
        [{"connected": True}, {"authenticated": True}, {"competing": False}],
        [{"authenticated": False}, {"authenticated": True}],
        [{"authenticated": True}, {"message": ""}],
        [{"authenticated": True, "connected": True, "established": True}],
    ],
)
def test_a_status_in_pieces_is_put_together(pieces: list[dict[str, Any]]) -> None:
    """A piece that does not speak of authentication does not take it away."""
    talk = Talk()
    talk.hear(SUCCESS)

    assert BROKERAGE == talk.hear(*({"topic": "sts", "args": piece} for piece in pieces))
    assert READY is talk.session.state


@pytest.mark.parametrize("args", [{"authenticated": "yes"}, {"authenticated": 1}, {}, [], None, "true"])
def test_only_true_is_authenticated(args: Any) -> None:
    """Nothing is guessed."""
    talk = Talk()

    assert ["spl+{}"] == talk.hear(SUCCESS, {"topic": "sts", "args": args})


# ------------------------------------------------------------------ losing and regaining


def test_brokerage_streams_are_subscribed_again_when_authentication_comes_back() -> None:
    """Those that need none go on all the while."""
    talk = ready()

    assert [] == talk.hear(GONE)
    assert (WELCOMED, ["not_authenticated"]) == (talk.session.state, talk.said())
    assert [] == talk.hear(GONE)
    assert [] == talk.said()
    assert BROKERAGE == talk.hear(AUTHENTICATED)
    assert ["ready", "subscribed", "subscribed", "subscribed"] == talk.said()


def test_streams_that_ended_are_neither_renewed_nor_missed() -> None:
    """Only what is subscribed can be silent."""
    talk = Talk()
    talk.hear(SUCCESS, PNL, AUTHENTICATED, REFUSED, GONE)
    talk.said()

    assert {"tic"} == set(talk.wait(1000))
    assert [] == talk.said()


def test_a_competing_session_is_said() -> None:
    """The user's own trading program took the brokerage session."""
    talk = ready()
    talk.hear({"topic": "sts", "args": {"competing": True, "authenticated": False}})

    assert ["competing", "not_authenticated"] == talk.said()


def test_no_heartbeat_for_the_timeout_is_a_dead_socket() -> None:
    """By our clock at receipt; market data does not count as a heartbeat."""
    talk = ready()
    talk.now += 24
    talk.hear(market_data("265598"))
    talk.session.tick(talk.now)
    assert talk.session.state is READY
    talk.now += 1
    talk.session.tick(talk.now)

    assert (LOST, math.inf) == (talk.session.state, talk.session.deadline)
    assert [News("heartbeat_lost", "no heartbeat for 25 s")] == talk.session.news()


def test_a_gateway_that_never_welcomes_is_lost_too() -> None:
    """The connection is not waited for without end."""
    talk = Talk()

    assert [] == talk.wait(25, beating=False)
    assert (LOST, ["heartbeat_lost"]) == (talk.session.state, talk.said())


@pytest.mark.parametrize("state", ["opened", "ready"])
def test_a_tic_of_another_session_is_a_rollover(state: str) -> None:
    """Its heartbeats go on, but every subscription is dead."""
    talk = ready() if state == "ready" else Talk()
    talk.hear(OUR_TIC | {"id": "00112233445566778899aabbccddeeff"})

    assert (LOST, ["session_rollover"]) == (talk.session.state, talk.said())


@pytest.mark.parametrize("tic", [OUR_TIC, {"topic": "tic", "alive": True}, OUR_TIC | {"id": None}, OUR_TIC | {"id": 5}])
def test_other_tics_mean_nothing(tic: dict[str, Any]) -> None:
    """Four identical replies to one `tic` were seen."""
    talk = ready()

    assert ([], []) == (talk.hear(tic, tic, tic, tic), talk.said())
    assert READY is talk.session.state


def test_a_lost_session_says_and_sends_nothing_more() -> None:
    """What is still read from the socket is journaled, and no business of its."""
    talk = ready()
    talk.wait(25, beating=False)
    talk.said()

    assert [] == talk.hear(SUCCESS, GONE, AUTHENTICATED, REFUSED, WAITING, OUR_TIC | {"id": "other"})
    assert [] == talk.wait(1000)
    assert (LOST, []) == (talk.session.state, talk.said())


# ------------------------------------------------------------------ what is due


def test_a_tic_is_sent_each_minute_once_welcomed() -> None:
    """Before the welcome nobody would hear it."""
    talk = ready()

    assert ["tic", "tic"] == talk.wait(125)
    assert [] == [text for text in Talk().wait(125) if text == "tic"]


def test_market_data_is_renewed_before_the_broker_ends_it() -> None:
    """Other streams do not end."""
    talk = ready()

    assert [] == [text for text in talk.wait(479) if text != "tic"]
    assert [SMD, SMD_NYSE] == [text for text in talk.wait(2) if text != "tic"]
    assert [SMD, SMD_NYSE] * 2 == [text for text in talk.wait(960) if text != "tic"]


def test_a_refused_stream_is_asked_for_after_growing_pauses() -> None:
    """From `reconnect_delay` to five minutes; all of them are said."""
    talk, pauses = ready(), []
    for _ in range(12):
        talk.hear(REFUSED)
        pauses.append(next(seconds for seconds in range(1, 1000) if "sor+{}" in talk.wait(1)))

    assert [1, 2, 4, 8, 16, 32, 64, 128, 256, RETRY_MOST, RETRY_MOST, RETRY_MOST] == pauses
    assert ["refused", "subscribed"] * 12 == talk.said()


def test_a_refusal_names_its_topic_and_the_pause() -> None:
    """The gap ledger needs the one, the user the other."""
    talk = ready()
    talk.hear(REFUSED)

    text = "the gateway refused sor (unable to subscribe); it is asked again in 1 s"
    assert [News("refused", text, "orders")] == talk.session.news()


def test_a_stream_that_flows_again_is_refused_anew() -> None:
    """Hours later the first pause is a short one again."""
    talk = ready()
    for _ in range(5):
        talk.hear(REFUSED)
        talk.wait(300)
    talk.hear({"topic": "sor", "args": []}, REFUSED)

    assert "sor+{}" in talk.wait(1)


def test_a_second_refusal_while_waiting_changes_nothing() -> None:
    """It is asked for once."""
    talk = ready()
    talk.hear(REFUSED, REFUSED)

    assert ["refused", "error"] == talk.said()
    assert ["sor+{}"] == talk.wait(10)


def test_a_pending_retry_ends_with_the_brokerage_session() -> None:
    """When it is back, the stream is asked for once, and its pauses begin anew."""
    talk = ready()
    talk.hear(REFUSED)

    assert ["sor+{}"] == [text for text in talk.hear(GONE, AUTHENTICATED) + talk.wait(10) if text == "sor+{}"]


@pytest.mark.parametrize("refusal", [market_data("265598", error="no"), b'{"error":"no", "topic": "smd+265598"}'])
def test_refused_market_data_is_asked_for_again_and_not_taken_for_data(refusal: bytes) -> None:
    """However the frame is written."""
    talk = Talk()
    talk.hear(SUCCESS, AUTHENTICATED, market_data("8314@NYSE"), PNL)
    talk.said()
    talk.hear(refusal)

    assert ["umd+265598+{}", SMD] == talk.wait(29), "it may have a market data line, and send nothing"
    talk.wait(2)
    assert ["refused", "subscribed", "no_data"] == talk.said()


@pytest.mark.parametrize(
    "error", [{"error": "Topic unknown x", "code": 1}, {"error": "no", "topic": "str"}, {"error": None}]
)
def test_other_errors_are_said(error: dict[str, Any]) -> None:
    """Nobody is asked again for what was not asked for."""
    talk = ready()

    assert [] == talk.hear(error)
    assert [News("error", f"the gateway says: {error['error']}")] == talk.session.news()


def test_an_error_that_echoes_the_session_does_not_say_it() -> None:
    """News goes to the log."""
    talk = Talk()
    talk.hear(WAITING, {"error": f"Topic unknown {SESSION_MESSAGE}", "code": 1})
    talk.hear(SUCCESS, AUTHENTICATED, REFUSED | {"error": f"no {TOKEN}"})
    words = [news.text for news in talk.session.news()]

    assert [] == [text for text in words if TOKEN in text]
    assert 'the gateway says: Topic unknown {"session":"…"}' in words


@pytest.mark.parametrize("frame", [market_data("265598"), b'{"topic": "smd+265598", "31": "5"}'])
def test_a_contract_without_data_is_said_once(frame: bytes) -> None:
    """However the frames of the others are written."""
    talk = Talk()
    talk.hear(SUCCESS, AUTHENTICATED, PNL)
    talk.said()
    assert talk.session.hears_all
    talk.hear(frame)
    talk.wait(SILENCE - 1)
    assert [] == talk.said()
    talk.wait(1)

    why = "no data for smd+8314@NYSE within 30 s: a wrong contract, or no market data line is free"
    assert [News("no_data", why, "market_data")] == talk.session.news()
    assert [("market_data", 8314, "subscription_refused", 1000.0, None)] == talk.gaps()
    assert not talk.session.hears_all
    assert ["umd+8314@NYSE+{}", SMD_NYSE] == [text for text in talk.wait(70) if text != "tic"]
    assert ["subscribed", "no_data"] == talk.said()
    assert [] == talk.gaps()


def test_contracts_with_data_are_not_spoken_of() -> None:
    """And market data need not be looked at any more."""
    talk = ready()
    talk.wait(SILENCE * 2)

    assert ([], False) == (talk.said(), talk.session.hears_all)


def test_the_farewell_cancels_what_is_subscribed() -> None:
    """And nothing is subscribed again while the socket is read to its end."""
    talk = ready()

    assert {"umd+265598+{}", "umd+8314@NYSE+{}", "uor+{}", "upl+{}"} == set(talk.session.farewell())
    assert [] == talk.session.farewell()
    assert [] == talk.hear(GONE, AUTHENTICATED, REFUSED)
    assert {"tic"} == set(talk.wait(1000))


def test_the_farewell_before_the_welcome_is_silent() -> None:
    """There is nothing to cancel."""
    assert [] == Talk().session.farewell()


# ------------------------------------------------------------------ whatever comes, whenever

NOISE = st.binary(max_size=40) | st.sampled_from(
    [b"ech+hb", b"[]", b"null", b'{"topic":' + b"[" * 100_000, b'{"topic":[]}']
)
SOME: st.SearchStrategy[Any] = st.sampled_from([True, False, None, 1, "x", [], {}])
COMING = (
    st.sampled_from([WAITING, SUCCESS, HEARTBEAT, AUTHENTICATED, GONE, REFUSED, OUR_TIC])
    | st.builds(
        lambda key, value: {"topic": "sts", "args": {key: value}}, st.sampled_from(["authenticated", "competing"]), SOME
    )
    | st.builds(
        lambda topic, key, value: {"topic": topic, key: value},
        st.sampled_from(["system", "sts", "tic", "sor", "spl", "smd+265598", "smd", None, 5]),
        st.sampled_from(["args", "success", "hb", "id", "error", "message"]),
        SOME,
    )
).map(lambda frame: json.dumps(frame, separators=(",", ":")).encode())
STEPS = st.lists(st.tuples(st.sampled_from(["frame", "wait", "due"]), COMING | NOISE, st.floats(0, 700)), max_size=30)


def take(step: str, frame: bytes, pause: float) -> Callable[[Talk], None]:
    """Make one step of a story: a frame comes, time passes, or what is due is done just when it is."""

    def act(talk: Talk) -> None:
        if step == "frame":
            talk.session.received(frame, talk.now)
            return
        talk.now = talk.now + pause if step == "wait" or talk.session.state is LOST else talk.session.deadline
        talk.session.tick(talk.now)

    return act


@given(STEPS)
def test_whatever_comes_only_what_is_allowed_is_sent(steps: list[tuple[str, bytes, float]]) -> None:
    """No error, no text outside the list, no brokerage stream without a brokerage session, and always a future."""
    talk = Talk()
    for step in steps:
        take(*step)(talk)
        sent, state = talk.session.texts(), talk.session.state

        assert [] == [text for text in sent if not ALLOWED.fullmatch(text)]
        assert state is READY or not set(sent) & set(BROKERAGE)
        assert state is not OPENED or set(sent) <= {SESSION_MESSAGE}
        assert step[0] == "frame" or talk.session.deadline > talk.now
        assert all(news.text and TOKEN not in news.text for news in talk.session.news())
    active = talk.session.farewell()
    assert [] == [text for text in active if not ALLOWED.fullmatch(text)]
    assert len(active) <= len(STREAMS)


@given(STEPS)
def test_every_stream_is_subscribed_in_the_end(steps: list[tuple[str, bytes, float]]) -> None:
    """Whatever came before, a good status in time brings all of them, and the farewell cancels each."""
    talk = Talk()
    for step, frame, pause in steps:
        if b'"tic"' not in frame:
            take(step, frame, min(pause, 1.0))(talk)
    if talk.session.state is LOST:
        return
    talk.hear(SUCCESS, AUTHENTICATED)

    assert {stream.cancel for stream in STREAMS} == set(talk.session.farewell())
