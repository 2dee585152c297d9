"""Contracts: the names of contracts, joined to rows that know a conid only."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.reading import Reader, Span
from recorder.research.load import load_table

TOPIC: Final = "contracts"


def contract_symbols(reader: Reader) -> dict[int, str]:
    """Read the symbol of each contract that a capture looked up: the last one told, by conid."""
    table = load_table(reader, reader.topics[TOPIC], conids=None, span=Span(None, None), columns=["symbol"])
    pairs = zip(table["conid"].to_pylist(), table["symbol"].to_pylist(), strict=True)
    return {conid: symbol for conid, symbol in pairs if symbol is not None}


def with_symbols(table: pa.Table, symbols: dict[int, str]) -> pa.Table:
    """Add `symbol` behind `conid`, null for a contract that was not looked up.

    Where the table has a `symbol` of its own, that stays, and only its nulls are filled.
    """
    known = pa.array(list(symbols), pa.int64())
    names = pa.array(list(symbols.values()), pa.string())
    column = pa.chunked_array([names.take(pc.index_in(table["conid"].combine_chunks(), known))])
    if "symbol" in table.column_names:
        own = table["symbol"].cast(pa.string())
        return table.set_column(table.column_names.index("symbol"), "symbol", pc.coalesce(own, column))
    return table.add_column(table.column_names.index("conid") + 1, "symbol", column)
