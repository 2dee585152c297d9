"""WebSocket frames as a server writes them: cutting plain ones out of what was read (RFC 6455, 5.2).

A plain frame is a whole message: text or binary, not masked, no extension. All others are the library's business, which
is handed them whole; so both sides agree on where a frame begins.
"""

from __future__ import annotations

from typing import Final

from recorder.protocol.segment import IN_BINARY, IN_TEXT

_TEXT: Final = 0x81  # last fragment, opcode 1
_BINARY: Final = 0x82
_MEDIUM: Final = 126  # the length is in the two bytes that follow
_LONG: Final = 127  # in the eight
_MASKED: Final = 0x80

Stamped = tuple[int, int, bytes]
"""A frame as it is received: ts_recv (microseconds since the epoch), `segment`'s code of kind and opcode, bytes."""


def plain_frames(data: bytes, at: int, ts_recv: int) -> tuple[list[Stamped], int]:
    """Cut plain frames from `at` on, up to the first that is not plain or not whole; give them and its place."""
    frames = []
    end = len(data)
    while at + 1 < end:
        first, size, begin = data[at], data[at + 1], at + 2
        if size >= _MEDIUM:
            if size == _MEDIUM:
                begin = at + 4
                size = int.from_bytes(data[at + 2 : begin])
            elif size == _LONG:
                begin = at + 10
                size = int.from_bytes(data[at + 2 : begin])
            else:
                break
        stop = begin + size
        if stop > end or begin > end:
            break
        if first == _TEXT:
            frames.append((ts_recv, IN_TEXT, data[begin:stop]))
        elif first == _BINARY:
            frames.append((ts_recv, IN_BINARY, data[begin:stop]))
        else:
            break
        at = stop
    return frames, at


def frame_end(data: bytes, at: int) -> int | None:
    """Say where the frame at `at` ends, which may be behind the end of `data`; None if its header is not all there."""
    if at + 1 >= len(data):
        return None
    size = data[at + 1]
    begin, length = at + 2, size & ~_MASKED
    if length >= _MEDIUM:
        begin += 2 if length == _MEDIUM else 8
        length = int.from_bytes(data[at + 2 : begin])
    begin += 4 if size & _MASKED else 0
    return begin + length if begin <= len(data) else None
