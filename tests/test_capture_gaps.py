"""Gaps of a real capture: decided live, journaled as marks, read from the archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import (
    AAPL,
    IBM,
    Recording,
    Script,
    eventually,
    gateway_with,
    in_loop,
    payloads,
    quote,
    recording,
    settings_for,
)

import recorder
from recorder.protocol.ledger import Closed, read_gap

PNL = b'{"topic":"spl","args":{}}'


class Snapshots(Script):
    """A script whose full frames are those that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.bids: dict[str, str] = {}

    def snapshot(self, stream: str, now: int) -> bytes | None:  # noqa: ARG002  a script has no clock
        """Give the full frame of a stream."""
        bid = self.bids.get(stream)
        return None if bid is None else json.dumps({"84": bid, "topic": stream}, separators=(",", ":")).encode()


def closed(root: Path) -> list[tuple[str, int | None, str]]:
    """List the gaps that marks say are over: topic, contract, cause."""
    reads = [read_gap(mark) for mark in payloads(root, kind="mark")]
    return [(read.gap.topic, read.gap.conid, read.gap.cause) for read in reads if isinstance(read, Closed)]


def rows(root: Path) -> list[Any]:
    """Read the ledger."""
    return list(recorder.open(root).gaps().itertuples())


@in_loop
async def test_each_reconnect_leaves_rows_even_if_nothing_was_missed(tmp_path: Path) -> None:
    """One a topic, from the last frame before to the first one after, and none is open after a clean stop."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: len(feed.wanted) == 3)
        feed.push(f"smd+{AAPL}", quote(1))
        feed.push("spl", PNL)
        await eventually(lambda: {quote(1), PNL} <= set(payloads(data)))
        await gateway.hub.drop_clients(clean=True)
        await eventually(lambda: feed.wanted == set())
        await eventually(lambda: len(feed.wanted) == 3)
        feed.push(f"smd+{AAPL}", quote(2))
        feed.push("spl", PNL)
        await eventually(lambda: len(closed(data)) == 2)
        await running.stop()
    frames = list(recorder.open(data).frames(kinds=["in"]))
    stamps = {frame.data: frame.ts_recv for frame in frames}

    assert {("market_data", None, "disconnected"), ("orders", None, "disconnected"), ("pnl", None, "disconnected")} == {
        *closed(data)
    }
    assert len(closed(data)) == 3
    (row,) = [row for row in rows(data) if row.topic == "market_data"]
    before = max(frame.ts_recv for frame in frames if frame.conn == frames[0].conn)
    assert abs(row.start.value // 1000 - before) < 50_000
    assert abs(row.end.value // 1000 - stamps[quote(2)]) < 50_000


@in_loop
async def test_a_subscription_that_ended_by_itself_is_found_by_asking_again(tmp_path: Path) -> None:
    """The full frame shows that something was missed; where nothing was, there is no row."""
    feed, data = Snapshots(), tmp_path / "data"
    feed.bids = {f"smd+{AAPL}": "1", f"smd+{IBM}": "1"}
    wanted: dict[str, Any] = {"conid": (str(AAPL), str(IBM)), "topic": ("market_data",), "stale_after": 1.0}
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data, **wanted)):
        await eventually(lambda: sum(b"smd" in frame for frame in payloads(data)) >= 2)
        feed.bids[f"smd+{IBM}"] = "2"
        await eventually(lambda: closed(data))

    assert [("market_data", IBM, "subscription_expired")] == closed(data)


@in_loop
async def test_contracts_can_be_changed_without_a_new_connection(tmp_path: Path) -> None:
    """The new one is subscribed, the old one unsubscribed; the frames of both are in one connection."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: len(feed.wanted) == 3)
        streams = running.capture.streams
        other = [stream._replace(key=stream.key.replace(str(AAPL), str(IBM))) for stream in streams]
        other = [
            stream._replace(
                subscribe=stream.subscribe.replace(str(AAPL), str(IBM)),
                cancel=stream.cancel.replace(str(AAPL), str(IBM)),
                conid=None if stream.conid is None else IBM,
            )
            for stream in other
        ]
        running.capture.change_streams(other)
        await eventually(lambda: feed.wanted == {f"smd+{IBM}", "sor", "spl"})
        await running.stop()

    assert f"umd+{AAPL}+{{}}".encode() in payloads(data, kind="out")
    assert len({frame.conn for frame in recorder.open(data).frames(kinds=["in"])}) == 1


@in_loop
async def test_health_is_told_of_a_running_capture(tmp_path: Path) -> None:
    """Topic by topic: its state, the age of its last frame, its open gap."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway:
        running = Recording(settings_for(gateway, data))
        await running.start()
        await eventually(lambda: len(feed.wanted) == 3)
        feed.push(f"smd+{AAPL}", quote(1))
        await eventually(lambda: quote(1) in payloads(data))
        before = {topic.topic: (topic.state, topic.gap) for topic in running.capture.health()}
        age = running.capture.health()[0].age
    await eventually(lambda: all(topic.gap for topic in running.capture.health()))
    after = running.capture.health()
    await running.stop()

    assert {"market_data": ("flowing", None), "orders": ("asked", None), "pnl": ("asked", None)} | {
        "orders": (before["orders"][0], None)
    } == before
    assert age is not None
    assert age < 10
    assert {"waiting"} == {topic.state for topic in after}
    assert {"disconnected"} == {topic.gap.cause for topic in after if topic.gap is not None}


@in_loop
async def test_frames_that_come_too_fast_to_be_looked_at_count_all_the_same(tmp_path: Path) -> None:
    """Three times what is looked into in a second: each is journaled, the stream is heard, and no gap comes of it."""
    feed, data = Script(), tmp_path / "data"
    frames = [quote(number) for number in range(3_000)]
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: len(feed.wanted) == 3)
        feed.push(f"smd+{AAPL}", *frames)
        await eventually(lambda: running.received >= len(frames))
        await eventually(lambda: running.capture.health()[0].rate > 10)
        (stream,) = running.capture.health()[0].streams
        await running.stop()

    assert frames == [frame for frame in payloads(data) if b"smd" in frame]
    assert "flowing" == stream.state
    assert [] == closed(data)
