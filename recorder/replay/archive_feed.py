"""The archive as a feed: recorded frames at the pace of a replay clock, for the emulated gateway to serve.

1. Frames go out as they were received, to the byte. What a gateway says of its own accord (`system`, `sts`, `act`,
   `tic`, echoes) and what answered a request of the recorder's is not repeated: the emulated gateway says its own.
2. The clock stands until the first subscription was accepted and those that came with it are in, unless told otherwise.
3. What befell the recorded connection befalls the clients: it ends where it ended, and its brokerage session is lost
   where it was. Not so where gaps are skipped, nor as fast as can be: there no time passes between the two ends.
4. A session of the recorder begins with nothing known, as its capture did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np

from recorder.archive.reading import Reader, Span
from recorder.protocol.replay_clock import ReplayClock
from recorder.replay.feed import Due, Instrument, Turn
from recorder.replay.recorded_contents import Contents
from recorder.replay.recorded_run import Run
from recorder.replay.recorded_slices import OWN, Ahead, Happening, Loaded
from recorder.replay.recorded_state import KEPT, KEPT_AT_A_PACE, RecordedState

_SLICE: Final = 4_096  # frames given at once, at most
_SLICE_BYTES: Final = 1 << 18  # beyond the first: clients read while the next are made ready
_SETTLED_US: Final = 250_000
_STANDING_US: Final = 20_000
_SKIPPED_US: Final = 2_000_000  # a silence worth skipping


class ArchiveFeed:
    """One recorder's frames of a span of time.

    `gaps` are the holes in the data, as start and end, that `skip_gaps` leaps over. `loop` begins again at the end.
    `begun` and `ended` say how far it is; `clock` is shared by all clients.
    """

    def __init__(
        self,
        reader: Reader,
        contents: Contents,
        *,
        speed: float | None = 1.0,
        at_once: bool = False,
        loop: bool = False,
        skip_gaps: bool = False,
        gaps: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.clock = ReplayClock(contents.begin, speed=speed)
        self.contents = contents
        self.accounts: Sequence[str] = contents.accounts
        self.instruments: Mapping[int, Instrument] = contents.instruments
        self.ended = False
        self.paused = False
        self._reader = reader
        self._at_once = at_once
        self._loop = loop
        self._skip_gaps = skip_gaps
        self._gaps = gaps
        self._state = RecordedState()
        self._session = ""
        self._authenticated = True
        self._wanted: frozenset[str] = frozenset()
        self._settled_at: int | None = None
        self._ahead: Ahead | None = None
        self._loaded: Loaded | None = None
        self._place = 0  # in what is loaded
        self._moved: int | None = contents.begin  # where to read from, before anything else is given

    @property
    def lossless(self) -> bool:
        """Whether every client must get every frame: where nothing but the clients sets the pace."""
        return self.clock.speed is None

    async def prepare(self) -> None:
        """Learn what was known at the beginning, before anybody asks; the first `due` would do it otherwise."""
        if self._moved is not None:
            await self._move(self._moved)

    def want(self, streams: Collection[str]) -> None:
        """Take note of all streams that some client has now."""
        self._wanted = frozenset(streams)
        self._settled_at = None

    def snapshot(self, stream: str, now: int) -> bytes | None:  # noqa: ARG002  what was given so far says it
        """Give a full frame of what was given so far."""
        return self._state.snapshot(stream)

    def orders(self, now: int) -> Sequence[Mapping[str, object]]:  # noqa: ARG002  as above
        """Give the rows of the orders known so far."""
        return self._state.orders()

    def seek(self, moment: int, now: int) -> None:
        """Go on at another moment of the recording, within its span."""
        self._moved = min(max(moment, self.contents.begin), self.contents.end)
        self.clock.seek(self._moved, now)
        self.ended = False

    def pause(self, now: int) -> None:
        """Let the clock stand until `resume`."""
        self.paused = True
        self.clock.pause(now)

    def resume(self, now: int) -> None:
        """Let the clock go on, or begin."""
        self.paused = False
        self.clock.start(now)

    def close(self) -> None:
        """Read no more."""
        if self._ahead is not None:
            self._ahead.close()

    async def due(self, now: int) -> Due:
        """Give what is due by now, at most one slice."""
        if self._moved is not None:
            await self._move(self._moved)
            return Due((), now, "moved")
        if not self.clock.running and not self._begins(now):
            return Due((), now + _STANDING_US)
        if self.ended:
            return Due((), None)
        found = await self._load()
        if self._moved is not None:
            return Due((), now)  # somebody has moved it meanwhile
        return self._slice(found, now) if found is not None else self._end(now)

    def _slice(self, loaded: Loaded, now: int) -> Due:
        """Give what is due of what is loaded."""
        latest = loaded.latest
        last = self._limit(loaded)
        if self.clock.speed is not None:
            reached = int(np.searchsorted(latest[self._place : last], self.clock.at(now), side="right"))
            last = self._place + reached
        if last == self._place:
            return Due((), self._next(int(latest[self._place]), now))
        batch, turn = self._cut(loaded, last)
        self.clock.reach(int(latest[self._place - 1]))
        following = int(latest[self._place]) if self._place < len(latest) else self.clock.at(now)
        return Due(batch, self.clock.due(following, now), turn)

    def _limit(self, loaded: Loaded) -> int:
        """Say where a slice ends at the latest: at some bytes, or at some frames."""
        places, offsets = loaded.places, loaded.columns.offsets
        first = int(np.searchsorted(places, self._place))
        last = int(np.searchsorted(offsets, offsets[first] + _SLICE_BYTES, side="right"))
        ends = int(places[last]) if last < len(places) else len(loaded.latest)
        return min(self._place + _SLICE, max(ends, self._place + 1))

    def _begins(self, now: int) -> bool:
        """Start the clock if it is time to: nobody has paused it, and a client is ready."""
        if self.paused:
            return False
        if not self._at_once:
            if not any(stream.partition("+")[0] not in OWN for stream in self._wanted):
                return False
            if self._settled_at is None:
                self._settled_at = now + _SETTLED_US
            if now < self._settled_at:
                return False
        self.clock.start(now)
        return True

    def _next(self, moment: int, now: int) -> int:
        """Say when to go on, which is when the next frame is due; leap over a gap."""
        here = self.clock.at(now)
        silent = self._skip_gaps and moment - here > _SKIPPED_US
        if silent and any(start < moment and end > here for start, end in self._gaps):
            self.clock.seek(moment, now)
        due = self.clock.due(moment, now)
        return now + _STANDING_US if due is None else due

    def _end(self, now: int) -> Due:
        if self._loop:
            self.seek(self.contents.begin, now)
            return Due((), now)
        self.ended = True
        return Due((), None)

    async def _load(self) -> Loaded | None:
        """Have a frame to give; None if there is none any more."""
        assert self._ahead is not None, "it was moved to where it begins"
        while self._loaded is None or self._place >= len(self._loaded.latest):
            self._loaded, self._place = await self._ahead.next(), 0
            if self._loaded is None:
                return None
            if self._loaded.session != self._session:
                self._session = self._loaded.session
                self._state.clear()
                self._authenticated = True
        return self._loaded

    async def _move(self, moment: int) -> None:
        """Begin to read at a moment, with what was known then."""
        self.close()
        known = await asyncio.to_thread(self.contents.known_at, self._reader, moment)
        self._state, self._session, self._authenticated = known.state, known.session, known.authenticated
        self._ahead = Ahead(self._reader, self.contents.recorder, Span(moment, self.contents.span.end))
        self._loaded, self._place = None, 0
        if self._moved == moment:  # else it was moved on meanwhile
            self._moved = None

    def _cut(self, loaded: Loaded, last: int) -> tuple[Run, Turn | None]:
        """Cut the next frames out, up to where something befell the connection."""
        turn: Turn | None = None
        if not self._skip_gaps and self.clock.speed is not None:
            for happening in loaded.happenings:
                befell = self._turn_of(happening) if self._place <= happening.place < last else None
                if befell is not None:
                    last, turn = happening.place + 1, befell
                    break
        self._state.kept = KEPT if self.clock.speed is None else KEPT_AT_A_PACE
        run = self._state.take(loaded, self._place, last)
        self._place = last
        return run, turn

    def _turn_of(self, happening: Happening) -> Turn | None:
        """Say what clients notice of a happening; an `sts` that tells what it told before is none."""
        if happening.what == "disconnected":
            return "disconnected"
        if happening.what == "orders" or self._authenticated == (happening.what == "regained"):
            return None
        self._authenticated = happening.what == "regained"
        return happening.what
