"""What a command that runs an emulated gateway prints: where it serves, who came and left, and what was sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.status import Status

from recorder.replay.fault_log import plain
from recorder.replay.feed import Feed
from recorder.replay.gateway import Gateway, Leave
from recorder.replay.tally import Counted

_NAMED: Final = 5  # contracts named at the start
_TRIED: Final = 3  # contracts in the command to try
_STATUS_EVERY_S: Final = 0.5


class GatewayReport:
    """What the command prints, as text or as JSON lines."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._out = Console(highlight=False, soft_wrap=True)
        self._status: Status | None = None

    def serving(self, gateway: Gateway, feed: Feed) -> None:
        """Say where, what, and what to try."""
        instruments = list(feed.instruments.values())
        if self._json:
            self._line("serving", gateway=gateway.base_url, conids=[one.conid for one in instruments])
            return
        named = ", ".join(f"{one.conid} {one.symbol}" for one in instruments[:_NAMED])
        more = f" and {len(instruments) - _NAMED} more" if len(instruments) > _NAMED else ""
        conids = ",".join(str(one.conid) for one in instruments[:_TRIED])
        self._print(f"serving {gateway.base_url}")
        self._print(f"contracts: {named}{more}")
        self._print(f"try: recorder capture --gateway {gateway.base_url} --conid {conids}")

    async def watch(self, gateway: Gateway, stop: asyncio.Event, *, progress: Callable[[], str] = str) -> None:
        """Keep the status line true until the stop; `progress` gives what it begins with."""
        if self._json or not self._out.is_terminal:
            await stop.wait()
            return
        frames, moment = 0, time.monotonic()
        with self._out.status("waiting for a client") as self._status:
            while not stop.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STATUS_EVERY_S):
                        await stop.wait()
                before, then, frames, moment = frames, moment, gateway.frames, time.monotonic()
                speed, clients = (frames - before) / (moment - then), len(gateway.hub.clients)
                who = "1 client" if clients == 1 else f"{clients} clients" if clients else "waiting for a client"
                self._status.update(f"{progress()}{who}, {speed:,.0f} frames/s, {frames:,} sent")

    def fault(self, event: str, details: Mapping[str, Any]) -> None:
        """Say that a fault begins or is over."""
        if self._json:
            self._line(event, **details)
            return
        name = details["fault"] if details["option"] is None else f"{details['fault']}={details['option']}"
        self._print(f"fault {details['number']}: {name} {'begins' if event == 'fault_began' else 'is over'}")

    def left(self, leave: Leave) -> None:
        """Say what a client was sent."""
        if self._json:
            counts = plain(leave.digests)
            self._line("left", client=leave.number, peer=leave.peer, missed=leave.missed, topics=counts)
            return
        missed = f"; too slow for {leave.missed:,} updates" if leave.missed else ""
        self._print(f"client {leave.number} ({leave.peer}) left{missed}")
        self._counts(leave.digests)

    def stopped(self, gateway: Gateway) -> None:
        """Say what all clients were sent."""
        if self._json:
            self._line("stopped", frames=gateway.frames, topics=plain(gateway.digests()))
            return
        self._print(f"stopped; {gateway.frames:,} frames sent in all")
        self._counts(gateway.digests())

    def say(self, event: str, text: str, **details: object) -> None:
        """Say something else: as a text for people, or as a line with its details."""
        if self._json:
            self._line(event, **details)
            return
        self._print(text)

    def _counts(self, digests: Mapping[str, Counted]) -> None:
        for topic, (frames, digest) in digests.items():
            self._print(f"  {topic:<16} {frames:>12,}  {digest}")

    def _print(self, text: str) -> None:
        self._out.print(text, markup=False)

    def _line(self, event: str, **details: object) -> None:
        print(msgspec.json.encode({"event": event, **details}).decode(), flush=True)
