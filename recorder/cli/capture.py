"""`recorder capture`: record what the gateway streams."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from recorder.cli.durations import parse_duration
from recorder.cli.options import Config
from recorder.cli.settings import capture_settings
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.capture.capture import Outcome
    from recorder.capture.settings import CaptureSettings
    from recorder.capture.status import Status

Symbols = Annotated[list[str] | None, typer.Option(metavar="SYMBOL,…", help="Stocks by symbol: IBM, or AAPL:NASDAQ.")]
Accounts = Annotated[
    list[str] | None,
    typer.Option(metavar="ACCOUNT,…", help="Accounts of depth, summary and ledger.", show_default="all"),
]
Certificate = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificate that vouches for the gateway's own.")
]

_LINE_EVERY: Final = 60  # seconds between status lines where there is no terminal


def capture(  # noqa: PLR0917  typer reads options from the signature
    gateway: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the gateway's Web API, http or https.")
    ] = None,
    conid: Annotated[
        list[str] | None, typer.Option(metavar="ID,…", help="Contracts: 265598, or 265598@NYSE for one exchange.")
    ] = None,
    symbol: Symbols = None,
    account: Accounts = None,
    topic: Annotated[list[str] | None, typer.Option(metavar="NAME,…", help="Topics to subscribe to.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="FIELD,…", help="Market-data fields, by name or id.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the archive; made if need be.", show_default="data")
    ] = None,
    flush_every: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Write Parquet this often.", show_default="1h")
    ] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop after this time.")] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="HH:MM", help="Stop at this time of day, in this machine's zone, or the calendar's."),
    ] = None,
    calendar: Annotated[
        str | None, typer.Option(metavar="CODE", help="Record in this exchange's sessions only, such as XNYS or CMES.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of this recorder.", show_default="main")
    ] = None,
    ca: Certificate = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Accept any certificate of the gateway.")] = False,
    login: Annotated[bool, typer.Option("--login", help="Open the brokerage session if there is none.")] = False,
    compete: Annotated[
        bool, typer.Option("--compete", help="With --login: take over from the user's other trading session.")
    ] = False,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve a status page, health and metrics here.")
    ] = None,
    config: Config = None,
) -> None:
    """Record what the gateway streams, until stopped.

    Ctrl-C stops cleanly: what was received is written as Parquet, and counts and digests are printed. A second Ctrl-C
    stops at once; the journal keeps what came, and the next capture or `recorder flush` archives it. All other settings
    have a variable and a key in recorder.toml.

    For example:

      recorder capture --conid 265598,8314 --insecure --for 8h

      recorder capture --gateway http://127.0.0.1:5000/v1/api --conid 265598 --field bid_price,ask_price --until 16:00
    """
    flags = {
        "gateway": gateway,
        "conid": conid,
        "symbol": symbol,
        "account": account,
        "topic": topic,
        "field": field,
        "data": data,
        "flush_every": flush_every,
        "recorder_name": name,
        "ca": ca,
        "insecure": insecure,
        "login": login,
        "compete": compete,
        "http": http,
        "calendar": calendar,
    }
    _record(flags, config, for_=for_, until=until)


def _record(flags: Mapping[str, object], config: Path | None, *, for_: str | None, until: str | None) -> None:
    settings = capture_settings(flags, config=config)
    stop_at = _stop_at(for_, until, now=datetime.now(UTC), zone=_zone(settings))
    from recorder.capture.capture import Capture, stop_on_signals  # noqa: PLC0415  as below
    from recorder.pauses import shorten_pauses  # noqa: PLC0415
    from recorder.recording import (  # noqa: PLC0415  pyarrow takes a moment to import; errors above come before
        record,
        reload_on_hangup,
    )

    def ready(capture: Capture) -> None:
        stop_on_signals(capture)
        if not sys.stderr.isatty():  # else it means that the terminal is gone
            reload_on_hangup(capture, lambda: capture_settings(flags, config=config))

    with watching() as watch:
        if stop_at is not None:
            logging.getLogger(__name__).info("stops at %s", f"{stop_at:%Y-%m-%d %H:%M:%S %Z}")
        shorten_pauses()
        outcome = asyncio.run(record(settings, stop_at=stop_at, watch=watch, ready=ready))
    print_outcome(outcome)


def _zone(settings: CaptureSettings) -> tzinfo | None:
    """Give the zone of the calendar; None: this machine's."""
    if not settings.calendar:
        return None
    from recorder.capture.trading_hours import TradingHours  # noqa: PLC0415  its library imports pandas

    return TradingHours(settings.calendar, before=settings.wake_before, after=settings.stay_after).zone


