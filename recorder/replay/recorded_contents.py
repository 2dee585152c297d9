"""What a recording holds: its span, accounts and contracts, and what was known at a moment of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from recorder.archive.pieces import frame_batches, list_pieces
from recorder.archive.reading import Reader, Span
from recorder.errors import ReplayError
from recorder.replay.feed import Instrument
from recorder.replay.recorded_slices import loaded
from recorder.replay.recorded_state import RecordedState

_ACCOUNT: Final = "DU1000001"  # where the recording names none
_FOREVER: Final = 2**63 - 1
_NAMES: Final = {"symbol": "symbol", "7051": "company", "6070": "security_type", "7221": "listing_exchange"}
_TOLD: Final = {
    "ticker": "symbol",
    "name": "company",
    "assetClass": "security_type",
    "listingExchange": "listing_exchange",
    "currency": "currency",
}


class Known(NamedTuple):
    """What was known at a moment, of the session that ran then; and whether it had a brokerage session."""

    state: RecordedState
    session: str
    authenticated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is to be served. `begin` is where the clock begins, `end` where the recording does (microseconds)."""

    recorder: str
    span: Span
    begin: int
    end: int
    accounts: Sequence[str]
    instruments: Mapping[int, Instrument]

    def known_at(self, reader: Reader, moment: int) -> Known:
        """Fold what the session that ran at a moment had received before it."""
        state, session, authenticated = RecordedState(), "", True
        before = Span(reader.sessions_start(moment), moment)
        if before.start is None or before.start >= moment:
            return Known(state, session, authenticated)
        for one in loaded(reader, self.recorder, before):
            if one.session != session:
                session, authenticated = one.session, True
                state.clear()
            state.take(one, 0, len(one.latest))
            for happening in one.happenings:
                if happening.what in ("lost", "regained"):
                    authenticated = happening.what == "regained"
        return Known(state, session, authenticated)


def contents_of(reader: Reader, *, span: Span, recorder: str | None = None) -> Contents:
    """Look what there is to serve; a `ReplayError` if there is nothing, or several recorders to choose from."""
    recorders = reader.recorders()
    if not recorders:
        raise ReplayError(f"nothing is recorded in {reader.layout.root}", hint="name another folder with --data")
    if recorder is None and len(recorders) > 1:
        names = ", ".join(recorders)
        raise ReplayError(
            f"several recorders have recorded here: {names}", hint="choose one: --recorder " + recorders[0]
        )
    chosen = recorders[0] if recorder is None else recorder
    if chosen not in recorders:
        raise ReplayError(f"no recorder {chosen!r} here", hint=f"use one of: {', '.join(recorders)}")
    begin, end = _bounds(reader, chosen, span)
    whole = Span(reader.sessions_start(begin), span.end)
    return Contents(
        recorder=chosen,
        span=span,
        begin=begin,
        end=end,
        accounts=_accounts(reader, chosen, whole),
        instruments=_instruments(reader, chosen, whole),
    )


def _bounds(reader: Reader, recorder: str, span: Span) -> tuple[int, int]:
    """Find when the first frame of a span came, and the last; of what is in the journal, by reading it."""
    first: int | None = None
    last = 0
    for piece in list_pieces(reader.layout)[recorder]:
        if not piece.touches(*span):
            continue
        if piece.commit is not None:
            low, high = piece.commit.ts_min, piece.commit.ts_max
            first, last = low if first is None else min(first, low), max(last, high)
    for piece_first, piece_last in _journal_bounds(reader, recorder, span):
        first, last = piece_first if first is None else min(first, piece_first), max(last, piece_last)
    if first is None:
        raise ReplayError("nothing was recorded in that time", hint="`recorder inspect` shows what there is")
    begin = first if span.start is None else max(first, span.start)
    return begin, last if span.end is None else min(last, span.end)


def _journal_bounds(reader: Reader, recorder: str, span: Span) -> list[tuple[int, int]]:
    segments = [piece for piece in list_pieces(reader.layout)[recorder] if piece.commit is None]
    stamps = [batch.ts_recv for piece in segments for batch in frame_batches(piece)]
    inside = [ts[(ts >= (span.start or 0)) & (ts < (span.end or _FOREVER))] for ts in stamps]
    return [(int(ts.min()), int(ts.max())) for ts in inside if len(ts)]


def _accounts(reader: Reader, recorder: str, span: Span) -> Sequence[str]:
    """Name the accounts: those that the broker told, else those that P&L or orders speak of."""
    for name, column in (("account_updates", "accounts"), ("pnl", "account"), ("orders", "acct")):
        if name not in reader.topics:
            continue
        found: dict[str, None] = {}
        for table in reader.tables(recorder, reader.topics[name], conids=None, span=span, columns=[column]):
            for text in table[column].unique().to_pylist():
                if text is not None:
                    found.update(dict.fromkeys(_listed(text) if column == "accounts" else [text]))
        if found:
            return tuple(found)
    return (_ACCOUNT,)


def _listed(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return []


def _instruments(reader: Reader, recorder: str, span: Span) -> Mapping[int, Instrument]:
    """List the contracts: by what the broker said when it was asked, else by what market data says of them.

    One that has no symbol there goes by its conid.
    """
    told = _told(reader, recorder, span)
    named = _named(reader, recorder, span)
    for conid, row in told.items():
        names = {name: str(row[key]) for key, name in _TOLD.items() if row.get(key)}
        named[conid] = named.get(conid, {}) | names
    return {
        conid: Instrument(
            conid=conid,
            told=told.get(conid, {}),
            **({"symbol": str(conid), "company": names.get("symbol", str(conid))} | names),
        )
        for conid, names in sorted(named.items())
        if conid
    }


def _told(reader: Reader, recorder: str, span: Span) -> dict[int, dict[str, object]]:
    """Read what `/trsrv/secdef` last said of each contract, by the broker's keys."""
    topic = reader.topics["contracts"]
    keys = {column.name: column.key for column in topic.columns}
    told: dict[int, dict[str, object]] = {}
    for table in reader.tables(recorder, topic, conids=None, span=span, columns=list(keys)):
        for row in table.select(["conid", *keys]).to_pylist():
            told[row["conid"]] = {key: row[name] for name, key in keys.items() if row[name] is not None}
            if row["strike"] is not None:
                told[row["conid"]]["strike"] = f"{row['strike']:g}"  # a text at the broker
    return told


def _named(reader: Reader, recorder: str, span: Span) -> dict[int, dict[str, str]]:
    """Read what market data says of contracts."""
    named: dict[int, dict[str, str]] = {}
    market = reader.topics["market_data"]
    for table in reader.tables(recorder, market, conids=None, span=span, columns=["symbol", "extra"]):
        rows = table.filter(table["symbol"].is_valid()).select(["conid", "symbol", "extra"])
        for conid in table["conid"].unique().to_pylist():
            named.setdefault(conid, {})
        for row in rows.to_pylist():
            rare = dict(row["extra"] or ())
            told_of = {_NAMES[key]: value for key, value in rare.items() if key in _NAMES and value}
            named[row["conid"]] |= {"symbol": row["symbol"], **told_of}
    return named
