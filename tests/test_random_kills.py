"""Kills at random times: what is kept is a prefix of what was sent, and what is lost is younger than promised."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from conftest import QUICK, in_loop
from forge import forging
from kills import KINDS, Rounds, Sender

from recorder.replay.gateway import serve

ROUNDS = 8


@pytest.mark.parametrize("part", [1, 2])
def test_a_kill_at_any_time_loses_no_frame_older_than_the_window(tmp_path: Path, part: int) -> None:
    """Sent more than 50 ms before a kill, or 250 ms before a power loss, plus the machine's own delay: it is there."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    chance = random.Random(seed)
    kinds = [*KINDS, *chance.choices(KINDS, k=ROUNDS // 2 - len(KINDS))]
    chance.shuffle(kinds)

    @in_loop
    async def check() -> None:
        sender = Sender(rate=1_000)
        with forging(tmp_path / "log") as forge:
            async with serve(sender, rules=QUICK) as gateway:
                sender.tap(gateway)
                rounds = Rounds(forge, tmp_path / "data", gateway, sender, chance)
                for kind in kinds:
                    killed = await rounds.kill_one(kind)
                    print(killed)  # noqa: T201  as above
                    assert 0 == killed.lost, killed
                stopped = await rounds.finish(tmp_path / "clean")
        assert 0 == stopped.lost
        assert sender.numbers > 100

    check()
