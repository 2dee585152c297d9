"""The delivery of alerts: to a command, and to a web address."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from recorder.errors import RecorderError

_WITHIN: Final = 20.0
_SHOWN: Final = 200  # characters of a failing command's output

Document = dict[str, Any]


async def deliver(document: Document, *, command: str, url: str) -> None:
    """Hand an alert to the command and post it to the address, whichever is given; both are tried.

    `RecorderError` says what did not take it. The command's words are taken apart as a shell would, but no shell runs
    it. It gets the text on standard input, and the document in the variable ALERT_JSON.
    """
    tries = [_run(command, document)] if command else []
    tries += [_post(url, document)] if url else []
    failures = [said for said in await asyncio.gather(*tries) if said is not None]
    if failures:
        raise RecorderError("; ".join(failures))


async def _run(command: str, document: Document) -> str | None:
    words = shlex.split(command)
    text = str(document["text"])
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"ALERT_JSON": msgspec.json.encode(document).decode()},
            start_new_session=True,  # Ctrl-C is for the capture
        )
    except OSError as exc:
        return f"alert_command: {words[0]} does not start: {exc.strerror}"
    try:
        said, _ = await asyncio.wait_for(process.communicate(f"{text}\n".encode()), _WITHIN)
    except TimeoutError:
        return f"alert_command: {words[0]} did not end within {_WITHIN:g} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode == 0:
        return None
    shown = " ".join(said.decode("utf-8", "replace").split())[:_SHOWN]
    return f"alert_command: {words[0]} ended with code {process.returncode}: {shown or 'it said nothing'}"


async def _post(url: str, document: Document) -> str | None:
    """Post the document; what is said of a failure names the host only: the rest of such an address is often a key."""
    host = urlsplit(url).hostname
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_WITHIN)) as http,
            http.post(
                url,
                data=msgspec.json.encode(document),
                headers={"Content-Type": "application/json", "User-Agent": "ibkr-recorder"},
            ) as answer,
        ):
            if answer.ok:
                return None
            return f"alert_url: {host} answers with HTTP {answer.status}"
    except TimeoutError:
        return f"alert_url: {host} did not answer within {_WITHIN:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        return f"alert_url: {host} cannot be reached ({type(exc).__name__})"
