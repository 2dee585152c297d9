"""Kills for as long as you like: captures killed at random times, each the restart of the one before.

    python benchmarks/soak_kills.py [--for 1h] [--rate 2000] [--seed N]

A gateway sends numbered quotes and logs what it sent, and when. A round is a kill: of the capture, of its archiver, of
both, or a power loss (what the journal had not synced is cut off). After each, what is on disk is held against the log;
after every ten, the archive against a clean run over the same frames, and a new archive is begun. Ends with exit code 1
if a frame was lost that was sent earlier than the window before a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from forge import Forge, forging
from kills import KINDS, SLACK, SYNC_EVERY, WRITE_WITHIN, Round, Rounds, Sender

from recorder.cli.durations import parse_duration
from recorder.protocol.server_session import Rules
from recorder.replay.gateway import serve

PER_ARCHIVE = 10


async def one_archive(forge: Forge, folder: Path, *, rate: int, chance: random.Random) -> list[Round]:
    """Kill several times on one archive, then stop cleanly and check the whole of it."""
    sender = Sender(rate=rate)
    async with serve(sender, rules=Rules(ready_after=20_000)) as gateway:
        sender.tap(gateway)
        rounds = Rounds(forge, folder / "data", gateway, sender, chance)
        killed = [await rounds.kill_one(chance.choice(KINDS)) for _ in range(PER_ARCHIVE)]
        return [*killed, await rounds.finish(folder / "clean")]


def oldest(found: list[Round], *, power: bool) -> float:
    """Give the age of the oldest frame that was lost, in milliseconds."""
    ages = [one.oldest for one in found if (one.kind == "power") == power]
    return round(1000 * max(ages, default=0.0), 1)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", dest="seconds", type=parse_duration, default=3600.0)
    parser.add_argument("--rate", type=int, default=2_000, help="frames a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    options = parser.parse_args()
    print(f"seed {options.seed}; {SLACK:g} s and the machine's own delay are granted beyond the window")
    chance, found, frames, archives = random.Random(options.seed), list[Round](), 0, 0
    give_up = time.monotonic() + options.seconds
    while time.monotonic() < give_up:
        with tempfile.TemporaryDirectory() as folder, forging(Path(folder) / "log") as forge:
            rounds = asyncio.run(one_archive(forge, Path(folder), rate=options.rate, chance=chance))
        found += rounds
        frames += rounds[-1].frames
        archives += 1
        lost = sum(one.lost for one in found)
        print(f"{archives} archives, {len(found)} rounds, {frames:,} frames, {lost} lost beyond the window", flush=True)
    figures = {
        "rounds": dict(Counter(one.kind for one in found)),
        "frames_sent": sum(one.sent for one in found),
        "frames_archived": frames,
        "lost_beyond_the_window": sum(one.lost for one in found),
        "oldest_lost_ms": {"kill": oldest(found, power=False), "power loss": oldest(found, power=True)},
        "window_ms": {"kill": WRITE_WITHIN * 1000, "power loss": SYNC_EVERY * 1000},
        "longest_grant_ms": round(1000 * max(one.allowed for one in found)),
        "archives_verified_without_problems": archives,
    }
    print(json.dumps(figures, indent=2))
    sys.exit(1 if figures["lost_beyond_the_window"] else 0)


if __name__ == "__main__":
    main()
