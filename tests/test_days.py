"""Days tile time without holes or overlaps, whatever the zone does to its clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import SettingError
from recorder.protocol.days import Day, DayBoundary

HOUR = 3_600_000_000
CHICAGO = DayBoundary("17:00 America/Chicago")
BOUNDARIES = [
    "00:00 UTC",
    "00:00",
    "17:00 America/Chicago",
    "02:30 America/Chicago",  # an hour that is missing in March and comes twice in November
    "18:00 America/New_York",
    "00:00 Europe/Berlin",
    "00:00 America/Sao_Paulo",  # clocks changed at midnight
    "06:00 Asia/Kolkata",
    "23:59 Australia/Lord_Howe",  # half an hour of summer time
    "00:00 Pacific/Apia",  # a date that never was: 2011-12-30
]
INSTANTS = st.integers(0, 4_000_000_000_000_000)


def at(text: str, zone: str = "UTC") -> int:
    """Give a local time as microseconds since the Unix epoch."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("boundary", "instant", "on"),
    [
        ("00:00 UTC", at("2026-11-22T00:00"), date(2026, 11, 22)),
        ("00:00 UTC", at("2026-11-22T23:59:59.999999"), date(2026, 11, 22)),
        ("00:00 UTC", 0, date(1970, 1, 1)),
        ("00:00 UTC", -1, date(1969, 12, 31)),
        ("00:00", at("2026-11-22T12:00"), date(2026, 11, 22)),
        ("17:00 America/Chicago", at("2026-11-22T16:59:59.999999", "America/Chicago"), date(2026, 11, 22)),
        ("17:00 America/Chicago", at("2026-11-22T17:00", "America/Chicago"), date(2026, 11, 23)),
        ("17:00 America/Chicago", at("2026-03-07T17:00", "America/Chicago"), date(2026, 3, 8)),
        ("17:00 America/Chicago", at("2026-03-08T17:00", "America/Chicago"), date(2026, 3, 9)),
        ("17:00 America/Chicago", at("2026-11-01T16:59", "America/Chicago"), date(2026, 11, 1)),
        ("17:00 America/Chicago", at("2026-11-01T17:00", "America/Chicago"), date(2026, 11, 2)),
        ("00:00 Europe/Berlin", at("2026-11-21T23:00"), date(2026, 11, 22)),
    ],
)
def test_an_instant_belongs_to_a_date(boundary: str, instant: int, on: date) -> None:
    """A day that begins in the afternoon carries the date on which it ends, as at a futures exchange."""
    assert on == DayBoundary(boundary).day_of(instant).date


@pytest.mark.parametrize(
    ("on", "hours"),
    [
        (date(2026, 3, 7), 24),
        (date(2026, 3, 8), 23),
        (date(2026, 3, 9), 24),
        (date(2026, 10, 31), 24),
        (date(2026, 11, 1), 25),
        (date(2026, 11, 2), 24),
    ],
)
def test_the_days_of_the_clock_change_are_shorter_and_longer(on: date, hours: int) -> None:
    """Chicago's clocks change at two in the night, within the day that began at 17:00."""
    day = CHICAGO.day(on)

    assert hours * HOUR == day.end - day.start
    assert on == CHICAGO.day_of(day.start).date == CHICAGO.day_of(day.end - 1).date


def test_a_day_in_utc_is_a_date() -> None:
    """The bounds are its midnights."""
    assert Day(date(2026, 11, 22), at("2026-11-22"), at("2026-11-23")) == DayBoundary("00:00 UTC").day_of(
        at("2026-11-22T15:00")
    )


@pytest.mark.parametrize("text", BOUNDARIES)
@given(instant=INSTANTS)
def test_an_instant_is_within_its_day(text: str, instant: int) -> None:
    """Every instant has a day."""
    boundary = DayBoundary(text)
    day = boundary.day_of(instant)

    assert day.start <= instant < day.end
    assert boundary.day(day.date) == day


@pytest.mark.parametrize("text", BOUNDARIES)
@given(instant=INSTANTS)
def test_days_follow_one_another_without_a_hole(text: str, instant: int) -> None:
    """The next instant after a day is the first of another, later one, and the last before it is of an earlier one."""
    boundary = DayBoundary(text)
    day = boundary.day_of(instant)
    after, before = boundary.day_of(day.end), boundary.day_of(day.start - 1)

    assert (before.end, day.end) == (day.start, after.start)
    assert before.date < day.date < after.date


@pytest.mark.parametrize("text", BOUNDARIES)
@given(st.tuples(INSTANTS, INSTANTS))
def test_dates_never_go_back_as_time_goes_on(text: str, instants: tuple[int, int]) -> None:
    """So segments in the order of their frames are in the order of their dates."""
    first, second = (DayBoundary(text).day_of(instant).date for instant in sorted(instants))

    assert first <= second


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("00:00 UTC", "00:00 UTC"),
        ("00:00", "00:00 UTC"),
        (" 17:00  America/Chicago ", "17:00 America/Chicago"),
        ("7:05 UTC", "07:05 UTC"),
    ],
)
def test_a_boundary_is_written_as_it_is_read(text: str, meant: str) -> None:
    """What an archive keeps of it means the same."""
    assert meant == str(DayBoundary(text)) == str(DayBoundary(meant))


@pytest.mark.parametrize(
    "text",
    ["", "UTC", "25:00 UTC", "17:00 Chicago", "17:00 America", "17:00:30 UTC", "17:00+02:00", "17 UTC", "17:00 ../etc"],
)
def test_what_is_no_boundary_is_refused_with_an_example(text: str) -> None:
    """Nothing is guessed, and no part of the text passed over."""
    with pytest.raises(SettingError, match="is not a time and a zone") as caught:
        DayBoundary(text)

    assert repr(text) in str(caught.value)
    assert "17:00 America/Chicago" in str(caught.value.hint)
