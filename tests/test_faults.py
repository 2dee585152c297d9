"""Faults that users meet, on the real command line: what is said, how it ends, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest import (
    AAPL,
    Ended,
    Script,
    command,
    end,
    environment,
    eventually,
    frames_of,
    gateway_with,
    in_loop,
    payloads,
    quote,
    run,
    start,
)

import recorder
from recorder.archive.layout import open_layout
from recorder.cli import main as cli
from recorder.lock import ARCHIVER, CAPTURE
from recorder.recording import flush
from recorder.replay.gateway import Gateway

ASKED = {f"smd+{AAPL}", "sor", "spl"}


def capture_arguments(gateway: Gateway | str, *more: str) -> list[str]:
    """Give the arguments of a capture into `data`."""
    url = gateway if isinstance(gateway, str) else gateway.base_url
    return ["capture", "--gateway", url, "--conid", str(AAPL), "--field", "bid_price", "--data", "data", *more]


@asynccontextmanager
async def capturing(folder: Path, feed: Script, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Capture from a script in a process of its own, which has subscribed."""
    async with gateway_with(feed) as gateway:
        process = await start(folder, *capture_arguments(gateway, *more))
        try:
            await eventually(lambda: feed.wanted == ASKED or process.returncode is not None)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def pushed(feed: Script, numbers: range, *, pause: float = 0.01) -> list[bytes]:
    """Send numbered quotes, ten at a time."""
    sent = []
    for number in numbers:
        sent.append(quote(number))
        feed.push(f"smd+{AAPL}", sent[-1])
        if number % 10 == 9:
            await asyncio.sleep(pause)
    return sent


async def journaled(folder: Path, sent: list[bytes]) -> None:
    """Wait until the last frame that was sent is on disk."""
    await eventually(lambda: sent[-1] in market_data(folder))


def bids(folder: Path) -> list[float]:
    """Read the bids that were recorded, in order."""
    bids: list[float] = recorder.open(folder / "data").load("market_data")["bid_price"].tolist()
    return bids


def market_data(folder: Path) -> list[bytes]:
    """Read the frames of market data that were recorded, in order."""
    return [data for data in payloads(folder / "data") if b'"smd+' in data]


async def archiver_of(folder: Path, *, other_than: int | None = None) -> int:
    """Tell the archiver's process by its lock file, once it has taken the lock."""
    path = folder / "data" / "journal" / "main" / ARCHIVER

    def holder() -> int | None:
        try:
            return int(json.loads(path.read_bytes())["pid"])
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    await eventually(lambda: holder() not in (None, other_than))
    return holder() or 0


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def assert_whole(folder: Path) -> None:
    """Check that every session's frames are numbered from 0, each once, and that the journal is empty."""
    by_session: dict[str, list[int]] = {}
    for frame in frames_of(folder / "data"):
        by_session.setdefault(frame.session, []).append(frame.seq)
    for numbers in by_session.values():
        assert list(range(len(numbers))) == numbers
    assert open_layout(folder / "data").segments("main") == []
    assert list((folder / "data" / ".tmp").rglob("*.parquet")) == []


def assert_complaint(ended: Ended, code: int, *said: str) -> None:
    """Check the exit code, one line that says what and one that says what to do."""
    lines = ended.err.splitlines()

    assert (code, 2, "") == (ended.code, len(lines), ended.out), ended
    assert lines[0].startswith("recorder: ")
    assert lines[1].startswith("try: ")
    for text in said:
        assert text in ended.err


