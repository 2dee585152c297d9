"""`recorder export`: write quotes, or a topic's rows, as other programs take them."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from recorder.cli.options import Config, Conid, Data, End, Start, contracts, split
from recorder.cli.settings import data_folder
from recorder.errors import ArchiveError, UsageError
from recorder.protocol.instants import to_micros

if TYPE_CHECKING:
    from recorder.archive.gaps import GapRow
    from recorder.archive.reading import Reader, Span
    from recorder.protocol.topics import Topic
    from recorder.research.export import Quotes

FORMATS: Final = ("csv", "hftbacktest", "nautilus")


def export(  # noqa: PLR0917  typer reads options from the signature
    to: Annotated[str, typer.Option(metavar="|".join(FORMATS), help="What to write.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write into; files there are never replaced.")],
    conid: Conid = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,…", help="With csv: rows of these topics as they came, instead of quotes."),
    ] = None,
    venue: Annotated[
        str, typer.Option(metavar="NAME", help="With nautilus: the venue in instrument ids, AAPL.IBKR.")
    ] = "IBKR",
    data: Data = None,
    start: Start = None,
    end: End = None,
    config: Config = None,
) -> None:
    """Write quotes for other programs' backtests (CSV, hftbacktest, NautilusTrader), or any topic's rows as CSV.

    Level-1 data that the broker conflates: no depth, no place in a queue, no print of every trade. Each contract has a
    file of quotes, and beside it one of the gaps, which a backtest should not cross unknowingly. With --topic each
    topic has a file of its rows as they came, and one of its gaps.

    For example:

      recorder export --to csv --conid 265598 --out quotes

      recorder export --to nautilus --conid 265598,8314 --start 2026-11-20 --end 2026-11-21 --out catalog

      recorder export --to csv --topic orders,trades,pnl --out account
    """
    if to not in FORMATS:
        raise UsageError(f"--to: {to!r} is no format", hint=f"use one of: {', '.join(FORMATS)}")
    chosen, bounds = contracts(conid), (to_micros(start, what="--start"), to_micros(end, what="--end"))
    topics = split(topic)
    if topics and to != "csv":
        raise UsageError(f"--topic: rows are not written as {to}", hint="use --to csv; the other formats take quotes")
    if chosen is None and not topics:
        hint = "name contracts, such as --conid 265598, or --topic; `recorder inspect` helps"
        raise UsageError("--conid is missing", hint=hint)
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment; errors above come before
    from recorder.archive.reading import Reader, Span  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415

    reader, span = Reader(open_layout(folder), load_topics()), Span(*bounds)
    try:
        if topics:
            _export_rows(reader, topics, chosen, span, out)
        else:
            _export_quotes(reader, to, chosen or [], span, out=out, venue=venue)
    except FileExistsError as exc:
        raise UsageError(f"{exc.filename} exists", hint="give another folder with --out") from exc
    except OSError as exc:
        raise ArchiveError(f"{out} cannot be written: {exc.strerror}", hint="give another folder") from exc


def _export_quotes(reader: Reader, to: str, conids: Sequence[int], span: Span, *, out: Path, venue: str) -> None:
    from recorder.research.contracts import contract_symbols  # noqa: PLC0415  as in `export`
    from recorder.research.export import export_quotes  # noqa: PLC0415
    from recorder.research.quotes import Source  # noqa: PLC0415

    symbols = contract_symbols(reader) if to == "nautilus" else {}
    for one in conids:
        quotes = export_quotes(reader, Source(one, span))
        path = _write(quotes, to, out, f"{symbols.get(one, one)}.{venue}")
        _write_gaps(quotes.gaps, out / f"gaps-{one}.csv")
        print(
            f"{path}   {len(quotes.received):,} quotes, {quotes.left_out:,} left out for lack of a side,"
            f" {len(quotes.gaps):,} gaps"
        )


def _export_rows(reader: Reader, topics: Sequence[str], conids: list[int] | None, span: Span, out: Path) -> None:
    from recorder.archive.gaps import read_gaps  # noqa: PLC0415  as in `export`

    chosen = [reader.topics[name] for name in topics]
    for topic in chosen:
        if topic.mark is not None:
            raise UsageError(f"--topic: {topic.name} is the ledger itself", hint="use `recorder gaps --json`")
    for topic in chosen:
        path = out / f"{topic.name}.csv"
        count = _write_rows(reader, topic, conids, span, path)
        gaps = [gap for gap in read_gaps(reader, topics=[topic.name], conids=conids, span=span) if not gap.information]
        _write_gaps(gaps, out / f"gaps-{topic.name}.csv", contracts=True)
        print(f"{path}   {count:,} rows, {len(gaps):,} gaps")


def _write_rows(reader: Reader, topic: Topic, conids: list[int] | None, span: Span, path: Path) -> int:
    """Write a topic's rows as they are read; the file gets its name when it is whole."""
    from pyarrow import csv  # noqa: PLC0415  as in `export`

    from recorder.research.row_export import export_rows, export_schema  # noqa: PLC0415

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        raise FileExistsError(errno.EEXIST, "it exists", str(path))
    part, count = path.with_name(f"{path.name}.part"), 0
    with part.open("xb") as file:
        part.chmod(0o600)
        try:
            with csv.CSVWriter(file, export_schema(topic)) as writer:
                for table in export_rows(reader, topic, conids=conids, span=span):
                    writer.write_table(table)
                    count += table.num_rows
        except BaseException:
            part.unlink()
            raise
    part.rename(path)
    return count


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


def _write_gaps(gaps: Sequence[GapRow], path: Path, *, contracts: bool = False) -> None:
    """Write gaps; with `contracts` each says of which it is, and nothing where it is of the whole topic."""
    with path.open("x", encoding="utf-8") as file:
        path.chmod(0o600)
        file.write("conid,start_us,end_us,cause\n" if contracts else "start_us,end_us,cause\n")
        for gap in gaps:
            of = f"{gap.conid or ''}," if contracts else ""
            file.write(f"{of}{gap.start},{'' if gap.end is None else gap.end},{gap.cause}\n")


def _stamp(micros: int) -> str:
    """Write a time as NautilusTrader's catalog does in names."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    return f"{moment:%Y-%m-%dT%H-%M-%S}-{micros % 1_000_000 * 1000:09d}Z"
