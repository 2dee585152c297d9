"""`recorder replay --serve`: the archive behind an emulated gateway."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from recorder.archive.gaps import read_gaps
from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader, Span
from recorder.cli.durations import parse_duration
from recorder.cli.fault_script import read_faults
from recorder.cli.gateway_report import GatewayReport
from recorder.cli.replay_keys import keys_on_terminal
from recorder.cli.serving_options import Serving
from recorder.cli.simulate import parse_address
from recorder.errors import UsageError
from recorder.protocol.instants import to_micros
from recorder.protocol.server_session import SECOND, Rules
from recorder.protocol.topics import load_topics
from recorder.replay.archive_feed import ArchiveFeed
from recorder.replay.certificate import given, self_signed
from recorder.replay.connection import Connection
from recorder.replay.control import Control
from recorder.replay.fault_driver import driven
from recorder.replay.fault_log import FaultLog
from recorder.replay.faults import Fault
from recorder.replay.gateway import Gateway, serve, wall_clock
from recorder.replay.recorded_contents import contents_of

_END_LOOK_S: Final = 0.1
_SWITCH_S: Final = 0.0005  # how long the thread that reads ahead may keep the one that paces waiting; 5 ms otherwise


def serve_archive(folder: Path, options: Serving) -> None:
    """Serve an archive until Ctrl-C or SIGTERM."""
    host, port = parse_address(options.address)
    span = Span(to_micros(options.start, what="--start"), to_micros(options.end, what="--end"))
    rules = Rules(expire_after=_expiry(options.expire_after, options.speed))
    if options.tls and options.cert:
        raise UsageError("--tls makes a certificate and --cert takes one", hint="leave one of them out")
    if options.key and not options.cert:
        raise UsageError("--key belongs to a certificate", hint="add --cert FILE")
    plan = () if options.faults is None else read_faults(options.faults, seed=options.seed)
    reader = Reader(open_layout(folder), load_topics())
    contents = contents_of(reader, span=span, recorder=options.recorder)
    gaps = read_gaps(reader, span=Span(contents.begin, contents.end + 1)) if options.skip_gaps else []
    feed = ArchiveFeed(
        reader,
        contents,
        speed=options.speed,
        at_once=options.at_once,
        loop=options.loop,
        skip_gaps=options.skip_gaps,
        gaps=[(gap.start, contents.end if gap.end is None else gap.end) for gap in gaps if gap.conid is None],
    )
    sys.setswitchinterval(_SWITCH_S)
    with ExitStack() as stack:
        stack.callback(feed.close)
        asyncio.run(_run(feed, options, rules, plan, host=host, port=port, stack=stack))


def _expiry(text: str, speed: float | None) -> int | None:
    """Say when streams end unless renewed, in the present's microseconds: the limit is in replay time."""
    if text == "never":
        return None
    seconds = parse_duration(text)
    if seconds <= 0:
        raise UsageError(f"--expire-after: {text!r} is not longer than 0", hint="use a duration such as 10m, or never")
    return None if speed is None else max(1, int(seconds * SECOND / speed))


async def _run(
    feed: ArchiveFeed, options: Serving, rules: Rules, plan: Iterable[Fault], *, host: str, port: int, stack: ExitStack
) -> None:
    stop, first_client = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    report = GatewayReport(json=options.json)
    tls, trusted = None, None
    if options.tls:
        tls, trusted = self_signed(host, folder=Path(stack.enter_context(tempfile.TemporaryDirectory())))
    elif options.cert is not None:
        tls = given(options.cert, options.key)
    log = FaultLog(None, clock=wall_clock, tell=report.fault)
    await feed.prepare()
    control = Control(feed, clock=wall_clock)

    def joined(_client: Connection) -> None:
        first_client.set()

    async with serve(
        feed,
        host=host,
        port=port,
        rules=rules,
        tls=tls,
        on_join=joined,
        on_leave=report.left,
        extend=control.register if options.control else None,
    ) as gateway:
        report.serving(gateway, feed)
        if trusted is not None:
            report.say("certificate", f"certificate: clients trust it with --ca {trusted}", path=str(trusted))
        async with driven(gateway, plan, fault_log=log, first_client=first_client, failed=stop.set):
            with keys_on_terminal(feed, loop):
                watch = asyncio.create_task(_watch_end(gateway, feed, report, stop))
                await report.watch(gateway, stop, progress=lambda: _progress(feed))
                watch.cancel()
    report.stopped(gateway)


async def _watch_end(gateway: Gateway, feed: ArchiveFeed, report: GatewayReport, stop: asyncio.Event) -> None:
    """Say when the recording has come to its end; stop if it cannot be read."""
    said = False
    while True:
        if gateway.hub.ended.is_set() and not feed.ended:
            stop.set()  # the failure is raised where the gateway is left
            return
        if feed.ended and not said:
            report.say("ended", "the recording is at its end; clients stay connected", time=feed.contents.end)
        said = feed.ended
        await asyncio.sleep(_END_LOOK_S)


def _progress(feed: ArchiveFeed) -> str:
    now = wall_clock()
    moment = datetime.fromtimestamp(feed.clock.at(now) / 1e6, UTC)
    whole = max(1, feed.contents.end - feed.contents.begin)
    share = min(1.0, (feed.clock.at(now) - feed.contents.begin) / whole)
    speed = "max" if feed.clock.speed is None else f"{feed.clock.speed:g}x"
    state = "at the end" if feed.ended else "paused" if feed.paused else speed if feed.clock.running else "standing"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC  {share:.0%}  {state}  "
