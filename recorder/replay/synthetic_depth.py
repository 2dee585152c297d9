"""Synthetic price ladders, shaped as the broker's document shows them; no live frame is known."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from recorder.protocol.dialect import format_size
from recorder.replay.feed import Update
from recorder.replay.market import Contract

_EVERY: Final = 500_000  # our choice: the document names no rhythm
_LEVELS: Final = 5


class Ladders:
    """The ladders that are wanted, each sent whole twice a second."""

    def __init__(self, contracts: Mapping[int, Contract], *, account: str, seed: int) -> None:
        self._contracts = contracts
        self._account = account
        self._rng = random.Random(f"depth {seed}")
        self._wanted: list[str] = []
        self._next: int | None = None

    @property
    def next_due(self) -> int | None:
        """When the next ladder is due; None while none is wanted."""
        return self._next

    def want(self, streams: Collection[str]) -> None:
        """Serve these streams of `sbd` from now on, and no others."""
        self._wanted = [stream for stream in streams if self._contract(stream) is not None]
        if not self._wanted:
            self._next = None

    def snapshot(self, stream: str) -> bytes | None:
        """Give a ladder; None for an account or a contract that is not offered."""
        contract = self._contract(stream)
        return None if contract is None else self._ladder(stream, contract)

    def advance(self, now: int) -> list[Update]:
        """Give what is due by now."""
        if not self._wanted:
            return []
        if self._next is None:
            self._next = now + _EVERY
        if now < self._next:
            return []
        self._next += ((now - self._next) // _EVERY + 1) * _EVERY
        found = [(stream, self.snapshot(stream)) for stream in self._wanted]
        return [Update(stream, data) for stream, data in found if data is not None]

    def _contract(self, stream: str) -> Contract | None:
        verb, account, conid, *_ = [*stream.split("+"), "", ""]
        served = verb == "sbd" and account == self._account and conid.isdecimal()
        return self._contracts.get(int(conid)) if served else None

    def _ladder(self, stream: str, contract: Contract) -> bytes:
        bid, ask, last = contract.quote
        rows: list[dict[str, object]] = []
        for number, ticks in enumerate(range(ask + _LEVELS - 1, bid - _LEVELS, -1)):
            price = contract.text(ticks)
            if ticks == last and contract.last_size:
                price = f"{contract.last_size} @ {price}"
            row: dict[str, object] = {"row": number, "focus": int(ticks == last), "price": price}
            if ticks >= ask or ticks <= bid:
                row["ask" if ticks >= ask else "bid"] = format_size(self._rng.randint(1, 40) * 100)
            rows.append(row)
        return msgspec.json.encode({"topic": stream, "data": rows})
