"""The wire: frames are cut out of whatever the socket gives, and all that is not plain is the library's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from conftest import eventually, in_loop
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from recorder.capture.wire import Wire, open_wire
from recorder.errors import GatewayError
from recorder.protocol.segment import IN_BINARY, IN_TEXT
from recorder.protocol.socket_frames import frame_end, plain_frames
from recorder.replay.batch import framed

NOW = 1_795_176_000_000_000
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
QUOTE = b'{"84":"189.52","topic":"smd+265598"}'
CLOSE = b"\x88"  # how a close frame begins
PING = b"\x89\x02hi"
MESSAGES = st.binary(max_size=20) | st.sampled_from([126, 127, 65_535, 65_536, 200_000]).map(bytes)
CODES = {Opcode.TEXT: IN_TEXT, Opcode.BINARY: IN_BINARY}


@given(
    frames=st.lists(st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING]), MESSAGES), max_size=12),
    data=st.data(),
)
def test_frames_are_cut_the_same_however_they_come_in_pieces(
    frames: list[tuple[Opcode, bytes]], data: st.DataObject
) -> None:
    """Written by the library; a frame that is not plain is found whole, where it stands."""
    frames = [(opcode, payload[:125] if opcode is Opcode.PING else payload) for opcode, payload in frames]
    written = [Frame(opcode, payload).serialize(mask=False) for opcode, payload in frames]
    whole = b"".join(written)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8).map(sorted))
    found, rest = list[object](), b""
    for begin, stop in pairwise([0, *cuts, len(whole)]):
        rest += whole[begin:stop]
        at = 0
        while True:
            plain, at = plain_frames(rest, at, NOW)
            found += plain
            end = frame_end(rest, at)
            if end is None or end > len(rest):
                break
            found.append(rest[at:end])
            at = end
        rest = rest[at:]

    expected = [
        bytes_ if opcode is Opcode.PING else (NOW, CODES[opcode], payload)
        for (opcode, payload), bytes_ in zip(frames, written, strict=True)
    ]
    assert expected == found
    assert rest == b""


@given(st.sampled_from([Opcode.TEXT, Opcode.PONG]), MESSAGES)
def test_a_masked_frame_is_never_cut_and_its_end_is_found(opcode: Opcode, payload: bytes) -> None:
    """A server may not mask: the library is given it, and fails the connection."""
    data = Frame(opcode, payload if opcode is Opcode.TEXT else payload[:125]).serialize(mask=True)

    assert ([], 0) == plain_frames(data, 0, NOW)
    assert len(data) == frame_end(data + b"\x81", 0)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Stamped = tuple[int, int, bytes]


def welcome(request: bytes) -> bytes:
    """Answer a client's handshake."""
    key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accepted = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[str]:
    """Serve raw bytes; give the base URL. `serve` begins behind the client's request, which it reads."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/api"


@asynccontextmanager
async def wired(pieces: Sequence[bytes], *, drop: bool = False) -> AsyncIterator[tuple[Wire, list[Stamped], bytearray]]:
    """Open a wire to a server that sends the pieces one by one, the first behind its welcome, in one write.

    Gives the wire, what it takes, and what the server hears; which closes at once (`drop`) or when the client does.
    """
    got, heard, over = list[Stamped](), bytearray(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(welcome(await reader.readuntil(b"\r\n\r\n")) + pieces[0])
        for piece in pieces[1:]:
            await writer.drain()
            await asyncio.sleep(0.002)
            writer.write(piece)
        while not drop and CLOSE not in heard:
            heard.extend(read := await reader.read(1_000))
            if not read:
                break
        writer.close()
        over.set()

    async with served(serve) as url:
        wire = await open_wire(url, sink=got.extend, clock=lambda: NOW, cookies={}, tls=None)
        try:
            yield wire, got, heard
        finally:
            wire.transport.abort()
            await over.wait()


def payloads(frames: list[Stamped]) -> list[bytes]:
    """Give the bytes of frames."""
    return [data for _, _, data in frames]


@in_loop
async def test_frames_in_the_same_packet_as_the_handshake_are_taken() -> None:
    """The gateway says `waiting for session` at once."""
    async with wired([framed([QUOTE, b"x"], 0x81)]) as (_, got, _):
        await eventually(lambda: len(got) == 2)

        assert [(NOW, IN_TEXT, QUOTE), (NOW, IN_TEXT, b"x")] == got


@in_loop
async def test_a_frame_far_bigger_than_the_buffer_is_taken_whole_and_those_around_it() -> None:
    """Three megabytes, as an account's history may be; and the buffer is small again after it."""
    big = bytes(range(256)) * 12_000
    whole = framed([QUOTE, big, QUOTE], 0x82) + PING + framed([QUOTE], 0x82)
    async with wired([whole]) as (wire, got, _):
        await eventually(lambda: len(got) == 4)

        assert [QUOTE, big, QUOTE, QUOTE] == payloads(got)
        assert len(wire.get_buffer(-1)) <= 65_536


