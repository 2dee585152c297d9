"""The outside of a frame: whether it is JSON, and which wire topic it carries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

DEEPEST: Final = 250
"""Levels of lists and objects; what is nested deeper is read as no JSON, however deep the stack is just now."""
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_JSON: Final = re.compile(r"[a-z]{3,}(?=\+|\Z)")


class _Envelope(msgspec.Struct):
    topic: str | None = None


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode
_decode_json: Final = msgspec.json.Decoder().decode


class NotJson(str):
    """A frame that is not JSON, as text."""

    __slots__ = ()


def read_json(data: bytes) -> Any:
    """Read a frame's JSON; bytes that are not UTF-8 are replaced, and what is no JSON at all is given as `NotJson`."""
    try:
        value = _decode_json(data)
    except _UNREADABLE:
        text = data.decode("utf-8", "replace")
        try:
            value = _decode_json(text)
        except _UNREADABLE:
            return NotJson(text)
    if len(data) > 2 * DEEPEST and data.count(b"[") + data.count(b"{") > DEEPEST and _is_too_deep(value):
        return NotJson(data.decode("utf-8", "replace"))
    return value


def wire_topic(data: bytes) -> str | None:
    """Find the wire topic of a frame as sent, `smd+265598`; None if it has none.

    What is no JSON is looked at as `bare_topic` says.
    """
    try:
        return _decode_envelope(data).topic
    except _UNREADABLE:
        value = read_json(data)
    if type(value) is NotJson:
        return bare_topic(str(value))
    topic = value.get("topic") if type(value) is dict else None
    return topic if type(topic) is str else None


def bare_topic(text: str) -> str | None:
    """Find the wire topic of a frame that is not JSON, `ech+hb`: it names it by how it begins."""
    return text if _NOT_JSON.match(text) else None


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    return value.values() if type(value) is dict else value if type(value) is list else ()
