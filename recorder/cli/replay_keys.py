"""Keys that steer a replay from a terminal: space pauses, left and right seek, up and down change the speed."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from recorder.replay.archive_feed import ArchiveFeed
from recorder.replay.gateway import wall_clock

_STEP_US: Final = 60_000_000
_LEFT, _RIGHT, _UP, _DOWN = b"\x1b[D", b"\x1b[C", b"\x1b[A", b"\x1b[B"


@contextmanager
def keys_on_terminal(feed: ArchiveFeed, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Listen to the keys while the context lasts, if standard input is a terminal."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        yield
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    loop.add_reader(number, lambda: press(feed, os.read(number, 16), wall_clock()))
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def press(feed: ArchiveFeed, key: bytes, now: int) -> None:
    """Do what a key says; others mean nothing. At full speed, up and down have nothing to change."""
    speed = feed.clock.speed
    if key == b" ":
        (feed.pause if feed.clock.running else feed.resume)(now)
    elif key in (_LEFT, _RIGHT):
        feed.seek(feed.clock.at(now) + (_STEP_US if key == _RIGHT else -_STEP_US), now)
    elif key in (_UP, _DOWN) and speed is not None:
        feed.clock.change_speed(speed * 2 if key == _UP else speed / 2, now)