def free_port() -> int:
    """Find a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def left(folder: Path) -> list[Path]:
    """List what was recorded."""
    return [*folder.rglob("*.seg"), *folder.rglob("*.parquet")]


@in_loop
async def test_a_gateway_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    """And nothing is journaled."""
    url = f"http://127.0.0.1:{free_port()}/v1/api"
    ended = await run(tmp_path, *capture_arguments(url))

    assert_complaint(ended, 1, f"no gateway at {url}", "Connection refused", "--gateway")
    assert [] == left(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--conid", "AAPL"], ["--conid", "'AAPL'", "contract ids"]),
        (["--topic", "quotes", "--conid", "1"], ["unknown topic 'quotes'", "market_data"]),
        (["--field", "bid_prise", "--conid", "1"], ["bid_prise", "bid_price"]),
        (["--topic", "status", "--conid", "1"], ["status", "cannot be subscribed to"]),
        (["--topic", "market_data"], ["market_data needs contracts", "--conid"]),
    ],
    ids=["conid", "topic", "field", "topic that comes by itself", "no conid"],
)
def test_a_mistake_on_the_command_line_is_said_before_anything_is_made(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: list[str],
) -> None:
    """Exit code 2, and no folder."""
    monkeypatch.chdir(tmp_path)
    code = cli.run(["capture", *arguments])

    assert_complaint(Ended(code, *capsys.readouterr()), 2, *said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", [".", "deeper/still"])
def test_a_data_folder_that_cannot_be_made_is_said(tmp_path: Path, below: str) -> None:
    """A file stands where the folder should."""
    (tmp_path / "data").write_text("mine")
    ended = asyncio.run(run(tmp_path, "capture", "--conid", "1", "--data", str(tmp_path / "data" / below)))

    assert_complaint(ended, 1, "data")
    assert "mine" == (tmp_path / "data").read_text("utf-8")


def test_a_folder_that_holds_other_things_is_no_archive(tmp_path: Path) -> None:
    """It stays as it is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("chapter 1")
    ended = asyncio.run(run(tmp_path, "capture", "--conid", "1", "--data", "data"))

    assert_complaint(ended, 1, "data holds other things (thesis.txt)", "--data DIR")
    assert [tmp_path / "data" / "thesis.txt"] == list((tmp_path / "data").iterdir())


