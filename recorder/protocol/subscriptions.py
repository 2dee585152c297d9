"""The subscriptions of a connection: what is wanted, what was asked for, and when it is to be asked for again.

1. Nothing confirms a subscription of market data, and a refusal comes as an error frame or as silence.
2. The server keeps no subscriptions: a new connection begins with none (seen in captures).
3. The texts that leave here are the topic files' `send` and `cancel`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from recorder.protocol.bar_requests import BarRequests
from recorder.protocol.health import StreamState
from recorder.protocol.stream_plan import Stream
from recorder.protocol.stream_watch import StreamWatch

RETRY_MOST: Final = 300.0
"""The longest pause before a refused stream is asked for again, seconds; the first is `reconnect_delay`."""


@dataclass(slots=True)
class Line:
    """One stream and how it does. Times are seconds of a clock that never steps.

    `asked_at` is when its subscription was last sent on this connection, `heard_at` when its last frame came on any,
    `ask_at` when it is to be asked for again after a refusal. `holed` says that its contract has an open gap, which
    began at `hole_from` if that is known. `entitled` is false once the broker said that the data is not subscribed,
    `dead` is true of a stream that was given up as stale and not heard since.
    """

    stream: Stream
    state: StreamState = "waiting"
    asked_at: float | None = None
    heard_at: float | None = None
    ask_at: float | None = None
    pause: float | None = None
    holed: bool = False
    hole_from: float | None = None
    entitled: bool = True
    dead: bool = False
    watch: StreamWatch = field(default_factory=StreamWatch)

    @property
    def active(self) -> bool:
        """Whether it is subscribed on this connection."""
        return self.state != "waiting"


class Subscriptions:
    """What is subscribed on one connection after the other; `texts` is what is to be sent, in order."""

    def __init__(self, streams: Iterable[Stream], *, renew_every: float, first_pause: float) -> None:
        self.lines = {stream.key: Line(stream) for stream in streams}
        self.texts: list[str] = []
        self.bars = BarRequests()
        self._renew_every = renew_every
        self._first_pause = first_pause
        self._renew_at: float | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """Name the topics, each once."""
        return tuple(dict.fromkeys(line.stream.topic for line in self.lines.values()))

    def of_topic(self, topic: str) -> list[Line]:
        """List a topic's lines."""
        return [line for line in self.lines.values() if line.stream.topic == topic]

    def deadlines(self) -> list[float]:
        """List when `due` has something to do."""
        dates = [line.ask_at for line in self.lines.values()]
        return [date for date in (*dates, self._renew_at, self.bars.deadline) if date is not None]

    def subscribe(self, line: Line, now: float) -> None:
        """Ask for a stream that is not subscribed, or that was refused; one of bars waits for its turn (`ask_bars`)."""
        line.state, line.asked_at, line.ask_at = "asked", now, None
        line.watch.subscribed()
        if line.stream.at_once:
            self.bars.add(line.stream)
            return
        self.texts.append(line.stream.subscribe)
        if line.stream.renew and self._renew_at is None:
            self._renew_at = now + self._renew_every

    def ask_bars(self, now: float) -> list[Line]:
        """Ask for the bars whose turn it is; list them."""
        asked = [self.lines[stream.key] for stream in self.bars.due(now)]
        for line in asked:
            line.asked_at = now
            self.texts.append(line.stream.subscribe)
        return asked

    def renew(self, line: Line) -> None:
        """Ask for a running stream again, so that it does not end, or to see whether it lives."""
        self.texts.append(line.stream.subscribe)

    def restart(self, line: Line) -> None:
        """Cancel a stream and ask for it anew: that brings a full frame even where a renewal does not."""
        self.texts += [line.stream.cancel, line.stream.subscribe]

    def refuse(self, line: Line, now: float, *, at_least: float = 0.0) -> float:
        """Plan to ask for a refused stream again; give the pause, which doubles with each refusal."""
        pause = min(max(line.pause or self._first_pause, at_least), RETRY_MOST)
        line.state, line.pause, line.ask_at = "refused", pause * 2, now + pause
        line.watch.clear()
        self.bars.failed(line.stream.key)
        return pause

    def flows(self, line: Line) -> None:
        """Take note that a stream was heard: another refusal is a new one."""
        line.state, line.pause, line.ask_at, line.dead = "flowing", None, None, False

    def end(self, lines: Iterable[Line]) -> None:
        """Take note that streams have ended at the broker."""
        for line in lines:
            line.state, line.asked_at, line.ask_at, line.pause, line.dead = "waiting", None, None, None, False
            line.watch.subscribed()
        if not any(line.active and line.stream.renew for line in self.lines.values()):
            self._renew_at = None
        self.bars.keep({line.stream.key for line in self.lines.values() if line.active})

    def cancel(self, lines: Iterable[Line]) -> list[str]:
        """End streams from our side; give what is to be sent: the broker counts those of a client that just goes.

        Bars are cancelled upon their answer, by an id that only it has.
        """
        active = [line for line in lines if line.active]
        self.end(active)
        return [line.stream.cancel for line in active if not line.stream.at_once]

    def renewals(self, now: float) -> list[Line]:
        """Renew what the broker would end, if it is time; list what was renewed."""
        if self._renew_at is None or now < self._renew_at:
            return []
        self._renew_at = now + self._renew_every
        renewed = [line for line in self.lines.values() if line.stream.renew and line.state in ("asked", "flowing")]
        self.texts += [line.stream.subscribe for line in renewed]
        return renewed

    def retries(self, now: float) -> list[Line]:
        """Ask again for refused streams whose pause is over; list them."""
        due = [line for line in self.lines.values() if line.ask_at is not None and now >= line.ask_at]
        for line in due:
            if line.stream.renew:
                self.texts.append(line.stream.cancel)  # it may hold a market data line and send nothing
            self.subscribe(line, now)
        return due
