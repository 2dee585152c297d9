"""Where the microseconds of receiving go: each step of the path alone, on the same frames, in processor time a frame.

    python benchmarks/bench_receive.py [--frames 200000] [--rounds 5]

The loop's thread reads from a socket (loopback TCP, a full buffer each time), copies and cuts, takes the frames into
the journal and lets the session pass over them; the writer's thread makes columns of a batch, masks, encodes, writes.
The parts are the recorder's own, the frames those of the load server (100 contracts); the least of all rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from load_server import CONTRACTS, DISTINCT, READY, SESSION, framed, frames

from recorder.capture.conversation import Conversation
from recorder.capture.journal import Journal, Limits
from recorder.capture.status import Counters
from recorder.protocol.client_session import ClientSession
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.segment import encode_batch
from recorder.protocol.socket_frames import Stamped, plain_frames
from recorder.protocol.stream_plan import streams_of
from recorder.protocol.streams import Timing
from recorder.protocol.topics import load_topics
from recorder.replay.synthetic import SyntheticFeed

READ = 65_536
LIMITS = Limits(0.05, 0.25, 10**9, 1 << 40, 1 << 40)


def timed(step: Callable[[], object]) -> float:
    """Give a step's processor time on this thread, in seconds."""
    begin = time.thread_time()
    step()
    return time.thread_time() - begin


def read(data: bytes) -> float:
    """Read all of it from a socket, whose other end is a thread."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        sender = threading.Thread(target=theirs.sendall, args=(data,))
        sender.start()
        view = memoryview(bytearray(READ))

        def all_of_it() -> None:
            left = len(data)
            while left:
                left -= ours.recv_into(view)

        took = timed(all_of_it)
        sender.join()
        theirs.close()
    return took


def cut(data: bytes) -> tuple[float, list[list[Stamped]]]:
    """Copy and cut, a buffer at a time; give the frames of each, too."""
    view, found = memoryview(data), list[list[Stamped]]()

    def all_of_it() -> None:
        at = 0
        while at < len(data):
            chunk = bytes(view[at : at + READ])
            made, end = plain_frames(chunk, 0, time.time_ns() // 1000)
            found.append(made)
            at += end

    return timed(all_of_it), found


def session() -> ClientSession:
    """Make a session that is logged in, and asks for the contracts of the load."""
    conids = map(str, SyntheticFeed(seed=1, contracts=CONTRACTS, rate=1).instruments)
    timing = Timing(renew_every=480, tickle_every=60, heartbeat_timeout=25, reconnect_delay=1, stale_after=120)
    streams = streams_of([load_topics()["market_data"]], targets=conids, fields=["31", "84"])
    made = ClientSession(streams, timing=timing, now=time.monotonic(), wall=time.time_ns() // 1000)
    made.opened(SESSION, time.monotonic())
    for text in READY:
        made.received(text.encode(), time.monotonic())
    return made


async def take(reads: list[list[Stamped]], folder: Path, index: int) -> float:
    """Take the frames of each read into the journal, and let the session pass over them."""
    journal = Journal(
        folder,
        recorder="main",
        session=f"20261120T{index:06}aaaa",
        boundary=DayBoundary("00:00 UTC"),
        limits=LIMITS,
        on_failure=print,
        on_pressure=print,
        masker=Masker(),
    )
    conversation = Conversation(session(), journal, counters=Counters(), on_news=lambda _news: None)
    ts_recv = journal.stamp()
    fresh = [[(ts_recv, code, data) for _, code, data in read] for read in reads]
    conversation.receive(fresh[0])
    took = 0.0
    for one in fresh[1:]:
        took += timed(lambda one=one: conversation.receive(one))  # type: ignore[misc]
        while journal.unwritten > 1 << 20:  # the writer shares the interpreter's lock; let it be done
            await asyncio.sleep(0.001)
    await journal.close()
    return took


def write(reads: list[list[Stamped]], folder: Path) -> dict[str, float]:
    """Do the writer's steps, a read's frames at a time."""
    masker, file = Masker(), os.open(folder / "journal", os.O_WRONLY | os.O_CREAT, 0o600)
    masker.learn(SESSION)
    spent = dict.fromkeys(("columns", "mask", "encode", "write"), 0.0)
    for one in reads:
        marks = [time.thread_time()]
        ts_recv, code, data = zip(*one, strict=True)
        marks.append(time.thread_time())
        masked = masker.mask_all(list(data))
        marks.append(time.thread_time())
        record = encode_batch(0, ts_recv, [1] * len(masked), code, masked)
        marks.append(time.thread_time())
        os.write(file, record)
        marks.append(time.thread_time())
        for name, begin, end in zip(spent, marks, marks[1:], strict=False):
            spent[name] += end - begin
    os.close(file)
    return spent


def main() -> None:
    """Run all rounds and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    distinct = [framed(payload) for payload in frames(min(options.frames, DISTINCT))]
    data = b"".join(distinct[number % len(distinct)] for number in range(options.frames))
    least: dict[str, float] = {}
    for index in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            spent = {"read": read(data)}
            spent["copy and cut"], reads = cut(data)
            spent["take, pass over"] = asyncio.run(take(reads, folder, index))
            spent |= {f"writer: {step}": took for step, took in write(reads, folder).items()}
        least = {step: min(took, least.get(step, took)) for step, took in spent.items()}
    figures: dict[str, object] = {f"{step} us": round(took / options.frames * 1e6, 3) for step, took in least.items()}
    figures["frames a read"] = round(options.frames / len(reads))
    figures["bytes a frame"] = round(len(data) / options.frames)
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
