"""`recorder fields`: find what a topic can be asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from recorder.cli.options import Json
from recorder.cli.output import print_json, print_table
from recorder.protocol.fields import search_fields
from recorder.protocol.topics import load_topics


def fields(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORDS]…", help="Words to find in id, name and meaning.")
    ] = None,
    topic: Annotated[str, typer.Option(metavar="NAME", help="Topic to search.")] = "market_data",
    json: Json = False,
) -> None:
    """Find fields by words in their id, name or meaning; no words list them all.

    A column is kept typed in the tables. An extra is kept as text in the column `extra`, and comes typed when a
    loader asks for it by name.

    For example:

      recorder fields bid

      recorder fields implied volatility --json
    """
    where = load_topics()[topic]
    sought = " ".join(words or ())
    columns = set(where.columns)
    found = [
        {
            "id": field.key,
            "name": field.name,
            "parser": field.parser,
            "kept": "column" if field in columns else "extra",
            "doc": field.doc,
        }
        for field in search_fields(where, sought)
    ]
    if json:
        print_json(found)
    elif found:
        print_table(list(found[0]), [list(row.values()) for row in found])
    else:
        print(f"no field of {topic} matches {sought!r}; `recorder fields --topic {topic}` lists them all")
