"""The contracts of the synthetic market: well-known ones with their conids, then made-up ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recorder.replay.feed import Instrument

FIRST_MADE_UP: Final = 700_000_019
_STRIDE: Final = 1_009


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument, where its price starts, and its tick: `tick` units of the last of `decimals` places."""

    instrument: Instrument
    price: float
    decimals: int = 2
    tick: int = 1


_STOCKS: Final = """
265598 AAPL 189.52 NASDAQ.NMS APPLE INC
8314 IBM 171.30 NYSE INTL BUSINESS MACHINES CORP
272093 MSFT 415.10 NASDAQ.NMS MICROSOFT CORP
76792991 TSLA 244.85 NASDAQ.NMS TESLA INC
3691937 AMZN 183.40 NASDAQ.NMS AMAZON.COM INC
208813719 GOOGL 165.20 NASDAQ.NMS ALPHABET INC-CL A
107113386 META 502.60 NASDAQ.NMS META PLATFORMS INC-CLASS A
4815747 NVDA 121.75 NASDAQ.NMS NVIDIA CORP
270639 INTC 31.05 NASDAQ.NMS INTEL CORP
4391 AMD 158.90 NASDAQ.NMS ADVANCED MICRO DEVICES
15124833 NFLX 645.30 NASDAQ.NMS NETFLIX INC
1520593 JPM 204.15 NYSE JPMORGAN CHASE & CO
13977 XOM 114.60 NYSE EXXON MOBIL CORP
8894 KO 63.45 NYSE COCA-COLA CO/THE
6459 DIS 101.20 NYSE WALT DISNEY CO/THE
756733 SPY 545.80 ARCA SPDR S&P 500 ETF TRUST
320227571 QQQ 478.35 NASDAQ.NMS INVESCO QQQ TRUST SERIES 1
""".strip()


def listings(count: int) -> list[Listing]:
    """Give the first `count` contracts of the catalogue, always the same ones."""
    known = [_stock(line) for line in _STOCKS.splitlines()]
    currency = Instrument(
        conid=12087792, symbol="EUR", company="European Monetary Union Euro", listing_exchange="IDEALPRO",
        security_type="CASH",
    )  # fmt: skip
    known.insert(4, Listing(currency, 1.0842, decimals=5, tick=5))
    made_up = [_made_up(index) for index in range(max(0, count - len(known)))]
    return (known + made_up)[:count]


def _stock(line: str) -> Listing:
    conid, symbol, price, exchange, company = line.split(" ", 4)
    instrument = Instrument(conid=int(conid), symbol=symbol, company=company, listing_exchange=exchange)
    return Listing(instrument, float(price))


def _made_up(index: int) -> Listing:
    letters = "".join(chr(ord("A") + index // 26**place % 26) for place in (2, 1, 0))
    instrument = Instrument(
        conid=FIRST_MADE_UP + index * _STRIDE,
        symbol=f"Z{letters}",
        company=f"ZETA {letters} HOLDINGS INC",
        listing_exchange=("NYSE", "NASDAQ.NMS")[index % 2],
    )
    price = 4.0 + (index * 37) % 391  # from a few dollars to a few hundred
    return Listing(instrument, price, tick=5 if index % 10 == 0 else 1)
