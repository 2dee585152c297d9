"""A seeded synthetic market: level-1 frames written as the broker writes them.

The same seed, the same wishes and the same sequence of times give the same frames, to the byte. Prices walk on the
grid of the contract's tick and are pulled back to where they started, so they neither vanish nor explode.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from recorder.protocol.dialect import format_price, format_short, format_size, parse_number
from recorder.replay.feed import Instrument, Update
from recorder.replay.instruments import Listing, listings

SLICE_US: Final = 10_000
_SLICE_FRAMES: Final = 2_000  # what one slice may cost, some 10 ms
_BACKLOG_US: Final = 1_000_000
_UNTRADED_EVERY: Final = 7  # one contract in seven has no trade yet when the market opens
_SIZES: Final = tuple((size, format_size(size)) for size in [*range(100, 3_100, 100), 1, 7, 25, 40, 50, 5_000, 12_500])


class Contract:
    """One contract's quotes, trades and day statistics; prices are whole numbers of ticks."""

    def __init__(self, listing: Listing, *, rng: random.Random, traded: bool) -> None:
        self.instrument: Instrument = listing.instrument
        self._decimals = listing.decimals
        self._unit: float = listing.tick / 10**listing.decimals
        self._rng = rng
        self._prices: dict[int, str] = {}
        self._lasts: dict[int, str] = {}
        self._home = round(listing.price / self._unit)
        self._reach = max(20, self._home // 8)
        self._prior = self._home + rng.randint(-self._reach // 8, self._reach // 8)
        self._bid = self._home
        self._ask = self._home + rng.randint(1, 3)
        self._bid_size = rng.choice(_SIZES)[1]
        self._ask_size = rng.choice(_SIZES)[1]
        self._last: int | None = None
        self._last_size = ""
        self._open = self._high = self._low = 0
        self._volume = 0
        self._short = ""
        if traded:
            self._volume = rng.randint(5_000, 40_000_000)
            self._trade()
            self._open += rng.randint(-20, 20)
            self._high = max(self._open, self._high) + rng.randint(0, 20)
            self._low = min(self._open, self._low) - rng.randint(0, 20)

    @property
    def price(self) -> float:
        """The last trade, or the prior close before the first, as a number."""
        return self._number(self._prior if self._last is None else self._last)

    @property
    def prior_close(self) -> float:
        """Yesterday's close."""
        return self._number(self._prior)

    @property
    def unit(self) -> float:
        """One tick."""
        return self._unit

    @property
    def quote(self) -> tuple[int, int, int | None]:
        """The bid, the ask and the last trade, None before the first, in ticks."""
        return self._bid, self._ask, self._last

    @property
    def last_size(self) -> str:
        """The size of the last trade as it is written; empty before the first."""
        return self._last_size

    def text(self, ticks: int) -> str:
        """Write a price."""
        return self._price(ticks)

    def price_text(self, ticks_from_last: int = 0) -> str:
        """Write a price near the last one."""
        return self._price((self._prior if self._last is None else self._last) + ticks_from_last)

    def step(self) -> str:
        """Let one thing happen; give the changed fields as the inside of a JSON object."""
        chance = self._rng.random()
        if chance < 0.30:  # noqa: PLR2004  shares of a busy stock's frames, by eye
            return self._trade()
        if chance < 0.50:  # noqa: PLR2004
            self._bid_size = self._other_size(self._bid_size)
            return f'"88":"{self._bid_size}"'
        if chance < 0.70:  # noqa: PLR2004
            self._ask_size = self._other_size(self._ask_size)
            return f'"85":"{self._ask_size}"'
        return self._quote()

    def everything(self) -> str:
        """Give every field that has a value, in the order of the frames seen in captures."""
        one = self.instrument
        trades = f'"31":"C{self._price(self._prior)}"'
        day = ""
        if self._last is not None:
            trades = self._last_fields(self._last)
            day = (
                f'"7059":"{self._last_size}",{self._short_fields()},"7762":"{self._volume}",'
                f'"70":"{self._price(self._high)}","71":"{self._price(self._low)}","7295":"{self._price(self._open)}",'
            )
        return (
            f'"6509":"RpB","6508":"&serviceID1=122&serviceID2=123","55":"{one.symbol}",{trades},'
            f'"84":"{self._price(self._bid)}","86":"{self._price(self._ask)}",'
            f'"85":"{self._ask_size}","88":"{self._bid_size}",{day}'
            f'"7296":"{self._price(self._prior)}","7741":"{self._price(self._prior)}",'
            f'"7051":"{one.company}","6070":"{one.security_type}","7221":"{one.listing_exchange}"'
        )

    def _quote(self) -> str:
        rng = self._rng
        up = rng.random() < 0.5 - 0.5 * (self._bid - self._home) / self._reach
        before = self._bid, self._ask
        self._bid += 1 if up else -1
        self._ask = max(self._bid + 1, min(self._bid + 4, self._ask + (1 if up else -1) + int(rng.random() * 3) - 1))
        fields = [f'"84":"{self._price(self._bid)}"']  # the bid always moves
        if self._ask != before[1]:
            fields.append(f'"86":"{self._price(self._ask)}"')
            size = self._other_size(self._ask_size)
            fields.append(f'"85":"{size}"')
            self._ask_size = size
        self._bid_size = self._other_size(self._bid_size)
        fields.append(f'"88":"{self._bid_size}"')
        return ",".join(fields)

    def _trade(self) -> str:
        rng = self._rng
        number, size = _SIZES[int(rng.random() * len(_SIZES))]
        price = self._bid if rng.random() < 0.5 else self._ask  # noqa: PLR2004  a coin
        first = self._last is None
        fields = []
        if price != self._last:
            self._last = price
            fields.append(self._last_fields(price))
        if size != self._last_size:
            self._last_size = size
            fields.append(f'"7059":"{size}"')
        self._volume += number
        short = format_short(self._volume)
        if short != self._short:
            self._short = short
            fields.append(self._short_fields())
        fields.append(f'"7762":"{self._volume}"')
        if first:
            self._open = self._high = self._low = price
            text = self._price(price)
            fields.append(f'"70":"{text}","71":"{text}","7295":"{text}"')
        elif price > self._high:
            self._high = price
            fields.append(f'"70":"{self._price(price)}"')
        elif price < self._low:
            self._low = price
            fields.append(f'"71":"{self._price(price)}"')
        return ",".join(fields)

    def _other_size(self, size: str) -> str:
        """Draw a size that is not this one: a field is sent only when it changed."""
        while True:
            other = _SIZES[int(self._rng.random() * len(_SIZES))][1]
            if other != size:
                return other

    def _price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            text = self._prices[ticks] = format_price(ticks * self._unit, self._decimals)
        return text

    def _number(self, ticks: int) -> float:
        return round(ticks * self._unit, self._decimals)

    def _last_fields(self, ticks: int) -> str:
        text = self._lasts.get(ticks)
        if text is None:
            change = ticks - self._prior
            sign = "+" if change > 0 else "-" if change < 0 else ""
            percent = round(100 * change / self._prior, 2) or 0.0
            text = f'"31":"{self._price(ticks)}","82":"{sign}{self._price(abs(change))}","83":{percent}'
            self._lasts[ticks] = text
        return text

    def _short_fields(self) -> str:
        return f'"87":"{self._short}","87_raw":{java_double(parse_number(self._short) or 0.0)}'


class _Line:
    """One stream of a contract: what stands around the changed fields in each of its frames."""

    def __init__(self, contract: Contract, *, target: str, marker: str) -> None:
        self.contract = contract
        self.stream = f"smd+{target}"
        conid = contract.instrument.conid
        self.head = f'{{"server_id":"{marker}","conidEx":"{target}","conid":{conid},"_updated":'
        self.middle = f',"6119":"{marker}",'
        self.tail = f',"topic":"{self.stream}"}}'

    def frame(self, moment_ms: int, fields: str) -> bytes:
        return f"{self.head}{moment_ms}{self.middle}{fields}{self.tail}".encode()


class Market:
    """All contracts, and the schedule: `rate` frames a second over the streams that are wanted."""

    def __init__(self, *, seed: int = 0, contracts: int = 100, rate: float = 100.0) -> None:
        self.rate = rate
        self._rng = random.Random(seed)
        self.contracts: dict[int, Contract] = {}
        for index, listing in enumerate(listings(contracts)):
            traded = index % _UNTRADED_EVERY != _UNTRADED_EVERY - 1
            self.contracts[listing.instrument.conid] = Contract(listing, rng=self._rng, traded=traded)
        self._lines: dict[str, _Line] = {}
        self._turns: list[_Line] = []
        self._markers = 11
        self._anchor: int | None = None  # when the schedule began
        self._given = 0  # frames given since then

    def want(self, streams: Collection[str]) -> None:
        """Serve these streams of `smd` from now on, and no others; unknown contracts are passed over."""
        for gone in self._lines.keys() - set(streams):
            del self._lines[gone]
        for stream in streams:
            self._line(stream)
        self._turns = list(self._lines.values())
        self._anchor = self._anchor if self._turns else None

    def snapshot(self, stream: str, now: int) -> bytes | None:
        """Give a full frame, or None for a contract that is not offered."""
        line = self._line(stream)
        return line.frame(now // 1000, line.contract.everything()) if line else None

    def advance(self, now: int) -> list[Update]:
        """Give the frames due by now, at most one slice of them."""
        if not self._turns or self.rate <= 0:
            return []
        if self._anchor is None or now < self._anchor:
            self._anchor, self._given = now, 0
        anchor, rate, given = self._anchor, self.rate, self._given
        behind = int((now - anchor) * rate / 1_000_000) - given
        if behind > max(_SLICE_FRAMES, rate * _BACKLOG_US / 1_000_000):
            # Faster than this machine can go, or a pause of the whole process: what was not, was not.
            self._anchor, self._given = now, 0
            return []
        count = min(behind, _SLICE_FRAMES)
        step_ms = 1_000 / rate
        first_ms = anchor / 1_000 + given * step_ms
        draw, turns, width = self._rng.random, self._turns, len(self._turns)
        updates = []
        for index in range(count):
            line = turns[int(draw() * width)]
            moment = int(first_ms + index * step_ms)
            updates.append(Update(line.stream, line.frame(moment, line.contract.step())))
        self._given = given + count
        return updates

    def next_due(self, now: int) -> int | None:
        """When to call `advance` again; not later than now if a whole slice is behind already."""
        if not self._turns or self.rate <= 0:
            return None
        if self._anchor is None:
            return now
        due = self._anchor + int((self._given + 1) * 1_000_000 / self.rate)
        return now if due <= now else max(due, now + SLICE_US)

    def _line(self, stream: str) -> _Line | None:
        line = self._lines.get(stream)
        topic, _, target = stream.partition("+")
        conid = target.partition("@")[0]
        if line is None and topic == "smd" and conid.isdecimal() and int(conid) in self.contracts:
            self._markers += 1  # a request marker, new for each request (seen in captures)
            line = _Line(self.contracts[int(conid)], target=target, marker=f"q{self._markers}")
            self._lines[stream] = line
        return line


def java_double(number: float) -> str:
    """Write a number as the broker's Java does: `2.42E7` from ten million on."""
    if abs(number) < 1e7:  # noqa: PLR2004  Double.toString changes its form there
        return repr(float(number))
    digits, exponent = f"{number:.15e}".split("e")
    digits = digits.rstrip("0")
    return f"{digits}{'0' if digits.endswith('.') else ''}E{int(exponent)}"
