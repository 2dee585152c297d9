"""Synthetic bars: the one frame that answers a request for bars, shaped as the broker's document shows it."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from recorder.protocol.server_requests import server_id
from recorder.replay.market import Contract

_MOST: Final = 1_000
_SECONDS: Final[Mapping[str, int]] = {
    "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400, "m": 30 * 86_400, "y": 365 * 86_400,
}  # fmt: skip
_LENGTH: Final = re.compile(r"([1-9][0-9]*)(min|h|d|w|m|y)")
_PERIOD: Final = "2h"
_BAR: Final = "5min"
_VOLUME_FACTOR: Final = 100
"""Volumes are sent in hundreds: 1, 40 and 100 have been seen live."""


def bars_answer(contract: Contract, stream: str, *, now: int) -> bytes:
    """Answer a request; `stream` is its name, parameters included, `now` in microseconds since the Unix epoch.

    Parameters that mean nothing are passed over in silence and defaults taken (the document). The last bar ends at the
    contract's price; the same request gives the same bars up to that.
    """
    _, target, text = stream.split("+", 2)
    params = msgspec.json.decode(text)
    length, period = _seconds(params.get("bar"), _BAR), _seconds(params.get("period"), _PERIOD)
    keys = _keys(params.get("format"))
    bars = _bars(contract, random.Random(f"bars {stream}"), count=max(1, min(_MOST, period // length)))
    last = now // 1_000_000 // length * length
    first = last - (len(bars) - 1) * length
    timed = [{**bar, "t": (first + index * length) * 1_000} for index, bar in enumerate(bars)]
    top, low = max(bars, key=lambda bar: bar["h"]), min(bars, key=lambda bar: bar["l"])
    return msgspec.json.encode(
        {
            "serverId": server_id(stream), "symbol": contract.instrument.symbol, "text": contract.instrument.company,
            "priceFactor": 100, "startTime": datetime.fromtimestamp(first, UTC).strftime("%Y%m%d-%H:%M:%S"),
            "high": _extreme(top["h"], top, bars, length), "low": _extreme(low["l"], low, bars, length),
            "timePeriod": f"{period}s", "barLength": length, "mdAvailability": "S", "mktDataDelay": 0,
            "outsideRth": params.get("outsideRth") is True, "volumeFactor": _VOLUME_FACTOR, "priceDisplayRule": 1,
            "priceDisplayValue": "2", "negativeCapable": False, "messageVersion": 2,
            "data": [{key: bar[key] for key in keys} for bar in timed], "points": len(bars) - 1,
            "topic": f"smh+{target}",
        }
    )  # fmt: skip


def _bars(contract: Contract, rng: random.Random, *, count: int) -> list[dict[str, float]]:
    """Walk back from the contract's price, so that the bars end where the market is."""
    close, unit = contract.price, contract.unit
    bars = []
    for _ in range(count):
        begin = max(unit, close + rng.randint(-8, 8) * unit)
        high = max(begin, close) + rng.randint(0, 4) * unit
        low = max(unit, min(begin, close) - rng.randint(0, 4) * unit)
        prices = {"o": begin, "c": close, "h": high, "l": low}
        bars.append({name: round(price, 6) for name, price in prices.items()} | {"v": float(rng.randint(1, 900))})
        close = begin
    return bars[::-1]


def _extreme(price: float, bar: dict[str, float], bars: list[dict[str, float]], length: int) -> str:
    """Write `price x priceFactor / volume / minutes from the start` (seen by clients)."""
    return f"{price * 100:.0f}/{bar['v']:.2f}/{bars.index(bar) * length // 60}"


def _seconds(text: Any, default: str) -> int:
    found = _LENGTH.fullmatch(text) if type(text) is str else None
    found = found or _LENGTH.fullmatch(default)
    assert found is not None, "the default is a length"
    return int(found[1]) * _SECONDS[found[2]]


def _keys(form: Any) -> list[str]:
    """Read `%o/%c/%h/%l/%v`: only the values asked for come back."""
    asked = re.findall(r"%([ochlv])", form) if type(form) is str else []
    return [*(asked or "ochlv"), "t"]
