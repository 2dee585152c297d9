"""Export: a contract's quotes as other programs' backtests take them.

1. What is exported is the top of book as the broker conflated it. There is no depth, no order's place in a queue and no
   print of every trade in it, so none is made up: no trade events, no levels behind the best.
2. A quote needs both sides with prices and sizes. Rows without are left out, and counted.
3. Nothing stands across a hole: in a hftbacktest array the book is emptied where a gap begins, until the next quote.
   Other formats have no such word; the gaps are written beside the quotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.gaps import GapRow, read_gaps
from recorder.archive.reading import Reader
from recorder.errors import UsageError
from recorder.research.quotes import BOOK, Source, load_stream

EVENT: Final = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ],
    align=True,
)
"""A hftbacktest event (its `event_dtype`, version 2): times in nanoseconds since the Unix epoch."""
_DEPTH, _BUY, _SELL, _BOTH = 1, 1 << 29, 1 << 28, 1 << 31 | 1 << 30
_NAUTILUS_DECIMALS: Final = 16
_DECIMALS: Final = 9
"""More decimals than any price has; what still differs there is how floats are kept."""

Floats = npt.NDArray[np.float64]


class Quotes(NamedTuple):
    """A contract's quotes with both sides, in order: when they came and were sent (microseconds, never going back).

    `sent` is the broker's time, or that of receipt where it says none or a later one. `left_out` counts rows without
    both sides. `gaps` are the holes, and `breaks` the quotes that are the first behind one or of a session.
    """

    conid: int
    received: npt.NDArray[np.int64]
    sent: npt.NDArray[np.int64]
    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats
    left_out: int
    gaps: tuple[GapRow, ...]
    breaks: npt.NDArray[np.bool_]


def export_quotes(reader: Reader, source: Source) -> Quotes:
    """Read a contract's quotes; `UsageError` if it has none with both sides and sizes."""
    stream = load_stream(reader, source, (*BOOK, "ts_event"))
    bid, bid_size, ask, ask_size = (stream.columns[name] for name in BOOK)
    told = stream.inside(source.span) & (stream.first | stream.changed(*BOOK))
    whole = ~(np.isnan(bid) | np.isnan(ask)) & (bid_size > 0) & (ask_size > 0)  # a size that is not known is not > 0
    kept = np.flatnonzero(told & whole)
    if not len(kept):
        raise UsageError(
            f"{source.conid} has no quote with prices and sizes on both sides",
            hint="record bid_price, bid_size, ask_price and ask_size, or choose another time",
        )
    received = np.maximum.accumulate(stream.ts[kept])
    events = stream.columns["ts_event"][kept]
    sent = np.where(np.isnan(events), received, np.minimum(events, received)).astype(np.int64)
    gaps = [
        gap
        for gap in read_gaps(reader, topics=["market_data"], conids=[source.conid], span=source.span)
        if not gap.information and source.recorder in (None, gap.recorder)
    ]
    breaks = np.diff(stream.session[kept], prepend=-1) != 0
    behind = np.searchsorted(received, np.array([gap.end for gap in gaps if gap.end is not None], np.int64))
    breaks[behind[behind < len(breaks)]] = True
    return Quotes(
        source.conid,
        received,
        np.maximum.accumulate(sent),
        bid[kept],
        bid_size[kept],
        ask[kept],
        ask_size[kept],
        int((told & ~whole).sum()),
        tuple(gaps),
        breaks,
    )


def hftbacktest_events(quotes: Quotes) -> npt.NDArray[np.void]:
    """Make a hftbacktest array: of each quote, the old level if it is gone (quantity 0), then the new one, by sides.

    The book is emptied where a gap begins. Save it as `np.savez(path, data=…)`.
    """
    count = len(quotes.received)
    events = np.zeros((count, 4), EVENT)
    kept = np.ones((count, 4), np.bool_)
    sides = ((_BUY, quotes.bid, quotes.bid_size, 0), (_SELL, quotes.ask, quotes.ask_size, 2))
    for side, price, size, place in sides:
        before = np.append(price[:1], price[:-1])
        gone, new = events[:, place], events[:, place + 1]
        gone["ev"], gone["px"] = _DEPTH | side | _BOTH, before
        new["ev"], new["px"], new["qty"] = _DEPTH | side | _BOTH, price, size
        kept[:, place] = price != before
    events["exch_ts"] = quotes.sent[:, None] * 1000
    events["local_ts"] = quotes.received[:, None] * 1000
    both = np.concatenate([events[kept], _emptied(quotes)])
    in_order: npt.NDArray[np.void] = both[np.argsort(both["local_ts"], kind="stable")]
    in_order["exch_ts"] = np.minimum(np.maximum.accumulate(in_order["exch_ts"]), in_order["local_ts"])
    return in_order


