"""Alerts: seldom, never silent about anything, and no trouble to the capture."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import AAPL, Script, eventually, gateway_with, in_loop, quote, recording, settings_for
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.alert_delivery import deliver
from recorder.capture.alert_policy import WELL, Alert, AlertPolicy
from recorder.capture.verdict import Problem
from recorder.errors import RecorderError

EVERY = 300.0
A, B = Problem("a", "a is wrong"), Problem("b", "b is wrong")
STEPS = st.lists(st.tuples(st.floats(0, 200), st.sets(st.sampled_from([A, B])), st.booleans()), max_size=40)


def run(policy: AlertPolicy, steps: list[tuple[float, set[Problem], bool]]) -> list[tuple[float, Alert, bool]]:
    """Take a policy through what was wrong when, and whether an alert would be delivered; give the alerts."""
    now, alerts = 0.0, []
    for pause, wrong, delivered in steps:
        now += pause
        alert = policy.step(sorted(wrong), now)
        if alert is not None:
            alerts.append((now, alert, delivered))
            if not delivered:
                policy.failed(alert)
    return alerts


def happened(steps: list[tuple[float, set[Problem], bool]]) -> Counter[str]:
    """Count what began, and how often all was well again."""
    events: Counter[str] = Counter()
    before: set[Problem] = set()
    for _, wrong, _ in steps:
        events.update(one.what for one in wrong - before)
        events.update([WELL] if before and not wrong else [])
        before = wrong
    return events


@given(STEPS)
def test_two_alerts_are_never_closer_than_they_may_be(steps: list[tuple[float, set[Problem], bool]]) -> None:
    """Whatever flaps, and whatever is not delivered."""
    times = [now for now, _, _ in run(AlertPolicy(every=EVERY), steps)]

    assert [later - now for now, later in pairwise(times) if later - now < EVERY] == []


@given(STEPS)
def test_everything_that_happened_is_told_exactly_once(steps: list[tuple[float, set[Problem], bool]]) -> None:
    """Count by count, by the alerts that were delivered, once there was time for one more."""
    end = (2 * EVERY, steps[-1][1] if steps else set(), True)
    told: Counter[str] = Counter()
    for _, alert, delivered in run(AlertPolicy(every=EVERY), [*steps, end]):
        told.update({one.what: one.count for one in alert.told} if delivered else {})

    assert happened(steps) == told


@given(STEPS)
def test_the_last_alert_says_how_it_is_now(steps: list[tuple[float, set[Problem], bool]]) -> None:
    """Nobody goes on thinking that all is well, or that it is not."""
    end = (2 * EVERY, steps[-1][1] if steps else set(), True)
    alerts = run(AlertPolicy(every=EVERY), [*steps, end])

    assert not happened(steps) or alerts[-1][1].healthy == (not end[1])


def test_an_alert_says_what_was_held_back() -> None:
    """Each thing once, with how often it happened."""
    policy = AlertPolicy(every=EVERY)
    steps: list[tuple[float, set[Problem], bool]] = [(0, {A}, True), (1, set(), True), (1, {B}, True), (1, set(), True)]
    steps += [(1, {B}, True), (1, set(), True), (EVERY, set(), True)]

    assert [alert.text for _, alert, _ in run(policy, steps)] == [
        "a is wrong",
        "all is well again. Held back since the last alert: it was well again (3 times); b is wrong (2 times)",
    ]


def test_a_capture_that_ends_tells_the_rest_at_once() -> None:
    """There is no later."""
    policy = AlertPolicy(every=EVERY)
    run(policy, [(0, {A}, True), (1, set(), True)])

    last = policy.last([B])
    assert last is not None
    assert last.text == "b is wrong. Held back since the last alert: it was well again"


def test_a_policy_owes_nothing_while_all_is_well_and_told() -> None:
    """Then a clean stop is nobody's business."""
    policy = AlertPolicy(every=EVERY)

    assert not policy.owes
    run(policy, [(0, {A}, True)])
    assert policy.owes
    run(policy, [(EVERY, set(), True)])
    assert not policy.owes


def writer(path: Path) -> str:
    """Give a command that writes what it is given into a file, as JSON."""
    script = "import json, os, sys; json.dump([sys.stdin.read(), os.environ['ALERT_JSON']], open(sys.argv[1], 'w'))"
    return f'{sys.executable} -c "{script}" {path}'


@in_loop
async def test_a_command_gets_the_text_and_the_document(tmp_path: Path) -> None:
    """On standard input, and in a variable."""
    await deliver({"text": "a is wrong", "healthy": False}, command=writer(tmp_path / "got"), url="")

    text, document = json.loads((tmp_path / "got").read_text())
    assert ("a is wrong\n", {"text": "a is wrong", "healthy": False}) == (text, json.loads(document))


@in_loop
async def test_an_address_gets_the_document() -> None:
    """By POST, as JSON."""
    got: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await deliver({"text": "a is wrong"}, command="", url=f"http://127.0.0.1:{runner.addresses[0][1]}/hook")
    await runner.cleanup()

    assert got == [{"text": "a is wrong"}]


@pytest.mark.parametrize(
    ("command", "url", "told"),
    [
        ("false", "", "alert_command: false ended with code 1: it said nothing"),
        ("/does/not/exist", "", "alert_command: /does/not/exist does not start: No such file or directory"),
        ("", "http://127.0.0.1:9/secret-key", "alert_url: 127.0.0.1 cannot be reached (ClientConnectorError)"),
        ("false", "http://127.0.0.1:9/", "alert_command: false ended with code 1: it said nothing; alert_url: "),
    ],
)
def test_a_failing_delivery_is_said_without_the_key_in_the_address(command: str, url: str, told: str) -> None:
    """Both ways are tried, and each failure is named."""

    @in_loop
    async def fails() -> None:
        with pytest.raises(RecorderError) as caught:
            await deliver({"text": ""}, command=command, url=url)
        assert told == str(caught.value)[: len(told)]
        assert "secret-key" not in str(caught.value)

    fails()


@in_loop
async def test_a_capture_alerts_and_goes_on_when_the_alert_fails(tmp_path: Path) -> None:
    """The first delivery fails and is counted; the next says it again; the capture receives all the while."""
    feed, got, works = Script(), tmp_path / "got", tmp_path / "works"
    command = f"""sh -c 'test -e {works} && cat >> {got}'"""
    async with (
        gateway_with(feed) as gateway,
        recording(settings_for(gateway, tmp_path / "data", alert_command=command, alert_every=0.1)) as running,
    ):
        counters = running.capture.counters
        counters.problem = "account DU1234567 is wrong"
        await eventually(lambda: counters.failed_alerts > 0)
        works.touch()
        await eventually(lambda: got.exists() and got.read_text())
        counters.problem = None
        await eventually(lambda: "well again" in got.read_text())
        before = running.received
        feed.push(f"smd+{AAPL}", quote(1))
        await eventually(lambda: running.received > before)

    first, *_, last = got.read_text().splitlines()
    assert first.startswith("recorder main: account (account) is wrong. Held back since the last alert: account")
    assert last.startswith("recorder main: all is well again")
