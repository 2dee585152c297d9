"""What a served recording costs, and what a client can take: a server and a client, each in a process of its own.

Two clients: an ordinary `websockets` client, and a light one (`light_client.py`) that only finds where frames end.
Two servers: the gateway, and a bare one that has its frames in blocks before the client comes and only writes them, at
once or one by one at a pace. What a client does with the bare server is as fast as it can be.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import multiprocessing as mp
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from light_client import WELCOME, take
from load_server import framed, frames
from websockets.asyncio.client import connect

from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader, Span
from recorder.protocol.server_session import SECOND, Rules
from recorder.protocol.topics import load_topics
from recorder.replay.archive_feed import ArchiveFeed
from recorder.replay.frames import topic_digests
from recorder.replay.gateway import serve
from recorder.replay.recorded_contents import contents_of

BLOCK = 1 << 17
RULES = Rules(ready_after=20_000, expire_after=None, heartbeat_every=3_600 * SECOND)  # nothing between what is recorded
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class Address(NamedTuple):
    """Where a server is, and what has to be said to it."""

    port: int
    token: str = ""
    streams: tuple[str, ...] = ()


class Took(NamedTuple):
    """What a client saw: messages a second; when each came (nanoseconds), of paced ones only; a light one's digest."""

    rate: float
    arrivals: list[int]
    digest: str = ""


Client = Callable[..., Took]
"""Takes an address, how many messages, and what to call before it subscribes."""


def ordinary(address: Address, count: int, meet: Callable[[], object]) -> Took:
    """Be an ordinary client."""
    return asyncio.run(_ordinary(address, count, meet, paced=False))


def noting(address: Address, count: int, meet: Callable[[], object]) -> Took:
    """Be an ordinary client that notes when each message came."""
    return asyncio.run(_ordinary(address, count, meet, paced=True))


async def _ordinary(address: Address, count: int, meet: Callable[[], object], *, paced: bool) -> Took:
    async with connect(
        f"ws://127.0.0.1:{address.port}/v1/api/ws",
        additional_headers={"Cookie": f"api={address.token}"},
        proxy=None,
        compression=None,
        max_size=None,
        max_queue=None,
    ) as client:
        for _ in range(WELCOME if address.streams else 0):
            await client.recv()
        meet()
        for stream in address.streams:
            await client.send(f"{stream}+{{}}")
        await client.recv(decode=False)
        begin, arrivals, seen = time.perf_counter(), [time.time_ns()], 1
        while seen < count:
            await client.recv(decode=False)
            seen += 1
            if paced:
                arrivals.append(time.time_ns())
        return Took(count / (time.perf_counter() - begin), arrivals)


def light(address: Address, count: int, meet: Callable[[], object]) -> Took:
    """Be a client that costs little."""
    taken = take(*address, count, meet=meet)
    return Took(taken.messages / taken.seconds, [], taken.digest)


def gateway(told: Connection, root: Path, speed: float | None) -> None:
    """Serve a recording; tell where, and the processor time that it took from the first frame on."""
    sys.setswitchinterval(0.0005)  # as the command does

    async def run() -> None:
        reader = Reader(open_layout(root), load_topics())
        feed = ArchiveFeed(reader, contents_of(reader, span=Span()), speed=speed)
        try:
            async with serve(feed, rules=RULES) as served:
                told.send(
                    Address(served.port, served.identity.session, tuple(f"smd+{one}" for one in feed.instruments))
                )
                while not feed.clock.running:
                    await asyncio.sleep(0.01)
                begin = time.process_time()
                while not feed.ended:
                    await asyncio.sleep(0.05)
                told.send(time.process_time() - begin)
                await asyncio.to_thread(told.recv)
        finally:
            feed.close()

    asyncio.run(run())


