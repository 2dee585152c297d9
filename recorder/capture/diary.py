"""The diary of a recorder: what its marks say about connections and gaps of the last day."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Final

from recorder.capture.status import GapStatus
from recorder.protocol.ledger import Closed, Gap, read_gap
from recorder.protocol.marks import decode_mark

_DAY: Final = 86_400_000_000  # microseconds
_MOST: Final = 2_000  # closed gaps that are kept to be shown; the archive has them all

_Key = tuple[str, int | None]


class Diary:
    """Follows the marks of a session as they are journaled.

    It only serves to be looked at: the marks themselves are in the journal, and the ledger is made of those.
    """

    def __init__(self) -> None:
        self.connected = False
        self.connections = 0
        self.gaps_left_out = 0
        self._welcome = False
        self._open: dict[_Key, GapStatus] = {}
        self._closed: deque[GapStatus] = deque()

    @property
    def logged_in(self) -> bool:
        """Whether the connection has a brokerage session."""
        return self._welcome and not any(gap.cause == "not_authenticated" for gap in self._open.values())

    def follow(self, mark: bytes) -> None:
        """Take in a mark."""
        read = read_gap(mark)
        if isinstance(read, Gap):
            self._open[read.key] = GapStatus(read.topic, read.conid, read.start, None, read.cause)
        elif isinstance(read, Closed):
            gap = read.gap
            opened = self._open.get(gap.key)
            if opened is not None and opened.start == gap.start:
                del self._open[gap.key]
            self._keep(GapStatus(gap.topic, gap.conid, gap.start, read.end, gap.cause))
        else:
            self._event(str(decode_mark(mark)["event"]))

    def recall(self, earlier: Iterable[GapStatus]) -> None:
        """Take in gaps of the recorder's earlier sessions, all of them over."""
        self._closed = deque(sorted([*earlier, *self._closed], key=lambda gap: gap.end or 0))

    def gaps(self, now: int) -> tuple[GapStatus, ...]:
        """List the gaps that reach into the last day, oldest first, open ones included."""
        while self._closed and (self._closed[0].end or 0) < now - _DAY:
            self._closed.popleft()
        return tuple(sorted(chain(self._closed, self._open.values()), key=lambda gap: gap.start))

    def _event(self, event: str) -> None:
        if event == "connected":
            self.connected, self._welcome = True, False
            self.connections += 1
        elif event == "logged_in":
            self._welcome = True
        elif event in ("disconnected", "session_stopped"):
            self.connected = self._welcome = False

    def _keep(self, gap: GapStatus) -> None:
        self._closed.append(gap)
        if len(self._closed) > _MOST:
            self._closed.popleft()
            self.gaps_left_out += 1
