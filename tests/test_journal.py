"""The journal's writer: segments as they are on disk, and what happens when the disk is slow or fails."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import (
    DAY,
    LIMITS,
    NOON,
    ROOT,
    SESSION,
    Given,
    environment,
    eventually,
    in_loop,
    quotes,
    raise_failure,
    write_session,
)

from recorder.archive.journal import SegmentReader, has_end
from recorder.archive.layout import Layout, make_layout
from recorder.capture.journal import Journal, Limits
from recorder.capture.journal_writer import CLOSE, ROTATE, Batch, Writer
from recorder.disk import make_folder
from recorder.errors import DiskError
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker, mask
from recorder.protocol.segment import IN_BINARY, IN_TEXT, Header
from recorder.types import Frame

MIDNIGHT = NOON + DAY // 2


def journal_at(
    layout: Layout,
    *,
    limits: Limits = LIMITS,
    masker: Masker | None = None,
    now: Callable[[], int] = time.time_ns,
    on_failure: Callable[[DiskError], None] = raise_failure,
    on_pressure: Callable[[bool], None] = lambda _high: None,
) -> Journal:
    """Open a journal in the running loop."""
    folder = layout.journal("main")
    make_folder(folder, below=layout.root)
    return Journal(
        folder,
        recorder="main",
        session=SESSION,
        boundary=layout.boundary,
        limits=limits,
        on_failure=on_failure,
        on_pressure=on_pressure,
        masker=masker or Masker(),
        now=now,
    )


def read(path: Path) -> tuple[Header, list[Frame], bool]:
    """Read a segment: its header, its frames, and whether it is finished."""
    reader = SegmentReader(path)
    frames = [frame for batch in reader.batches() for frame in batch.frames("main", SESSION)]
    assert reader.header is not None
    assert reader.bad is None
    return reader.header, frames, reader.finished


def receive(journal: Journal, data: bytes, code: int = IN_TEXT) -> None:
    """Let a journal take a frame that was received now."""
    journal.extend([(journal.stamp(), code, data)])


def received(layout: Layout) -> list[Frame]:
    """Give the frames of the first segment so far: none while it is not there, or only begun."""
    paths = layout.segments("main")
    batches = SegmentReader(paths[0]).batches() if paths else ()
    return [frame for batch in batches for frame in batch.frames("main", SESSION)]


def first_is_finished(layout: Layout) -> bool:
    """Say whether the first segment has its end record yet."""
    paths = layout.segments("main")
    return bool(paths) and has_end(paths[0])


def read_all(layout: Layout) -> list[Frame]:
    """Read all frames, in the order of the segments' names."""
    return [frame for path in layout.segments("main") for frame in read(path)[1]]


def test_frames_are_numbered_without_holes_in_the_order_of_their_coming(layout: Layout) -> None:
    """Each as it came: time, kind, opcode, bytes."""
    given = [
        Given(NOON, b"{}", "mark"),
        Given(NOON + 1, b"", "in", "binary"),
        Given(NOON + 1, b"\xff\x00", "in", "text"),
        Given(NOON + 2, b"smd+1+{}", "out"),
        Given(NOON + 3, b"GET /x\n{}", "rest"),
        *quotes(500, start=NOON + 10),
    ]
    (path,) = write_session(layout, given)
    header, frames, finished = read(path)

    assert Header(recorder="main", session=SESSION, first_seq=0, date="2026-11-20") == header
    assert given == [Given(frame.ts_recv, frame.data, frame.kind, frame.op) for frame in frames]
    assert list(range(len(given))) == [frame.seq for frame in frames]
    assert finished
    assert f"{SESSION}-000000000000.seg" == path.name


def test_a_segment_holds_one_date(layout: Layout) -> None:
    """Also when the clock steps back over midnight, and forth again."""
    times = [-2, -1, 0, 1, -1, 2]  # microseconds from midnight
    write_session(layout, [Given(MIDNIGHT + offset, b"%d" % offset) for offset in times])
    segments = map(read, layout.segments("main"))
    found = [(header.date, [frame.data for frame in frames]) for header, frames, _ in segments]

    assert [
        ("2026-11-20", [b"-2", b"-1"]),
        ("2026-11-21", [b"0", b"1"]),
        ("2026-11-20", [b"-1"]),
        ("2026-11-21", [b"2"]),
    ] == found
    assert list(range(6)) == [frame.seq for frame in read_all(layout)]


def test_a_day_may_begin_at_another_hour_than_midnight(tmp_path: Path) -> None:
    """From 17:00 in Chicago (23:00 UTC) it is the next date's day."""
    layout = make_layout(tmp_path / "futures", DayBoundary("17:00 America/Chicago"))
    boundary = NOON + 11 * 3_600_000_000
    write_session(layout, [Given(boundary - 1, b"before"), Given(boundary, b"after")])

    assert ["2026-11-20", "2026-11-21"] == [read(path)[0].date for path in layout.segments("main")]


