"""Kills for as long as you like: captures killed at random times, each the restart of the one before.

    python benchmarks/soak_kills.py [--for 1h] [--rate 2000] [--seed N]

A gateway sends numbered quotes and logs what it sent, and when. A round is a kill: of the capture, of its archiver, of
both, or a power loss (what the journal had not synced is cut off). After each, what is on disk is held against the log.
After every ten the archive is held against a clean run over the same frames; then a segment of a copy is damaged and
repaired, and the archive compacted, with kills in between, and verified. Then a new archive is begun. Prints a line an
archive and figures at the end; exit code 1 if a frame was lost that was sent earlier than the window before a kill, or
if anything else was found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from forge import Forge, forging
from kills import KINDS, SLACK, SYNC_EVERY, WRITE_WITHIN, Frames, Round, Rounds, Sender, on_disk
from run_delay import is_known

from recorder.archive.layout import Layout, make_layout
from recorder.archive.verify import verify
from recorder.cli.durations import parse_duration
from recorder.protocol.days import DayBoundary
from recorder.protocol.segment import (
    Header,
    code_of,
    encode_batch,
    encode_end,
    encode_header,
    segment_name,
)
from recorder.protocol.server_session import Rules
from recorder.protocol.topics import load_topics
from recorder.replay.gateway import serve

PER_ARCHIVE = 10


async def one_archive(forge: Forge, folder: Path, *, rate: int, chance: random.Random) -> list[Round]:
    """Kill several times on one archive, then stop cleanly and check the whole of it."""
    sender = Sender(rate=rate)
    async with serve(sender, rules=Rules(ready_after=20_000)) as gateway:
        sender.tap(gateway)
        rounds = Rounds(forge, folder / "data", gateway, sender, chance)
        killed = [await rounds.kill_one(chance.choice(KINDS)) for _ in range(PER_ARCHIVE)]
        done = [*killed, await rounds.finish(folder / "clean")]
    await asyncio.to_thread(maintain, forge, folder, rounds.frames, chance)
    return done


COMPACTION = ("compaction.part", "compaction.topic", "replace.before", "replace.swapped", "replace.synced")
REPAIR = ("repair.kept", "repair.noted", "repair.published", "repair.done")


def maintain(forge: Forge, folder: Path, frames: Frames, chance: random.Random) -> None:
    """Compact the archive, and repair a journal that is damaged, each killed once; check that no frame is lost."""
    data = folder / "data"
    assert forge.run("compact", data, kill_at=chance.choice(COMPACTION)) in (0, -signal.SIGKILL), forge.printed()
    assert forge.run("compact", data) == 0, forge.printed()
    assert frames == on_disk(data), "a compaction changed frames"
    journal = make_layout(folder / "journal", DayBoundary("00:00 UTC"))
    path = journaled(journal, frames)
    content = bytearray(path.read_bytes())
    content[chance.randrange(200, len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    assert forge.run("repair", journal.root, kill_at=chance.choice(REPAIR)) in (0, -signal.SIGKILL), forge.printed()
    assert forge.run("repair", journal.root) == 0, forge.printed()
    assert forge.run("flush", journal.root) == 0, forge.printed()
    found, report = on_disk(journal.root), verify(journal, load_topics(), done=lambda _frames: None)
    lost = sum(hole.last - hole.first + 1 for hole in report.holes)
    assert found.items() <= frames.items(), "a repair made frames up"
    assert report.problems == [], report.problems
    assert lost <= BATCH, f"one flipped bit cost {lost} frames"


BATCH = 64


def journaled(layout: Layout, frames: Frames) -> Path:
    """Write the frames of the first session as a segment of small records; give its path."""
    session = min(session for session, _ in frames)  # it names no predecessor
    own = [frames[key] for key in sorted(frames) if key[0] == session]
    date = layout.boundary.day_of(own[0].ts_recv).date.isoformat()
    own = [one for one in own if layout.boundary.day_of(one.ts_recv).date.isoformat() == date]
    records = [encode_header(Header(recorder="main", session=session, first_seq=0, date=date))]
    for begin in range(0, len(own), BATCH):
        some = own[begin : begin + BATCH]
        columns = zip(*((one.ts_recv, one.conn, code_of(one.kind, one.op), one.data) for one in some), strict=True)
        records.append(encode_batch(begin, *columns))
    path = layout.journal("main") / segment_name(session, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join([*records, encode_end(len(own) - 1)]))
    return path


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
    delay = (
        "the capture's run delay"
        if is_known()
        else "no run delay (this system has no /proc/<pid>/task/<tid>/schedstat)"
    )
    print(f"seed {options.seed}; granted beyond the window: {SLACK:g} s, the sender's own lag, {delay}")
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
        "longest_allowed_ms": round(1000 * max(one.allowed for one in found)),
        "longest_run_delay_granted_ms": round(1000 * max(one.waited for one in found))
        if is_known()
        else "not counted here",
        "archives_compacted_and_verified_without_problems": archives,
        "journals_damaged_and_repaired": archives,
    }
    print(json.dumps(figures, indent=2))
    sys.exit(1 if figures["lost_beyond_the_window"] else 0)


if __name__ == "__main__":
    main()
