"""Bar requests: streams that answer once, sent no more at a time than the broker lets be open.

1. The broker answers a request for bars once, yet keeps it open until it is cancelled with the answer's `serverId`;
   while five are open, a sixth gets silence (the broker's document). So each answer is cancelled at once, and lets the
   next request go.
2. A request without an answer stays open at the broker, since nothing else can cancel it. After `ANSWER_WITHIN` it
   counts no longer here, so that the others are tried all the same; an answer that still comes is cancelled too.
3. No I/O and no clock: `now` is in seconds of a clock that never steps.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Final

from recorder.protocol.stream_plan import Stream

ANSWER_WITHIN: Final = 30.0
_BLANK: Final = re.compile(r"\{(\w+)\}")


class BarRequests:
    """The requests of one connection: those that wait, and those that are open with the time they are due."""

    def __init__(self) -> None:
        self._waiting: deque[Stream] = deque()
        self._open: dict[str, tuple[Stream, float]] = {}
        self._late: dict[str, tuple[Stream, float]] = {}

    @property
    def deadline(self) -> float | None:
        """When `overdue` has something to tell; None while nothing is open."""
        return min((due for _, due in self._open.values()), default=None)

    def add(self, stream: Stream) -> None:
        """Let a request wait for its turn; one that waits or is open already is not added again."""
        if stream.key not in self._open and stream not in self._waiting:
            self._waiting.append(stream)

    def due(self, now: float) -> list[Stream]:
        """Take out what may be sent now."""
        taken = []
        while self._waiting and len(self._open) < self._waiting[0].at_once:
            stream = self._waiting.popleft()
            self._open[stream.key] = (stream, now + ANSWER_WITHIN)
            taken.append(stream)
        return taken

    def request_of(self, key: str) -> str | None:
        """Find the request that a frame with this topic answers."""
        return _find(self._open, key) or _find(self._late, key)

    def answered(self, key: str, frame: Mapping[str, Any]) -> list[str] | None:
        """Take in a frame; if it answers a request, give the texts that cancel it: none if the answer lacks the id.

        The frame's topic is the request's; where it names the contract alone, `smh+265598` for `smh+265598@NYSE`, the
        contract decides (what the broker does is not confirmed).
        """
        for requests in (self._open, self._late):
            if (found := _find(requests, key)) is not None:
                stream, _ = requests.pop(found)
                names = _BLANK.findall(stream.cancel)
                known = all(frame.get(name) is not None for name in names)
                return [_BLANK.sub(lambda blank: str(frame[blank[1]]), stream.cancel)] if known else []
        return None

    def failed(self, key: str) -> None:
        """Forget a request that was refused; it is not open at the broker."""
        self._open.pop(key, None)

    def overdue(self, now: float) -> list[str]:
        """Give up on requests without an answer; give their keys."""
        late = [key for key, (_, due) in self._open.items() if now >= due]
        for key in late:
            self._late[key] = self._open.pop(key)
        return late

    def keep(self, keys: Collection[str]) -> None:
        """Go on with these only."""
        self._waiting = deque(stream for stream in self._waiting if stream.key in keys)
        self._open = {key: pair for key, pair in self._open.items() if key in keys}
        self._late = {key: pair for key, pair in self._late.items() if key in keys}


def _find(requests: Collection[str], key: str) -> str | None:
    if key in requests:
        return key
    return next((name for name in requests if name.partition("@")[0] == key.partition("@")[0]), None)
