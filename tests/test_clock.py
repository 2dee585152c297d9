"""A wall clock that steps while a capture runs: no order changes, and nothing is lost."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import AAPL, Script, eventually, frames_of, gateway_with, in_loop, quote, recording, settings_for

import recorder
from recorder.archive.layout import open_layout
from recorder.archive.verify import verify
from recorder.capture.journal import Journal
from recorder.protocol.topics import load_topics

HOUR = 3_600_000_000_000  # nanoseconds


@in_loop
async def test_a_clock_that_steps_back_and_forth_changes_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back, then two days on, then back again: over day boundaries, in parts of several dates."""
    steps = [0]
    defaults = Journal.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "now", lambda: time.time_ns() + steps[-1])
    feed = Script()
    sent = [quote(number) for number in range(80)]
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, tmp_path / "data")) as running:
        for first, step in zip(range(0, 80, 20), (0, -HOUR, 48 * HOUR, -2 * HOUR), strict=True):
            steps.append(step)
            expected = running.received + 20
            feed.push(f"smd+{AAPL}", *sent[first : first + 20])
            await eventually(partial(lambda least: running.received >= least, expected))
    layout = open_layout(tmp_path / "data")
    frames = frames_of(layout.root)
    quoted = [frame for frame in frames if frame.data in sent]

    assert sent == [frame.data for frame in quoted]
    assert list(range(len(frames))) == [frame.seq for frame in frames]
    assert [number / 4 for number in range(80)] == recorder.open(layout.root).load("market_data")["bid_price"].tolist()
    assert 2 <= len({path.name for path in (layout.root / "frames").iterdir()})
    jumps = [after.ts_recv - one.ts_recv for one, after in pairwise(quoted)]
    assert min(jumps) < -47 * HOUR // 1000 < 0 < 47 * HOUR // 1000 < max(jumps)
    assert [] == verify(layout, load_topics(), rederive=True, done=lambda _frames: None).problems
