"""The forge: processes of the recorder, forked from one that has imported it, so that each starts in milliseconds.

A process that is forged runs the recorder's own functions and dies by the signals it is sent or sends itself. It can be
told to log what it synced, to do without the exchange of folders, which some file systems cannot, and to note all syncs
for a simulated power loss.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from power import track

from recorder import faults, recording
from recorder.archive import replacement
from recorder.archive.layout import open_layout
from recorder.capture import archiver_process, capture, journal_writer
from recorder.capture.settings import CaptureSettings
from recorder.disk import sync_file, sync_path
from recorder.protocol.topics import load_topics
from recorder.recording import compact_finished, flush, rebuild_topic, record, verify_archive

ROOT = Path(__file__).parent.parent


class Forge:
    """Starts processes and waits for them; what they print goes to `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECORDER_", "IBKR_"))}
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error", __file__],
            env=kept | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, do: str, data: Path, *, kill_at: str = "", once: Path | None = None, **options: Any) -> int:
        """Start a process that does one of `WORK` in an archive; give its id.

        It dies at the points of `kill_at`; with the folder `once`, only if no process died there before.
        """
        variables = {faults.VARIABLE: kill_at} | ({} if once is None else {faults.ONCE: str(once)})
        return self._ask({"do": do, "data": str(data), "log": str(self._log), "variables": variables, **options})

    def wait(self, process: int) -> int:
        """Wait until a process ends; give its exit code, negative for a signal."""
        return self._ask({"wait": process})

    async def ended(self, process: int) -> int:
        """Wait as `wait` does, without stopping the event loop."""
        return await asyncio.to_thread(self.wait, process)

    def run(self, do: str, data: Path, *, kill_at: str = "", once: Path | None = None, **options: Any) -> int:
        """Start a process and wait until it ends; give its exit code."""
        return self.wait(self.start(do, data, kill_at=kill_at, once=once, **options))

    def printed(self) -> str:
        """Give what the processes printed."""
        return self._log.read_text("utf-8") if self._log.exists() else ""

    def close(self) -> None:
        """End the forge; processes that run go on."""
        self._server.communicate()

    def _ask(self, order: Mapping[str, object]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


@contextmanager
def forging(log: Path) -> Iterator[Forge]:
    """Give a forge while the context lasts."""
    forge = Forge(log)
    try:
        yield forge
    finally:
        forge.close()


# ------------------------------------------------------------------ in the forge


def _capture(data: Path, **settings: Any) -> None:
    asyncio.run(record(msgspec.convert(settings | {"data": data}, CaptureSettings, strict=False)))


def _flush(data: Path) -> None:
    flush(open_layout(data), tell=lambda _news: None)


def _compact(data: Path) -> None:
    compact_finished(open_layout(data), before="2100-01-01", done=lambda _rows: None)


def _rebuild(data: Path, *, topic: str) -> None:
    topics = load_topics()
    rebuild_topic(open_layout(data), topics, topics[topic], done=lambda _frames: None)


def _repair(data: Path) -> None:
    verify_archive(open_layout(data), load_topics(), rederive=False, repair=True, done=lambda _frames: None)


WORK: dict[str, Callable[..., None]] = {
    "capture": _capture,
    "flush": _flush,
    "compact": _compact,
    "rebuild": _rebuild,
    "repair": _repair,
}


def _log_syncs(path: str) -> None:
    """Let a capture log which segment it synced up to which size."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def logged(handle: int) -> None:
        size = os.fstat(handle).st_size
        sync_file(handle)
        os.write(log, f"{size} {Path(f'/proc/self/fd/{handle}').readlink()}\n".encode())

    def logged_left(path: Path) -> None:
        size = path.stat().st_size
        sync_path(path)
        os.write(log, f"{size} {path}\n".encode())

    assert "sync_file" in vars(journal_writer), "it is the writer that syncs"
    vars(journal_writer)["sync_file"] = logged
    vars(recording)["sync_path"] = logged_left


def _work(do: str, data: str, log: str, variables: dict[str, str], **options: Any) -> int:
    """Be the process that was ordered; give its exit code."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(variables)
    importlib.reload(faults)
    vars(archiver_process)["_PAUSES"] = (0.05,) * 100
    vars(capture)["_ARCHIVE_WITHIN"] = 120.0  # the archiver dies again and again, on a machine that may be busy
    if not options.pop("exchange", True):
        vars(replacement)["_renameat2"] = None
    if shadow := options.pop("shadow", None):
        track(Path(data), Path(shadow))
    if syncs := options.pop("syncs", None):
        _log_syncs(syncs)
    try:
        WORK[do](Path(data), **options)
    except BaseException:  # noqa: BLE001  the top of a process
        traceback.print_exc()
        return 1
    return 0


def _serve() -> None:
    while line := sys.stdin.readline():
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201  the answer
            continue
        process = os.fork()
        if process == 0:
            os._exit(_work(**order))
        print(process, flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    _serve()
