"""`recorder simulate`: an emulated gateway with a synthetic market."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple

import typer

from recorder.cli.durations import parse_duration
from recorder.cli.fault_script import read_faults
from recorder.cli.gateway_report import GatewayReport
from recorder.errors import UsageError
from recorder.protocol.server_session import SECOND, Rules
from recorder.replay.connection import Connection
from recorder.replay.fault_driver import driven
from recorder.replay.fault_log import FaultLog
from recorder.replay.faults import Fault
from recorder.replay.gateway import Leave, serve, wall_clock
from recorder.replay.synthetic import SyntheticFeed
from recorder.replay.tally import Tally
from recorder.replay.trail import Trail

_PORTS: Final = range(65_536)


def simulate(  # noqa: PLR0917  typer reads options from the signature
    address: Annotated[
        str, typer.Option("--serve", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:5000",
    contracts: Annotated[int, typer.Option(min=1, max=17_000, help="How many contracts the market has.")] = 100,
    rate: Annotated[
        float, typer.Option(min=0, help="Market-data frames a second, over all subscribed contracts.")
    ] = 100.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same market and the same faults.")] = 0,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Stop by itself after this time.")
    ] = None,
    expire_after: Annotated[
        str, typer.Option(metavar="DURATION", help="Market data ends unless renewed within this time.")
    ] = "10m",
    heartbeat_every: Annotated[
        str, typer.Option(metavar="DURATION", help="The gateway sends a heartbeat this often.")
    ] = "10s",
    faults: Annotated[
        str | None,
        typer.Option(metavar="SCRIPT", help="What goes wrong, and when: disconnect@30s,silence:20s@2m, say."),
    ] = None,
    fault_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Log the faults, and what each client was sent, as JSON lines.")
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Send binary frames instead of text.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: one when serving, one a client that left, one at the end.")
    ] = False,
) -> None:
    """Serve a synthetic market as the broker's gateway would, for trying things out without an account.

    REST and WebSocket share one port. When a client leaves, and at the end, the count and the content digest of what
    was sent are printed for each topic; they equal those of a capture that lost nothing. Ctrl-C stops.

    --faults lets things go wrong, timed from the first client's coming: KIND=OPTION:LENGTH@TIME, several with commas,
    or a TOML file, or random:rate=1/2m for faults without end, the same for the same seed.

    For example:

      recorder simulate --contracts 20 --rate 500 --seed 7

      recorder simulate --serve 127.0.0.1:0 --rate 2000 --for 10m --expire-after 30s

      recorder simulate --faults disconnect@30s,silence=one:90s@2m,rollover@5m --fault-log faults.jsonl
    """  # fmt: skip
    host, port = parse_address(address)
    rules = Rules(expire_after=_micros(expire_after), heartbeat_every=_micros(heartbeat_every))
    plan = () if faults is None else read_faults(faults, seed=seed)
    seconds = None if for_ is None else parse_duration(for_)
    feed = SyntheticFeed(seed=seed, contracts=contracts, rate=rate)
    report = GatewayReport(json=json)
    with ExitStack() as stack:
        out = None if fault_log is None else stack.enter_context(_opened(fault_log))
        night = _Night(plan, FaultLog(out, clock=wall_clock, tell=report.fault), Tally if out is None else Trail)
        asyncio.run(_run(feed, report, night, host=host, port=port, rules=rules, binary=binary, seconds=seconds))


class _Night(NamedTuple):
    """What goes wrong, where that is logged, and what counts a client's frames."""

    plan: Iterable[Fault]
    log: FaultLog
    tally: Callable[[], Tally]


def _micros(duration: str) -> int:
    micros = int(parse_duration(duration) * SECOND)
    if micros <= 0:
        raise UsageError(f"{duration!r} is not longer than 0", hint="use a duration such as 200ms, 3s or 10m")
    return micros


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as exc:
        raise UsageError(f"--fault-log: {path}: {exc.strerror}", hint="name a file that can be written") from exc


def parse_address(text: str) -> tuple[str, int]:
    """Read `host:port`; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) not in _PORTS:
        raise UsageError(f"no address: {text!r}", hint="write host:port, such as 127.0.0.1:5000")
    return host.strip("[]") or "127.0.0.1", int(port)


async def _run(
    feed: SyntheticFeed,
    report: GatewayReport,
    night: _Night,
    *,
    host: str,
    port: int,
    rules: Rules,
    binary: bool,
    seconds: float | None,
) -> None:
    stop, first_client = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def joined(client: Connection) -> None:
        first_client.set()
        night.log.connected(client)

    def left(leave: Leave) -> None:
        night.log.left(leave)
        report.left(leave)

    async with serve(
        feed, host=host, port=port, rules=rules, binary=binary, on_join=joined, on_leave=left, tally=night.tally
    ) as gateway:
        report.serving(gateway, feed)
        async with driven(gateway, night.plan, fault_log=night.log, first_client=first_client, failed=stop.set):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await report.watch(gateway, stop)
    report.stopped(gateway)
