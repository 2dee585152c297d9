"""A WebSocket client that costs little: it logs in and subscribes as any client, then finds where each frame ends.

It reads the length in every header and decodes nothing; what came is kept as it came. When all are there, and the time
was taken, the frames are walked again and their payloads digested (`content_digest`), so that what was counted can be
compared with what is recorded.
"""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from recorder.protocol.digest import ContentDigest

WELCOME = 3  # `system`, `act` and `sts` come before anything that was asked for
_AT_ONCE = 1 << 18
_TEXT = 0x81  # a whole frame of text; with the other opcodes nothing is recorded here


class Taken(NamedTuple):
    """What came: how many messages after the first read and in which time, and the content digest of all payloads."""

    messages: int
    seconds: float
    digest: str


def take(port: int, token: str, streams: Sequence[str], count: int, *, meet: Callable[[], object]) -> Taken:
    """Take so many messages of some streams; `meet` is called before they are asked for.

    `ConnectionError` if the server ends before.
    """
    with socket.create_connection(("127.0.0.1", port)) as server:
        rest = _hands_shaken(server, token)
        for _ in range(WELCOME if streams else 0):
            while not (ends := frame_ends(rest)):
                rest += _read(server)
            rest = rest[ends[0] :]
        meet()
        for stream in streams:
            server.sendall(_masked(f"{stream}+{{}}".encode()))
        chunks = [rest or _read(server)]
        begin = time.perf_counter()
        ends = frame_ends(chunks[0])
        first = seen = len(ends)
        part = chunks[0][ends[-1] :] if ends else chunks[0]
        while seen < count:
            chunks.append(_read(server))
            part += chunks[-1]
            ends = frame_ends(part)
            seen += len(ends)
            part = part[ends[-1] :] if ends else part
        seconds = time.perf_counter() - begin
    if seen != count or part:
        raise ConnectionError(f"{seen} messages and {len(part)} bytes came, and not {count} messages")
    return Taken(count - first, seconds, content_digest(b"".join(chunks)))


def frame_ends(data: bytes) -> list[int]:
    """Find where each whole frame ends (RFC 6455, 5.2), of a server: not masked."""
    ends, place, size = [], 0, len(data)
    while place + 2 <= size:
        length = data[place + 1]
        if length < 126:
            place += 2 + length
        elif length == 126:
            if place + 4 > size:
                break
            place += 4 + (data[place + 2] << 8 | data[place + 3])
        else:
            if place + 10 > size:
                break
            place += 10 + int.from_bytes(data[place + 2 : place + 10], "big")
        if place > size:
            break
        ends.append(place)
    return ends


def content_digest(data: bytes) -> str:
    """Digest the payloads of whole frames of market data."""
    digest = ContentDigest("market_data")
    digest.extend(list(_payloads(data)))
    return digest.hexdigest()


def _payloads(data: bytes) -> Iterator[bytes]:
    begin = 0
    for end in frame_ends(data):
        if data[begin] != _TEXT:
            raise ConnectionError(f"a frame begins with {data[begin]:#x}")
        length = data[begin + 1]
        yield data[begin + (2 if length < 126 else 4 if length == 126 else 10) : end]
        begin = end


def _hands_shaken(server: socket.socket, token: str) -> bytes:
    """Ask for a WebSocket; give what came behind the answer."""
    key = base64.b64encode(os.urandom(16)).decode()
    server.sendall(
        f"GET /v1/api/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nCookie: api={token}\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _read(server)
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(f"no WebSocket: {head[:80]!r}")
    return rest


def _read(server: socket.socket) -> bytes:
    data = server.recv(_AT_ONCE)
    if not data:
        raise ConnectionError("the server has ended the connection")
    return data


def _masked(text: bytes) -> bytes:
    """Put a short text into a frame as a client writes it, with a mask of zeros."""
    return bytes((_TEXT, 0x80 | len(text), 0, 0, 0, 0)) + text
