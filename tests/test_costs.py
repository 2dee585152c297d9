"""The cost of a frame on the hot paths is counted, never timed: calls, files that are opened, bytes that are held.

Counted are calls of functions, of Python or of C, in all threads: work that is done for a whole batch at once costs a
frame next to nothing, work that is done for each frame one or more. A count is the difference between N frames and
twice as many, so that what is done once falls out. It is the same in each run, also beside other processes and under
coverage. What C does within one call is not seen: for that there are the benchmarks.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import pyarrow as pa
import pytest
from conftest import AAPL, LIMITS, NOON, SESSION, archive, order, raise_failure
from talk import market_data, ready

from recorder.archive.layout import Layout, make_layout
from recorder.capture.conversation import Conversation
from recorder.capture.journal import Journal
from recorder.capture.status import Counters
from recorder.disk import make_folder
from recorder.library import Archive
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.segment import CHUNK, IN_TEXT, Header, encode_batch, encode_end, encode_header
from recorder.protocol.socket_frames import plain_frames
from recorder.replay.batch import framed

FRAMES: Final = 2_000
BATCH: Final = 500
CONTRACTS: Final = 5

MOST: Final = {
    "receive": 7.7,
    "flush quotes": 0.3,
    "flush orders": 46.5,
    "frames": 1.5,
    "events": 1.5,
    "load": 0.3,
    "load filled": 0.3,
    "table": 0.3,
    "table of the journal": 0.3,
    "bars": 0.3,
    "state": 0.3,
}
"""How many calls a frame may cost: one and a half times what it cost when this was written, the same on Python 3.11 to
3.13; and 0.3 where that was less than 0.1, since threads that wait for one another make some calls more or fewer.

To raise a limit, say in the commit what a frame gets for it, and what the path's benchmark (docs/performance.md) gave
before and after; then set it to one and a half times the new count, which the failing test tells. Lower it likewise
when a path got cheaper. A limit that is raised only to let a test pass guards nothing.
"""


class Calls:
    """How many functions were called, of Python or of C."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _frame: FrameType, event: str, _arg: object) -> None:
        """Count one."""
        if event in {"call", "c_call"}:
            self.count += 1


@contextmanager
def counted() -> Iterator[Calls]:
    """Count calls, also of threads that begin meanwhile; no garbage is collected, whose finalizers would be calls."""
    calls, before, of_threads = Calls(), sys.getprofile(), threading.getprofile()
    gc.collect()
    gc.disable()
    threading.setprofile(calls)
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        threading.setprofile(of_threads)
        gc.enable()


def per_frame(small: Callable[[], object], large: Callable[[], object]) -> float:
    """Give how many calls a frame costs, of work on `FRAMES` frames and on twice as many; what is first is warm-up."""
    small()
    counts = []
    for work in (small, large):
        with counted() as calls:
            work()
        counts.append(calls.count)
    return (counts[1] - counts[0]) / FRAMES


def quotes(count: int) -> list[bytes]:
    """Make frames as the broker writes most of them; prices repeat, and each distinct text is parsed once."""
    return [quote_of(AAPL + number % CONTRACTS, number) for number in range(count)]


