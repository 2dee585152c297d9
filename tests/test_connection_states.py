"""The table of states: whole, as the documentation shows it, and what the session follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.protocol.connection_states import AWAY, LOST, TRANSITIONS, Event, State

ARCHITECTURE = Path(__file__).parent.parent / "docs" / "architecture.md"


def test_each_state_has_its_transitions() -> None:
    """A state that nothing leaves would be an end, and there is none."""
    assert set(State) == set(TRANSITIONS)
    assert all(TRANSITIONS.values())


@pytest.mark.parametrize("state", State)
def test_each_state_can_be_reached_and_left_for_good(state: State) -> None:
    """From being away, and back to it."""
    assert state in reach(AWAY)
    assert AWAY in reach(state)


def test_each_event_moves_something() -> None:
    """One that moves nothing is no event."""
    assert set(Event) == {event for moves in TRANSITIONS.values() for event in moves}


def test_what_is_lost_is_only_closed() -> None:
    """It is read to its end and does nothing else."""
    assert {Event.CLOSED: AWAY} == dict(TRANSITIONS[LOST])


def test_the_documentation_shows_the_same_table() -> None:
    """Row by row."""
    rows = [line for line in ARCHITECTURE.read_text("utf-8").splitlines() if line.startswith("| `")]
    table = [
        f"| `{state.name}` | {event.value} | `{then.name}` |"
        for state, moves in TRANSITIONS.items()
        for event, then in moves.items()
    ]

    assert table == [row for row in rows if row.split("`")[1] in State.__members__]


def reach(state: State) -> set[State]:
    """Find all states that can follow, in any number of steps, itself included."""
    found, new = set[State](), {state}
    while new:
        found |= new
        new = {then for one in new for then in TRANSITIONS[one].values()} - found
    return found
