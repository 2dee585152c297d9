"""The judge of bad nights: it finds what is missing, what has no row, and what has no fault."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from conftest import AAPL, in_loop, recording, settings_for
from nights import SECOND, Fault, Log, Patience, Row, read_log, unfounded, unrecorded, what_is_missing

from recorder.library import Archive
from recorder.protocol.server_session import Rules
from recorder.replay.fault_log import FaultLog
from recorder.replay.gateway import serve, wall_clock
from recorder.replay.synthetic import SyntheticFeed
from recorder.replay.trail import Trail

PATIENCE = Patience(stale_after=6.0, heartbeat_timeout=3.0, tickle_every=6.0)
T = 1_795_000_000 * SECOND
DROP = Fault(0, "disconnect", "clean", T, T, ("pnl",), (), 0)
ROW = Row("pnl", None, T - 1000, T + SECOND, "disconnected", "the connection ended")


def test_a_night_that_is_told_as_it_was_finds_no_fault() -> None:
    """A fault and its row."""
    assert unrecorded(Log([DROP], []), [ROW], PATIENCE) == unfounded(Log([DROP], []), [ROW], PATIENCE) == []


@pytest.mark.parametrize(
    "row",
    [
        ROW._replace(topic="orders"),
        ROW._replace(cause="stale"),
        ROW._replace(start=T + SECOND),
        ROW._replace(start=T - 9 * SECOND, end=T - 8 * SECOND),
    ],
    ids=["another topic", "another cause", "begins late", "over before"],
)
def test_a_fault_without_its_row_is_found(row: Row) -> None:
    """The row of another topic, another cause or another time is none."""
    assert len(unrecorded(Log([DROP], []), [row], PATIENCE)) == 1


def test_a_cause_that_joined_counts() -> None:
    """One gap may have several."""
    row = ROW._replace(cause="stale", evidence="it was silent; disconnected: the connection ended")

    assert unrecorded(Log([DROP], []), [row], PATIENCE) == []


@pytest.mark.parametrize("row", [ROW._replace(start=T + 60 * SECOND, end=None), ROW._replace(cause="backpressure")])
def test_a_row_without_a_fault_is_found(row: Row) -> None:
    """At another time, or with a cause that the fault does not have."""
    assert len(unfounded(Log([DROP], []), [row], PATIENCE)) == 1


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a short night in which the line breaks off once."""
    folder = tmp_path_factory.mktemp("night")

    @in_loop
    async def record() -> None:
        with (folder / "log").open("wb") as out:
            log = FaultLog(out, clock=wall_clock)
            feed = SyntheticFeed(contracts=1, rate=200)
            async with (
                serve(feed, rules=Rules(ready_after=0), tally=Trail, on_leave=log.left) as gateway,
                recording(settings_for(gateway, folder / "data", conid=(str(AAPL),))),
            ):
                await asyncio.sleep(0.3)
                await gateway.hub.drop_clients()
                await asyncio.sleep(0.1)

    record()
    return folder


def altered(log: Log, **changes: Any) -> Log:
    """Give a log whose first connection was sent something else."""
    return Log(log.faults, [log.sent[0] | changes, *log.sent[1:]])


def test_frames_that_were_sent_and_are_not_there_are_found(quiet: Path) -> None:
    """One too few on a connection that was closed; other bytes on one that was broken off; a whole connection."""
    archive, log = Archive(quiet / "data"), read_log(quiet / "log")
    first = log.sent[0]
    trail = first["trail"]
    more = {"frames": first["frames"] + 1}

    assert what_is_missing(archive, log) == []
    assert what_is_missing(archive, altered(log, **more, trail=trail | {"frames": trail["frames"] + "00" * 8})) == []
    assert len(what_is_missing(archive, altered(log, **more, parting="closed"))) == 1
    assert len(what_is_missing(archive, altered(log, **more, trail=trail | {"frames": "00" * 8 * more["frames"]}))) == 1
    assert len(what_is_missing(archive, altered(log, topics={}))) == 1
    assert len(what_is_missing(archive, Log([], [*log.sent, first | {"connection": 99}]))) == 1
