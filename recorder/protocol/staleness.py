"""Staleness: which streams of market data are too long silent, and what is done before one is given up.

| silence | what follows |
|---|---|
| no stream of the topic speaks for `stale_after` | all of them are suspected |
| one is silent for the larger of `stale_after` and 20 of its median intervals while others speak | it is suspected |
| a suspected stream | it is asked for again (a renewal) |
| no full frame within `ANSWER` | it is cancelled and asked for anew: that brings one even where a renewal does not |
| no full frame within `ANEW` after that, but changes | it lives; what was missed is not known: a gap that is over |
| nothing at all | it is dead |
| a full frame that equals what was known | nothing was missed; the next silence may be twice as long |
| a full frame that differs | the subscription had ended, and asking again revived it: a gap that is over |

Whether the broker answers a renewal with a full frame is not confirmed, hence the second try.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from recorder.protocol.subscriptions import Line, Subscriptions

ANSWER: Final = 5.0
ANEW: Final = 3.0
INTERVALS: Final = 20


class Judged(NamedTuple):
    """What a look found: streams that are dead, and streams that speak again without having said what they missed."""

    dead: list[Line]
    revived: list[Line]


class Staleness:
    """Looks at the silence of the streams that can be asked for again. `in_hours` is false while none may be expected.

    `patience` is how long a silence is borne at most, however often silences were harmless, in seconds.
    """

    def __init__(self, subscriptions: Subscriptions, *, stale_after: float, patience: float) -> None:
        self.in_hours = True
        self._subscriptions = subscriptions
        self._stale_after = stale_after
        self._patience = patience

    def look(self, now: float) -> Judged:
        """Suspect what is too long silent, ask again, and judge what did not answer."""
        judged = Judged([], [])
        if not self.in_hours:
            return judged
        for topic in self._subscriptions.topics:
            heard = [line for line in self._subscriptions.of_topic(topic) if _is_watched(line)]
            if heard:
                self._suspect(heard, now)
                self._judge(heard, now, judged)
        return judged

    def renewed(self, lines: Iterable[Line], now: float) -> None:
        """Take the chance of a renewal to look at streams that are quieter than usual."""
        for line in lines:
            watch = line.watch
            if not _is_watched(line) or watch.suspected or watch.interval is None:
                continue
            if now - (watch.last or 0.0) >= max(ANSWER, INTERVALS * watch.interval):
                watch.suspect(now, gentle=True)

    def _suspect(self, heard: list[Line], now: float) -> None:
        newest = max(line.watch.last or 0.0 for line in heard)
        calm = min(line.watch.patience for line in heard)
        all_silent = now - newest >= self._bearable(self._stale_after, calm)
        others_speak = now - newest < self._stale_after
        for line in heard:
            watch = line.watch
            if watch.suspected and not watch.gentle:
                continue
            silent = now - (watch.last or 0.0)
            if all_silent or (others_speak and silent >= self._limit(line)):
                watch.suspect(now)
                line.state = "suspected"
                self._subscriptions.renew(line)

    def _judge(self, heard: list[Line], now: float, judged: Judged) -> None:
        for line in heard:
            watch = line.watch
            if watch.asked_at is None or now - watch.asked_at < (ANEW if watch.twice else ANSWER):
                continue
            if watch.gentle:
                watch.clear()
            elif not watch.twice:
                watch.asked_at, watch.twice = now, True
                self._subscriptions.restart(line)
            else:
                (judged.dead if watch.spoke_at is None else judged.revived).append(line)

    def _limit(self, line: Line) -> float:
        usual = INTERVALS * (line.watch.interval or 0.0)
        return self._bearable(max(self._stale_after, usual), line.watch.patience)

    def _bearable(self, silence: float, patience: float) -> float:
        return min(silence * patience, max(silence, self._patience))


def _is_watched(line: Line) -> bool:
    """Tell whether a stream was heard on this connection; one that never was is another matter."""
    return line.stream.renew and line.state in ("flowing", "suspected") and line.watch.last is not None