@in_loop
async def test_a_second_capture_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """It names the process that has the name; the first goes on."""
    feed = Script()
    async with capturing(tmp_path, feed) as first:
        second = await run(tmp_path, *capture_arguments("http://127.0.0.1:1/v1/api"))
        sent = await pushed(feed, range(10))
        await journaled(tmp_path, sent)
        first.terminate()
        ended = await end(first)

    assert_complaint(second, 1, f"process {first.pid}", "'main'", "--name")
    assert 0 == ended.code
    assert sent == market_data(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Sent to the whole group, as a terminal does: exit 0, everything in Parquet, a summary, no traceback."""
    feed, sent = Script(), list[bytes]()

    @in_loop
    async def check() -> None:
        async with capturing(tmp_path, feed) as process:
            sent.extend(await pushed(feed, range(200)))
            await journaled(tmp_path, sent)
            os.killpg(process.pid, number)
            ended = await end(process)

        assert 0 == ended.code, ended
        assert "frames received" in ended.out
        assert f"{'market_data':<16} {200:>12,} frames" in ended.out
        assert "Traceback" not in ended.err

    check()
    assert sent == market_data(tmp_path)
    assert [number / 4 for number in range(200)] == bids(tmp_path)
    assert_whole(tmp_path)


@in_loop
async def test_a_signal_at_once_leaves_nothing_behind_that_matters(tmp_path: Path) -> None:
    """While the archiver still starts: it is not torn out of its start by a signal to the group."""
    feed = Script()
    async with gateway_with(feed) as gateway:
        process = await start(tmp_path, *capture_arguments(gateway))
        await eventually(lambda: list((tmp_path / "data").rglob("*.seg")))
        os.killpg(process.pid, signal.SIGINT)
        ended = await end(process)

    assert 0 == ended.code, ended
    assert "Traceback" not in ended.err
    assert "archiver ended" not in ended.err
    assert_whole(tmp_path)


@in_loop
async def test_a_second_signal_stops_at_once_and_the_journal_keeps_everything(tmp_path: Path) -> None:
    """Even while the archiver does not answer."""
    feed = Script()
    async with capturing(tmp_path, feed) as process:
        sent = await pushed(feed, range(100))
        await journaled(tmp_path, sent)
        archiver = await archiver_of(tmp_path)
        os.kill(archiver, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.5)
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(12):  # it would give the archiver up after 15 s
            await eventually(lambda: not alive(process.pid))
        os.kill(archiver, signal.SIGCONT)
        ended = await end(process)
        await eventually(lambda: not alive(archiver))
    flush(open_layout(tmp_path / "data"), tell=lambda _news: None)

    assert 1 == ended.code
    assert sent == market_data(tmp_path)
    assert_whole(tmp_path)


@in_loop
async def test_frames_survive_the_killing_of_the_capture(tmp_path: Path) -> None:
    """What was journaled is archived once, and it is a prefix of what was sent. The archiver ends by itself."""
    feed = Script()
    async with capturing(tmp_path, feed, "--flush-every", "0.4s") as process:
        sent = await pushed(feed, range(1000), pause=0.01)
        archiver = await archiver_of(tmp_path)
        process.kill()
        ended = await end(process)
        await eventually(lambda: not alive(archiver))
    before = market_data(tmp_path)
    waiting = open_layout(tmp_path / "data").segments("main")
    commits = flush(open_layout(tmp_path / "data"), tell=lambda _news: None)
    again = flush(open_layout(tmp_path / "data"), tell=lambda _news: None)

    assert -signal.SIGKILL == ended.code
    assert "Traceback" not in ended.err
    assert len(waiting) >= 1
    assert 1 <= len(commits) <= len(waiting)  # one may have been begun and not written, or committed and not removed
    assert [] == again
    recorded = market_data(tmp_path)
    assert before == recorded
    assert len(recorded) > 100
    assert sent[: len(recorded)] == recorded
    assert [number / 4 for number in range(len(recorded))] == bids(tmp_path)
    assert_whole(tmp_path)


@in_loop
async def test_the_next_capture_archives_what_a_killed_one_left(tmp_path: Path) -> None:
    """Started at once, while the other's archiver may still be there."""
    feed = Script()
    async with capturing(tmp_path, feed) as process:
        sent = await pushed(feed, range(100))
        await journaled(tmp_path, sent)
        process.kill()
        await end(process)
    feed = Script()
    async with capturing(tmp_path, feed) as process:
        sent += await pushed(feed, range(100, 200))
        await journaled(tmp_path, sent)
        process.terminate()
        ended = await end(process)

    assert 0 == ended.code, ended
    assert "breaks off" in ended.err
    assert sent == market_data(tmp_path)
    assert_whole(tmp_path)


@in_loop
async def test_a_killed_archiver_is_started_again_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """The capture goes on meanwhile."""
    feed = Script()
    async with capturing(tmp_path, feed, "--flush-every", "0.3s") as process:
        sent = await pushed(feed, range(300))
        first = await archiver_of(tmp_path)
        os.kill(first, signal.SIGKILL)
        sent += await pushed(feed, range(300, 600))
        await archiver_of(tmp_path, other_than=first)
        sent += await pushed(feed, range(600, 800))
        await journaled(tmp_path, sent)
        process.terminate()
        ended = await end(process)

    assert 0 == ended.code, ended
    assert "the archiver ended with code -9; it is started again" in ended.err
    assert "Traceback" not in ended.err
    assert sent == market_data(tmp_path)
    assert [number / 4 for number in range(800)] == bids(tmp_path)
    assert_whole(tmp_path)


@in_loop
async def test_an_archiver_that_is_killed_while_the_capture_stops_is_started_once_more(tmp_path: Path) -> None:
    """So that a stop still ends with everything in Parquet."""
    feed = Script()
    async with capturing(tmp_path, feed) as process:
        sent = await pushed(feed, range(100))
        await journaled(tmp_path, sent)
        archiver = await archiver_of(tmp_path)
        os.kill(archiver, signal.SIGSTOP)
        process.terminate()
        await asyncio.sleep(0.5)
        os.kill(archiver, signal.SIGKILL)
        ended = await end(process)

    assert 0 == ended.code, ended
    assert sent == market_data(tmp_path)
    assert_whole(tmp_path)


def tight_files(limit: int) -> None:
    """Let this process write no file beyond a size, as a full disk would."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@in_loop
async def test_a_full_disk_ends_the_capture_at_once_with_exit_1(tmp_path: Path) -> None:
    """It says so; what was written before is archived once there is room again."""
    feed = Script()
    async with gateway_with(feed) as gateway:
        process = await asyncio.create_subprocess_exec(
            *command(*capture_arguments(gateway)),
            cwd=tmp_path,
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=lambda: tight_files(200_000),
        )
        await eventually(lambda: feed.wanted == ASKED)
        sent = await pushed(feed, range(3000))
        ended = await end(process)
    flush(open_layout(tmp_path / "data"), tell=lambda _news: None)
    recorded = market_data(tmp_path)

    assert 1 == ended.code
    last = ended.err.splitlines()[-2:]
    assert "recorder: the journal cannot be written" in last[0]
    assert "File too large" in last[0]
    assert last[1].startswith("try: free or replace the disk")
    assert "Traceback" not in ended.err
    assert (
        "File too large"
        in json.loads((tmp_path / "data" / "journal" / "main" / CAPTURE).read_bytes())["failure"]["what"]
    )
    assert len(recorded) > 500
    assert sent[: len(recorded)] == recorded
    assert_whole(tmp_path)


@in_loop
async def test_commands_that_read_say_what_is_no_archive(tmp_path: Path) -> None:
    """A folder without an archive, none at all, a file."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    complaints: Sequence[Ended] = await asyncio.gather(
        *(run(tmp_path, "replay", "--data", name) for name in ("empty", "missing", "file"))
    )

    for ended, said in zip(complaints, ("is no archive", "there is no folder", "file"), strict=True):
        assert_complaint(ended, 1, said)
