"""One client's socket at the emulated gateway: frames written in batches, counted, and held back for a slow reader.

Rules:

1. A frame counts as sent when it is handed to the transport, never before, and never once a close was begun.
2. All frames of one slice go out in one write.
3. The transport's buffer is the only queue. A client whose buffer is over the limit is behind. It gets no market data
   until half of it is read, then one full frame of each stream it missed something of: what a live market does.
   Where every frame must arrive, the gateway waits instead (see `Feed.lossless`).
4. What a fault withholds is counted and gone: it is not sent later.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Final, Literal

from aiohttp import web

from recorder.protocol.envelope import wire_topic
from recorder.protocol.projection import narrowed
from recorder.protocol.server_requests import STARTS
from recorder.protocol.server_session import Begin, End, Output, Reply, ServerSession
from recorder.replay.feed import Batch
from recorder.replay.tally import Tally

TEXT: Final = 0x81  # a whole frame of text, unmasked
BINARY: Final = 0x82

Parting = Literal["left", "lost", "closed", "aborted", "cut"]
"""How a connection ended: the client closed it or broke off; the gateway closed it, broke off, or within a frame."""

_NEVER_HELD: Final = 1 << 24
_LOOK_AGAIN_S: Final = 0.005
_SHORT: Final = 126
_MEDIUM: Final = 1 << 16
_pack_short = struct.Struct("!BB").pack
_pack_medium = struct.Struct("!BBH").pack
_pack_long = struct.Struct("!BBQ").pack


class Connection:
    """A client: its session, its socket and the tally of what it was sent.

    `snapshot` gives a full frame of a stream; `tally` is this client's, `total` that of all; `missed` counts updates
    that the client was too slow for, `withheld` frames that a fault kept from it. `hushed` names streams, or wire
    prefixes, of which nothing is sent just now; it is looked at, not copied.
    """

    def __init__(
        self,
        number: int,
        *,
        session: ServerSession,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        snapshot: Callable[[str], bytes | None],
        total: Tally,
        tally: Tally | None = None,
        hushed: Collection[str] = (),
        opcode: int = TEXT,
        buffer_limit: int = 1 << 22,
    ) -> None:
        self.number = number
        self.session = session
        self.tally = tally or Tally()
        self.missed = 0
        self.withheld = 0
        self.closing = False
        self.frozen = False
        self.parting: Parting | None = None
        self._hushed = hushed
        self._socket = socket
        self._transport = transport
        self._snapshot = snapshot
        self._total = total
        self._opcode = opcode
        self._limit = buffer_limit
        self._pending: list[tuple[str | None, bytes]] = []
        self._behind = False
        self._owed: dict[str, None] = {}  # streams to send a full frame of, in order

    @property
    def peer(self) -> str:
        """Where the client is."""
        return "{}:{}".format(*self._transport.get_extra_info("peername", ("?", "?"))[:2])

    @property
    def full(self) -> bool:
        """Whether the client leaves more unread than the limit."""
        return self._transport.get_write_buffer_size() > self._limit

    @property
    def hopeless(self) -> bool:
        """Whether even what is never held back, orders say, has piled up."""
        return self._transport.get_write_buffer_size() > self._limit + _NEVER_HELD

    def apply(self, outputs: Iterable[Output]) -> bool:
        """Send what the session says; tell whether the set of streams changed."""
        changed = False
        for output in outputs:
            match output:
                case Reply(data):
                    self._pending.append((wire_topic(data), data))
                case Begin(stream, full):
                    changed = True
                    if full:
                        self._send_full(stream)
                case End(stream):
                    changed = True
                    self._owed.pop(stream, None)
        self.flush()
        return changed

    def offer(self, stream: str, data: bytes) -> None:
        """Take an update for the next write, or leave it out if the client is behind."""
        if self._hushed and self._is_hushed(stream):
            self.withheld += 1
            return
        if self._behind and stream.startswith("smd+"):
            self._owed[stream] = None
            self.missed += 1
            return
        running = self.session.streams.get(stream)
        part = data if running is None or running.keys is None else narrowed(data, running.keys)
        if part is not None:
            self._pending.append((stream, part))

    def take(self, batch: Batch) -> None:
        """Take updates for the next write: those of streams that it has, and of topics that nobody subscribes to.

        What can go out as it is is not looked into: the way of a client that asked for all that there is.
        """
        if self._behind or self._hushed:
            self._take_one_by_one(batch)
            return
        running = self.session.streams
        others = {name for name in batch.names if name not in running}
        left_out = others if not self.session.authenticated else {name for name in others if name[:3] in STARTS}
        narrow = {name for name in batch.names - others if not _passes(running[name].keys, batch)}
        pairs = zip(batch.streams, batch.data, strict=True)
        if not left_out and not narrow:
            self._pending.extend(pairs)
            return
        for stream, data in pairs:
            if stream in narrow:
                part = narrowed(data, running[stream].keys)
                if part is not None:
                    self._pending.append((stream, part))
            elif stream not in left_out:
                self._pending.append((stream, data))

    def _take_one_by_one(self, batch: Batch) -> None:
        for stream, data in zip(batch.streams, batch.data, strict=True):
            if stream in self.session.streams or (stream[:3] not in STARTS and self.session.authenticated):
                self.offer(stream, data)

    def catch_up(self, *, lossless: bool) -> None:
        """Look how far the client has read; send what it is owed once it has caught up."""
        unread = self._transport.get_write_buffer_size()
        if not self._behind:
            self._behind = unread > self._limit and not lossless
        elif unread <= self._limit // 2:
            self._behind = False
            for stream in self._owed:
                self._send_full(stream)
            self._owed.clear()

    def flush(self) -> None:
        """Write what is pending, as one write, and count it."""
        pending, self._pending = self._pending, []
        if not pending or self.closing or self._transport.is_closing():
            return
        if self.frozen:
            self.withheld += len(pending)
            return
        streams, frames = zip(*pending, strict=True)
        self._transport.write(framed(frames, self._opcode))
        self.tally.extend(streams, frames)
        self._total.extend(streams, frames)

    def send(self, frames: Iterable[bytes]) -> None:
        """Send frames that no feed has."""
        self._pending.extend((wire_topic(data), data) for data in frames)
        self.flush()

    def full_frame(self, stream: str) -> bytes | None:
        """Give a full frame of a stream that the client has, with the fields it asked for."""
        running = self.session.streams.get(stream)
        data = self._snapshot(stream)
        return narrowed(data, running.keys, full=True) if data is not None and running is not None else None

    def refresh(self) -> None:
        """Send a full frame of every stream that the client has, where there is one."""
        for stream in self.session.streams:
            self._send_full(stream)
        self.flush()

    def freeze(self) -> None:
        """Send nothing and hear nothing, the connection staying open, as on a dead line."""
        self.frozen = True
        self._transport.pause_reading()

    def thaw(self) -> None:
        """Send and hear again; what was due meanwhile is gone."""
        self.frozen = False
        self._transport.resume_reading()

    async def close(self, code: int = 1000, reason: str = "", *, within_s: float = 10.0) -> None:
        """Write nothing more, let the client read what was written, shake hands; break off if that takes too long."""
        self.closing = True
        self.parting = self.parting or "closed"
        self._pending.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._socket.close(code=code, message=reason.encode())
                while self._transport.get_write_buffer_size():  # noqa: ASYNC110  a transport has no such event
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            self._transport.abort()
        await asyncio.sleep(0)  # the transport's own end is a step of the loop away

    def abort(self) -> None:
        """Break the connection off, as a crash would."""
        self.closing = True
        self.parting = self.parting or "aborted"
        self._transport.abort()

    def cut(self, data: bytes) -> None:
        """Send half of this frame, and end the connection there."""
        self.flush()
        if self.closing or self._transport.is_closing():
            return
        self.closing = True
        self.parting = self.parting or "cut"
        whole = framed([data], self._opcode)
        self._transport.write(whole[: len(whole) // 2])
        self._transport.close()

    def _send_full(self, stream: str) -> None:
        part = self.full_frame(stream)
        if part is not None and self._hushed and self._is_hushed(stream):
            self.withheld += 1
        elif part is not None:
            self._pending.append((stream, part))

    def _is_hushed(self, stream: str) -> bool:
        return stream in self._hushed or stream.partition("+")[0] in self._hushed


def framed(payloads: Collection[bytes], opcode: int) -> bytes:
    """Put each payload into a WebSocket frame as a server writes it, unmasked (RFC 6455, 5.2)."""
    lengths = list(map(len, payloads))
    headers = {length: _header(length, opcode) for length in set(lengths)}
    return b"".join(chain.from_iterable(zip(map(headers.__getitem__, lengths), payloads, strict=True)))


def _header(length: int, opcode: int) -> bytes:
    if length < _SHORT:
        return _pack_short(opcode, length)
    if length < _MEDIUM:
        return _pack_medium(opcode, 126, length)
    return _pack_long(opcode, 127, length)


def _passes(keys: frozenset[str] | None, batch: Batch) -> bool:
    """Say whether every frame of a batch may go out as it is to a client that gets these keys."""
    return keys is None or (batch.keys is not None and keys.issuperset(batch.keys))
