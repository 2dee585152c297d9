"""Synthetic orders: each lives the life seen in captures, from `Inactive` to `Filled` or `Cancelled`.

An order's first frames come within 50 ms: the full row, a marker row without change, then the states as deltas. Fills
follow as deltas with quantities and average price; a cancel sends the full row again. Each fill is an execution too,
sent twice: without and then with its commission.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from recorder.replay.feed import Update
from recorder.replay.market import Contract

_FIRST_ID: Final = 500_100_200
_KEPT: Final = 500  # orders and executions kept for REST and for `str`
_MS: Final = 1_000

Row = dict[str, object]
Step = tuple[list[Update], int]  # frames to send now, and the pause after them in microseconds


@dataclass(slots=True, kw_only=True)
class Order:
    """One order and what has come of it."""

    account: str
    order_id: int
    contract: Contract
    side: str
    size: int
    price: str  # empty for a market order
    tif: str
    born: int
    status: str = "Inactive"
    filled: int = 0
    paid: float = 0.0
    changed: int = 0

    @property
    def ident(self) -> Row:
        """The keys of every row."""
        return {"acct": self.account, "orderId": self.order_id}

    @property
    def quantities(self) -> Row:
        """The keys of a fill's row."""
        left = self.size - self.filled
        return {
            "sizeAndFills": f"{self.filled}/{left}" if left else str(self.filled),
            "remainingQuantity": float(left),
            "filledQuantity": float(self.filled),
        }

    @property
    def desc(self) -> str:
        """The order in words: `Buy 100 Limit 180.00, Day`."""
        verb = {"BUY": "Buy", "SELL": "Sell"} if self.filled < self.size else {"BUY": "Bought", "SELL": "Sold"}
        kind = f"Limit {self.price}" if self.price else "Market"
        return f"{verb[self.side]} {self.size} {kind}, {'GTC' if self.tif == 'GTC' else 'Day'}"

    def row(self) -> Row:
        """Write the full row."""
        one, moment = self.contract.instrument, self.changed or self.born
        row: Row = {
            "acct": self.account, "account": self.account, "conidex": str(one.conid), "conid": one.conid,
            "orderId": self.order_id, "cashCcy": "USD", "sizeAndFills": self.quantities["sizeAndFills"],
            "orderDesc": self.desc, "description1": one.symbol, "ticker": one.symbol, "secType": one.security_type,
            "listingExchange": one.listing_exchange, **self.quantities, "totalSize": float(self.size),
            "companyName": one.company, "status": self.status, "order_ccp_status": "Pending Submit",
            "origOrderType": "LIMIT" if self.price else "MARKET", "supportsTaxOpt": "1",
            "lastExecutionTime": utc(moment, "%y%m%d%H%M%S"), "lastExecutionTime_r": moment // _MS,
            "order_ref": f"ref-{self.order_id}", "orderType": "Limit" if self.price else "Market", "side": self.side,
            "timeInForce": self.tif, "price": self.price, "isEventTrading": "0", "bgColor": "#FFFFFF",
            "fgColor": "#0000CC",
        }  # fmt: skip
        if self.filled:
            row["avgPrice"] = self.average
        return row

    @property
    def average(self) -> str:
        """The average price of the fills."""
        return f"{self.paid / self.filled:.2f}"


