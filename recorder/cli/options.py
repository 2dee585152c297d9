"""Options that several commands share, each with one name, one meaning and one way to be written."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from recorder.errors import UsageError

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the archive.", show_default="data")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="File of settings.", show_default="recorder.toml")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Topic = Annotated[
    list[str] | None, typer.Option("--topic", metavar="NAME,…", help="Only these topics; comma-separated or repeated.")
]
Conid = Annotated[
    list[str] | None, typer.Option("--conid", metavar="ID,…", help="Only these contracts; comma-separated or repeated.")
]
Start = Annotated[
    str | None, typer.Option("--start", metavar="TIME", help="From this date or time on, UTC unless it says otherwise.")
]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Up to, not including, this date or time.")]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def split(values: Iterable[str] | None) -> tuple[str, ...]:
    """Take apart comma-separated values, each kept once, in order; a combo contract (with `;`) is one value."""
    pieces = (piece for value in values or () for piece in ([value] if ";" in value else value.split(",")))
    return tuple(dict.fromkeys(piece.strip() for piece in pieces if piece.strip()))


def parse_time(text: str | None, *, option: str) -> int | None:
    """Read an ISO date or time (naive means UTC) as microseconds since the Unix epoch; a `UsageError` names the option.

    None stays None.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        raise UsageError(
            f"{option}: {text!r} is not a time", hint="write 2026-11-20, 2026-11-20T14:30 or 2026-11-20T14:30-05:00"
        ) from exc
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
