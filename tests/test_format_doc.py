"""docs/format.md says what is on disk: its examples are computed again, its tables compared with the code."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import get_args

import duckdb
import pandas as pd
import polars as pl
import pytest
from conftest import AAPL, IBM, ROOT, archive, quotes, write_session

from recorder.archive.commit import Commit
from recorder.archive.holes import Hole
from recorder.archive.layout import FORMAT, Layout
from recorder.lock import Holder
from recorder.protocol.digest import ContentDigest
from recorder.protocol.ledger import Cause
from recorder.protocol.marks import Event
from recorder.protocol.segment import (
    CODES,
    IN_TEXT,
    MAGIC,
    Header,
    Scan,
    encode_batch,
    encode_end,
    encode_header,
    parse_segment_name,
)
from recorder.protocol.tables import FRAMES, topic_schema
from recorder.protocol.topics import PARSER_TYPES, Topics

PAGE = (ROOT / "docs" / "format.md").read_text("utf-8")


def example(name: str) -> list[str]:
    """Give the lines of the page's example of that name."""
    found = re.search(rf"<!-- {name} -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def table(name: str) -> list[list[str]]:
    """Give the cells of the page's table of that name, without its head."""
    found = re.search(rf"<!-- {name} -->\n\|.*?\n\|[-|]+\n((?:\|.*\n)+)", PAGE)
    assert found is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def section(title: str) -> str:
    """Give the text below a heading, up to the next one."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def names(text: str) -> list[str]:
    """Give what stands in backquotes."""
    return re.findall(r"`([^`]+)`", text)


def test_the_example_segment_is_one() -> None:
    """Its bytes are those that the journal writes, and are read as what is written beside them."""
    lines = [line.partition("  ")[0] for line in example("segment")]
    data = bytes.fromhex(" ".join(lines))
    header = Header(recorder="main", session="20261120T120000aaaa", first_seq=0, date="2026-11-20")
    frames = encode_batch(0, [1_795_176_000_000_000], [1], [IN_TEXT], [b"ech+hb"])

    assert data == encode_header(header) + frames + encode_end(0)
    scan = Scan(data)
    (batch,) = scan
    assert (scan.header, scan.finished, batch.payloads()) == (header, True, [b"ech+hb"])


def test_the_magic_and_the_codes_are_those_of_the_page() -> None:
    """The first bytes of a file, and the number of each kind."""
    assert f"│ {MAGIC.hex(' ')}  │" in PAGE
    said = {kind: int(code) for code, kind in re.findall(r"(\d) `(in|out|rest|mark)`", PAGE)}
    assert CODES == {
        f"{kind} {op}": code + plus for kind, code in said.items() for op, plus in (("text", 0), ("binary", 8))
    }


def test_the_example_of_the_content_digest_is_right() -> None:
    """By the formula of the page, step by step, and by the recorder's own class."""
    lines = [line.split(maxsplit=1) for line in example("content digest")]
    frames = [text.encode() for key, text in lines if key == "frame"]
    inner = [text.split()[0] for key, text in lines if key == "sha256"]
    said = dict(lines)
    lengths = b"".join(len(frame).to_bytes(4, "little") for frame in frames)
    digest = ContentDigest("pnl")
    digest.extend(frames)

    assert said["lengths"] == lengths.hex(" ")
    assert inner == [hashlib.sha256(lengths).hexdigest(), hashlib.sha256(b"".join(frames)).hexdigest()]
    whole = b"pnl\n2\n" + b"".join(map(bytes.fromhex, inner))
    assert said["digest"] == hashlib.sha256(whole).hexdigest() == digest.hexdigest()


def test_the_schema_of_frames_parts_is_that_of_the_page() -> None:
    """Names, types, order, and the one column that may be null."""
    assert [(row[0].strip("`"), row[1]) for row in table("frames schema")] == [
        (field.name, str(field.type)) for field in FRAMES
    ]
    assert [field.name for field in FRAMES if field.nullable] == ["topic"]


def test_the_columns_that_all_typed_parts_have_are_on_the_page(topics: Topics) -> None:
    """The order columns before a topic's own, `extra` behind them."""
    schema = topic_schema(topics["pnl"])
    own = [column.name for column in topics["pnl"].columns]
    said = re.findall(r"^\| (`.*?) \|", section("Typed parts"), re.MULTILINE)

    assert names(" ".join(said)) == [name for name in schema.names if name not in own]
    arrow = {"timestamp": "timestamp[us, tz=UTC]"}
    for kind in set(PARSER_TYPES.values()):
        assert arrow.get(kind, kind) in section("Typed parts")


def test_every_key_of_a_commit_is_on_the_page() -> None:
    """A key more, or one that is gone, changes the page."""
    assert names(" ".join(row[0] for row in table("commit"))) == list(Commit.__struct_fields__)


def test_every_key_of_a_hole_is_on_the_page() -> None:
    """The ledger and other programs read them."""
    assert names(" ".join(row[0] for row in table("hole"))) == list(Hole.__struct_fields__)


def test_every_mark_and_every_key_of_a_lock_is_on_the_page() -> None:
    """What the recorder notes for itself can be read by others."""
    marks = re.findall(r"^\| `(\w+)` \|", section("Marks"), re.MULTILINE)

    assert set(marks) == set(get_args(Event))
    assert set(Holder.__struct_fields__) <= set(names(section("Locks")))


def test_every_cause_of_a_gap_is_on_the_page() -> None:
    """Each with what it means."""
    assert {row[0].strip("`") for row in table("causes")} == set(get_args(Cause))


def test_the_format_version_is_that_of_the_page() -> None:
    """A new number needs a new page."""
    assert f"    format_version = {FORMAT}\n" in PAGE
    assert f"`format_version` {FORMAT} is what this page says" in PAGE


def test_an_archive_holds_nothing_that_the_page_does_not_name(layout: Layout) -> None:
    """Each file has its line in the page's tree."""
    write_session(layout, quotes(3), rotations=[2])
    archive(layout)
    (path,) = write_session(layout, quotes(3), session="20261121T120000bbbb")
    tree = section("The folder").replace("<recorder>", "main").replace("<topic>", "market_data")
    parts = {str(path.parent.relative_to(layout.root)) for path in layout.root.rglob("*.parquet")}

    assert parts == {"frames/date=2026-11-20", f"market_data/date=2026-11-20/conid={AAPL}"}
    assert [part for part in parts if part not in tree] == []
    others = {str(path.relative_to(layout.root)) for path in layout.root.rglob("*") if path.is_file()}
    others = {name for name in others if not name.endswith((".parquet", path.name))}
    assert [name for name in others if name not in tree] == []
    assert parse_segment_name(path.name) == ("20261121T120000bbbb", 0)


@pytest.fixture
def market_data(layout: Layout) -> Path:
    """Archive some rows of two contracts, in two parts each."""
    write_session(layout, [*quotes(3), *quotes(2, conid=IBM), *quotes(1), *quotes(1, conid=IBM)], rotations=[5])
    archive(layout)
    return layout.root / "market_data"


def test_plain_readers_read_a_topic_as_the_page_says(market_data: Path) -> None:
    """pandas, polars and DuckDB, with the partition columns as they make them."""
    by_pandas = pd.read_parquet(market_data)
    by_polars = pl.read_parquet(market_data)
    some = pd.read_parquet(market_data, filters=[("conid", "==", AAPL), ("date", "==", "2026-11-20")])
    with duckdb.connect() as connection:
        found = connection.sql(f"FROM read_parquet('{market_data}/**/*.parquet', hive_partitioning = true)")
        assert found is not None
        count, types = found.shape[0], dict(zip(found.columns, map(str, found.types), strict=True))

    assert (len(by_pandas), len(by_polars), count, len(some)) == (7, 7, 7, 4)
    assert {str(by_pandas[name].dtype) for name in ("date", "conid")} == {"category"}
    assert [str(by_polars.schema[name]) for name in ("date", "conid")] == ["Date", "Int64"]
    assert (types["date"], types["conid"], types["ts_recv"]) == ("DATE", "BIGINT", "TIMESTAMP WITH TIME ZONE")
    assert by_pandas.sort_values(["session", "seq", "item"])["seq"].tolist() == list(range(7))
