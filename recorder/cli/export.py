"""`recorder export`: write quotes as other programs' backtests take them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from recorder.cli.options import Config, Conid, Data, End, Start, contracts
from recorder.cli.settings import data_folder
from recorder.errors import ArchiveError, UsageError
from recorder.protocol.instants import to_micros

if TYPE_CHECKING:
    from recorder.research.export import Quotes

FORMATS: Final = ("csv", "hftbacktest", "nautilus")


def export(  # noqa: PLR0917  typer reads options from the signature
    to: Annotated[str, typer.Option(metavar="|".join(FORMATS), help="What to write.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write into; files there are never replaced.")],
    conid: Conid = None,
    venue: Annotated[
        str, typer.Option(metavar="NAME", help="With nautilus: the venue in instrument ids, AAPL.IBKR.")
    ] = "IBKR",
    data: Data = None,
    start: Start = None,
    end: End = None,
    config: Config = None,
) -> None:
    """Write quotes as other programs' backtests take them: CSV, hftbacktest, NautilusTrader.

    Level-1 data that the broker conflates: no depth, no place in a queue, no print of every trade. Each contract has a
    file of quotes, and beside it one of the gaps, which a backtest should not cross unknowingly.

    For example:

      recorder export --to csv --conid 265598 --out quotes

      recorder export --to nautilus --conid 265598,8314 --start 2026-11-20 --end 2026-11-21 --out catalog
    """
    if to not in FORMATS:
        raise UsageError(f"--to: {to!r} is no format", hint=f"use one of: {', '.join(FORMATS)}")
    chosen, bounds = contracts(conid), (to_micros(start, what="--start"), to_micros(end, what="--end"))
    if chosen is None:
        raise UsageError("--conid is missing", hint="name contracts, such as --conid 265598; `recorder inspect` helps")
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment; errors above come before
    from recorder.archive.reading import Reader, Span  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415
    from recorder.research.contracts import contract_symbols  # noqa: PLC0415
    from recorder.research.export import export_quotes  # noqa: PLC0415
    from recorder.research.quotes import Source  # noqa: PLC0415

    reader = Reader(open_layout(folder), load_topics())
    symbols = contract_symbols(reader) if to == "nautilus" else {}
    for one in chosen:
        quotes = export_quotes(reader, Source(one, Span(*bounds)))
        try:
            path = _write(quotes, to, out, f"{symbols.get(one, one)}.{venue}")
            _write_gaps(quotes, out / f"gaps-{one}.csv")
        except FileExistsError as exc:
            raise UsageError(f"{exc.filename} exists", hint="give another folder with --out") from exc
        except OSError as exc:
            raise ArchiveError(f"{out} cannot be written: {exc.strerror}", hint="give another folder") from exc
        print(
            f"{path}   {len(quotes.received):,} quotes, {quotes.left_out:,} left out for lack of a side,"
            f" {len(quotes.gaps):,} gaps"
        )


def _write(quotes: Quotes, to: str, out: Path, instrument: str) -> Path:
    import numpy as np  # noqa: PLC0415  as in `export`
    import pyarrow.parquet as pq  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    from recorder.research.export import csv_table, hftbacktest_events, nautilus_table  # noqa: PLC0415

    if to == "nautilus":
        name = f"{_stamp(int(quotes.received[0]))}_{_stamp(int(quotes.received[-1]))}.parquet"
        path = out / "data" / "quote_tick" / instrument / name
    else:
        path = out / f"quotes-{quotes.conid}.{'csv' if to == 'csv' else 'npz'}"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("xb") as file:
        path.chmod(0o600)
        if to == "csv":
            csv.write_csv(csv_table(quotes), file)
        elif to == "hftbacktest":
            np.savez_compressed(file, data=hftbacktest_events(quotes))
        else:
            pq.write_table(nautilus_table(quotes, instrument), file, compression="zstd")
    return path


def _write_gaps(quotes: Quotes, path: Path) -> None:
    times = [(gap.start, "" if gap.end is None else gap.end, gap.cause) for gap in quotes.gaps]
    with path.open("x", encoding="utf-8") as file:
        path.chmod(0o600)
        file.write("start_us,end_us,cause\n")
        file.writelines(f"{start},{end},{cause}\n" for start, end, cause in times)


def _stamp(micros: int) -> str:
    """Write a time as NautilusTrader's catalog does in names."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    return f"{moment:%Y-%m-%dT%H-%M-%S}-{micros % 1_000_000 * 1000:09d}Z"