def _stop_at(for_: str | None, until: str | None, *, now: datetime, zone: tzinfo | None = None) -> datetime | None:
    if for_ is not None and until is not None:
        raise UsageError("--for and --until exclude each other", hint="leave one of them out")
    if for_ is not None:
        return (now + timedelta(seconds=parse_duration(for_))).astimezone(zone)
    if until is None:
        return None
    try:
        clock = datetime.strptime(until, "%H:%M").time()  # noqa: DTZ007  only the time of day is kept
    except ValueError:
        raise UsageError(f"--until: {until!r} is not a time of day", hint="write it as 16:00") from None
    today = now.astimezone(zone).date()
    return next(stop for stop in (_at(today, clock, zone), _at(today + timedelta(days=1), clock, zone)) if stop > now)


def _at(day: date, clock: time, zone: tzinfo | None) -> datetime:
    """Give a time of a day; the zone's offset is that of the instant, summer time or not."""
    moment = datetime.combine(day, clock)
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


@contextmanager
def watching() -> Iterator[Callable[[Status], None]]:
    """Show log lines, and on a terminal a live line below them, else a status line once a minute."""
    from rich.console import Console  # noqa: PLC0415  only commands that run long need it

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    log = logging.getLogger("recorder")
    handler = _ConsoleHandler(console)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    rate = _Rate()
    try:
        if not sys.stderr.isatty():
            count = iter(range(1, sys.maxsize))

            def say(status: Status) -> None:
                line = _line(status, rate(status))
                if next(count) % _LINE_EVERY == 0:
                    log.info("%s", line)

            yield say
        else:
            with console.status("starting") as live:
                yield lambda status: live.update(_line(status, rate(status)))
    finally:
        log.removeHandler(handler)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: object) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        stamp = datetime.fromtimestamp(record.created).astimezone()
        text = f"{stamp:%H:%M:%S} {level}{record.getMessage()}"
        self._console.print(text, markup=False)  # type: ignore[attr-defined]


class _Rate:
    """Frames a second between two looks, which are a second apart."""

    def __init__(self) -> None:
        self._before = 0

    def __call__(self, status: Status) -> int:
        rate, self._before = status.received - self._before, status.received
        return rate


def _line(status: Status, rate: int) -> str:
    """Compose the status line; what a narrow terminal cuts off stands last."""
    rows = "  ".join(f"{topic} {count:,}" for topic, count in sorted(status.rows.items(), key=lambda pair: -pair[1]))
    age = "no frame yet" if status.age is None else f"last frame {status.age:.0f} s ago"
    flushed = "no flush yet" if status.flushed is None else f"last flush {status.flushed:.0f} s ago"
    from recorder.capture.verdict import problems  # noqa: PLC0415  as all of the capture

    wrong = [problem.text for problem in problems(status, status.at)]
    parts = [
        f"{rate:,} frames/s",
        age,
        flushed,
        f"{status.unflushed_bytes / 1e6:.1f} MB unflushed",
        rows or "no rows yet",
    ]
    return " · ".join([status.state, *wrong, *parts])


def print_outcome(outcome: Outcome) -> None:
    """Print what was captured: frames, rows and the content digest by topic."""
    print(f"session {outcome.session}: {outcome.received:,} frames received")
    for topic, said in sorted(outcome.digests.items()):
        print(f"  {topic:<16} {said['frames']:>12,} frames  {outcome.rows.get(topic, 0):>12,} rows  {said['digest']}")
