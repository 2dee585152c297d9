"""The back-off between two tries to connect.

A gateway that does not answer at all (its port refuses, or nothing comes back) costs nobody anything: it is tried at
least each four seconds, so that a recording goes on within five after it is back. One that answers and refuses is
asked after pauses that grow to a minute. A connection that worked is replaced after the first pause.
"""

from __future__ import annotations

from typing import Final, Literal

Ending = Literal["worked", "away", "refused"]
"""How the last try ended: it was a connection of use, nobody answered, or somebody refused."""

MOST: Final[dict[Ending, float]] = {"worked": 1.0, "away": 3.3, "refused": 60.0}
"""The longest pause in seconds before jitter, unless the first is longer; jitter takes or adds a fifth."""


class Backoff:
    """Gives the pause before the next try; `first` is the first one, in seconds."""

    def __init__(self, first: float) -> None:
        self._first = first
        self._ending: Ending = "worked"
        self._tries = 0

    def pause(self, ending: Ending, *, draw: float, spent: float = 0.0) -> float:
        """Give the pause after a try that ended so and took `spent` seconds; `draw` is a random number from 0 to 1.

        Waiting for an answer that never comes counts as pause: nobody is spared by more of it.
        """
        self._tries = self._tries + 1 if ending == self._ending != "worked" else 0
        self._ending = ending
        longest = max(self._first, MOST[ending])
        pause = min(self._first * float(2 ** min(self._tries, 20)), longest) * (0.8 + 0.4 * draw)
        return max(0.0, pause - spent) if ending == "away" else pause