def blocks(told: Connection, count: int, rate: float | None) -> None:
    """Write frames that are there already: in blocks, or one by one at a rate."""
    made = [framed(payload) for payload in frames(min(count, 100_000))]
    every = [made[number % len(made)] for number in range(count)]
    size = max(1, BLOCK // (sum(map(len, made)) // len(made)))
    ready = every if rate else [b"".join(every[first : first + size]) for first in range(0, count, size)]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told.send(Address(listening.getsockname()[1]))
        client, _ = listening.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += client.recv(1 << 16)
            (key,) = (line[19:] for line in asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
            accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
            client.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            begin, used = time.perf_counter(), time.process_time()
            for number, block in enumerate(ready):
                if rate and (wait := begin + number / rate - time.perf_counter()) > 0:
                    time.sleep(wait)
                client.sendall(block)
            told.send(time.process_time() - used)
            told.recv()


@contextmanager
def _process(what: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    ours, theirs = mp.Pipe()
    process = mp.get_context("spawn").Process(target=what, args=(theirs, *arguments))
    process.start()
    try:
        yield ours
    finally:
        process.join()


def _client(told: Connection, of: Client, address: Address, count: int, meeting: Barrier) -> None:
    told.send(of(address, count, meeting.wait))


def run(server: Callable[..., None], arguments: tuple[Any, ...], client: Client, count: int,
        *, clients: int = 1) -> tuple[list[Took], float]:  # fmt: skip
    """Let clients take what a server gives; give what each saw, and the server's time a message (processor, us)."""
    with _process(server, *arguments) as served, ExitStack() as stack:
        address, meeting = served.recv(), mp.get_context("spawn").Barrier(clients)
        asked = [stack.enter_context(_process(_client, client, address, count, meeting)) for _ in range(clients)]
        took = [one.recv() for one in asked]
        used = served.recv()
        served.send("that is all")
    return took, used / (count * clients) * 1e6


def compare_rates(root: Path, count: int, *, rounds: int = 3) -> dict[str, float]:
    """Give the best of some rounds of each server with each client, in turn: messages a second, the server's time.

    Of two clients at once the rate is that of both together. `AssertionError` if a light client got other bytes than
    are recorded.
    """
    recorded = topic_digests(Reader(open_layout(root), load_topics()), span=Span())["market_data"].hexdigest()
    kinds: list[tuple[str, Callable[..., None], tuple[Any, ...], Client, int]] = [
        ("served", gateway, (root, None), ordinary, 1),
        ("ceiling", blocks, (count, None), ordinary, 1),
        ("served_to_two_clients", gateway, (root, None), ordinary, 2),
        ("served_to_a_light_client", gateway, (root, None), light, 1),
        ("light_client_ceiling", blocks, (count, None), light, 1),
    ]
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for name, server, arguments, client, clients in kinds:
            took, used = run(server, arguments, client, count, clients=clients)
            if client is light and {one.digest for one in took} != {recorded}:
                raise AssertionError(f"{name}: other bytes came than are recorded")
            found.setdefault(name, []).append((sum(one.rate for one in took), used))
    rates = {f"{name}_per_s": round(max(rate for rate, _ in rows)) for name, rows in found.items()}
    return rates | {f"{name}_server_us": round(min(used for _, used in rows), 2) for name, rows in found.items()}


def compare_pace(root: Path, count: int, rate: int) -> dict[str, float]:
    """Give percentiles of the error of each arrival's distance to the one before, of the gateway and a bare sender."""
    kinds: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [
        ("paced", gateway, (root, 1.0)),
        ("bare_sender", blocks, (count, rate)),
    ]
    found: dict[str, float] = {}
    for name, server, arguments in kinds:
        (took,), _ = run(server, arguments, noting, count)
        times = np.array(took.arrivals[rate:]) / 1e3  # the first second warms up
        error = np.abs(np.diff(times) - 1e6 / rate)
        drift = (times[-1] - times[0]) - (len(times) - 1) * 1e6 / rate
        found |= {f"{name}_p{percent:g}_us": round(np.percentile(error, percent)) for percent in (50, 99, 99.9)}
        found |= {f"{name}_drift_us": round(drift), f"{name}_seconds": round(len(times) / rate)}
    return found
