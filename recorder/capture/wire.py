"""The wire: a `websockets` connection that stamps and hands over frames the moment they are read."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from recorder.errors import GatewayAway, GatewayError
from recorder.protocol.segment import IN_BINARY, IN_TEXT
from recorder.protocol.socket_frames import Stamped, frame_end, plain_frames

Sink = Callable[[list[Stamped]], None]
"""Takes the messages of one read, in order."""
Clock = Callable[[], int]
"""Gives the receive stamp: microseconds since the epoch."""

_CLOSE_TIMEOUT: Final = 10.0
_quiet_log: Final = logging.getLogger(f"{__name__}.websockets")
_quiet_log.setLevel(logging.INFO)  # the library's debug lines show cookies and frames, and thereby tokens
_TEXT, _BINARY, _CONTINUED = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
_READ: Final = 65_536
_HANDSHAKE_ENDS: Final = b"\r\n\r\n"


class Wire(ClientConnection, asyncio.BufferedProtocol):
    """A connection whose whole messages go straight from the socket's bytes to `sink`, stamped when they were read.

    1. Plain frames are cut here, many at a time; the library parses one in 3 us, and checks text for UTF-8, which the
       broker's is not always (seen by users). All else (the handshake, control frames, fragments, what is against the
       protocol) goes to the library, in order and in whole frames.
    2. It reads into a buffer of its own: asyncio makes and frees a quarter of a megabyte for each read, which doubles
       the cost of a lone frame.
    """

    def __init__(self, *args: Any, sink: Sink, clock: Clock, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink = sink
        self._clock = clock
        self._parts: list[bytes] = []
        self._code = IN_TEXT
        self._buffer = memoryview(bytearray(_READ))
        self._filled = 0
        self._wanted = 1  # bytes that the buffer must hold before there is anything to do
        self._opening = True
        self._refused = False

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's hint is always the same
        """Say where the next read goes."""
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._filled += nbytes
        if self._filled < min(self._wanted, len(self._buffer)):
            return
        ts_recv, data = self._clock(), bytes(self._buffer[: self._filled])
        at = self._open(data) if self._opening else 0
        if not self._opening:
            at = self._take(data, at, ts_recv)
        self._keep(data[at:])

    def eof_received(self) -> None:
        """Let the library see what was left of a frame: it says how a connection ended."""
        if self._filled:
            self.data_received(bytes(self._buffer[: self._filled]))
            self._filled = 0
        super().eof_received()

    def process_event(self, event: Any) -> None:
        """Take a data frame from the library, which came in fragments."""
        opcode = event.opcode if type(event) is Frame else None
        if opcode is _TEXT or opcode is _BINARY:
            self._code, self._parts = IN_TEXT if opcode is _TEXT else IN_BINARY, [bytes(event.data)]
        elif opcode is _CONTINUED:
            self._parts.append(bytes(event.data))
        else:
            super().process_event(event)
            return
        if event.fin:
            data, self._parts = b"".join(self._parts), []
            self._sink([(self._clock(), self._code, data)])

    def pause(self) -> None:
        """Stop reading; the kernel's buffers, then the gateway, hold what comes."""
        self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.transport.resume_reading()

    def _open(self, data: bytes) -> int:
        """Let the library read the answer to the handshake, once it is whole: frames may follow it at once."""
        end = data.find(_HANDSHAKE_ENDS) + len(_HANDSHAKE_ENDS)
        if end < len(_HANDSHAKE_ENDS):
            if len(data) < _READ:
                return 0
            end = len(data)  # no answer is that long
        self.data_received(data[:end])
        self._opening, self._refused = False, self.protocol.state is not State.OPEN
        return end

    def _take(self, data: bytes, at: int, ts_recv: int) -> int:
        """Hand over all that is whole; give the place behind it."""
        while not self._refused:
            frames, at = plain_frames(data, at, ts_recv)
            if frames:
                self._sink(frames)
            end = frame_end(data, at)
            self._wanted = 1 if end is None else end - at
            if end is None or end > len(data):
                return at
            self.data_received(data[at:end])
            at = end
        self.data_received(data[at:])
        return len(data)

    def _keep(self, rest: bytes) -> None:
        """Keep what is not whole yet for the next read, with room behind it."""
        if not 2 * len(rest) <= len(self._buffer) <= max(_READ, 4 * len(rest)):
            self._buffer = memoryview(bytearray(max(_READ, 3 * len(rest))))
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)


async def open_wire(
    base_url: str, *, sink: Sink, clock: Clock, cookies: Mapping[str, str], tls: ssl.SSLContext | None
) -> Wire:
    """Open the WebSocket of a gateway's base URL; `GatewayError` if it is refused, `GatewayAway` if nobody answers."""
    address = urlsplit(base_url)
    scheme = "wss" if address.scheme == "https" else "ws"
    url = urlunsplit((scheme, address.netloc, f"{address.path.rstrip('/')}/ws", "", ""))
    try:
        connection = await connect(
            url,
            create_connection=partial(Wire, sink=sink, clock=clock),  # type: ignore[arg-type]  # it is called, never subclassed
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
