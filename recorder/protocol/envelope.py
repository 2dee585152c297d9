"""The outside of a frame: which wire topic it carries."""

from __future__ import annotations

import re

import msgspec

_NOT_JSON = re.compile(r"[a-z]{3,}(?=\+|\Z)")


class _Envelope(msgspec.Struct):
    topic: str | None = None


_decode = msgspec.json.Decoder(_Envelope).decode


def wire_topic(data: bytes) -> str | None:
    """Find the wire topic of a frame as sent, `smd+265598`; None if it has none.

    What is no JSON is looked at as `bare_topic` says.
    """
    try:
        return _decode(data).topic
    except msgspec.ValidationError:
        return None  # JSON, but not an object with a topic of text
    except msgspec.DecodeError:
        pass
    except UnicodeDecodeError:
        return wire_topic(data.decode("utf-8", "replace").encode())
    return bare_topic(data.decode("utf-8", "replace"))


def bare_topic(text: str) -> str | None:
    """Find the wire topic of a frame that is not JSON, `ech+hb`: it names it by how it begins."""
    return text if _NOT_JSON.match(text) else None