class OrderFlow:
    """The orders of one account over time; `on_fill` hears of each fill: contract, signed quantity, price."""

    def __init__(
        self,
        contracts: Mapping[int, Contract],
        *,
        account: str,
        seed: int,
        every: float,
        on_fill: Callable[[Contract, int, float], None],
    ) -> None:
        self._contracts = list(contracts.values())
        self._account = account
        self._rng = random.Random(f"orders {seed}")
        self._every = every
        self._on_fill = on_fill
        self._ids = _FIRST_ID
        self._lives: list[tuple[int, int, Iterator[Step]]] = []  # when each goes on, by order id
        self._next_order: int | None = None
        self._now = 0
        self.recent: deque[Order] = deque(maxlen=_KEPT)
        self.executions: deque[Row] = deque(maxlen=_KEPT)

    @property
    def next_due(self) -> int | None:
        """When the next thing happens; None before the first `advance`."""
        times = [self._lives[0][0]] if self._lives else []
        return min(times if self._next_order is None else [*times, self._next_order], default=None)

    def advance(self, now: int) -> list[Update]:
        """Let everything happen that is due by now."""
        updates: list[Update] = []
        if self._next_order is None:
            self._next_order = now + int(self._every * 250_000)
        while (due := self.next_due) is not None and due <= now:
            self._now = due
            if due == self._next_order:
                self._next_order = due + int(self._rng.uniform(0.5, 1.5) * self._every * 1_000_000)
                order = self._new_order()
                self.recent.append(order)
                heapq.heappush(self._lives, (due, order.order_id, self._life(order)))
                continue
            _, order_id, life = heapq.heappop(self._lives)
            frames, pause = next(life, (None, 0))
            if frames is not None:
                updates += frames
                heapq.heappush(self._lives, (due + pause, order_id, life))
        return updates

    def _new_order(self) -> Order:
        rng = self._rng
        contract = self._contracts[int(rng.random() ** 2 * len(self._contracts))]  # rather one of the well-known ones
        self._ids += rng.randint(1, 5)
        return Order(
            account=self._account,
            order_id=self._ids,
            contract=contract,
            side=rng.choice(("BUY", "SELL")),
            size=rng.choice((1, 10, 100, 100, 200, 500, 1_000)),
            price=contract.price_text(rng.randint(-3, 3)) if rng.random() < 0.8 else "",  # noqa: PLR2004
            tif=rng.choice(("CLOSE", "GTC")),
            born=self._now,
        )

    def _life(self, order: Order) -> Iterator[Step]:
        rng = self._rng
        yield [sor(order.row())], 5 * _MS
        contract = {"conidex": str(order.contract.instrument.conid), "conid": order.contract.instrument.conid}
        yield [sor({"acct": order.account, **contract, "orderId": order.order_id, "isEventTrading": "0"})], 7 * _MS
        yield [sor(_turned(order, "PendingSubmit", "#3399CC"))], 10 * _MS
        if rng.random() < 0.5:  # noqa: PLR2004  rows of one order may share a frame
            rows = _turned(order, "PreSubmitted", "#0000CC"), _turned(order, "Submitted", "#00F000")
            yield [sor(*rows)], rng.randint(100, 2_000) * _MS
        else:
            yield [sor(_turned(order, "PreSubmitted", "#0000CC"))], 10 * _MS
            yield [sor(_turned(order, "Submitted", "#00F000"))], rng.randint(100, 2_000) * _MS
        parts = rng.choice((0, 1, 2, 3))
        cancelled = parts == 0 or rng.random() < 0.15  # noqa: PLR2004  some are cancelled when partly filled
        for part in range(parts):
            left = order.size - order.filled
            whole = part == parts - 1 and not cancelled
            if whole or left > 1:
                yield from self._fill(order, left if whole else left // 2)
        if cancelled:
            order.status, order.changed = "PendingCancel", self._now
            yield [sor(order.row())], 20 * _MS
            yield [sor(_turned(order, "Cancelled", "#AA0000"))], 0

    def _fill(self, order: Order, quantity: int) -> Iterator[Step]:
        price = float(order.price) if order.price else order.contract.price
        order.filled += quantity
        order.paid += quantity * price
        order.changed = self._now
        row: Row = {**order.ident, **order.quantities, "avgPrice": order.average}
        notes = []
        if order.filled == order.size:
            order.status = "Filled"
            row |= {"orderDesc": order.desc, "status": "Filled", "timeInForce": order.tif, "price": order.price}
            row |= {"bgColor": "#FFFFFF", "fgColor": "#000000"}
            note = {"id": "118", "text": f"{order.desc}: filled.", "title": None, "url": None}
            notes.append(Update("ntf", _encode({"topic": "ntf", "args": [note]})))
        self._on_fill(order.contract, quantity if order.side == "BUY" else -quantity, price)
        execution = self._execution(order, quantity, price)
        yield [sor(row), trades(execution), *notes], 30 * _MS
        self.executions.append({**execution, "commission": "1.0"})
        yield [trades(self.executions[-1])], self._rng.randint(100, 2_000) * _MS

    def _execution(self, order: Order, quantity: int, price: float) -> Row:
        one, now = order.contract.instrument, self._now
        text = order.price or f"{price:.2f}"
        return {
            "execution_id": f"0000e0d5.{order.order_id:08x}.{order.filled:04d}.01", "symbol": one.symbol,
            "supports_tax_opt": "1", "side": order.side[0],
            "order_description": f"{'Bot' if order.side == 'BUY' else 'Sold'} {quantity} @ {text} on ISLAND",
            "trade_time": utc(now, "%Y%m%d-%H:%M:%S"), "trade_time_r": now // _MS, "size": float(quantity),
            "price": text, "order_ref": f"ref-{order.order_id}", "submitter": "trader01", "exchange": "ISLAND",
            "net_amount": round(quantity * price, 2), "account": order.account, "accountCode": order.account,
            "company_name": one.company, "contract_description_1": one.symbol, "sec_type": one.security_type,
            "listing_exchange": one.listing_exchange, "conid": one.conid, "conidex": str(one.conid),
            "order_id": order.order_id, "clearing_id": "IB", "clearing_name": "IB", "open_close": "???",
            "liquidation_trade": "0", "is_event_trading": "0",
        }  # fmt: skip


def sor(*rows: Row) -> Update:
    """Write an order frame."""
    return Update("sor", _encode({"topic": "sor", "args": rows}))


def trades(*rows: Row) -> Update:
    """Write an execution frame."""
    return Update("str", _encode({"topic": "str", "args": rows}))


def _turned(order: Order, status: str, color: str) -> Row:
    order.status = status
    return {**order.ident, "status": status, "fgColor": color}


def utc(moment: int, form: str) -> str:
    """Write a time, given in microseconds, as the broker's texts do: UTC."""
    return datetime.fromtimestamp(moment // 1_000_000, UTC).strftime(form)


_encode = msgspec.json.Encoder().encode
