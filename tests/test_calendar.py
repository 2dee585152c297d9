"""The calendar: a capture works in an exchange's sessions, sleeps in between, and what it slept is no gap."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import AAPL, IBM, Script, eventually, gateway_with, in_loop, quote, recording, settings_for
from hypothesis import given
from hypothesis import strategies as st

from recorder.archive.gaps import read_gaps
from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader, Span
from recorder.capture import capture as capturing
from recorder.capture.settings import CaptureSettings
from recorder.capture.trading_hours import Hours, TradingHours, current_or_next, merge
from recorder.cli.capture import _stop_at
from recorder.errors import SettingError
from recorder.protocol.topics import load_topics
from recorder.recording import reload_on_hangup

MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


def utc(text: str) -> datetime:
    """Read a time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours_at(code: str, text: str) -> tuple[str, str]:
    """Give the begin and the end of the hours that an exchange has at or after a time."""
    hours = TradingHours(code, before=300, after=300).at(utc(text))
    return f"{hours.begin:%m-%d %H:%M}", f"{hours.end:%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("code", "now", "expected"),
    [
        ("XNYS", "2026-10-30T15:00", ("10-30 13:25", "10-30 20:05")),
        ("XNYS", "2026-11-02T12:00", ("11-02 14:25", "11-02 21:05")),
        ("XNYS", "2027-03-12T15:00", ("03-12 14:25", "03-12 21:05")),
        ("XNYS", "2027-03-15T00:00", ("03-15 13:25", "03-15 20:05")),
        ("XNYS", "2026-11-26T15:00", ("11-27 14:25", "11-27 18:05")),
        ("XNYS", "2026-11-27T18:05", ("11-30 14:25", "11-30 21:05")),
        ("CMES", "2026-11-21T12:00", ("11-22 22:55", "11-27 23:05")),
    ],
)
def test_holidays_early_closes_and_summer_time_are_known(code: str, now: str, expected: tuple[str, str]) -> None:
    """Before and after each change of the clock, over Thanksgiving and its short Friday; futures go on all week."""
    begin, end = hours_at(code, now)

    assert expected[0] == begin
    assert code == "CMES" or expected[1] == end


def test_an_unknown_exchange_is_an_error_with_the_nearest_name() -> None:
    """Before anything is recorded."""
    with pytest.raises(SettingError, match="no exchange 'XNYZ'") as caught:
        TradingHours("XNYZ", before=1, after=1)

    assert "XNYS" in str(caught.value.hint)


SESSIONS = st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), min_size=1, max_size=12)


@given(SESSIONS, st.integers(0, 100), st.integers(0, 100), st.integers(-200, 15_000))
def test_hours_cover_every_session_and_the_picked_ones_are_not_over(
    lengths: list[tuple[int, int]], before: int, after: int, minute: int
) -> None:
    """A moment is in some hours just if it is near a session; hours neither touch nor overlap."""
    clock, sessions = MIDNIGHT, []
    for pause, length in lengths:
        opens = clock + timedelta(minutes=pause)
        clock = opens + timedelta(minutes=length)
        sessions.append((opens, clock))
    margin = timedelta(minutes=before), timedelta(minutes=after)
    hours = merge(sessions, before=margin[0], after=margin[1])
    now = MIDNIGHT + timedelta(minutes=minute)

    wanted = any(opens - margin[0] <= now < closes + margin[1] for opens, closes in sessions)
    assert wanted == any(one.begin <= now < one.end for one in hours)
    assert all(one.end < other.begin for one, other in pairwise(hours))
    if now < hours[-1].end:
        picked = current_or_next(hours, now)
        assert now < picked.end
        assert wanted == (picked.begin <= now)


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        ("2026-11-20T15:00", "XNYS", "2026-11-20T21:00"),
        ("2026-11-20T22:00", "XNYS", "2026-11-21T21:00"),
        ("2026-10-31T22:00", "XNYS", "2026-11-01T21:00"),
        ("2026-10-30T12:00", "XNYS", "2026-10-30T20:00"),
    ],
)
def test_until_is_in_the_calendars_zone(now: str, zone: str, expected: str) -> None:
    """16:00 in New York, whatever the machine's zone and the season."""
    stop = _stop_at(None, "16:00", now=utc(now), zone=TradingHours(zone, before=1, after=1).zone)

    assert stop == utc(expected)


