"""The states of a connection, and what moves it between them.

`TRANSITIONS` is the whole of it: what is not in the table moves nothing, whatever the gateway sends and in whatever
order. docs/architecture.md shows the same table, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class State(Enum):
    """How far the connection is."""

    AWAY = "away"
    """There is no connection."""
    OPENED = "opened"
    """The socket is open. What is sent now vanishes without an error (measured by clients)."""
    WELCOMED = "welcomed"
    """The gateway accepted our session: topics that need no brokerage session are subscribed."""
    READY = "ready"
    """There is a brokerage session: all topics are subscribed."""
    LOST = "lost"
    """The connection is of no more use: it is read to its end and closed."""


class Event(Enum):
    """What may move the connection."""

    CONNECTED = "the socket opens"
    WELCOME = "`system` says success"
    LOGIN = "`sts` says authenticated"
    LOGOUT = "`sts` or `/tickle` says not authenticated"
    SILENCE = "no heartbeat for `heartbeat_timeout`"
    ROLLOVER = "`tic` or `/tickle` names another session than ours"
    STALE = "market data is silent, and stays so when it is asked for again"
    CLOSED = "the socket closes"


AWAY, OPENED, WELCOMED, READY, LOST = State

_ANY_TIME: Final[Mapping[Event, State]] = {
    Event.SILENCE: LOST,
    Event.ROLLOVER: LOST,
    Event.CLOSED: AWAY,
}

TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    AWAY: {Event.CONNECTED: OPENED},
    OPENED: {Event.WELCOME: WELCOMED, **_ANY_TIME},
    WELCOMED: {Event.LOGIN: READY, **_ANY_TIME},
    READY: {Event.LOGOUT: WELCOMED, Event.STALE: LOST, **_ANY_TIME},
    LOST: {Event.CLOSED: AWAY},
}
