"""Requests of bars: never more open than the broker lets be, and each answer cancelled."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.bar_requests import ANSWER_WITHIN, BarRequests
from recorder.protocol.client_session import ClientSession
from recorder.protocol.server_frames import Identity
from recorder.protocol.server_requests import server_id
from recorder.protocol.server_session import Begin, Reply, Rules, ServerSession
from recorder.protocol.stream_plan import Stream, streams_of
from recorder.protocol.streams import News, Timing
from recorder.protocol.topics import load_topics

BARS = load_topics()["bars"]
TIMING = Timing(renew_every=480.0, tickle_every=60.0, heartbeat_timeout=1e9, reconnect_delay=1.0, stale_after=1e9)
TOKEN = "5f0c1e2d3b4a59687766554433221100"  # noqa: S105  made up


def bars_of(count: int) -> list[Stream]:
    """Make requests of so many contracts."""
    targets = [str(1000 + number) for number in range(count)]
    return streams_of([BARS], targets=targets, fields=[], values={"bars_period": "2h", "bars_bar": "5min"})


def ready(streams: list[Stream]) -> ClientSession:
    """Make a session that has subscribed."""
    session = ClientSession(streams, timing=TIMING, now=0.0, wall=0)
    session.opened(TOKEN, 0.0)
    session.received(b'{"topic":"system","success":"trader01"}', 0.0)
    session.received(b'{"topic":"sts","args":{"authenticated":true}}', 0.0)
    session.tick(0.0)
    return session


def answer(conid: int, **values: object) -> bytes:
    """Make the frame that answers a request."""
    return json.dumps({"topic": f"smh+{conid}", "serverId": str(conid + 17000), "data": [], **values}).encode()


def asked(texts: list[str]) -> list[str]:
    """Give what each text asks for: `smh+1000`, `umh+18000`."""
    return [text.partition("+{")[0] for text in texts]


def test_a_request_says_what_the_settings_say() -> None:
    """Names of parameters are camelCase."""
    (stream,) = streams_of([BARS], targets=["265598@NYSE"], fields=[], values={"bars_period": "5d", "bars_bar": "1h"})
    params = json.loads(stream.subscribe.partition("+{")[2].join("{ "))

    assert stream.key == "smh+265598@NYSE"
    assert {"period": "5d", "bar": "1h", "outsideRth": False} == {
        key: params[key] for key in ("period", "bar", "outsideRth")
    }


def test_five_are_sent_and_each_answer_is_cancelled_and_lets_the_next_go() -> None:
    """The cancel names the answer's serverId; the next request follows it."""
    session = ready(bars_of(7))

    assert ["smh+1000", "smh+1001", "smh+1002", "smh+1003", "smh+1004"] == asked(session.texts())
    session.received(answer(1002), 1.0)
    assert ["umh+18002", "smh+1005"] == asked(session.texts())
    for conid in (1000, 1001, 1003, 1004, 1005):
        session.received(answer(conid), 2.0)
    assert ["umh+18000", "smh+1006", "umh+18001", "umh+18003", "umh+18004", "umh+18005"] == asked(session.texts())
    session.received(answer(1006), 3.0)
    assert ["umh+18006"] == asked(session.texts())


def test_each_request_is_told_when_it_is_sent() -> None:
    """What waits for its turn has not been subscribed to."""
    session = ready(bars_of(6))

    assert 5 == [news.what for news in session.news()].count("subscribed")
    session.received(answer(1000), 1.0)
    assert [News("subscribed", bars_of(6)[5].subscribe, "bars")] == session.news()


def test_a_request_without_an_answer_does_not_hold_up_the_others() -> None:
    """It is told, the next goes, and an answer that still comes is cancelled too."""
    session = ready(bars_of(6))
    session.texts(), session.news()
    for conid in (1001, 1002, 1003, 1004):
        session.received(answer(conid), 1.0)
    session.received(answer(1005), 1.0)
    session.texts(), session.news()

    assert ANSWER_WITHIN in session.streams.subscriptions.deadlines()
    session.tick(ANSWER_WITHIN)
    assert [("no_data", "bars")] == [(news.what, news.topic) for news in session.news()]
    session.received(answer(1000), ANSWER_WITHIN + 5)
    assert ["umh+18000"] == asked(session.texts())


