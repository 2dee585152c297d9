"""The server's side of one socket, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.envelope import wire_topic
from recorder.protocol.projection import allowed_keys, narrowed
from recorder.protocol.server_frames import Identity
from recorder.protocol.server_requests import cookie_session
from recorder.protocol.server_session import SECOND, Begin, End, Output, Reply, Rules, ServerSession

TOKEN = "5f0c1e2d3b4a59687766554433221100"  # noqa: S105  made up
COOKIE = f"api={TOKEN}"
T0 = 1_785_763_811_000_000


def new_session(**rules: Any) -> ServerSession:
    """Make a session of a client that has not opened yet."""
    return ServerSession(Identity(session=TOKEN), Rules(**rules))


def ready_session(**rules: Any) -> ServerSession:
    """Make a session past its login."""
    session = new_session(ready_after=0, **rules)
    session.open(COOKIE, T0)
    return session


def topics(outputs: list[Output]) -> list[str | None]:
    """Name the wire topics of the frames among the outputs."""
    return [wire_topic(output.data) for output in outputs if isinstance(output, Reply)]


def content(output: Output) -> dict[str, Any]:
    """Read a reply."""
    assert isinstance(output, Reply)
    found: dict[str, Any] = json.loads(output.data)
    return found


@pytest.mark.parametrize(
    "cookie",
    [
        f"api={TOKEN}",
        f'api={{"session":"{TOKEN}"}}',
        f'api={{"session": "{TOKEN}"}}',
        f"x-sess-uuid=0.1.2; api={TOKEN}",
        f'api="{{\\"session\\": \\"{TOKEN}\\"}}"; other=1',
    ],
)
def test_both_forms_of_the_cookie_are_read(cookie: str) -> None:
    """The document shows bare hex and JSON; libraries quote the latter."""
    assert cookie_session(cookie) == TOKEN


@pytest.mark.parametrize("cookie", [None, "", "api=", "session=1", "xapi=abc", "api=a b"])
def test_other_cookies_name_no_session(cookie: str | None) -> None:
    """No session is made up."""
    assert cookie_session(cookie) is None


def test_first_frames_arrive_in_order_and_spread_over_the_delay() -> None:
    """`system`, `act`, `sts`, the last one when the delay is over."""
    session = new_session(ready_after=SECOND)

    assert session.open(COOKIE, T0) == []
    assert topics(session.advance(T0 + SECOND // 2)) == ["system"]
    assert topics(session.advance(T0 + SECOND - 1)) == ["act"]
    assert session.deadline == T0 + SECOND
    assert topics(session.advance(T0 + SECOND)) == ["sts"]


@pytest.mark.parametrize("cookie", [None, "api=0123456789abcdef"])
def test_without_a_good_cookie_the_session_message_logs_in(cookie: str | None) -> None:
    """The server says that it waits, takes a wrong session in silence, and goes on with the right one."""
    session = new_session(ready_after=0)

    assert [content(output) for output in session.open(cookie, T0)] == [{"message": "waiting for session"}]
    assert session.deadline is None
    assert session.receive("tic", T0) == []
    assert session.receive('{"session":"00"}', T0) == []
    assert topics(session.receive(f'{{"session":"{TOKEN}"}}', T0)) == ["system", "act", "sts"]


def test_a_session_message_after_login_is_an_unknown_topic_and_is_not_echoed() -> None:
    """An error frame must not carry the token back."""
    (error,) = ready_session().receive(f'{{"session":"{TOKEN}"}}', T0)

    assert content(error) == {"error": "Topic unknown session", "code": 1}


def test_what_is_sent_too_early_vanishes() -> None:
    """Before `sts` nothing about the market is heard; before `system` nothing at all."""
    session = new_session(ready_after=SECOND)
    session.open(COOKIE, T0)

    assert session.receive("spl+{}", T0) == []
    assert session.receive('smd+265598+{"fields":["31"]}', T0) == []
    session.advance(T0 + SECOND // 2)
    assert session.receive('smd+265598+{"fields":["31"]}', T0 + SECOND // 2) == []
    assert session.receive("spl+{}", T0 + SECOND // 2) == [Begin("spl")]
    session.advance(T0 + SECOND)
    assert session.receive('smd+265598+{"fields":["31"]}', T0 + SECOND) == [Begin("smd+265598")]


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        ('smd+265598+{"fields":["31","84"]}', "smd+265598"),
        ('smd+8314@NYSE+{"fields":["31"]}', "smd+8314@NYSE"),
        ("smd+28812380;;;8314/1,8315/-1+{}", "smd+28812380;;;8314/1,8315/-1"),
        ("sor+{}", "sor"),
        ('sor+{"filters":["Submitted"]}', "sor"),
        ("spl+{}", "spl"),
        ("ssd+DU1000001+{}", "ssd+DU1000001"),
        ("sbd+DU1000001+265598+NASDAQ", "sbd+DU1000001+265598+NASDAQ"),
    ],
)
def test_documented_requests_begin_a_stream(text: str, stream: str) -> None:
    """Each documented form is understood."""
    assert ready_session().receive(text, T0) == [Begin(stream)]


def test_updates_only_means_no_history() -> None:
    """`realtimeUpdatesOnly` begins a stream without a full frame."""
    assert ready_session().receive('str+{"realtimeUpdatesOnly":true,"days":1}', T0) == [Begin("str", full=False)]


@pytest.mark.parametrize(
    "text",
    [
        "", "+", "smd", "smd+{}", "smd+AAPL+{}", "smd+265598+{'fields':['31']}", 'smd+265598+{"fields":"31"}',
        'smd+265598+{"fields":["31"]', "sor+265598+{}", "sbd+{}", "shs+exercise+{}", "265598", "umd+{}",
    ],
)  # fmt: skip
def test_malformed_requests_get_silence(text: str) -> None:
    """The broker says nothing to what it cannot read."""
    assert ready_session().receive(text, T0) == []


@pytest.mark.parametrize("text", ["pnl+{}", "acc", "unsmd+265598+{}", "hello"])
def test_unknown_topics_are_refused(text: str) -> None:
    """A frame that is no known topic gets an error."""
    (error,) = ready_session().receive(text, T0)

    assert content(error) == {"error": f"Topic unknown {text.partition('+')[0]}", "code": 1}


@pytest.mark.parametrize(
    ("start", "stop", "replies"),
    [
        ("smd+265598+{}", "umd+265598+{}", []),
        ("sor+{}", "uor+{}", []),
        ("spl+{}", "upl+{}", []),
        ("spl+{}", "upl{}", []),
        ("str+{}", "utr", []),
        ("sbd+DU1000001+265598", "ubd+DU1000001", []),
        ("ssd+DU1000001+{}", "usd+DU1000001+{}", [{"result": "unsubscribed from summary"}]),
        ("sld+DU1000001+{}", "uld+DU1000001+{}", [{"result": "unsubscribed from ledger"}]),
        ("smh+265598+{}", "umh+18203", [{"message": "Unsubscribed 18203"}]),
    ],
)
def test_streams_are_cancelled(start: str, stop: str, replies: list[object]) -> None:
    """Each stream has its word of ending; few are answered."""
    session = ready_session()
    (begun,) = session.receive(start, T0)
    assert isinstance(begun, Begin)

    ended, *answers = session.receive(stop, T0)

    assert ended == End(begun.stream, "cancelled")
    assert [content(answer) for answer in answers] == replies
    assert session.streams == {}


def test_asking_again_adds_fields() -> None:
    """The document: sending smd again with more fields adds them."""
    session = ready_session()
    session.receive('smd+265598+{"fields":["31"]}', T0)
    session.receive('smd+265598+{"fields":["84"]}', T0)
    session.receive("smd+265598+{}", T0)

    assert session.streams["smd+265598"].keys == allowed_keys(["31", "84"])


def test_renewal_brings_a_full_frame_only_if_the_rules_say_so() -> None:
    """Whether the broker does is unknown, so it can be chosen; new fields always bring one."""
    asked = 'smd+265598+{"fields":["31"]}'
    talkative, quiet = ready_session(), ready_session(full_on_renewal=False)
    for session in (talkative, quiet):
        session.receive(asked, T0)

    assert talkative.receive(asked, T0) == [Begin("smd+265598")]
    assert quiet.receive(asked, T0) == []
    assert quiet.receive('smd+265598+{"fields":["84"]}', T0) == [Begin("smd+265598")]


def test_market_data_expires_unless_renewed() -> None:
    """Each stream ends by its own clock; orders and P&L do not end."""
    session = ready_session(expire_after=60 * SECOND, heartbeat_every=1_000 * SECOND)
    for text in ("smd+1+{}", "smd+2+{}", "sor+{}"):
        session.receive(text, T0)
    session.receive("smd+1+{}", T0 + 50 * SECOND)

    assert session.deadline == T0 + 60 * SECOND
    assert session.advance(T0 + 60 * SECOND) == [End("smd+2", "expired")]
    assert session.advance(T0 + 109 * SECOND) == []
    assert session.advance(T0 + 110 * SECOND) == [End("smd+1", "expired")]
    assert list(session.streams) == ["sor"]


def test_a_renewal_that_comes_after_the_end_begins_anew() -> None:
    """What is overdue ends before a request is taken, even if nobody asked at the deadline."""
    session = ready_session(expire_after=60 * SECOND, heartbeat_every=1_000 * SECOND)
    session.receive("smd+1+{}", T0)

    assert session.receive("smd+1+{}", T0 + 61 * SECOND) == [End("smd+1", "expired"), Begin("smd+1")]


def test_heartbeats_keep_their_beat_and_carry_the_present() -> None:
    """Late calls send one heartbeat with the time of sending, and the next is due on the old grid."""
    session = ready_session()

    assert session.deadline == T0 + 10 * SECOND
    assert session.advance(T0 + 10 * SECOND - 1) == []
    (beat,) = session.advance(T0 + 34 * SECOND)
    assert content(beat) == {"topic": "system", "hb": (T0 + 34 * SECOND) // 1000}
    assert session.deadline == T0 + 40 * SECOND


def test_tic_and_echo_are_answered() -> None:
    """`tic` tells the session; the echo is not JSON."""
    session = ready_session(tic_replies=4)
    answers = session.receive("tic", T0)

    assert len(answers) == 4
    assert content(answers[0]) == {"topic": "tic", "alive": True, "id": TOKEN, "lastAccessed": T0 // 1000}
    assert session.receive("ech+hb", T0) == [Reply(b"ech+hb")]


def test_losing_the_brokerage_session_ends_its_streams_and_leaves_the_others() -> None:
    """P&L flows on, as at the broker; a regained session is told, and streams must be asked for again."""
    session = ready_session()
    for text in ("smd+1+{}", "sor+{}", "spl+{}"):
        session.receive(text, T0)

    *ended, status = session.turn(authenticated=False, competing=True)

    assert ended == [End("smd+1", "lost"), End("sor", "lost")]
    assert content(status)["args"] == {**content(status)["args"], "authenticated": False, "competing": True}
    assert session.receive("sor+{}", T0) == []
    session.turn(authenticated=True)
    assert session.receive("sor+{}", T0) == [Begin("sor")]


def test_an_orphaned_socket_keeps_its_heartbeat_and_its_tic_and_nothing_else() -> None:
    """After a rollover the old socket looks alive and is not; a `tic` still tells whose it is."""
    session = ready_session()
    session.receive("smd+1+{}", T0)

    assert session.orphan() == [End("smd+1", "lost")]
    assert session.receive("smd+1+{}", T0) == []
    assert [content(reply)["id"] for reply in session.receive("tic", T0)] == [session.identity.session]
    assert topics(session.advance(T0 + 10 * SECOND)) == ["system"]


def test_a_refused_topic_is_refused_until_it_is_not() -> None:
    """In the words that were seen; other topics are served."""
    refused = {"sor"}
    session = ServerSession(Identity(session=TOKEN), refused=refused)
    session.open(COOKIE, T0)
    session.advance(T0 + SECOND)
    (reply,) = session.receive("sor+{}", T0 + SECOND)
    refused.clear()

    assert content(reply) == {"error": "unable to subscribe", "code": 500, "topic": "sor"}
    assert session.receive("sor+{}", T0 + SECOND) == [Begin("sor")]


def test_streams_can_be_ended_from_outside() -> None:
    """One by name, or all of a topic."""
    session = ready_session()
    for text in ("smd+1+{}", "smd+12+{}", "sor+{}"):
        session.receive(text, T0)

    assert session.end("smd+1") == [End("smd+1", "cancelled")]
    assert session.end("smd+") == [End("smd+12", "cancelled")]
    assert session.end("smd+3") == []


@given(st.lists(st.tuples(st.text(max_size=40), st.integers(0, 10**9))))
def test_any_text_is_taken(texts: list[tuple[str, int]]) -> None:
    """No input raises, and no answer is anything but an output."""
    session = ready_session()
    now = T0
    for text, pause in texts:
        now += pause
        assert all(isinstance(output, Reply | Begin | End) for output in session.receive(text, now))


FRAME = b'{"server_id":"q1","conid":1,"_updated":3,"6119":"q1","87":"24.2M","87_raw":2.42E7,"31":"1.0","topic":"smd+1"}'


def test_a_frame_with_nothing_to_leave_out_stays_as_it_is() -> None:
    """To the byte, so that what a recording holds is what a client gets."""
    assert narrowed(FRAME, None) is FRAME
    assert narrowed(FRAME, allowed_keys(["31", "87"])) is FRAME


def test_fields_not_asked_for_are_left_out_and_the_others_keep_their_writing() -> None:
    """The `_raw` companion comes with its field, in the broker's notation."""
    assert narrowed(FRAME, allowed_keys(["87"])) == FRAME.replace(b'"31":"1.0",', b"")


def test_a_delta_without_a_field_asked_for_is_not_sent() -> None:
    """A full frame is, so that a client sees that its stream lives."""
    keys = allowed_keys(["84"])

    assert narrowed(FRAME, keys) is None
    assert narrowed(FRAME, keys, full=True) == b'{"server_id":"q1","conid":1,"_updated":3,"6119":"q1","topic":"smd+1"}'