def test_a_segment_ends_on_schedule_and_nothing_is_written_for_an_empty_one(layout: Layout) -> None:
    """Rotating twice is rotating once."""

    @in_loop
    async def write() -> None:
        journal = journal_at(layout, now=lambda: NOON * 1000)
        journal.rotate()
        journal.note(b"a")
        journal.rotate()
        journal.rotate()
        journal.note(b"b")
        await journal.close()

    write()
    assert [[b"a"], [b"b"]] == [[frame.data for frame in read(path)[1]] for path in layout.segments("main")]
    assert [True, True] == [read(path)[2] for path in layout.segments("main")]


def test_a_journal_without_frames_leaves_no_file(layout: Layout) -> None:
    """Nothing came, nothing is there."""

    @in_loop
    async def write() -> None:
        await journal_at(layout).close()

    write()
    assert [] == list(layout.journal("main").iterdir())


@pytest.mark.parametrize(
    "limits",
    [LIMITS._replace(flush_frames=100), LIMITS._replace(flush_bytes=7_500)],
    ids=["frames", "bytes"],
)
def test_a_segment_ends_on_size(layout: Layout, limits: Limits) -> None:
    """At a number of frames or of bytes, give or take what was gathered meanwhile."""
    given = quotes(1000)

    @in_loop
    async def write() -> None:
        times = iter([given[0].ts, *(frame.ts for frame in given)])
        journal = journal_at(layout, limits=limits, now=lambda: next(times) * 1000)
        for number, frame in enumerate(given):
            journal.note(frame.data, frame.kind)
            if number % 50 == 49:
                await eventually(lambda number=number: journal.seq == number + 1)  # type: ignore[misc]
        await journal.close()

    write()
    frames = [len(read(path)[1]) for path in layout.segments("main")]

    assert 1000 == sum(frames)
    assert 9 <= len(frames) <= 11
    assert [frame.data for frame in given] == [frame.data for frame in read_all(layout)]


@in_loop
async def test_a_frame_is_on_disk_soon_without_anything_else_happening(layout: Layout) -> None:
    """In a segment that is still open."""
    journal = journal_at(layout)
    receive(journal, b"a")
    await eventually(lambda: received(layout))
    header, frames, finished = read(layout.segments("main")[0])
    await journal.close()

    assert [b"a"] == [frame.data for frame in frames]
    assert not finished
    assert SESSION == header.session


@in_loop
async def test_frames_carry_the_number_of_their_connection(layout: Layout) -> None:
    """Those gathered before a new connection keep the old one's."""
    journal = journal_at(layout)
    receive(journal, b"none")
    journal.begin_connection()
    receive(journal, b"first")
    receive(journal, b"first", IN_BINARY)
    journal.begin_connection()
    receive(journal, b"second")
    await journal.close()

    assert [(0, b"none"), (1, b"first"), (1, b"first"), (2, b"second")] == [
        (frame.conn, frame.data) for frame in read_all(layout)
    ]


@in_loop
async def test_tokens_are_masked_before_they_are_written(layout: Layout) -> None:
    """Those known when the frame is written; a keep-alive's always."""
    masker = Masker()
    masker.learn("secret-token")
    journal = journal_at(layout, masker=masker)
    receive(journal, b'{"a":"secret-token"}')
    receive(journal, b'{"topic":"tic","id":"unknown-token"}')
    await journal.close()
    content = layout.segments("main")[0].read_bytes()

    assert b"-token" not in content
    assert mask(b"secret-token") in content
    assert mask(b"unknown-token") in content


def test_segments_are_private(layout: Layout) -> None:
    """They tell of accounts."""
    os.umask(0)
    try:
        paths = write_session(layout, quotes(2), rotations=[1])
    finally:
        os.umask(0o077)

    assert [0o600, 0o600] == [stat.S_IMODE(path.stat().st_mode) for path in paths]
    assert 0o700 == stat.S_IMODE(paths[0].parent.stat().st_mode)


@in_loop
async def test_the_journal_counts_what_is_not_in_parquet_yet(layout: Layout) -> None:
    """By the segments that it is told of."""
    journal = journal_at(layout)
    for size in (100, 10):
        receive(journal, bytes(size))
        journal.rotate()
    receive(journal, bytes(1))
    await journal.close()
    counts = [journal.bytes_after_flushed]
    for last in (0, 1, 2):
        journal.flushed_to(last)
        counts.append(journal.bytes_after_flushed)

    assert [111, 11, 1, 0] == counts


