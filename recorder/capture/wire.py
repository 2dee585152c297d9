"""The wire: a `websockets` connection that hands each frame over the moment it is parsed."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidURI
from websockets.frames import Frame, Opcode

from recorder.errors import GatewayAway, GatewayError
from recorder.protocol.segment import IN_BINARY, IN_TEXT

Sink = Callable[[bytes, int], None]
"""Takes a message as bytes, and its code (`segment.IN_TEXT` or `segment.IN_BINARY`)."""

_CLOSE_TIMEOUT: Final = 10.0
_quiet_log: Final = logging.getLogger(f"{__name__}.websockets")
_quiet_log.setLevel(logging.INFO)  # the library's debug lines show cookies and frames, and thereby tokens
_TEXT, _BINARY, _CONTINUED = Opcode.TEXT, Opcode.BINARY, Opcode.CONT


class Wire(ClientConnection):
    """A connection whose data frames go straight to `sink`, without the library's queue.

    The queue would pause reading by itself, and its text path checks for UTF-8, which the broker's text frames are not
    always (seen by users). Control frames are the library's business, as ever.
    """

    def __init__(self, *args: Any, sink: Sink, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink = sink
        self._parts: list[bytes] = []
        self._code = IN_TEXT

    def process_event(self, event: Any) -> None:
        """Hand a data frame over, joined if it came in fragments."""
        opcode = event.opcode if type(event) is Frame else None
        if opcode is _TEXT or opcode is _BINARY:
            code = IN_TEXT if opcode is _TEXT else IN_BINARY
            if event.fin:
                self._sink(bytes(event.data), code)
            else:
                self._code, self._parts = code, [bytes(event.data)]
        elif opcode is _CONTINUED:
            self._parts.append(bytes(event.data))
            if event.fin:
                data, self._parts = b"".join(self._parts), []
                self._sink(data, self._code)
        else:
            super().process_event(event)

    def pause(self) -> None:
        """Stop reading; the kernel's buffers, then the gateway, hold what comes."""
        self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.transport.resume_reading()


async def open_wire(base_url: str, *, sink: Sink, cookies: Mapping[str, str], tls: ssl.SSLContext | None) -> Wire:
    """Open the WebSocket of a gateway's base URL; `GatewayError` if it is refused, `GatewayAway` if nobody answers."""
    address = urlsplit(base_url)
    scheme = "wss" if address.scheme == "https" else "ws"
    url = urlunsplit((scheme, address.netloc, f"{address.path.rstrip('/')}/ws", "", ""))
    try:
        connection = await connect(
            url,
            create_connection=partial(Wire, sink=sink),  # type: ignore[arg-type]  # it is called, never subclassed
            additional_headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())},
            user_agent_header="ibkr-recorder",
            logger=_quiet_log,
            ssl=tls,
            proxy=None,
            compression=None,
            max_size=None,
            ping_interval=None,
            open_timeout=15,
            close_timeout=_CLOSE_TIMEOUT,
        )
    except (OSError, TimeoutError) as exc:
        raise GatewayAway(f"the gateway's WebSocket at {url} does not open: {exc}") from exc
    except (InvalidHandshake, InvalidMessage, InvalidURI) as exc:
        raise GatewayError(f"the gateway's WebSocket at {url} does not open: {exc}") from exc
    assert isinstance(connection, Wire), "it was made by our factory"
    return connection
