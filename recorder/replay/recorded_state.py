"""What is known at a moment of a recording: the last value of every field, as the broker wrote it.

1. Frames are kept as they are and folded when somebody asks, or when they become many.
2. A field that a frame does not have is unchanged. A stream of which one frame is known gives that frame, to the byte.
3. Orders have no full frame: the broker sends updates only, and REST has the rows (the broker's document).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from recorder.protocol.envelope import read_json
from recorder.protocol.projection import objects_of
from recorder.replay.recorded_run import Run
from recorder.replay.recorded_slices import Loaded

KEPT: Final = 1 << 24
"""Bytes of frames that are kept unfolded, of all streams; a state that need not be ready at any moment."""
KEPT_AT_A_PACE: Final = 1 << 17
"""The same where frames are due by the clock: to fold them takes less than a millisecond."""
_LAST: Final = "topic"  # the key that closes a frame


class _Rows(NamedTuple):
    """Where a topic's rows stand, what tells them apart, and whether a newer one replaces all of an older one."""

    payload: str
    key: str
    whole: bool


_ROWS: Final[Mapping[str, _Rows]] = {
    "ssd": _Rows("result", "key", whole=False),
    "sld": _Rows("result", "key", whole=False),  # a bare row is an unchanged one (the broker's document)
    "str": _Rows("args", "execution_id", whole=True),
    "sbd": _Rows("data", "row", whole=True),
}
_ORDERS: Final = _Rows("args", "orderId", whole=False)


class RecordedState:
    """The state of all streams of one session; `kept` is how many bytes of frames may be unfolded."""

    def __init__(self) -> None:
        self.kept = KEPT
        self._fresh: list[Run] = []  # not folded yet
        self._size = 0
        self._values: dict[str, dict[str, msgspec.Raw]] = {}  # market data
        self._only: dict[str, bytes] = {}  # the frame of a stream that has had but one
        self._frames: dict[str, dict[str, Any]] = {}  # other topics: the last frame, with all rows
        self._orders: dict[object, dict[str, Any]] = {}

    def clear(self) -> None:
        """Forget all: another session begins, and with it full frames."""
        self.__init__()  # type: ignore[misc]

    def take(self, loaded: Loaded, first: int, last: int) -> Run:
        """Take in what came from one place to another, the last excluded; give the frames of it."""
        begin, end = np.searchsorted(loaded.places, (first, last)).tolist()
        at = begin
        for happening in loaded.happenings:
            if happening.what == "orders" and first <= happening.place < last:
                before = int(np.searchsorted(loaded.places, happening.place))
                self.add(Run(loaded.columns, at, before))
                self._add_orders(happening.answer)
                at = before
        self.add(Run(loaded.columns, at, end))
        return Run(loaded.columns, begin, end)

    def add(self, run: Run) -> None:
        """Take frames in."""
        if not len(run):
            return
        before = self._fresh[-1] if self._fresh else None
        if before is not None and before.columns is run.columns and before.last == run.first:
            self._fresh[-1] = Run(run.columns, before.first, run.last)
        else:
            self._fresh.append(run)
        self._size += run.size
        if self._size >= self.kept:
            self.fold()

    def fold(self) -> None:
        """Fold all that is kept unfolded."""
        fresh, self._fresh, self._size = self._fresh, [], 0
        for run in fresh:
            for stream, frames in run.telling().items():
                self._fold_stream(stream, frames)

    def snapshot(self, stream: str) -> bytes | None:
        """Give a full frame of a stream; None if nothing is known of it, and for orders."""
        self.fold()
        if stream in self._only:
            return self._only[stream]
        values = self._values.get(stream)
        if values is not None:
            return msgspec.json.encode(values)
        frame = self._frames.get(stream)
        return None if frame is None else msgspec.json.encode(frame)

    def orders(self) -> list[dict[str, Any]]:
        """Give the rows of the orders known, as they are now."""
        self.fold()
        return list(self._orders.values())

    def _add_orders(self, body: bytes) -> None:
        """Take in an answer of REST `/iserver/account/orders`."""
        self.fold()
        answer = read_json(body)
        if isinstance(answer, dict):
            _merge(self._orders, answer.get("orders"), _ORDERS)

    def _fold_stream(self, stream: str, frames: list[bytes]) -> None:
        prefix = stream.partition("+")[0]
        if prefix == "smd":
            self._fold_values(stream, frames)
        elif prefix == "sor":
            for frame in frames:
                content = read_json(frame)
                if isinstance(content, dict):
                    _merge(self._orders, content.get("args"), _ORDERS)
        else:
            for frame in frames:
                self._fold_rows(stream, prefix, frame)

    def _fold_values(self, stream: str, frames: list[bytes]) -> None:
        values = self._values.get(stream)
        if values is None and len(frames) == 1:
            self._only[stream] = frames[0]
        else:
            self._only.pop(stream, None)
        merged = dict(values or {})
        for found in objects_of(frames):
            if "error" not in found:
                merged.update(found)
        if _LAST in merged:
            merged[_LAST] = merged.pop(_LAST)
        # a raw value holds on to the whole text that it was read from
        self._values[stream] = {key: value.copy() for key, value in merged.items()}

    def _fold_rows(self, stream: str, prefix: str, frame: bytes) -> None:
        content = read_json(frame)
        if not isinstance(content, dict) or "error" in content:
            return
        known, rows = self._frames.get(stream), _ROWS.get(prefix)
        if prefix == "spl" and isinstance(content.get("args"), dict):
            args: dict[str, Any] = dict(known["args"]) if known is not None else {}
            for name, row in content["args"].items():
                args[name] = {**args.get(name, {}), **row} if isinstance(row, dict) else row
            merged = content | {"args": args}
        elif rows is not None:
            table: dict[object, dict[str, Any]] = {}
            if known is not None:
                _merge(table, known.get(rows.payload), rows)
            _merge(table, content.get(rows.payload), rows)
            merged = content | {rows.payload: list(table.values())}
        else:
            merged = content
        if merged == content:
            self._only[stream] = frame
        else:
            self._only.pop(stream, None)
        self._frames[stream] = merged


def _merge(table: dict[object, dict[str, Any]], rows: object, how: _Rows) -> None:
    """Take rows into a table; what is no list of objects with their key is passed over."""
    for row in rows if isinstance(rows, list) else [rows]:
        if isinstance(row, dict) and how.key in row:
            before = {} if how.whole else table.get(row[how.key], {})
            table[row[how.key]] = before | row
