"""`recorder demo`: the whole recorder at work on a synthetic market."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from recorder.cli.durations import format_duration, parse_duration
from recorder.cli.output import print_table, progress
from recorder.errors import RecorderError, UsageError

if TYPE_CHECKING:
    from recorder.capture.capture import Outcome
    from recorder.capture.status import Status
    from recorder.library import Archive
    from recorder.protocol.digest import ContentDigest
    from recorder.replay.tally import Counted

_RATE: Final = 500.0  # market-data frames a second
_SEED: Final = 7
_FLUSHES: Final = 3  # while recording; one more follows at the stop
_SHORTEST: Final = 3.0  # seconds: less shows no order's life
_SHOWN: Final = 2  # contracts of a topic in the tree
_COLUMNS: Final = ("last_price", "bid_price", "bid_size", "ask_price", "ask_size", "volume_long")


def demo(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the demo's archive; kept afterwards.")] = Path(
        "demo-data"
    ),
    for_: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long to record.")] = "10s",
    contracts: Annotated[int, typer.Option(min=1, max=1000, help="How many contracts the market has.")] = 20,
) -> None:
    """Show the whole recorder at work on a synthetic market; no account needed.

    An emulated gateway sends quotes, trades, orders and P&L through a real socket; the capture journals them and
    writes Parquet; pandas reads a table; the recording is replayed. At the end the content digests of what was sent,
    captured and replayed are compared: they are one and the same, or the exit code is 1.

    For example:

      recorder demo

      recorder demo --data /tmp/demo --for 30s --contracts 100
    """
    seconds = parse_duration(for_)
    if seconds < _SHORTEST:
        raise UsageError(f"--for: {for_} is too short", hint=f"record {_SHORTEST:g}s or longer")
    import recorder  # noqa: PLC0415  pandas takes a moment to import; errors above come before

    began = datetime.now(UTC)
    sent, outcome = asyncio.run(_record(data, seconds=seconds, contracts=contracts))
    archive = recorder.open(data)
    _show_tree(data)
    _show_table(archive, began)
    replayed = _replay(archive, began)
    _compare(sent, outcome, replayed)
    print(f"\nread it yourself: recorder.open({str(data)!r}).load('market_data')")


async def _record(data: Path, *, seconds: float, contracts: int) -> tuple[Mapping[str, Counted], Outcome]:
    """Serve a synthetic market and capture from it; give what was sent, and what was captured."""
    from recorder.capture.settings import CaptureSettings  # noqa: PLC0415  as in `demo`
    from recorder.recording import record  # noqa: PLC0415
    from recorder.replay.gateway import serve  # noqa: PLC0415
    from recorder.replay.synthetic import SyntheticFeed  # noqa: PLC0415

    feed = SyntheticFeed(seed=_SEED, contracts=contracts, rate=_RATE)
    async with serve(feed, port=0) as gateway:
        print(f"an emulated gateway serves {contracts} contracts at {gateway.base_url}")
        print(f"recording for {format_duration(seconds)} into {data}/ …", flush=True)
        settings = CaptureSettings(
            gateway=gateway.base_url,
            conid=tuple(str(conid) for conid in feed.instruments),
            data=data,
            recorder_name="demo",
            flush_every=seconds / _FLUSHES,
        )
        with progress("recording", total=seconds) as done:
            begin = time.monotonic()
            flushes = 0

            def watch(status: Status) -> None:
                nonlocal flushes
                flushes = status.flushes
                done(time.monotonic() - begin)

            stop_at = datetime.now(UTC) + timedelta(seconds=seconds)
            outcome = await record(settings, stop_at=stop_at, watch=watch)
        print(f"{outcome.received:,} frames received, flushed to Parquet {outcome.flushes} times")
        return gateway.digests(), outcome


def _show_tree(data: Path) -> None:
    """Print the folders that hold parts, of many contracts the first few."""
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    print(f"\n{data}/   {size / 1e6:.1f} MB")
    for topic in sorted(path for path in data.iterdir() if any(path.glob("date=*"))):
        folders = sorted({path.parent for path in topic.rglob("*.parquet")}, key=_natural)
        for folder in folders[:_SHOWN]:
            count = len(list(folder.glob("*.parquet")))
            print(f"  {folder.relative_to(data)}/   {count} part{'s' if count > 1 else ''}")
        if len(folders) > _SHOWN:
            print(f"  … {len(folders) - _SHOWN} more contracts")


def _natural(folder: Path) -> tuple[str, int, str]:
    name, _, number = folder.name.partition("=")
    return (folder.parent.name, int(number), "") if number.isdecimal() else ("", 0, name)


def _show_table(archive: Archive, began: datetime) -> None:
    import pandas as pd  # noqa: PLC0415  as in `demo`

    conid = int(archive.table("market_data", start=began, columns=["conid"])["conid"][0].as_py())
    print(f"\n>>> archive.load('market_data', conid={conid}, columns={list(_COLUMNS)})")
    table = archive.load("market_data", conid=conid, start=began, columns=_COLUMNS)
    with pd.option_context("display.width", 120, "display.max_columns", 10):
        print(table.drop(columns="conid").head(6))
    print(f"[{len(table):,} rows; a value that did not change is absent, fill=True carries it forward]")


def _replay(archive: Archive, began: datetime) -> dict[str, ContentDigest]:
    begin = time.perf_counter()
    digests = archive.digests(start=began)
    frames = sum(digest.count for digest in digests.values())
    print(f"\nreplayed {frames:,} frames in {time.perf_counter() - begin:.2f} s")
    return digests


def _compare(sent: Mapping[str, Counted], outcome: Outcome, replayed: Mapping[str, ContentDigest]) -> None:
    """Print the three digests of each topic side by side; a `RecorderError` if any differ."""
    rows, different = [], []
    for topic in sorted({*sent, *outcome.digests, *replayed}):
        digests = [
            sent[topic].digest if topic in sent else "none",
            outcome.digests[topic]["digest"] if topic in outcome.digests else "none",
            replayed[topic].hexdigest() if topic in replayed else "none",
        ]
        same = len(set(digests)) == 1
        frames = f"{sent[topic].frames if topic in sent else 0:,}"
        rows.append([topic, frames, *(digest[:12] for digest in digests), "the same" if same else "DIFFERENT"])
        if not same:
            different.append(topic)
    print_table(["topic", "frames", "sent", "captured", "replayed", ""], rows, right=["frames"])
    if different:
        raise RecorderError(f"what was sent, captured and replayed differs in {', '.join(different)}")