@in_loop
async def test_frames_that_come_byte_by_byte_are_taken() -> None:
    """Each piece a packet of its own, the handshake's end among them."""
    frames = framed([QUOTE[:30], bytes(130)], 0x81)
    async with wired([b"", *(frames[at : at + 1] for at in range(len(frames)))]) as (_, got, _):
        await eventually(lambda: len(got) == 2)

        assert [QUOTE[:30], bytes(130)] == payloads(got)


@in_loop
async def test_a_ping_between_frames_is_answered_and_nothing_is_out_of_order() -> None:
    """By the library; fragments before and behind it are joined, and a plain frame stands where it stood."""
    fragments = b"\x01\x02ab" + PING + b"\x80\x02cd"
    async with wired([framed([b"1"], 0x81) + fragments + framed([b"2"], 0x81)]) as (_, got, heard):
        await eventually(lambda: heard.startswith(b"\x8a\x82"))  # a pong as long as the ping

        assert [b"1", b"abcd", b"2"] == payloads(got)


@pytest.mark.parametrize(
    "wrong", [Frame(Opcode.TEXT, QUOTE).serialize(mask=True), b"\xc1\x01x", b"\x83\x00"], ids=["masked", "bit", "code"]
)
@in_loop
async def test_what_is_against_the_protocol_ends_the_connection_with_its_code(wrong: bytes) -> None:
    """And what came before it is taken."""
    async with wired([framed([QUOTE], 0x81), wrong]) as (wire, got, _):
        await asyncio.wait_for(wire.wait_closed(), 15)

        assert [QUOTE] == payloads(got)
        assert wire.protocol.close_sent is not None
        assert wire.protocol.close_sent.code == 1002


@in_loop
async def test_a_connection_that_breaks_off_amid_a_frame_is_closed_without_it() -> None:
    """What was whole stays."""
    async with wired([framed([QUOTE], 0x81) + b"\x81\x7e\x01"], drop=True) as (wire, got, _):
        await asyncio.wait_for(wire.wait_closed(), 15)

        assert [QUOTE] == payloads(got)
        assert wire.close_code == 1006


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nnot today",
        b"HTTP/1.1 503 Unavailable\r\n\r\n" + b"away" * 30_000,
        b"nonsense\r\n\r\n",
        b"x" * 200_000,
        b"",
    ],
    ids=["refused", "long", "nonsense", "endless", "nothing"],
)
@in_loop
async def test_a_handshake_that_is_refused_is_said(answer: bytes) -> None:
    """With its body, which is no frame; and one that is none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    got = list[Stamped]()
    async with served(serve) as url:
        with pytest.raises(GatewayError, match="does not open"):
            await open_wire(url, sink=got.extend, clock=lambda: NOW, cookies={}, tls=None)

    assert got == []