class Bells:
    """An exchange whose sessions are given."""

    def __init__(self, sessions: list[tuple[datetime, datetime]]) -> None:
        self._sessions = sessions

    def at(self, now: datetime) -> Hours:
        """Give the hours at or after a time."""
        return current_or_next(merge(self._sessions, before=timedelta(0), after=timedelta(0)), now)


@in_loop
async def test_a_capture_sleeps_while_the_market_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It unsubscribes, is well, wakes by itself and records on; the ledger says market_closed and nothing else."""
    begun = datetime.now(UTC)
    second = timedelta(seconds=1)
    bells = Bells([(begun - second, begun + 5 * second), (begun + 8 * second, begun + 3600 * second)])
    monkeypatch.setattr(capturing, "_trading_hours", lambda _settings: bells)
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        feed.push(f"smd+{AAPL}", quote(1))
        await eventually(lambda: running.state == "sleeping")
        unsubscribed = set(feed.wanted)
        await eventually(lambda: running.capture.status().state == "sleeping")
        asleep = running.capture.status()
        await eventually(lambda: running.state == "recording")
        await eventually(lambda: f"smd+{AAPL}" in feed.wanted)
        before = running.received
        feed.push(f"smd+{AAPL}", quote(2))
        await eventually(lambda: running.received > before)
        await running.stop()

    rows = read_gaps(Reader(open_layout(data), load_topics()), span=Span())
    assert unsubscribed == set()
    assert (asleep.connected, asleep.wakes, asleep.open_gaps) == (
        False,
        int((begun + 8 * second).timestamp() * 1e6),
        (),
    )
    assert {(row.topic, row.cause) for row in rows} == {
        (topic, "market_closed") for topic in ("market_data", "orders", "pnl")
    }
    assert all(2.5e6 < (row.end or 0) - row.start < 10e6 for row in rows)


@in_loop
async def test_a_gap_begins_when_the_market_opens_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time asleep is none, whatever the gateway did in it."""
    begun, second = datetime.now(UTC), timedelta(seconds=1)
    opens = begun + 7 * second
    bells = Bells([(begun - second, begun + 4 * second), (opens, begun + 3600 * second)])
    monkeypatch.setattr(capturing, "_trading_hours", lambda _settings: bells)
    monkeypatch.setattr(Bells, "at", lambda bells, now: _wake_early(bells._sessions, now))
    data = tmp_path / "data"
    async with gateway_with(Script()) as gateway:
        context = recording(settings_for(gateway, data))
        running = await context.__aenter__()
        await eventually(lambda: running.state == "sleeping")
    await eventually(lambda: running.capture.status().open_gaps)
    found = running.capture.status().open_gaps
    await context.__aexit__(None, None, None)

    assert {gap.cause for gap in found} == {"disconnected"}
    assert all(abs(gap.start - opens.timestamp() * 1e6) < 2e6 for gap in found)


def _wake_early(sessions: list[tuple[datetime, datetime]], now: datetime) -> Hours:
    return current_or_next(merge(sessions, before=timedelta(seconds=1.5), after=timedelta(0)), now)


@in_loop
async def test_hangup_changes_the_contracts_without_a_new_connection(tmp_path: Path) -> None:
    """What the settings name then is recorded from then on; a mistake in them changes nothing."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway:
        settings = settings_for(gateway, data)
        async with recording(settings) as running:
            read: list[CaptureSettings | SettingError] = [
                SettingError("conid: no"),
                settings_for(gateway, data, conid=(str(IBM),)),
            ]

            def again() -> CaptureSettings:
                given = read.pop(0)
                if isinstance(given, SettingError):
                    raise given
                return given

            reload_on_hangup(running.capture, again)
            os.kill(os.getpid(), signal.SIGHUP)
            await eventually(lambda: len(read) == 1)
            kept = f"smd+{AAPL}" in feed.wanted
            os.kill(os.getpid(), signal.SIGHUP)
            await eventually(lambda: f"smd+{IBM}" in feed.wanted and f"smd+{AAPL}" not in feed.wanted)
            await eventually(lambda: running.capture.status().connections > 0)
            connections = running.capture.status().connections

    assert kept
    assert connections == 1