def _emptied(quotes: Quotes) -> npt.NDArray[np.void]:
    """Take away the quote that stands where a gap begins."""
    starts = np.array([gap.start for gap in quotes.gaps], np.int64)
    standing = np.searchsorted(quotes.received, starts, side="right") - 1
    starts, standing = starts[standing >= 0], standing[standing >= 0]
    events = np.zeros((len(starts), 2), EVENT)
    for place, (side, price) in enumerate(((_BUY, quotes.bid), (_SELL, quotes.ask))):
        events["ev"][:, place], events["px"][:, place] = _DEPTH | side | _BOTH, price[standing]
    events["exch_ts"] = events["local_ts"] = starts[:, None] * 1000
    emptied: npt.NDArray[np.void] = events.reshape(-1)
    return emptied


def nautilus_table(quotes: Quotes, instrument_id: str) -> pa.Table:
    """Make a NautilusTrader `QuoteTick` table, as its Parquet catalog holds (high precision: 128 bits, 16 decimals).

    Precisions are the fewest decimals that hold every price and size. `ts_event` is the broker's time, `ts_init` ours,
    in nanoseconds. The catalog's folder is `data/quote_tick/<instrument id>/`; the instrument itself is yours to add.
    """
    prices, sizes = _decimals(quotes.bid, quotes.ask), _decimals(quotes.bid_size, quotes.ask_size)
    fixed = {
        "bid_price": _fixed(quotes.bid, prices),
        "ask_price": _fixed(quotes.ask, prices),
        "bid_size": _fixed(quotes.bid_size, sizes),
        "ask_size": _fixed(quotes.ask_size, sizes),
    }
    times = {"ts_event": quotes.sent * 1000, "ts_init": quotes.received * 1000}
    arrays = [*fixed.values(), *(pa.array(stamps.astype(np.uint64)) for stamps in times.values())]
    said = {"instrument_id": instrument_id, "price_precision": str(prices), "size_precision": str(sizes)}
    fields = [pa.field(name, array.type, nullable=False) for name, array in zip([*fixed, *times], arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, said))


def _decimals(*columns: Floats) -> int:
    values = np.unique(np.concatenate(columns))
    exact = (places for places in range(_DECIMALS) if (np.round(values, places) == np.round(values, _DECIMALS)).all())
    return next(exact, _DECIMALS)


def _fixed(values: Floats, decimals: int) -> pa.Array:
    """Write each as an integer of 128 bits, little-endian: its value times ten to the 16th, exact to the decimals."""
    distinct, places = np.unique(values, return_inverse=True)
    scale = 10 ** (_NAUTILUS_DECIMALS - decimals)
    words = [(round(value * 10**decimals) * scale).to_bytes(16, "little", signed=True) for value in distinct.tolist()]
    return pa.array(words, pa.binary(16)).take(pa.array(places))


def csv_table(quotes: Quotes) -> pa.Table:
    """Make a plain table of quotes: ts_recv and ts_event (UTC), bid, bid_size, ask, ask_size, after_break."""
    time = pa.timestamp("us", tz="UTC")
    columns: Sequence[tuple[str, pa.Array]] = [
        ("ts_recv", pa.array(quotes.received).cast(time)),
        ("ts_event", pa.array(quotes.sent).cast(time)),
        *((name, pa.array(getattr(quotes, name))) for name in ("bid", "bid_size", "ask", "ask_size")),
        ("after_break", pa.array(quotes.breaks)),
    ]
    return pa.table(dict(columns))
