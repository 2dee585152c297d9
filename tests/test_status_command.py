"""`recorder status`: how a recorder is doing, told from another process, running or dead."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    NOON,
    SESSION,
    Script,
    archive,
    end,
    eventually,
    gateway_with,
    in_loop,
    quotes,
    run,
    start,
    write_session,
)
from test_verdict import SECOND, gap, status_of

from recorder.archive.layout import Layout
from recorder.archive.space import daily_growth
from recorder.capture.status_file import NAME, write_status
from recorder.cli import main as cli
from recorder.disk import make_folder
from recorder.lock import CAPTURE, Holder, RecorderLock, is_held


def now() -> int:
    """Give the present moment in microseconds."""
    return time.time_ns() // 1000


def left(layout: Layout, recorder: str = "main", **values: Any) -> None:
    """Leave a status file, as if a capture had just written it."""
    make_folder(layout.journal(recorder), below=layout.root)
    present: dict[str, Any] = {"recorder": recorder, "session": SESSION, "at": now(), "since": now() - 3600 * SECOND}
    write_status(layout.journal(recorder), status_of(**present | {"last_frame": now(), "last_flush": now()} | values))


def held(layout: Layout, recorder: str = "main", session: str = SESSION) -> RecorderLock:
    """Hold a recorder's capture lock, as a capture that runs does."""
    lock = RecorderLock(layout.journal(recorder), CAPTURE, root=layout.root)
    lock.acquire()
    lock.write(Holder(os.getpid(), session))
    return lock


