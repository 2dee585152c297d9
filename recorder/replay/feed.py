"""What a source of frames must offer so that the emulated gateway can serve it.

Rules:

1. A stream is named by its wire topic: `smd+265598`, `smd+8314@NYSE`, `sor`, `spl`.
2. The feed owns the frames, to the byte; the gateway only leaves out fields a client did not ask for.
3. The gateway hands in the present (microseconds since the Unix epoch) and the feed maps it to its own clock: a
   synthetic market takes it as it is, an archive at twenty times the pace does not.
4. Within one call and between calls, updates come in the order in which clients are to get them. A snapshot shows
   what the calls so far have returned, no more: clients get it first and the updates of later calls after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from recorder.replay.batch import Batch, Update

__all__ = ["Due", "Feed", "Instrument", "Turn", "Update"]


Turn = Literal["disconnected", "lost", "regained", "moved"]
"""What befell the recorded connection: it ended; its brokerage session was lost, or came back.

Or the feed was moved to another time: clients get a full frame of every stream.
"""


class Due(NamedTuple):
    """The updates due by now, and when to ask again; `again` is None when the feed has come to its end.

    `again` not later than now means: there is more, ask as soon as these are delivered. `turn` happens behind them.
    """

    updates: Sequence[Update] | Batch
    again: int | None
    turn: Turn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What REST look-ups tell about a contract; `told` is what the broker's `/trsrv/secdef` said, by its keys."""

    conid: int
    symbol: str
    company: str
    listing_exchange: str = "NASDAQ.NMS"
    security_type: str = "STK"
    currency: str = "USD"
    told: Mapping[str, object] = field(default_factory=dict)


class Feed(Protocol):
    """A source of frames.

    `lossless` says what happens when a client does not keep up. A live market goes on: the client gets no more
    updates until it has caught up, and then a full frame of each stream it missed something of. A recording must
    arrive whole: the gateway stops asking until that client has caught up.
    """

    @property
    def lossless(self) -> bool:
        """Whether every client must get every frame."""

    @property
    def accounts(self) -> Sequence[str]:
        """Name the accounts that the frames speak of."""

    @property
    def instruments(self) -> Mapping[int, Instrument]:
        """List the contracts that can be asked for, by conid."""

    def want(self, streams: Collection[str]) -> None:
        """Take note of all streams that some client has now; called at every change."""

    def snapshot(self, stream: str, now: int) -> bytes | None:
        """Give a full frame of the stream as of now, every field it has; None if nothing is known of it yet."""

    def orders(self, now: int) -> Sequence[Mapping[str, object]]:
        """Give the rows of the orders of the day, as REST would."""

    async def due(self, now: int) -> Due:
        """Give what is due by now, at most what fits one slice of some 20 ms, so that the caller stays responsive."""
