"""The health of what is recorded, at one instant, topic by topic: P&L may flow while market data is dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recorder.protocol.ledger import Gap

StreamState = Literal["waiting", "asked", "flowing", "suspected", "refused"]
"""How one stream is.

`waiting`: not subscribed, for lack of a connection or of a login. `asked`: subscribed, and nothing came yet. `flowing`:
it was heard on this connection. `suspected`: too long silent; the broker has been asked for a full frame. `refused`:
the broker refused it, or sends nothing; it is asked for again after growing pauses.
"""


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One subscription. `key` is its wire topic, `smd+265598`; `conid` is None for a stream of the whole session.

    `age` is how many seconds ago its last frame came, on whatever connection (None: none came yet). `gap` is the open
    gap of its contract alone.
    """

    key: str
    conid: int | None
    state: StreamState
    age: float | None
    gap: Gap | None


@dataclass(frozen=True, slots=True)
class TopicHealth:
    """One topic that is subscribed to.

    `state` is that of its best stream. `age` is how many seconds ago its last frame came (None: none came yet), `rate`
    its frames a second over the last minute or so. `gap` is the open gap of the topic as a whole.
    """

    topic: str
    state: StreamState
    age: float | None
    rate: float
    gap: Gap | None
    streams: tuple[StreamHealth, ...]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """List its open gaps: its own, and those of single contracts, each once."""
        found = [self.gap, *(stream.gap for stream in self.streams)]
        return tuple(dict.fromkeys(gap for gap in found if gap is not None))
