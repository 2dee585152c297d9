"""Fewer fields of a market-data frame: what a client gets that asked for some."""

from __future__ import annotations

from typing import Final

import msgspec

ALWAYS: Final = frozenset({"topic", "conid", "conidEx", "_updated", "server_id", "6119", "6508", "6509"})

_projection = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def allowed_keys(fields: list[str]) -> frozenset[str]:
    """Give the keys of a frame for these fields: they, their `_raw` companions, and what comes without being asked."""
    return frozenset(fields) | {f"{name}_raw" for name in fields} | ALWAYS


def narrowed(data: bytes, keys: frozenset[str] | None, *, full: bool = False) -> bytes | None:
    """Leave only these keys in a frame; None if nothing but its envelope is left of it, unless it is a full one.

    A frame that has nothing else stays as it is, to the byte; in others every value keeps its writing.
    """
    if keys is None:
        return data
    whole = _projection(data)
    if keys.issuperset(whole):
        return data
    part = {key: value for key, value in whole.items() if key in keys}
    return msgspec.json.encode(part) if full or not ALWAYS.issuperset(part) else None
