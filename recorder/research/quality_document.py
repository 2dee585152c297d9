"""The quality document: a day's quality as JSON can hold it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from recorder.research.limits import Limits, problems
from recorder.research.quality import DayQuality, StreamQuality


def quality_document(quality: DayQuality, limits: Limits) -> dict[str, Any]:
    """Make the document of a day: times are texts (ISO 8601, UTC), spans seconds."""
    found = problems(quality, limits)
    return {
        "date": quality.date,
        "good": not found,
        "problems": [problem._asdict() for problem in found],
        "limits": limits._asdict(),
        "calendar": quality.calendar,
        "silence": quality.silence,
        "hours": [[_time(begin), _time(end)] for begin, end in quality.hours],
        "clock": None if quality.clock is None else asdict(quality.clock),
        "streams": [_stream(one) for one in quality.streams],
        "gaps": [
            {
                **gap._asdict(),
                "start": _time(gap.start),
                "end": None if gap.end is None else _time(gap.end),
                "information": gap.information,
            }
            for gap in quality.gaps
        ],
        "bins": [_time(bound) for bound in quality.bins],
        "latency": quality.latency,
    }


def _stream(one: StreamQuality) -> dict[str, Any]:
    return {
        **asdict(one),
        "first": _time(one.first),
        "last": _time(one.last),
    }


def _time(micros: int) -> str:
    whole, rest = divmod(micros, 1_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"
