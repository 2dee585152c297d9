"""People write a moment in many ways, and all mean the same microsecond."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import UsageError
from recorder.protocol.instants import Instant, to_micros

MIDNIGHT = 1_795_132_800_000_000  # 2026-11-20
HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        ("2026-11-20", MIDNIGHT),
        (" 2026-11-20 ", MIDNIGHT),
        ("20261120", MIDNIGHT),
        ("2026-11-20T14:30", MIDNIGHT + 14 * HOUR + HOUR // 2),
        ("2026-11-20 14:30:00.000001", MIDNIGHT + 14 * HOUR + HOUR // 2 + 1),
        ("2026-11-20T14:30Z", MIDNIGHT + 14 * HOUR + HOUR // 2),
        ("2026-11-20T14:30-05:00", MIDNIGHT + 19 * HOUR + HOUR // 2),
        ("1970-01-01", 0),
        ("1969-12-31T23:59:59.999999", -1),
        (date(2026, 11, 20), MIDNIGHT),
        (datetime(2026, 11, 20, 1), MIDNIGHT + HOUR),  # noqa: DTZ001  naive means UTC
        (datetime(2026, 11, 20, 1, tzinfo=UTC), MIDNIGHT + HOUR),
        (datetime(2026, 11, 20, 1, tzinfo=timezone(timedelta(hours=1))), MIDNIGHT),
        (pd.Timestamp("2026-11-20"), MIDNIGHT),
        (pd.Timestamp("2026-11-20T01:00", tz="Europe/Berlin"), MIDNIGHT),
        (pd.Timestamp("2026-11-20T00:00:00.000001999"), MIDNIGHT + 1),
        (MIDNIGHT, MIDNIGHT),
        (None, None),
    ],
)
def test_a_moment_is_read(written: Instant | None, micros: int | None) -> None:
    """Naive means UTC; a date is its midnight; a large number is microseconds."""
    assert micros == to_micros(written, what="start")


@given(st.datetimes(timezones=st.timezones() | st.none()))
def test_a_text_means_what_the_datetime_means(moment: datetime) -> None:
    """ISO 8601 there and back."""
    assert to_micros(moment, what="start") == to_micros(moment.isoformat(), what="start")


@given(st.integers(-(10**15), 10**16))
def test_microseconds_are_given_back(micros: int) -> None:
    """Exactly: no float is involved."""
    assert micros == to_micros(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros), what="start")


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-11-20T25:00", "11/20/2026", "1795132800"])
def test_a_text_that_is_no_time_is_named_with_examples(text: str) -> None:
    """The user learns which option, and what could be written."""
    with pytest.raises(UsageError, match=re.escape(f"start: {text!r} is not a time")) as caught:
        to_micros(text, what="start")

    assert "2026-11-20T14:30" in str(caught.value.hint)


@pytest.mark.parametrize("value", [20261120, 1.5, pd.NaT, np.datetime64("2026-11-20"), [], timedelta(1)])
def test_what_is_no_moment_is_refused(value: Any) -> None:
    """A small number could be seconds or a date; nothing is guessed."""
    with pytest.raises(UsageError, match=r"end: .* is not a time"):
        to_micros(value, what="end")
