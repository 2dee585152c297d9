"""The place of a session: where it is recorded, and under which name."""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from recorder.protocol.days import DayBoundary
from recorder.protocol.ledger import Ending


class Place(NamedTuple):
    """Where a session is recorded: the archive's folder, its day boundary, the journal's folder, and who was before.

    `ending` is how the session before ended; None if there was none.
    """

    data: Path
    boundary: DayBoundary
    journal: Path
    session: str
    predecessor: tuple[str, int] | None
    ending: Ending | None = None

    @property
    def predecessor_note(self) -> dict[str, Any] | None:
        """The predecessor as the session's first mark names it."""
        last = self.predecessor
        return None if last is None else {"session": last[0], "last_seq": last[1]}


def new_session(now: datetime, *, after: str | None) -> str:
    """Name a session by its start and four random letters; never before `after`, even when the clock stepped back."""
    if after is not None:
        last = datetime.strptime(after[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        now = max(now, last + timedelta(seconds=1))
    return f"{now:%Y%m%dT%H%M%S}" + "".join(random.choices(string.ascii_lowercase, k=4))
