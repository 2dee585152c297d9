"""The log of a bad night: what the gateway did, when, to whom, and what each connection was sent. JSON lines.

| `event` | keys beside `ts` (microseconds UTC) |
|---|---|
| `connected` | `connection` |
| `fault_began`, `fault_ended` | `number`, `fault`, `option`, `topics`, `conids`, `sent`; ended: `withheld` |
| `left` | `connection`, `parting`, `frames`, `topics`, `missed`, `withheld`; `trail` if it was broken off |

`sent` holds, for each living connection, what it was sent so far: count and content digest by topic.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO, Final

import msgspec

from recorder.replay.batch import topic_of
from recorder.replay.connection import Connection
from recorder.replay.faults import Fault
from recorder.replay.gateway import Gateway, Leave
from recorder.replay.tally import Counted
from recorder.replay.trail import Trail

_BROKEN_OFF: Final = frozenset({"lost", "aborted", "cut"})

Tell = Callable[[str, Mapping[str, Any]], None]
"""Hears of an event, by name, with its details."""


class FaultLog:
    """Writes the log line by line. `tell` hears of the faults too; `clock` gives microseconds since the Unix epoch."""

    def __init__(self, out: BinaryIO | None, *, clock: Callable[[], int], tell: Tell | None = None) -> None:
        self._out = out
        self._clock = clock
        self._tell = tell

    def connected(self, client: Connection) -> None:
        """Note that a client has come."""
        self._write("connected", connection=client.number)

    def left(self, leave: Leave) -> None:
        """Note that a client has gone, and what it was sent in all."""
        trail = {}
        if leave.parting in _BROKEN_OFF and isinstance(leave.tally, Trail):
            shown = leave.tally.shown()
            trail = {"trail": shown._asdict() | {"topics": plain(shown.topics)}}
        self._write(
            "left",
            connection=leave.number,
            parting=leave.parting,
            frames=leave.tally.frames,
            topics=plain(leave.digests),
            missed=leave.missed,
            withheld=leave.withheld,
            **trail,
        )

    def began(self, number: int, fault: Fault, *, streams: Collection[str], gateway: Gateway) -> None:
        """Note that a fault begins; `streams` are those that it hits."""
        self._fault("fault_began", number, fault, streams=streams, gateway=gateway)

    def ended(self, number: int, fault: Fault, *, streams: Collection[str], gateway: Gateway, withheld: int) -> None:
        """Note that a fault is over; `withheld` frames were not sent because of it."""
        self._fault("fault_ended", number, fault, streams=streams, gateway=gateway, withheld=withheld)

    def _fault(
        self, event: str, number: int, fault: Fault, *, streams: Collection[str], gateway: Gateway, **more: Any
    ) -> None:
        conids = {
            target.partition("@")[0] for name in streams for topic, _, target in [name.partition("+")] if topic == "smd"
        }
        details = {
            "number": number,
            "fault": fault.kind,
            "option": fault.option,
            "topics": sorted({topic_of(name) for name in streams}),
            "conids": sorted(int(conid) for conid in conids if conid.isdecimal()),
            **more,
        }
        sent = {str(client.number): plain(client.tally.totals()) for client in gateway.hub.clients}
        self._write(event, **details, sent=sent)
        if self._tell is not None:
            self._tell(event, details)

    def _write(self, event: str, **details: Any) -> None:
        if self._out is not None:
            self._out.write(msgspec.json.encode({"event": event, "ts": self._clock(), **details}) + b"\n")
            self._out.flush()


def plain(digests: Mapping[str, Counted]) -> Mapping[str, Mapping[str, object]]:
    """Write counts and digests as JSON can have them."""
    return {topic: counted._asdict() for topic, counted in digests.items()}
