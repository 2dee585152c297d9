"""A bad night: a real capture against a gateway in which everything goes wrong that can, and then the account of it.

    python benchmarks/soak_night.py [--for 1h] [--scale 1] [--rate 200] [--seed N] [--keep DIR]

Starts `recorder simulate` with a random script that holds every kind of fault at least once, and `recorder capture`
against it, both as processes of their own with the settings that users have. With less than 67 minutes the times of
both are scaled down (`--scale`), so that every fault still fits. At the end the capture is stopped cleanly, the archive
verified, and the simulator's log held against frames and gap ledger (tests/nights.py says how). Prints what came of
each fault, what the capture took, and every disagreement; ends with exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Thread
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from nights import SECOND, Log, Patience, Row, judged, lost_under_way, market_conid, read_log, rows_of
from processes import RECORDER, Sample, Watch, usage

from recorder.cli.durations import parse_duration
from recorder.cli.fault_script import script_of
from recorder.library import Archive
from recorder.protocol.streams import SILENCE
from recorder.replay.faults import KINDS, Fault, variants

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = 20
LEAD_S = 5.0
"""Seconds before the first fault."""


class Times(NamedTuple):
    """The durations of a night, in seconds: the defaults of users, scaled."""

    scale: float

    @property
    def settings(self) -> dict[str, float]:
        """Those of the capture."""
        default = {
            "renew_every": 480.0, "tickle_every": 60.0, "heartbeat_timeout": 25.0, "stale_after": 60.0,
            "reconnect_delay": 1.0,
        }  # fmt: skip
        scaled = {name: seconds * self.scale for name, seconds in default.items()}
        return scaled | {"heartbeat_timeout": max(3.0, scaled["heartbeat_timeout"])}  # no busy machine is a dead line

    @property
    def patience(self) -> Patience:
        """How long a capture with these takes to notice."""
        own = self.settings
        return Patience(own["stale_after"], own["heartbeat_timeout"], own["tickle_every"])

    def length(self, kind: str, option: str | None) -> float:
        """How long a fault of this kind must last to be noticed, and not much longer."""
        if not KINDS[kind].lasts:
            return 0.0
        match kind:
            case "silence":
                return 2 + (self.patience.knowable if option == "all" else self.patience.knowable_of_one)
            case "freeze":
                return self.patience.heartbeat_timeout + 2
            case "rest":
                return self.patience.tickle_every + 2
            case "away":
                return 20 * self.scale + 3
            case _:
                return 10 * self.scale + 4

    def rest(self, kind: str, *, again: bool) -> float:
        """How long the capture may take to have recovered after it; `again`: there was one of its kind before."""
        match kind:
            case "silence" if again:
                return SILENCE + 5  # stale streams cost the connection once a minute at most; else they wait
            case "silence" | "freeze":
                return 8
            case "rollover":
                return self.patience.tickle_every + 5
            case "expire":
                return self.patience.knowable + 4
            case "away" | "refuse":
                return 2 * self.length(kind, None) + 6  # the pauses of both double
            case _:
                return 6


def plan(times: Times, seconds: float, *, chance: random.Random) -> list[Fault]:
    """Shuffle every variant, again and again while there is time; raise if they do not fit once."""
    faults: list[Fault] = []
    at = LEAD_S
    while True:
        deck = variants()
        chance.shuffle(deck)
        for kind, option in deck:
            lasts = times.length(kind, option)
            rest = times.rest(kind, again=any(fault.kind == kind for fault in faults))
            if at + lasts + rest > seconds:
                if len(faults) < len(deck):
                    sys.exit(f"{seconds:g} s are too short for every fault once: use a smaller --scale")
                return faults
            faults.append(Fault(kind=kind, option=option, at=round(at, 3), lasts=round(lasts, 3)))
            at += lasts + rest + chance.uniform(0, 2)


# ------------------------------------------------------------------ the processes


def environment(settings: Mapping[str, float]) -> dict[str, str]:
    """Give the environment of a command: this checkout, and these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECORDER_")}
    own = {f"RECORDER_{name.upper()}": f"{seconds:g}s" for name, seconds in settings.items()}
    return kept | own | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@contextmanager