@in_loop
async def test_pressure_is_told_once_when_memory_is_full_and_once_when_it_is_free_again(layout: Layout) -> None:
    """The journal takes what comes all the same."""
    told: list[tuple[bool, int]] = []
    journal = journal_at(
        layout,
        limits=LIMITS._replace(journal_memory=1_000_000),
        on_pressure=lambda high: told.append((high, journal.unwritten)),
    )
    for _ in range(10):
        receive(journal, bytes(3_000_000))
    await eventually(lambda: journal.under_pressure)
    await eventually(lambda: len(told) == 2)
    await journal.close()

    assert [True, False] == [high for high, _ in told]
    assert told[0][1] > 1_000_000
    assert told[1][1] < 500_000
    assert not journal.under_pressure
    assert 0 == journal.unwritten
    assert 10 == len(read_all(layout))


@in_loop
async def test_a_journal_whose_folder_is_gone_fails_once_and_writes_no_more(layout: Layout) -> None:
    """The failure names the file and says what to do; closing raises it."""
    failures: list[DiskError] = []
    journal = journal_at(layout, on_failure=failures.append)
    receive(journal, b"a")
    journal.rotate()
    await eventually(lambda: first_is_finished(layout))
    layout.journal("main").rename(layout.root / "elsewhere")
    for _ in range(5):
        receive(journal, b"b")
        journal.rotate()
        await asyncio.sleep(0.05)
    with pytest.raises(DiskError) as caught:
        await journal.close()

    assert [caught.value] == failures
    assert f"{SESSION}-000000000001.seg: No such file or directory" in str(caught.value)
    assert "start the capture again" in (caught.value.hint or "")
    assert 1 == len(list((layout.root / "elsewhere").iterdir()))


def test_frames_that_cannot_be_masked_end_the_journal_aloud(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours in the writer must not look like a journal that is written."""

    class Broken(Masker):
        """Fails at what it cannot know."""

        def mask_all(self, frames: list[bytes]) -> list[bytes]:
            raise RecursionError(frames)

    failures: list[DiskError] = []

    @in_loop
    async def write() -> None:
        journal = journal_at(layout, masker=Broken(), on_failure=failures.append)
        receive(journal, b"a")
        await eventually(lambda: failures)
        with pytest.raises(DiskError, match="RecursionError"):
            await journal.close()

    escaped: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: escaped.append(args.exc_value))
    write()

    assert 1 == len(failures)
    assert [RecursionError] == [type(exc) for exc in escaped]


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from conftest import LIMITS, SESSION
from recorder.archive.layout import open_layout
from test_journal import journal_at

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

async def main():
    failures = []
    journal = journal_at(open_layout(Path(sys.argv[1])), on_failure=failures.append)
    for number in range(400):
        journal.note(b"%d" % number + bytes(1000), "in")
        await asyncio.sleep(0.001)
    try:
        await journal.close()
    except Exception as exc:
        print(type(exc).__name__, exc)
    print(len(failures), journal.failure is failures[0])

asyncio.run(main())
"""


def test_a_full_disk_fails_once_and_leaves_a_readable_beginning(layout: Layout) -> None:
    """What was written whole can be read; the torn rest is told apart."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(layout.root)],
        env=environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    (path,) = layout.segments("main")
    reader = SegmentReader(path)
    frames = [frame for batch in reader.batches() for frame in batch.frames("main", SESSION)]
    error, counted = ended.stdout.splitlines()

    assert f"DiskError the journal cannot be written: {path}: File too large" == error
    assert "1 True" == counted
    assert 50 < len(frames) < 100
    assert [b"%d" % number + bytes(1000) for number in range(len(frames))] == [frame.data for frame in frames]
    assert not reader.finished
    assert reader.bad is not None
    assert reader.offset <= 100_000 == path.stat().st_size


def test_batches_that_wait_for_the_writer_become_one_record(layout: Layout) -> None:
    """But not over a new connection, nor over the end of a segment."""
    folder = layout.journal("main")
    make_folder(folder, below=layout.root)
    writer = Writer(folder, recorder="main", session=SESSION, sync_every=0.25, masker=Masker())
    for first, conn in ((0, 1), (2, 1), (4, 2)):
        frames = [(NOON + seq, IN_TEXT, b"%d" % seq) for seq in (first, first + 1)]
        writer.jobs.put(Batch(first, "2026-11-20", conn, frames, 2))
    writer.jobs.put(ROTATE)
    writer.jobs.put(Batch(6, "2026-11-20", 2, [(NOON + 6, IN_TEXT, b"6")], 1))
    writer.jobs.put(CLOSE)
    writer.start()
    writer.join()

    assert [[0, 4], [6]] == [
        [batch.first_seq for batch in SegmentReader(path).batches()] for path in layout.segments("main")
    ]
    assert [(seq, b"%d" % seq) for seq in range(7)] == [(frame.seq, frame.data) for frame in read_all(layout)]
    assert [1, 1, 1, 1, 2, 2, 2] == [frame.conn for frame in read_all(layout)]
    assert writer.written == 7