def quote_of(conid: int, number: int) -> bytes:
    """Make a frame of a contract."""
    return market_data(str(conid), conid=conid, _updated=NOON // 1000 + number, **{"84": f"{number % 40 / 4}"})


def orders(count: int) -> list[bytes]:
    """Make frames that are read one by one."""
    return [order(number, conid=AAPL, side="BUY", totalSize=100.0) for number in range(count)]


def journaled(folder: Path, payloads: list[bytes]) -> Layout:
    """Write a finished segment."""
    layout = make_layout(folder, DayBoundary("00:00 UTC"))
    make_folder(layout.journal("main"), below=layout.root)
    with (layout.journal("main") / f"{SESSION}-{0:012d}.seg").open("wb") as file:
        file.write(encode_header(Header(recorder="main", session=SESSION, first_seq=0, date="2026-11-20")))
        for first in range(0, len(payloads), BATCH):
            data = payloads[first : first + BATCH]
            stamps = [NOON + 1000 * (first + number) for number in range(len(data))]
            file.write(encode_batch(first, stamps, [1] * len(data), [IN_TEXT] * len(data), data))
        file.write(encode_end(len(payloads) - 1))
    return layout


# ------------------------------------------------------------------ receiving and flushing


def reads_of(payloads: list[bytes]) -> list[bytes]:
    """Put frames into the bytes of reads, as the socket gives them."""
    return [framed(payloads[first : first + BATCH], 0x81) for first in range(0, len(payloads), BATCH)]


def receive(folder: Path, reads: list[bytes]) -> None:
    """Take frames as a connection does, from a read's bytes until they are in the journal."""

    async def run() -> None:
        make_folder(folder, below=folder.parent)
        journal = Journal(
            folder,
            recorder="main",
            session=SESSION,
            boundary=DayBoundary("00:00 UTC"),
            limits=LIMITS,
            on_failure=raise_failure,
            on_pressure=lambda _high: None,
            masker=Masker(),
            now=lambda: NOON * 1000,
        )
        conversation = Conversation(ready().session, journal, counters=Counters(), on_news=lambda _news: None)
        for data in reads:
            conversation.receive(plain_frames(data, 0, journal.stamp())[0])
        await journal.close()

    asyncio.run(run())


def test_receiving_a_frame_costs_a_few_calls(tmp_path: Path) -> None:
    """Of fast market data, which the session does not look into."""
    folders = iter(tmp_path / str(number) for number in range(3))
    small, large = reads_of(quotes(FRAMES)), reads_of(quotes(2 * FRAMES))

    cost = per_frame(lambda: receive(next(folders), small), lambda: receive(next(folders), large))

    assert cost <= MOST["receive"]


@pytest.mark.parametrize(("path", "make"), [("flush quotes", quotes), ("flush orders", orders)])
def test_flushing_a_frame_costs_next_to_nothing_unless_it_is_read_alone(
    path: str, make: Callable[[int], list[bytes]], tmp_path: Path
) -> None:
    """From the journal's bytes to Parquet."""
    layouts = [
        journaled(tmp_path / str(number), make(count)) for number, count in enumerate((FRAMES, FRAMES, 2 * FRAMES))
    ]
    left = iter(layouts)

    cost = per_frame(lambda: archive(next(left)), lambda: archive(next(left)))

    assert cost <= MOST[path]


# ------------------------------------------------------------------ replaying and loading


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Archive `FRAMES` quotes, and twice as many."""
    folder = tmp_path_factory.mktemp("costs")
    layouts = [journaled(folder / str(count), quotes(count)) for count in (FRAMES, 2 * FRAMES)]
    for layout in layouts:
        archive(layout)
    return [layout.root for layout in layouts]


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Journal `FRAMES` quotes, and twice as many."""
    folder = tmp_path_factory.mktemp("costs")
    return [journaled(folder / str(count), quotes(count)).root for count in (FRAMES, 2 * FRAMES)]


READING: Final[dict[str, Callable[[Archive], object]]] = {
    "frames": lambda archive: deque(archive.frames(), maxlen=0),
    "events": lambda archive: deque(archive.replay("market_data"), maxlen=0),
    "load": lambda archive: archive.load("market_data", conid=AAPL),
    "load filled": lambda archive: archive.load("market_data", fill=True),
    "table": lambda archive: archive.table("market_data"),
    "bars": lambda archive: archive.bars(AAPL, of="bid"),
    "state": lambda archive: archive.state("market_data", at="2026-11-21"),
}


@pytest.mark.parametrize("path", READING)
def test_reading_a_row_costs_no_more_than_to_hand_it_over(path: str, archives: list[Path]) -> None:
    """One call for each element of a replay, and none for each row of a table."""
    read, (small, large) = READING[path], map(Archive, archives)

    cost = per_frame(lambda: read(small), lambda: read(large))

    assert cost <= MOST[path]


def test_reading_rows_of_the_journal_costs_nothing_for_each(journals: list[Path]) -> None:
    """They are decoded, a batch at a time."""
    small, large = map(Archive, journals)

    cost = per_frame(lambda: small.table("market_data"), lambda: large.table("market_data"))

    assert cost <= MOST["table of the journal"]


# ------------------------------------------------------------------ memory


def most_held(elements: Iterable[object]) -> int:
    """Give the bytes that Python, numpy and Arrow hold at the most while elements are taken."""
    gc.collect()
    before: int = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        arrow = max(pa.total_allocated_bytes() for number, _ in enumerate(elements) if number % BATCH == 0)
        return int(arrow) - before + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_replaying_twice_the_frames_holds_no_more_memory(tmp_path: Path) -> None:
    """Once there are more of them than are read at once."""
    held = []
    for count in (2 * CHUNK, 4 * CHUNK):
        layout = journaled(tmp_path / str(count), quotes(count))
        archive(layout)
        held.append(most_held(Archive(layout.root).frames()))

    assert held[1] <= 1.3 * held[0]


# ------------------------------------------------------------------ files

IN_OPEN: Final = 0x20
IN_ISDIR: Final = 0x4000_0000
EVENT: Final = 16  # bytes: watch, mask, cookie, length of the name that follows


@contextmanager
def opened(root: Path) -> Iterator[list[str]]:
    """Let the kernel tell which files below a folder are opened while the context lasts."""
    libc = ctypes.CDLL(None, use_errno=True)
    told = libc.inotify_init1(os.O_NONBLOCK)
    assert told >= 0, os.strerror(ctypes.get_errno())
    names: list[str] = []
    try:
        for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
            assert libc.inotify_add_watch(told, bytes(folder), IN_OPEN) >= 0, os.strerror(ctypes.get_errno())
        yield names
        events = os.read(told, 1 << 20)
        while events:
            mask, length = int.from_bytes(events[4:8], sys.byteorder), int.from_bytes(events[12:EVENT], sys.byteorder)
            if not mask & IN_ISDIR:
                names.append(events[EVENT : EVENT + length].rstrip(b"\0").decode())
            events = events[EVENT + length :]
    finally:
        os.close(told)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells which files are opened")
def test_one_contract_opens_no_file_of_others(tmp_path: Path) -> None:
    """As many beside fifty as beside one."""
    counts: dict[str, list[int]] = {"load": [], "bars": []}
    for others in (1, 50):
        payloads = [quote_of(AAPL + number, number) for number in range(1 + others)]
        layout = journaled(tmp_path / str(others), payloads)
        archive(layout)
        assert len(list(layout.root.glob("market_data/*/*/*.parquet"))) == 1 + others
        for path, found in counts.items():
            with opened(layout.root) as names:
                READING[path](Archive(layout.root))
            found.append(len(names))

    assert all(0 < beside_one == beside_fifty for beside_one, beside_fifty in counts.values()), counts