def started(folder: Path, name: str, *arguments: str, settings: Mapping[str, float]) -> Iterator[subprocess.Popen[str]]:
    """Run a command while the context lasts; what it says on standard error goes into a file."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [*RECORDER, *arguments],
            cwd=folder,
            env=environment(settings),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


class Night(NamedTuple):
    """What is left of a night."""

    log: Log
    archive: Archive
    samples: list[Sample]
    exit_code: int
    verify: subprocess.CompletedProcess[str]


def run_night(folder: Path, faults: list[Fault], times: Times, *, seconds: float, rate: float, seed: int) -> Night:
    """Run simulator and capture for as long as the plan says."""
    script = folder / "night.toml"
    script.write_text(script_of(faults))
    simulate = (
        "simulate", "--serve", "127.0.0.1:0", "--json", "--contracts", str(CONTRACTS), "--rate", str(rate),
        "--seed", str(seed), "--faults", str(script), "--fault-log", str(folder / "faults.jsonl"),
        "--heartbeat-every", f"{10 * times.scale:g}s", "--expire-after", f"{600 * times.scale:g}s",
    )  # fmt: skip
    with started(folder, "simulate", *simulate, settings={}) as simulator:
        assert simulator.stdout is not None, "it is a pipe"
        serving = json.loads(simulator.stdout.readline())
        conids = ",".join(map(str, serving["conids"]))
        capture = ("capture", "--gateway", serving["gateway"], "--conid", conids, "--data", str(folder / "data"))
        drain = Thread(target=_tell_faults, args=(simulator,), daemon=True)
        drain.start()
        with started(folder, "capture", *capture, settings=times.settings) as recorder:
            watch = Watch(recorder.pid)
            exit_code = _wait(recorder, seconds)
            watch.stop()
        simulator.send_signal(signal.SIGINT)
        simulator.wait(timeout=30)
    verify = subprocess.run(
        [*RECORDER, "verify", "--data", str(folder / "data")],
        env=environment({}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Night(read_log(folder / "faults.jsonl"), Archive(folder / "data"), watch.samples, exit_code, verify)


def _tell_faults(simulator: subprocess.Popen[str]) -> None:
    assert simulator.stdout is not None, "it is a pipe"
    for line in simulator.stdout:
        said = json.loads(line)
        if said["event"] == "fault_began":
            print(f"{time.strftime('%H:%M:%S')} {said['fault']} {said['option'] or ''}", flush=True)


def _wait(recorder: subprocess.Popen[str], seconds: float) -> int:
    """Let the capture run, then stop it cleanly; one that ends by itself is a failure."""
    try:
        return recorder.wait(timeout=seconds) or 1
    except subprocess.TimeoutExpired:
        recorder.send_signal(signal.SIGTERM)
    try:
        return recorder.wait(timeout=60)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


# ------------------------------------------------------------------ the account


def recoveries(night: Night) -> dict[str, list[float]]:
    """Seconds from a fault's end to the first market data after it (of the contract that it silenced), by variant."""
    waiting = list(night.log.faults)
    found: dict[str, list[float]] = {}
    for frame in night.archive.frames(kinds=["in"]):
        conid = market_conid(frame)
        if conid is None:
            continue
        for fault in [fault for fault in waiting if fault.ended < frame.ts_recv]:
            if fault.kind == "silence" and fault.option != "all" and conid not in fault.conids:
                continue
            waiting.remove(fault)
            found.setdefault(fault.name, []).append((frame.ts_recv - fault.ended) / SECOND)
    for fault in waiting:
        found.setdefault(fault.name, []).append(float("inf"))
    return found


def tell(night: Night, rows: list[Row]) -> None:
    """Print what came of each fault."""
    recovered = recoveries(night)
    counts = {name: sum(fault.name == name for fault in night.log.faults) for name in recovered}
    print(f"\n{'fault':<24} {'times':>5} {'recovered after: median':>24} {'most':>8}")
    for name in sorted(recovered):
        took = recovered[name]
        print(f"{name:<24} {counts[name]:>5} {median(took):>22.2f} s {max(took):>6.2f} s")
    print(f"\n{len(rows)} rows in the gap ledger:")
    for row in rows:
        print(f"  {row}")


def main() -> None:
    """Run, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", dest="seconds", type=parse_duration, default=3600.0)
    parser.add_argument("--scale", type=float, help="factor on all settings of time")
    parser.add_argument("--rate", type=float, default=200.0, help="frames of market data a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--keep", type=Path, help="leave archive and logs in this folder")
    options = parser.parse_args()
    times = Times(options.scale or min(1.0, options.seconds / 4000))
    faults = plan(times, options.seconds, chance=random.Random(options.seed))
    print(f"seed {options.seed}, scale {times.scale:g}, {len(faults)} faults, settings {times.settings}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.keep is None else options.keep.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        night = run_night(folder, faults, times, seconds=options.seconds, rate=options.rate, seed=options.seed)
        found = judged(night.archive, night.log, times.patience)
        tell(night, rows_of(night.archive))
        figures = {
            "faults": len(night.log.faults),
            "frames_sent": sum(int(one["frames"]) for one in night.log.sent),
            "lost_under_way_of_broken_connections": lost_under_way(night.archive, night.log),
            "capture": usage(night.samples),
            "capture_exit_code": night.exit_code,
            "verify": night.verify.stdout.strip().splitlines()[-1:] or night.verify.stderr.strip().splitlines(),
            "disagreements": len(found),
        }
    print(f"\n{json.dumps(figures, indent=2)}")
    for one in found:
        print(f"disagreement: {one}")
    done = len(night.log.faults) == len(faults)
    if not done:
        print(f"disagreement: {len(faults)} faults were planned, {len(night.log.faults)} done")
    sys.exit(1 if found or not done or night.exit_code or night.verify.returncode else 0)


if __name__ == "__main__":
    main()
