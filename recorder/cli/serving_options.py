"""The options of `recorder replay --serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

Serve = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Serve it as the broker's gateway would."),
]
StartAtOnce = Annotated[
    bool, typer.Option("--start-at-once", help="With --serve: do not wait for a client's first subscription.")
]
Loop = Annotated[bool, typer.Option("--loop", help="With --serve: begin again at the end.")]
SkipGaps = Annotated[
    bool, typer.Option("--skip-gaps", help="With --serve: leap over holes in the data instead of living them.")
]
ExpireAfter = Annotated[
    str,
    typer.Option(metavar="DURATION|never", help="With --serve: market data ends unless renewed, in replay time."),
]
Recorder = Annotated[
    str | None, typer.Option(metavar="NAME", help="With --serve: whose recording, if several recorders recorded.")
]
Tls = Annotated[bool, typer.Option("--tls", help="With --serve: https, with a certificate made for it.")]
Cert = Annotated[Path | None, typer.Option(metavar="FILE", help="With --serve: https, by this certificate.")]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="The key of --cert.")]
Control = Annotated[bool, typer.Option("--control", help="With --serve: POST /replay/pause, resume, seek and speed.")]
Faults = Annotated[
    str | None, typer.Option(metavar="SCRIPT", help="With --serve: what goes wrong besides, as in simulate.")
]
Seed = Annotated[int, typer.Option(help="With --faults: the same seed gives the same faults.")]
Json = Annotated[bool, typer.Option("--json", help="With --serve: print JSON lines, as simulate does.")]


class Serving(NamedTuple):
    """The options of `--serve`, as given."""

    address: str
    start: str | None
    end: str | None
    speed: float | None
    at_once: bool
    loop: bool
    skip_gaps: bool
    expire_after: str
    recorder: str | None
    tls: bool
    cert: Path | None
    key: Path | None
    control: bool
    faults: str | None
    seed: int
    json: bool
