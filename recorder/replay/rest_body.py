"""The bodies of REST calls: JSON, read from a request and put into an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web


async def read_object(request: web.Request) -> Mapping[str, Any]:
    """Read a request's JSON object; what is none counts as empty."""
    try:
        body = msgspec.json.decode(await request.read())
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def answer(content: object, *, status: int = 200) -> web.Response:
    """Answer with JSON."""
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
