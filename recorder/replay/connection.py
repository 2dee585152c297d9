"""One client's socket at the emulated gateway: frames written in batches, counted, and held back for a slow reader.

Rules:

1. A frame counts as sent when it is handed to the transport, never before, and never once a close was begun.
2. All frames of one batch go out in one write.
3. The transport's buffer is the only queue. A client whose buffer is over the limit is behind. It gets no market data
   until half of it is read, then one full frame of each stream it missed something of: what a live market does.
   Where every frame must arrive, the gateway waits instead (see `Feed.lossless`).
4. What a fault withholds is counted and gone: it is not sent later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final, Literal

from aiohttp import web

from recorder.protocol.envelope import wire_topic
from recorder.protocol.projection import narrowed
from recorder.protocol.server_requests import STARTS
from recorder.protocol.server_session import Begin, End, Output, Reply, ServerSession
from recorder.replay.batch import Batch, Listed, Wanted, framed
from recorder.replay.tally import Tally, Total

TEXT: Final = 0x81  # a whole frame of text, unmasked
BINARY: Final = 0x82

Parting = Literal["left", "lost", "closed", "aborted", "cut"]
"""How a connection ended: the client closed it or broke off; the gateway closed it, broke off, or within a frame."""

_NEVER_HELD: Final = 1 << 24
_LOOK_AGAIN_S: Final = 0.005


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
        total: Total,
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
        self._pending: list[tuple[str, bytes]] = []
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
                    self._pending.append((wire_topic(data) or "", data))
                case Begin(stream, full):
                    changed = True
                    if full:
                        self._send_full(stream)
                case End(stream):
                    changed = True
                    self._owed.pop(stream, None)
        self.flush()
        return changed

    def take(self, batch: Batch) -> None:
        """Send updates: those of streams that it has, and of topics that nobody subscribes to.

        They go out as one write, which clients with the same subscriptions share.
        """
        self.flush()
        running, authenticated = self.session.streams, self.session.authenticated
        wanted = tuple(
            (name, running[name].keys if name in running else None)
            for name in batch.names
            if name in running or (authenticated and name[:3] not in STARTS)
        )
        if self._behind or self._hushed:
            wanted = self._not_held_back(batch, wanted)
        if wanted:
            self._send(batch.part(wanted))

    def _not_held_back(self, batch: Batch, wanted: Wanted) -> Wanted:
        """Leave out streams that a fault silences, and market data while the client is behind; count what is kept."""
        hushed = {name for name, _ in wanted if self._hushed and self._is_hushed(name)}
        missed = {name for name, _ in wanted if self._behind and name[:4] == "smd+"} - hushed
        for stream in batch.streams:
            self.withheld += stream in hushed
            if stream in missed:
                self.missed += 1
                self._owed[stream] = None
        return tuple((name, keys) for name, keys in wanted if name not in hushed and name not in missed)

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
        """Write what is pending."""
        pending, self._pending = self._pending, []
        if pending:
            streams, frames = zip(*pending, strict=True)
            self._send(Listed(streams, frames))

    def _send(self, batch: Batch) -> None:
        """Write frames, as one write, and count them."""
        if self.closing or self._transport.is_closing():
            return
        if self.frozen:
            self.withheld += len(batch)
            return
        self._transport.write(batch.wire(self._opcode))
        self.tally.take(batch)
        self._total.take_of(self.tally, batch)

    def send(self, frames: Iterable[bytes]) -> None:
        """Send frames that no feed has."""
        self._pending.extend((wire_topic(data) or "", data) for data in frames)
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