def test_a_refused_request_gives_its_place_up_and_is_asked_again_in_turn() -> None:
    """It is not open at the broker."""
    session = ready(bars_of(6))
    session.texts()
    session.received(b'{"error":"no","code":500,"topic":"smh+1000"}', 1.0)

    assert ["smh+1005"] == asked(session.texts())
    session.tick(2.0)
    assert [] == session.texts()  # five are open
    session.received(answer(1001), 3.0)
    assert ["umh+18001", "smh+1000"] == asked(session.texts())


def test_an_answer_that_names_the_contract_alone_is_found() -> None:
    """What the broker restates for one exchange is not confirmed."""
    requests = BarRequests()
    (stream,) = streams_of([BARS], targets=["8314@NYSE"], fields=[])
    requests.add(stream)
    requests.due(0.0)

    assert ["umh+18203"] == requests.answered("smh+8314", {"serverId": 18203})
    assert requests.answered("smh+8314", {"serverId": 18203}) is None


def test_an_answer_without_its_id_cannot_be_cancelled() -> None:
    """Nothing is made up."""
    requests = BarRequests()
    requests.add(bars_of(1)[0])
    requests.due(0.0)

    assert [] == requests.answered("smh+1000", {})


def test_nothing_is_cancelled_that_has_no_id_when_leaving() -> None:
    """`umh` without an id would mean nothing."""
    session = ready(bars_of(3))

    assert [] == session.farewell()


def test_bars_are_asked_again_after_the_brokerage_session_was_lost() -> None:
    """Its streams ended with it."""
    session = ready(bars_of(2))
    session.texts()
    session.received(b'{"topic":"sts","args":{"authenticated":false}}', 1.0)
    session.received(b'{"topic":"sts","args":{"authenticated":true}}', 2.0)

    assert ["smh+1000", "smh+1001"] == asked(session.texts())


@given(st.integers(1, 20), st.data())
def test_all_are_answered_however_the_answers_come(count: int, data: st.DataObject) -> None:
    """Against the emulated gateway, which lets five be open and is silent about a sixth."""
    server = ServerSession(Identity(session=TOKEN), Rules(ready_after=0))
    server.open(f"api={TOKEN}", 0)
    server.advance(1)
    session = ready(bars_of(count))
    pending: list[str] = []
    answered: list[str] = []
    while texts := session.texts():
        for text in texts:
            begun = [output.stream for output in server.receive(text, 1) if isinstance(output, Begin)]
            assert text.startswith("umh") or begun, "a sixth gets silence"
            pending += begun
        assert len(pending) <= 5
        if pending:
            stream = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
            key = stream.partition("+{")[0]
            answered.append(key)
            session.received(json.dumps({"topic": key, "serverId": server_id(stream)}).encode(), 0.0)

    assert sorted(stream.key for stream in bars_of(count)) == sorted(answered)
    assert {} == server.streams


def test_the_emulated_gateway_answers_a_cancel_and_ends_that_request_alone() -> None:
    """A sixth is heard again once one is cancelled."""
    server = ServerSession(Identity(session=TOKEN), Rules(ready_after=0))
    server.open(f"api={TOKEN}", 0)
    server.advance(1)
    texts = [stream.subscribe for stream in bars_of(6)]
    (first, *_), *_ = [server.receive(text, 1) for text in texts[:5]]
    assert isinstance(first, Begin)

    assert [] == server.receive(texts[5], 1)
    _, reply = server.receive(f"umh+{server_id(first.stream)}", 1)
    assert isinstance(reply, Reply)
    assert re.fullmatch(rb'\{"message":"Unsubscribed \d{5}"\}', reply.data)
    assert 1 == len(server.receive(texts[5], 1))
    assert 5 == len(server.streams)
