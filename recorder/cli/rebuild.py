"""`recorder rebuild`: derive a topic's tables again."""

from __future__ import annotations

from typing import Annotated

import typer

from recorder.cli.options import Config, Data, Json, split
from recorder.cli.output import print_json, progress
from recorder.cli.settings import data_folder


def rebuild(
    topic: Annotated[list[str], typer.Option("--topic", metavar="NAME,…", help="Topics to derive again.")],
    data: Data = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Derive a topic's tables again from the frames.

    Needed after a topic file got another column, or a decoder was mended. Frames are only read. Each date is replaced
    in one step; killed at any moment, readers still get the rows, and the next run goes on.

    For example:

      recorder rebuild --topic orders

      recorder rebuild --topic market_data,pnl --data data
    """
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment to import
    from recorder.archive.reading import Reader  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415
    from recorder.recording import rebuild_topic  # noqa: PLC0415

    layout, topics = open_layout(folder), load_topics()
    chosen = [topics[name] for name in split(topic)]
    rebuilt = {}
    for one in chosen:
        with progress(f"rebuilding {one.name}", total=Reader(layout, topics).archived_frames()) as done:
            rebuilt[one.name] = rebuild_topic(layout, topics, one, done=done)
    if json:
        print_json({name: [date._asdict() for date in dates] for name, dates in rebuilt.items()})
        return
    for name, dates in rebuilt.items():
        rows, frames = sum(date.rows for date in dates), sum(date.frames for date in dates)
        print(f"{name}: {rows:,} rows derived from {frames:,} frames of {len(dates)} dates")
