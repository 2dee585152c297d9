"""`recorder report`: say what a date's recording is worth."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date as Date  # noqa: N812  `date` is the option's name
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from recorder.cli.durations import parse_duration
from recorder.cli.options import Config, Data, Json
from recorder.cli.output import print_json, print_table, progress
from recorder.cli.settings import data_folder
from recorder.errors import ArchiveError, UsageError

if TYPE_CHECKING:
    from recorder.research.limits import Limits

_COLUMNS: Final = (
    *("topic", "conid", "symbol", "rows", "covered", "gaps", "silent", "crossed", "locked", "repeated", "backwards"),
    *("p50 ms", "p99 ms", "not live", "MB"),
)
_TEXTS: Final = ("topic", "symbol")


def report(  # noqa: PLR0917  typer reads options from the signature
    data: Data = None,
    date: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Date of the archive.", show_default="the last that was recorded"),
    ] = None,
    calendar: Annotated[
        str | None, typer.Option(metavar="CODE", help="Judge the sessions of this exchange, such as XNYS or CMES.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with charts, which works offline.")
    ] = None,
    min_coverage: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of the hours that has to be covered.")
    ] = "0.99",
    max_gap: Annotated[str, typer.Option(metavar="DURATION", help="How long a gap may be.")] = "5m",
    max_latency: Annotated[
        str, typer.Option(metavar="DURATION", help="How late 99 of 100 rows may be, and how far clocks may differ.")
    ] = "2s",
    max_delayed: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of rows that may be delayed, frozen or not subscribed.")
    ] = "0.05",
    stale_after: Annotated[
        str, typer.Option(metavar="DURATION", help="How long nothing may come before it counts as silent.")
    ] = "60s",
    json: Json = False,
    config: Config = None,
) -> None:
    """Say what a date's recording is worth, by topic and contract; exit code 1 if it is beyond a limit.

    Rows, coverage of the session, gaps, silences, crossed and locked quotes, repeated rows, broker times that go back,
    latency, clocks, delayed data, bytes. What is still in the journal is included.

    For example:

      recorder report

      recorder report --date 2026-11-20 --calendar XNYS --html report.html
    """
    limits = _limits(min_coverage, max_gap, max_latency, max_delayed)
    silence = _seconds("--stale-after", stale_after)
    _check_date(date)
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment; errors above come before
    from recorder.archive.reading import Reader  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415
    from recorder.research.day_quality import day_quality  # noqa: PLC0415
    from recorder.research.quality_document import quality_document  # noqa: PLC0415

    reader = Reader(open_layout(folder), load_topics())
    with progress("reading") as done:
        now = time.time_ns() // 1000
        quality = day_quality(reader, date, calendar=calendar, silence=silence, now=now, watch=done)
    document = quality_document(quality, limits)
    if html is not None:
        _write_page(html, document)
    if json:
        print_json(document)
    else:
        _print(document, html)
    if not document["good"]:
        raise typer.Exit(1)


def _limits(min_coverage: str, max_gap: str, max_latency: str, max_delayed: str) -> Limits:
    from recorder.research.limits import Limits  # noqa: PLC0415  pyarrow takes a moment

    return Limits(
        min_coverage=_share("--min-coverage", min_coverage),
        max_gap=_seconds("--max-gap", max_gap),
        max_latency=_seconds("--max-latency", max_latency),
        max_delayed=_share("--max-delayed", max_delayed),
    )


def _share(flag: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{flag}: {text!r} is not a share", hint="write a number from 0 to 1, such as 0.99")
    return share


def _seconds(flag: str, text: str) -> float:
    try:
        return parse_duration(text)
    except UsageError as exc:
        raise UsageError(f"{flag}: {exc}", hint=exc.hint) from exc


def _check_date(text: str | None) -> None:
    try:
        right = text is None or Date.fromisoformat(text).isoformat() == text
    except ValueError:
        right = False
    if not right:
        raise UsageError(f"--date: {text!r} is not a date", hint="write 2026-11-20")


def _write_page(path: Path, document: dict[str, Any]) -> None:
    """Write the page, private to the user, at once or not at all."""
    from recorder.research.quality_page import quality_page  # noqa: PLC0415  only with --html

    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  the file is open
            file.write(quality_page(document))
        unfinished.replace(path)
    except OSError as exc:
        unfinished.unlink(missing_ok=True)
        raise ArchiveError(f"{path} cannot be written: {exc.strerror}", hint="give another file with --html") from exc


def _print(document: dict[str, Any], html: Path | None) -> None:
    hours = document["hours"]
    spans = ", ".join(f"{_clock(begin)} to {_clock(end)}" for begin, end in hours) or "none"
    said = document["calendar"] or "first to last row"
    print(f"{document['date']}   hours {spans} UTC ({said})")
    print_table(
        _COLUMNS, map(_cells, _lines(document["streams"])), right=[name for name in _COLUMNS if name not in _TEXTS]
    )
    _print_gaps(document)
    clock = document["clock"]
    if clock is None:
        print("clock        no heartbeat was recorded")
    else:
        print(f"clock        {clock['p50'] * 1000:+,.0f} ms of the broker's, by {clock['count']:,} heartbeats")
    if html is not None:
        print(f"page         {html}")
    for problem in document["problems"]:
        print(f"problem      {problem['text']}")
    if document["good"]:
        print("good         nothing is beyond a limit")


def _print_gaps(document: dict[str, Any]) -> None:
    causes: dict[str, tuple[int, float]] = {}
    for one in document["streams"]:
        for gap in one["gaps"]:
            count, longest = causes.get(gap["cause"], (0, 0.0))
            causes[gap["cause"]] = max(count, gap["count"]), max(longest, gap["longest"])
    for cause, (count, longest) in sorted(causes.items()):
        print(f"gaps         {cause}: at most {count} of a stream, the longest {_lasted(longest)}")


def _cells(one: dict[str, Any]) -> tuple[object, ...]:
    latency = one["latency"]
    missed = [gap for gap in one["gaps"] if not gap["information"]]
    counts = ("crossed", "locked", "repeated", "backwards")
    crossed, locked, repeated, backwards = (None if one[name] is None else f"{one[name]:,}" for name in counts)
    return (
        one["topic"],
        one["conid"] or None,
        one["symbol"],
        f"{one['rows']:,}",
        None if one["coverage"] is None else f"{int(one['coverage'] * 10_000) / 100:.2f}%",
        _gaps(missed),
        one["silences"],
        crossed,
        locked,
        repeated,
        backwards,
        None if latency is None else f"{latency['p50'] * 1000:,.0f}",
        None if latency is None else f"{latency['p99'] * 1000:,.0f}",
        None if one["not_live"] is None else f"{one['not_live'] / one['rows'] * 100:.1f}%",
        f"{one['bytes'] / 1e6:,.2f}",
    )


def _gaps(missed: list[dict[str, Any]]) -> str | None:
    """Write how many gaps there were, and how long the longest was."""
    longest = max((gap["longest"] for gap in missed), default=0.0)
    return f"{sum(gap['count'] for gap in missed)} ({_lasted(longest)})" if missed else None


def _lasted(seconds: float) -> str:
    """Write how long, as `recorder gaps` does: `0.5s`, `5m03s`, `1h02m`."""
    if seconds < 60:  # noqa: PLR2004  a minute
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"  # noqa: PLR2004  an hour


def _lines(streams: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give the streams, those of a topic that comes unasked put together."""
    unasked: dict[str, dict[str, Any]] = {}
    for one in streams:
        if one["coverage"] is not None or one["latency"] is not None:
            yield one
            continue
        line = unasked.setdefault(one["topic"], {**one, "conid": 0, "symbol": None, "rows": 0, "bytes": 0})
        line["rows"] += one["rows"]
        line["bytes"] += one["bytes"]
    yield from unasked.values()


def _clock(text: str) -> str:
    return text[11:19]
