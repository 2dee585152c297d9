"""Starting states: what the archiving of a segment starts from, as the commits before it say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from recorder.archive.build import SessionState
from recorder.archive.catalog import FramesPart, frames_parts, segment_session
from recorder.archive.frames_build import add_contents
from recorder.archive.layout import Layout
from recorder.archive.parts import read_tables
from recorder.errors import Damaged
from recorder.protocol.salvage import salvage
from recorder.protocol.tables import FRAMES


class Unread(NamedTuple):
    """A frames part of an earlier session whose commit cannot be read: `verify` reports it, and it stops nobody."""

    part: Path
    what: str


def state_after(layout: Layout, recorder: str, session: str, *, tell: Callable[[Unread], None]) -> SessionState:
    """Rebuild a session's state from all that is archived of it, or of its predecessor."""
    return _state(layout, recorder, session, frames_parts(layout, session=session), tell)


def state_before(
    layout: Layout, recorder: str, segment: Path, first_seq: int, *, tell: Callable[[Unread], None]
) -> tuple[SessionState, int]:
    """Rebuild the state before a segment that was put back, and give the first frame behind it that is archived.

    `Damaged` if that part has the segment's first frame too.
    """
    session = segment_session(segment)
    parts = frames_parts(layout, session=session)
    double = next((part for part in parts if part.name.first <= first_seq <= part.name.last), None)
    if double is not None:
        raise Damaged(
            f"it begins with frame {first_seq} of session {session}, which is archived already, in"
            f" {double.path.relative_to(layout.root)}; the segment was put back, or is a copy,",
            path=segment,
            offset=0,
            hint=MOVE,
        )
    before = [part for part in parts if part.name.last < first_seq]
    behind = min(part.name.first for part in parts if part.name.first > first_seq)
    return _state(layout, recorder, session, before, tell), behind


MOVE = "move the segment out of the journal, and keep it until `recorder verify` finds nothing"


def _state(
    layout: Layout, recorder: str, session: str, parts: list[FramesPart], tell: Callable[[Unread], None]
) -> SessionState:
    state = SessionState()
    for part in parts:
        for table in read_tables(part.path, schema=FRAMES, columns=["kind", "topic", "data"]):
            add_contents(state.contents, table)
        commit = part.commit()
        state.next_seq, state.decoding, state.latest = commit.last + 1, commit.state, commit.latest
    if state.next_seq == 0:
        state.latest = _latest_before(layout, recorder, session, tell)
    return state


def _latest_before(layout: Layout, recorder: str, session: str, tell: Callable[[Unread], None]) -> int:
    """Find the highest ts_recv of the recorder's earlier sessions, also of one that damage keeps in the journal.

    A part whose commit cannot be read is passed over, and told: like one that is missing, it is for `verify` to report.
    The order within a recorder is that of its frames, so that a stamp too low moves nothing there.
    """
    waiting = [path for path in layout.segments(recorder) if segment_session(path) < session]
    latest = max((run.ts_max for path in waiting for run in salvage(path.read_bytes()).runs), default=0)
    for part in reversed(frames_parts(layout)):
        if part.name.session >= session:
            continue
        try:
            commit = part.commit()
        except Damaged as exc:
            tell(Unread(part.path, str(exc)))
            continue
        if commit.recorder == recorder:
            return max(latest, commit.latest)
    return latest
