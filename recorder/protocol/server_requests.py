"""What a client can ask for over the socket, and how it says which session it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

import msgspec

STARTS: Final = frozenset({"smd", "smh", "sbd", "sor", "str", "spl", "ssd", "sld"})
STOPS: Final[Mapping[str, str]] = {f"u{start[1:]}": start for start in STARTS}
SILENT: Final = frozenset({"shs", "inp"})  # option exercise: known to the broker, never served here
TARGETED: Final = frozenset({"smd", "smh", "sbd", "ssd", "sld"})
WITHOUT_BROKERAGE: Final = frozenset({"spl", "ssd", "sld", "tic", "ech"})  # flow without a brokerage session (Campus)

_REQUEST = re.compile(r"(?P<verb>[A-Za-z]+)\+?(?P<target>[^{]*?)\+?(?P<params>\{.*\})?", re.DOTALL)
_CONTRACT = re.compile(r"-?\d[^\s{}+]*")
_COOKIE = re.compile(r"(?:^|;)\s*api=([^;]*)")
_TOKEN = re.compile(r"[\W_]*(?:session)?[\W_]*([0-9A-Za-z]+)[\W_]*")

_json = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `smd+265598+{"fields":["31"]}` has the verb `smd`, the target `265598` and one parameter."""

    verb: str
    target: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        """The stream that is to begin or to end; one of bars has its parameters in its name, since they make it."""
        topic = STOPS.get(self.verb, self.verb)
        name = f"{topic}+{self.target}" if self.target else topic
        return f"{name}+{msgspec.json.encode(self.params).decode()}" if self.verb == "smh" else name

    @property
    def fields(self) -> list[str] | None:
        """The fields asked for; None: no word about them, which is taken as all (the document calls them optional)."""
        fields = self.params.get("fields") if self.verb == "smd" else None
        return None if fields is None else [str(field) for field in fields]

    @property
    def well_formed(self) -> bool:
        """Whether the broker would understand it."""
        if self.verb not in STARTS:
            return True
        if bool(self.target) != (self.verb in TARGETED):
            return False
        if self.verb in ("smd", "smh") and not _CONTRACT.fullmatch(self.target):
            return False
        return self.verb != "smd" or isinstance(self.params.get("fields", []), list)


def server_id(stream: str) -> str:
    """Name a request of bars as its answer does: five digits, the same for the same stream."""
    return str(10_000 + crc32(stream.encode()) % 90_000)


def cookie_session(cookie: str | None) -> str | None:
    """Find the session in a `Cookie` header: `api=<hex>` or `api={"session":"<hex>"}`, both seen in the documents."""
    found = _COOKIE.search(cookie or "")
    token = _TOKEN.fullmatch(found[1]) if found else None
    return token[1] if token else None


def parsed(text: str) -> Request | None:
    """Read a request; None for what is malformed, which the broker passes over in silence."""
    found = _REQUEST.fullmatch(text.strip())
    if found is None:
        return None
    try:
        params = _json(found["params"] or "{}")
    except msgspec.DecodeError:
        return None
    request = Request(found["verb"], found["target"], params)
    return request if request.well_formed else None
