"""Fewer fields of a market-data frame: what a client gets that asked for some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

ALWAYS: Final = frozenset({"topic", "conid", "conidEx", "_updated", "server_id", "6119", "6508", "6509"})

_projection = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_projections = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def allowed_keys(fields: list[str]) -> frozenset[str]:
    """Give the keys of a frame for these fields: they, their `_raw` companions, and what comes without being asked."""
    return frozenset(fields) | {f"{name}_raw" for name in fields} | ALWAYS


def objects_of(frames: Sequence[bytes]) -> list[dict[str, msgspec.Raw]]:
    """Read frames that are JSON objects, each value as it is written; one that is no object gives an empty one."""
    try:
        found = _projections(b"[" + b",".join(frames) + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = []
    return found if len(found) == len(frames) else [_object(data) for data in frames]


def keys_of(frames: Sequence[bytes]) -> frozenset[str] | None:
    """Give the keys that any of some frames has; None if one of them is no JSON object."""
    objects = objects_of(frames)
    return frozenset().union(*objects) if all(objects) else None


def _object(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _projection(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def narrowed(data: bytes, keys: frozenset[str] | None, *, full: bool = False) -> bytes | None:
    """Leave only these keys in a frame; None if nothing but its envelope is left of it, unless it is a full one.

    A frame that has nothing else stays as it is, to the byte; in others every value keeps its writing.
    """
    if keys is None:
        return data
    whole = _object(data)
    if keys.issuperset(whole):  # also of what is no object: it goes out as it came
        return data
    part = {key: value for key, value in whole.items() if key in keys}
    return msgspec.json.encode(part) if full or not ALWAYS.issuperset(part) else None
