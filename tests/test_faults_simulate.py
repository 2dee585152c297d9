"""Bad nights in seconds: a real capture against a gateway with faults, and the account of it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import AAPL, IBM, Recording, eventually, in_loop, recording, settings_for
from nights import Patience, judged, read_log

from recorder.library import Archive
from recorder.protocol.server_session import SECOND, Rules
from recorder.replay.fault_driver import FaultDriver
from recorder.replay.fault_log import FaultLog
from recorder.replay.faults import Fault
from recorder.replay.gateway import Gateway, serve, wall_clock
from recorder.replay.synthetic import SyntheticFeed
from recorder.replay.trail import Trail

STALE_AFTER = 0.8
PATIENCE = Patience(stale_after=STALE_AFTER, heartbeat_timeout=1.5, tickle_every=1.5, grace=1.5, sample=0.05)
RULES = Rules(ready_after=50_000, heartbeat_every=SECOND // 10)

CONNECTION = [
    ("disconnect", "clean", 0.0), ("disconnect", "abrupt", 0.0), ("disconnect", "mid-frame", 0.0),
    ("away", None, 0.3), ("deauth", None, 0.3), ("competing", None, 0.3), ("refuse", None, 3.2),
    ("freeze", None, 2.5), ("rollover", None, 0.0),
]  # fmt: skip
MARKET_DATA = [
    ("malformed", None, 0.0), ("large", None, 0.0), ("burst", "3000", 0.0), ("expire", None, 0.0),
    ("silence", "one", 3.0), ("rest", "500", 1.0), ("silence", "all", 3.0), ("rest", "429", 1.0),
]  # fmt: skip
COSTLY = {"disconnect", "away", "refuse", "freeze", "rollover"}
"""What ends the connection."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let streams that are asked again answer sooner, and stale ones cost the connection more often."""
    monkeypatch.setattr("recorder.protocol.staleness.ANSWER", 0.4)
    monkeypatch.setattr("recorder.protocol.staleness.ANEW", 0.3)
    monkeypatch.setattr("recorder.protocol.streams.STALE_PAUSE", 0.1)
    monkeypatch.setattr("recorder.protocol.stream_watch.SAMPLE", PATIENCE.sample)
    monkeypatch.setattr("recorder.protocol.pacing.SPACING", {})


@asynccontextmanager
async def capturing(folder: Path) -> AsyncIterator[tuple[Gateway, Recording, FaultDriver]]:
    """Run a capture against a gateway that logs its faults."""
    with (folder / "faults.jsonl").open("wb") as out:
        log = FaultLog(out, clock=wall_clock)
        feed = SyntheticFeed(seed=7, contracts=3, rate=300, order_every=0.3)
        async with serve(feed, rules=RULES, tally=Trail, on_join=log.connected, on_leave=log.left) as gateway:
            settings = settings_for(
                gateway, folder / "data", conid=(str(AAPL), str(IBM)), stale_after=STALE_AFTER,
                heartbeat_timeout=PATIENCE.heartbeat_timeout, tickle_every=PATIENCE.tickle_every,
            )  # fmt: skip
            async with recording(settings) as running:
                await eventually(lambda: subscribed(gateway))
                await asyncio.sleep(0.3)
                yield gateway, running, FaultDriver(gateway, log)


def subscribed(gateway: Gateway, *, after: int = 0) -> bool:
    """Say whether there is a client that came after this one and has all streams."""
    clients = [client for client in gateway.hub.clients if not client.closing and client.number > after]
    return bool(clients) and {f"smd+{AAPL}", f"smd+{IBM}", "sor", "spl"} <= clients[-1].session.streams.keys()


def more_than(running: Recording, count: int) -> bool:
    """Say whether more frames were received."""
    return running.received > count


async def live_through(folder: Path, faults: list[tuple[str, str | None, float]]) -> None:
    """Let one fault follow the other, each when the capture has recovered from the one before."""
    async with capturing(folder) as (gateway, running, driver):
        for number, (kind, option, lasts) in enumerate(faults):
            client = gateway.hub.clients[-1].number
            await driver.do(number, Fault(kind=kind, option=option, at=0.0, lasts=lasts))
            await asyncio.sleep(STALE_AFTER + PATIENCE.grace if kind == "expire" else 0.1)
            await eventually(partial(subscribed, gateway, after=client if kind in COSTLY else 0))
            await eventually(partial(more_than, running, running.received + 100))


@pytest.mark.parametrize("faults", [CONNECTION, MARKET_DATA], ids=["connection", "market data"])
def test_nothing_is_missing_and_every_hole_has_its_row(faults: Any, tmp_path: Path) -> None:
    """Nothing that was sent on a living connection; no fault goes untold, and no row stands without one."""

    @in_loop
    async def check() -> None:
        await live_through(tmp_path, faults)

    check()
    log = read_log(tmp_path / "faults.jsonl")

    assert [fault[:2] for fault in faults] == [(fault.kind, fault.option) for fault in log.faults]
    assert judged(Archive(tmp_path / "data"), log, PATIENCE) == []
