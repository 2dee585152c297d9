"""A synthetic account: positions and cash, and from them P&L, summary and ledger frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from recorder.replay.market import Contract

_CASH: Final = 1_000_000.0
_Row = Mapping[str, object]

_HELD: Final = 3  # contracts held from the start


class Account:
    """What one account holds."""

    def __init__(self, account: str, contracts: Iterable[Contract]) -> None:
        self.account = account
        self._cash = _CASH
        self._positions: dict[Contract, tuple[int, float]] = {}  # quantity, money paid for it
        self._realized = 0.0
        self._told: tuple[_Row, ...] = ({}, {})
        for contract in list(contracts)[:_HELD]:
            self._positions[contract] = (100, 100 * contract.prior_close)

    def fill(self, contract: Contract, quantity: int, price: float) -> None:
        """Book a fill; a sale has a negative quantity."""
        held, paid = self._positions.get(contract, (0, 0.0))
        self._cash -= quantity * price
        closed = min(abs(held), abs(quantity)) * (1 if held > 0 else -1) if held * quantity < 0 else 0
        basis = paid / held if held else 0.0
        self._realized += closed * (price - basis)
        opened = quantity + closed
        self._positions[contract] = (held + quantity, paid - closed * basis + opened * price)

    def snapshot(self, stream: str, now: int) -> bytes | None:
        """Give a full frame of a stream of this account; None for any other stream."""
        if stream == "spl":
            return self.pnl()
        if stream == f"ssd+{self.account}":
            return self.summary(stream, now)
        return self.ledger(stream, now) if stream == f"sld+{self.account}" else None

    def pnl(self) -> bytes:
        """Write the P&L frame."""
        value, paid = self._value(), sum(paid for _, paid in self._positions.values())
        net = self._cash + value
        figures = {
            "rowType": 1,
            "dpl": round(value - paid + self._realized, 2),  # the first positions were paid at the prior close
            "nl": round(net, 2),
            "upl": round(value - paid, 2),
            "el": round(net * 0.9, 1),
            "uel": round(net * 0.9, 4),
            "mv": round(value, 2),
        }
        return msgspec.json.encode({"topic": "spl", "args": {f"{self.account}.Core": figures}})

    def summary(self, stream: str, now: int) -> bytes:
        """Write the account summary, every key it has."""
        net, stamp = round(self._cash + self._value(), 2), now // 1_000_000
        money = {"NetLiquidation": net, "NetLiquidation-S": net, "TotalCashValue": round(self._cash, 2)}
        rows: list[Mapping[str, object]] = [
            {"key": key, "currency": "USD", "monetaryValue": amount, "severity": 0, "timestamp": stamp}
            for key, amount in money.items()
        ]
        texts = {"AccountCode": self.account, "AccountType": "INDIVIDUAL"}
        for key, text in texts.items():
            rows.append({"key": key, "currency": "", "value": text, "severity": 0, "timestamp": stamp})
        return msgspec.json.encode({"result": rows, "topic": stream})

    def ledger(self, stream: str, now: int) -> bytes:
        """Write the whole ledger."""
        return self._ledger_frame(stream, now, told=({}, {}))

    def ledger_update(self, stream: str, now: int) -> bytes:
        """Write the ledger again; a currency that is as in the update before is a bare row."""
        told, self._told = self._told, self._ledger()
        return self._ledger_frame(stream, now, told=told)

    def _ledger_frame(self, stream: str, now: int, *, told: tuple[_Row, ...]) -> bytes:
        stamp = now // 1_000_000
        rows = [
            {"key": row["key"], "timestamp": stamp} if row == before else {**row, "timestamp": stamp}
            for row, before in zip(self._ledger(), told, strict=True)
        ]
        return msgspec.json.encode({"result": rows, "topic": stream})

    def _ledger(self) -> tuple[_Row, ...]:
        value = self._value()
        base: _Row = {
            "acctCode": self.account, "key": "LedgerListBASE", "secondKey": "BASE",
            "cashbalance": round(self._cash, 2), "exchangeRate": 1.0, "stockMarketValue": round(value, 2),
            "netLiquidationValue": round(self._cash + value, 2), "realizedPnl": round(self._realized, 2),
            "severity": 0,
        }  # fmt: skip
        euros: _Row = {
            "acctCode": self.account, "key": "LedgerListEUR", "secondKey": "EUR", "cashbalance": 0.0,
            "exchangeRate": 1.0842, "severity": 0,
        }  # fmt: skip
        return base, euros

    def _value(self) -> float:
        return sum(held * contract.price for contract, (held, _) in self._positions.items())
