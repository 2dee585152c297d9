"""Options that several commands share, each with one name, one meaning and one way to be written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

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


def contracts(given: Iterable[str] | None) -> list[int] | None:
    """Read the contracts that `Conid` names; None if it names none, `UsageError` for what is no contract id."""
    texts = split(given)
    for text in texts:
        if not (text.isascii() and text.isdigit()):
            raise UsageError(f"--conid: {text!r} is not a contract id", hint="write digits only, such as 265598")
    return [int(text) for text in texts] or None


def split(values: Iterable[str] | None) -> tuple[str, ...]:
    """Take apart comma-separated values, each kept once, in order; a combo contract (with `;`) is one value."""
    pieces = (piece for value in values or () for piece in ([value] if ";" in value else value.split(",")))
    return tuple(dict.fromkeys(piece.strip() for piece in pieces if piece.strip()))
