"""Marks: the recorder's own notes among the frames."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Event = Literal[
    "session_started",
    "connected",
    "disconnected",
    "subscribed",
    "logged_in",
    "backpressure",
    "gap_opened",
    "gap_closed",
    "session_stopped",
]


def encode_mark(event: Event, **details: Any) -> bytes:
    """Write a mark. `session_started` names its `predecessor`: session and last sequence number, or null."""
    return msgspec.json.encode({"event": event, **details})


def decode_mark(data: bytes) -> dict[str, Any]:
    """Read a mark; it always has `event`."""
    mark: dict[str, Any] = msgspec.json.decode(data)
    return mark