def status(layout: Layout, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any]:
    """Run the command; give its exit code and its document."""
    code = cli.run(["status", "--data", str(layout.root), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


@in_loop
async def test_a_capture_is_told_alive_well_dead_and_gone(tmp_path: Path) -> None:
    """A real one: while it runs, after it was killed, and after the next one stopped cleanly."""
    async with gateway_with(Script()) as gateway:
        arguments = ["capture", "--gateway", gateway.base_url, "--conid", "265598", "--data", "data"]

        async def told() -> tuple[int, Any]:
            ran = await run(tmp_path, "status", "--data", "data", "--json")
            return ran.code, json.loads(ran.out)["recorders"][0]

        async def records(pid: int) -> None:
            path = tmp_path / "data" / "journal" / "main" / NAME
            said = f'"pid":{pid},', '"state":"recording"'
            await eventually(lambda: path.exists() and all(one in path.read_text() for one in said))

        first = await start(tmp_path, *arguments)
        await records(first.pid)
        alive = await told()
        os.kill(first.pid, signal.SIGKILL)
        await end(first)
        dead = await told()
        second = await start(tmp_path, *arguments)
        await records(second.pid)
        os.kill(second.pid, signal.SIGTERM)
        await end(second)
        gone = await told()

    assert (alive[0], alive[1]["running"], alive[1]["state"], alive[1]["problems"]) == (0, True, "recording", [])
    assert (dead[0], dead[1]["running"], dead[1]["problems"][0]["what"]) == (1, False, "died")
    assert dead[1]["segments_waiting"] >= 1
    assert (gone[0], gone[1]["running"], gone[1]["problems"][0]["what"]) == (1, False, "stopped")
    assert (gone[1]["ended"], gone[1]["segments_waiting"]) == ("SIGTERM", 0)


def test_the_lock_tells_what_the_process_id_cannot(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """The process of this test is alive, and is no capture."""
    left(layout, pid=os.getpid())

    code, said = status(layout, capsys)
    assert (1, "died") == (code, said["recorders"][0]["problems"][0]["what"])


def test_a_capture_that_runs_and_is_well_ends_with_0(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock is held, and what it says of itself is new."""
    left(layout)
    lock = held(layout)

    code, said = status(layout, capsys)
    lock.release()
    assert (0, True, True) == (code, said["healthy"], said["recorders"][0]["running"])


def test_a_capture_that_hangs_is_found_out(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """It holds its lock, and its last words are old."""
    left(layout, at=now() - 60 * SECOND)
    lock = held(layout)

    code, said = status(layout, capsys)
    lock.release()
    assert (1, "silent") == (code, said["recorders"][0]["problems"][0]["what"])


def test_a_capture_that_has_just_begun_is_given_time(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """What the file says is the session before's."""
    left(layout, at=now() - 60 * SECOND)
    lock = held(layout, session="20261121T120000bbbb")

    code, said = status(layout, capsys)
    os.utime(lock.path, (time.time() - 60, time.time() - 60))
    later, says = status(layout, capsys)
    lock.release()
    assert (0, "The capture is starting.") == (code, said["recorders"][0]["verdict"])
    assert (1, "silent") == (later, says["recorders"][0]["problems"][0]["what"])


def test_an_archive_in_which_nobody_ever_recorded_is_not_well(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cron job that looks at the wrong folder must not be content."""
    assert status(layout, capsys)[0] == 1


def test_each_recorder_of_an_archive_is_told_and_one_can_be_picked(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is not well spoils the exit code of all, not that of another."""
    left(layout, "futures")
    left(layout, "main")
    lock = held(layout, "main")

    codes = [
        status(layout, capsys),
        status(layout, capsys, "--name", "main"),
        status(layout, capsys, "--name", "futures"),
    ]
    lock.release()
    assert [(code, [one["recorder"] for one in said["recorders"]]) for code, said in codes] == [
        (1, ["futures", "main"]),
        (0, ["main"]),
        (1, ["futures"]),
    ]


def test_an_unknown_recorder_is_a_usage_error(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """With the names that there are."""
    left(layout)

    assert cli.run(["status", "--data", str(layout.root), "--name", "mian"]) == 2
    assert "no recorder 'mian' has recorded" in (said := capsys.readouterr().err)
    assert "use one of: main" in said


def test_people_are_told_the_same_in_lines(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict first."""
    left(layout, gaps=tuple(one for one in (gap(0, 1),)), topics=status_of().topics)
    lock = held(layout)

    assert cli.run(["status", "--data", str(layout.root)]) == 0
    lock.release()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("main: All is well now: recording, the last frame came 0 s ago")
    assert lines[1].startswith(f"session      {SESSION}, since ")
    assert lines[2] == "state        recording, connected, logged in, 0 reconnects"
    assert lines[3].startswith("journal      100 frames not in Parquet, last flush ")
    assert lines[-1].startswith("disk         ")


def test_a_lock_is_seen_to_be_held_without_being_taken(layout: Layout) -> None:
    """Looking disturbs nobody: it can be taken at once, and a look of another process is no holder."""
    lock = held(layout)
    seen = [is_held(lock.path)]
    lock.release()
    seen.append(is_held(lock.path))
    with lock.path.open() as looked:
        fcntl.flock(looked, fcntl.LOCK_SH)
        seen.append(is_held(lock.path))

    assert seen == [True, False, False]
    assert not is_held(layout.root / "no such lock")


def test_growth_is_that_of_the_biggest_finished_date(layout: Layout) -> None:
    """Unknown until one is finished: nobody guesses."""
    day = 86_400_000_000
    write_session(layout, quotes(3), session="20261120T120000aaaa")
    archive(layout)
    write_session(layout, quotes(500, start=NOON + day), session="20261121T120000aaaa")
    archive(layout)
    write_session(layout, quotes(5, start=NOON + 2 * day), session="20261122T120000aaaa")
    archive(layout)

    def size(date: str) -> int:
        return sum(path.stat().st_size for path in layout.root.rglob(f"date={date}/**/*.parquet"))

    assert daily_growth(layout, today="2026-11-20") is None
    assert daily_growth(layout, today="2026-11-21") == size("2026-11-20")
    assert daily_growth(layout, today="2026-11-23") == size("2026-11-21") > size("2026-11-22")
