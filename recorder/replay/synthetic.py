"""The synthetic feed: market, orders and account behind what the gateway asks of a feed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from recorder.replay.feed import Due, Instrument, Update
from recorder.replay.market import Market
from recorder.replay.synthetic_account import Account
from recorder.replay.synthetic_bars import bars_answer
from recorder.replay.synthetic_depth import Ladders
from recorder.replay.synthetic_orders import OrderFlow

_PNL_EVERY: Final = 1_000_000  # the broker's document: up to once a second
_LEDGER_EVERY: Final = 10_000_000  # the broker's document: every 10 s


class SyntheticFeed:
    """A seeded market with one account that trades in it.

    `rate` is market-data frames a second over all streams that some client has; `order_every` the mean number of
    seconds between two new orders (0: no orders).
    """

    lossless = False

    def __init__(
        self,
        *,
        seed: int = 0,
        contracts: int = 100,
        rate: float = 100.0,
        account: str = "DU1000001",
        order_every: float = 2.0,
    ) -> None:
        self.market = Market(seed=seed, contracts=contracts, rate=rate)
        self.accounts: Sequence[str] = (account,)
        self.instruments: Mapping[int, Instrument] = {
            conid: contract.instrument for conid, contract in self.market.contracts.items()
        }
        self._account = Account(account, self.market.contracts.values())
        self._ladders = Ladders(self.market.contracts, account=account, seed=seed)
        self._orders: OrderFlow | None = None
        if order_every > 0 and contracts > 0:
            self._orders = OrderFlow(
                self.market.contracts, account=account, seed=seed, every=order_every, on_fill=self._account.fill
            )
        self._wanted: Collection[str] = ()
        self._next_pnl: int | None = None
        self._next_ledger: int | None = None

    def want(self, streams: Collection[str]) -> None:
        """Take note of all streams that some client has now."""
        self._wanted = sorted(streams)  # sorted: the same wishes give the same market, in whatever order they came
        self.market.want(self._wanted)
        self._ladders.want(self._wanted)

    def snapshot(self, stream: str, now: int) -> bytes | None:
        """Give a full frame as of now. Orders have none: the broker sends updates only, and REST has the rows."""
        topic = stream.partition("+")[0]
        match topic:
            case "smd":
                data = self.market.snapshot(stream, now)
            case "smh":
                contract = self.market.contracts.get(_conid(stream))
                data = None if contract is None else bars_answer(contract, stream, now=now)
            case "sbd":
                data = self._ladders.snapshot(stream)
            case "str":
                executions = self._orders.executions if self._orders else ()
                data = msgspec.json.encode({"topic": "str", "args": list(executions)})
            case _:
                data = self._account.snapshot(stream, now)
        return data

    def orders(self, now: int) -> Sequence[Mapping[str, object]]:  # noqa: ARG002  an archive needs the time
        """Give the rows of the orders of the day."""
        return [order.row() for order in self._orders.recent] if self._orders else []

    async def due(self, now: int) -> Due:
        """Give what is due by now."""
        return self.advance(now)

    def advance(self, now: int) -> Due:
        """Give what is due by now, without an event loop."""
        updates = self.market.advance(now)
        if self._orders is not None:
            updates += self._orders.advance(now)
        updates += self._ladders.advance(now)
        updates += self._account_updates(now)
        orders = self._orders.next_due if self._orders else None
        nexts = [self.market.next_due(now), orders, self._ladders.next_due, self._next_pnl]
        return Due(updates, min(time for time in nexts if time is not None))

    def _account_updates(self, now: int) -> list[Update]:
        updates: list[Update] = []
        if self._next_pnl is None or self._next_ledger is None:
            self._next_pnl, self._next_ledger = now + _PNL_EVERY, now + _LEDGER_EVERY
        if self._next_pnl <= now:
            self._next_pnl += ((now - self._next_pnl) // _PNL_EVERY + 1) * _PNL_EVERY
            if "spl" in self._wanted:
                updates.append(Update("spl", self._account.pnl()))
        if self._next_ledger <= now:
            self._next_ledger += ((now - self._next_ledger) // _LEDGER_EVERY + 1) * _LEDGER_EVERY
            summary, ledger = f"ssd+{self._account.account}", f"sld+{self._account.account}"
            if summary in self._wanted:
                updates.append(Update(summary, self._account.summary(summary, now)))
            if ledger in self._wanted:
                updates.append(Update(ledger, self._account.ledger_update(ledger, now)))
        return updates


def _conid(stream: str) -> int:
    """Read the contract of a stream of bars, `smh+265598@NYSE+{…}`; 0 for what is none."""
    text = stream.split("+")[1].partition("@")[0]
    return int(text) if text.isdecimal() else 0
