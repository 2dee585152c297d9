"""Disks that are full, fail for a while, or stall: real file systems, mounted for the test."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import (
    AAPL,
    Recording,
    Script,
    eventually,
    frames_of,
    gateway_with,
    in_loop,
    payloads,
    recording,
    settings_for,
)

import recorder
from recorder.archive.layout import make_layout, open_layout
from recorder.archive.verify import verify
from recorder.disk import make_folder
from recorder.errors import DiskError
from recorder.protocol.days import DayBoundary
from recorder.protocol.marks import decode_mark
from recorder.protocol.topics import load_topics
from recorder.recording import flush


def run(*words: str) -> None:
    """Run a system command; a test that may not is skipped."""
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"this machine does not let tests {words[0]}: {exc}")


@contextmanager
def tmpfs(folder: Path, *, size: str) -> Iterator[None]:
    """Mount a small file system on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def ext4(folder: Path, image: Path) -> Iterator[None]:
    """Mount a file system in a file, which can be frozen."""
    image.write_bytes(b"")
    run("truncate", "-s", "64M", str(image))
    run("mkfs.ext4", "-q", str(image))
    folder.mkdir()
    run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Let every write to a file system wait."""
    run("fsfreeze", "-f", str(folder))
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "-u", str(folder)], check=True)


def frame(number: int, *, size: int = 0) -> bytes:
    """Make a frame of market data that is told from all others."""
    return f'{{"conid":{AAPL},"6509":"{"R" * (size + 1)}","85":"{number}","topic":"smd+{AAPL}"}}'.encode()


def is_whole(data: Path) -> None:
    """Check that verification finds nothing."""
    assert verify(open_layout(data), load_topics(), done=lambda _count: None).problems == []


@in_loop
async def test_a_full_disk_stops_the_capture_at_once_and_keeps_what_was_written(tmp_path: Path) -> None:
    """Exit with an error, not with a hole: with room again, all that reached the disk is archived."""
    data, feed = tmp_path / "data", Script()
    sent = [frame(number, size=100_000) for number in range(100)]
    with tmpfs(data, size="3m"):
        async with gateway_with(feed) as gateway:
            running = Recording(settings_for(gateway, data, topic=("market_data",)))
            await running.start()
            feed.push(f"smd+{AAPL}", *sent)
            with pytest.raises(DiskError, match=r"the journal cannot be written: .*No space left"):
                await running.ended()
        run("mount", "-o", "remount,size=64m", str(data))
        flush(open_layout(data), tell=lambda _news: None)

        kept = [data for data in payloads(data) if b'"smd+' in data]
        assert 0 < len(kept) < len(sent)
        assert kept == sent[: len(kept)]
        async with gateway_with(feed) as gateway, recording(settings_for(gateway, data, topic=("market_data",))):
            gaps = recorder.open(data).gaps()
            assert ["disk_full"] == gaps["cause"].tolist()
            assert gaps["evidence"].str.contains("No space left").all()
        is_whole(data)


@in_loop
async def test_a_disk_that_takes_no_parquet_for_a_while_costs_no_frame(tmp_path: Path) -> None:
    """Capture goes on journaling and says what is wrong; the flush is tried until it succeeds."""
    data, feed = tmp_path / "data", Script()
    layout = make_layout(data, DayBoundary("00:00 UTC"))
    make_folder(layout.tmp("main"), below=layout.root)
    sent = [frame(number) for number in range(20_000)]
    with ExitStack() as until_repaired:
        until_repaired.enter_context(tmpfs(layout.tmp("main"), size="64k"))
        async with (
            gateway_with(feed) as gateway,
            recording(settings_for(gateway, data, topic=("market_data",), flush_every=0.5)) as running,
        ):
            feed.push(f"smd+{AAPL}", *sent[:10_000])
            await eventually(lambda: running.capture.counters.problem)
            feed.push(f"smd+{AAPL}", *sent[10_000:])
            await eventually(lambda: running.received >= len(sent))
            flushed_while_full = running.capture.counters.flushes
            until_repaired.close()
            await eventually(lambda: running.capture.counters.flushes)

            assert flushed_while_full == 0
            assert running.capture.counters.problem is None

    assert [data for data in payloads(data) if b'"smd+' in data] == sent
    is_whole(data)


@in_loop
async def test_a_stalled_disk_loses_no_frame_and_keeps_the_connection(tmp_path: Path) -> None:
    """Frames wait in memory while the disk does not answer."""
    data, feed = tmp_path / "disk" / "data", Script()
    sent = [frame(number) for number in range(10_000)]
    with ext4(tmp_path / "disk", tmp_path / "image"):
        async with (
            gateway_with(feed) as gateway,
            recording(settings_for(gateway, data, topic=("market_data",))) as running,
        ):
            with frozen(tmp_path / "disk"):
                for begin in range(0, len(sent), 500):
                    feed.push(f"smd+{AAPL}", *sent[begin : begin + 500])
                    await asyncio.sleep(0.1)
                await eventually(lambda: running.received >= len(sent))

        frames = [one for one in frames_of(data) if one.kind == "in"]
        assert [one.data for one in frames if b'"smd+' in one.data] == sent
        assert {one.conn for one in frames} == {1}
        is_whole(data)


@in_loop
async def test_past_the_bound_of_memory_reading_pauses_and_the_journal_says_so(tmp_path: Path) -> None:
    """What the socket holds meanwhile arrives afterwards: nothing is dropped."""
    data, feed = tmp_path / "disk" / "data", Script()
    sent = [frame(number, size=10_000) for number in range(2_000)]
    with ext4(tmp_path / "disk", tmp_path / "image"):
        async with (
            gateway_with(feed) as gateway,
            recording(settings_for(gateway, data, topic=("market_data",), journal_memory=1_000_000)) as running,
        ):
            with frozen(tmp_path / "disk"):
                feed.push(f"smd+{AAPL}", *sent)
                await asyncio.sleep(2)
                received_while_frozen = running.received
            await eventually(lambda: running.received >= len(sent))

        marks = [decode_mark(one.data) for one in frames_of(data) if one.kind == "mark"]
        assert received_while_frozen < len(sent) // 2
        assert [mark["high"] for mark in marks if mark["event"] == "backpressure"][:2] == [True, False]
        assert [one for one in payloads(data) if b'"smd+' in one] == sent
        is_whole(data)
