"""The archiver's process: started, listened to, started again when it dies, and stopped last."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder.errors import RecorderError

_log = logging.getLogger(__name__)
_MODULE: Final = "recorder.archive.follower"
_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 15.0)
_LINE: Final = 1 << 20
_STOP: Final = b"stop\n"

Hear = Callable[[dict[str, Any]], None]


class ArchiverProcess:
    """The archiver of one session. `hear` takes each thing it says, as in `archive.follower`."""

    def __init__(self, data: Path, recorder: str, session: str, *, hear: Hear) -> None:
        self._command = [sys.executable, "-m", _MODULE, str(data), recorder, session]
        self._hear = hear
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._deaths = 0

    async def start(self) -> None:
        """Start it, and keep it running until `stop`."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, *, within: float) -> None:
        """Let it archive everything and end; `RecorderError` if it cannot in `within` seconds: the journal keeps it."""
        assert self._keeper is not None, "only a started archiver is stopped"
        self._stop.set()
        self._say(_STOP)
        try:
            await asyncio.wait_for(self._keeper, within)
        except TimeoutError:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            raise RecorderError(
                f"the last frames could not be archived within {within:g} s; they are safe in the journal",
                hint="run `recorder flush`, or start the capture again",
            ) from None

    def nudge(self) -> None:
        """Let it look at the journal now: there is something to archive."""
        self._say(b"look\n")

    async def _spawn(self) -> None:
        """Start the process, in a group of its own: a terminal's Ctrl-C is the capture's business."""
        with _signals_held():  # it inherits that, and so none ends it before it has a group, and ignores them
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE,
                process_group=0,
            )

    def _say(self, line: bytes) -> None:
        process = self._process
        if process is not None and process.stdin is not None and process.returncode is None:
            process.stdin.write(line)

    async def _keep(self) -> None:
        while True:
            assert self._process is not None, "it was spawned"
            code = await self._listen(self._process)
            if self._stop.is_set() and code == 0:
                return
            if self._stop.is_set() and self._deaths >= len(_PAUSES):
                raise RecorderError(
                    "the last frames could not be archived; they are safe in the journal",
                    hint="see the archiver's messages above, then run `recorder flush`",
                )
            await self._pause(code)
            await self._spawn()
            if self._stop.is_set():
                self._say(_STOP)

    async def _pause(self, code: int) -> None:
        """Wait longer with each death in a row, but not while the capture waits for its last frames."""
        pause = _PAUSES[min(self._deaths, len(_PAUSES) - 1)]
        self._deaths += 1
        self._hear({"event": "died", "code": code, "pause": pause})
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), pause)

    async def _listen(self, process: asyncio.subprocess.Process) -> int:
        assert process.stdout is not None, "it was opened as a pipe"
        async for line in process.stdout:
            try:
                said = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue  # it was killed amid a line
            if said["event"] == "archived":
                self._deaths = 0
            self._hear(said)
        return await process.wait()


@contextmanager
def _signals_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def trouble(said: dict[str, Any]) -> str:
    """Put into words what an archiver says that is not as it should be."""
    if said["event"] == "problem":
        return f"archiving failed and is tried again: {said['what']}"
    if said["event"] == "unread":
        return f"what is archived of an earlier session cannot all be read, `recorder verify` tells: {said['what']}"
    if said["event"] == "died":
        return f"the archiver ended with code {said['code']}; it is started again in {said['pause']:g} s"
    if said["event"] == "torn":
        kept = f"; what follows is kept in {said['kept']}" if said["kept"] else ""
        return f"{said['segment']} of an earlier session breaks off: {said['what']}{kept}"
    return f"{said['topic']}: {said['path']} has another schema; frames are archived, rows wait for a rebuild"
