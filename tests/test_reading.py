"""Readers: every frame and row once and in order, from parts and journal together, for us and for plain tools."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from conftest import (
    AAPL,
    DAY,
    END_RECORD,
    IBM,
    NOON,
    SESSION,
    Given,
    archive,
    cut,
    environment,
    frames_of,
    order,
    payloads,
    quote,
    quotes,
    write_session,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive.layout import Layout, make_layout
from recorder.archive.pieces import list_pieces
from recorder.errors import Damaged, UsageError
from recorder.protocol.days import DayBoundary
from recorder.protocol.topics import load_topics

LATER = "20261121T120000bbbb"
FLUSH = (
    "import sys; from pathlib import Path; from recorder.archive.layout import open_layout;"
    " from recorder.recording import flush; flush(open_layout(Path(sys.argv[1])), tell=lambda news: None)"
)
PNL = b'{"topic":"spl","args":{"DU1.Core":{"dpl":1.5,"rowType":1},"DU2":{"nl":2}}}'


@pytest.fixture
def mixed(layout: Layout) -> Layout:
    """Make an archive of two sessions: one in Parquet, of the other a part there and the rest in the journal."""
    write_session(layout, [*quotes(5), *quotes(5, start=NOON + 10_000, conid=IBM)], rotations=[4])
    second = [
        Given(NOON + DAY, order(1, conid=IBM, price="101.5", status="Submitted")),
        *quotes(4, first=5, start=NOON + DAY),
        Given(NOON + DAY + 20_000, order(1, filledQuantity=10)),
        Given(NOON + DAY + 20_001, PNL),
        *quotes(3, first=9, start=NOON + DAY + 20_000),
        Given(NOON + DAY + 50_000, order(1, status="Filled")),
        Given(NOON + DAY + 50_000, b"[]", "in", "binary"),
    ]
    archive(layout)
    paths = write_session(layout, second, session=LATER, rotations=[4, 8])
    away = [path.rename(layout.root / path.name) for path in paths[1:]]
    archive(layout)
    for path in away:
        path.rename(layout.journal("main") / path.name)
    cut(layout.segments("main")[-1], END_RECORD)
    return layout


def bids(table: pd.DataFrame) -> list[float]:
    """Give the bids, which number the quotes."""
    return [bid * 4 for bid in table["bid_price"].tolist()]


def test_frames_come_once_and_in_order_from_parts_and_journal(mixed: Layout) -> None:
    """Whether finished, committed or still written."""
    kinds = [piece.commit is not None for piece in list_pieces(mixed)["main"]]
    frames = frames_of(mixed.root)

    assert [True, True, True, False, False] == kinds
    assert [(SESSION, seq) for seq in range(10)] + [(LATER, seq) for seq in range(12)] == [
        (frame.session, frame.seq) for frame in frames
    ]
    assert frames[-1].op == "binary"
    assert {"main"} == {frame.recorder for frame in frames}


def test_rows_come_once_and_in_order_from_parts_and_journal(mixed: Layout) -> None:
    """And stay the same when the rest is archived."""
    opened = recorder.open(mixed.root)
    topics = ("market_data", "orders", "pnl", "status")
    before = {topic: opened.table(topic) for topic in topics}
    digests = {name: one.hexdigest() for name, one in opened.digests().items()}
    archive(mixed)
    after = {topic: opened.table(topic) for topic in topics}

    assert [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] == bids(opened.load("market_data"))
    assert [17, 3, 2, 0] == [table.num_rows for table in before.values()]
    assert before == after
    assert [IBM] * 3 == before["orders"]["conid"].to_pylist()
    assert digests == {name: one.hexdigest() for name, one in opened.digests().items()}


def test_start_is_inclusive_and_end_exclusive(mixed: Layout) -> None:
    """In every way in which people write a moment."""
    opened = recorder.open(mixed.root)
    moment = datetime(2026, 11, 20, 12, 0, 0, 2000, tzinfo=UTC)

    def between(start: Any, end: Any) -> list[float]:
        found = bids(opened.load("market_data", start=start, end=end, conid=AAPL))
        events = opened.replay("market_data", conids=AAPL, start=start, end=end)
        assert found == [event.bid_price * 4 for event in events]
        return found

    assert [2, 3] == between(moment, moment + timedelta(milliseconds=2))
    assert [2, 3] == between("2026-11-20T12:00:00.002", "2026-11-20T13:00:00.004+01:00")
    assert [2] == between(pd.Timestamp(moment), pd.Timestamp("2026-11-20 07:00:00.003", tz="America/New_York"))
    assert [0, 1, 2, 3, 4] == between("2026-11-20", date(2026, 11, 21))
    assert [5, 6, 7, 8, 9, 10, 11] == between("2026-11-21", None)
    assert [] == between("2026-11-22", None)
    assert [] == between(None, "2026-11-20")
    assert 12 == len(list(opened.frames(start="2026-11-21")))
    assert 10 == len(list(opened.frames(end="2026-11-21")))
    with pytest.raises(UsageError, match="start: 'yesterday' is not a time"):
        opened.load("market_data", start="yesterday")


def test_contracts_are_filtered_one_or_several(mixed: Layout) -> None:
    """Also those that are not there."""
    opened = recorder.open(mixed.root)

    assert 12 == len(opened.load("market_data", conid=AAPL))
    assert 17 == len(opened.load("market_data", conid=[IBM, AAPL]))
    assert 0 == len(opened.load("market_data", conid=1))
    assert {IBM} == {event.conid for event in opened.replay(conids=[IBM])}
    assert {IBM} == {event.conid for event in opened.replay("orders", conids=(IBM, 5))}
    with pytest.raises(UsageError, match=r"AAPL.* is not a contract id"):
        opened.load("market_data", conid=["AAPL"])  # type: ignore[list-item]


def test_frames_are_filtered_by_kind_and_topic(mixed: Layout) -> None:
    """What no topic claims belongs to none."""
    opened = recorder.open(mixed.root)

    assert [PNL] == [frame.data for frame in opened.frames(topics=["pnl"])]
    assert 20 == len(list(opened.frames(topics=["market_data", "orders"])))
    assert [] == list(opened.frames(kinds=["out", "mark"]))
    with pytest.raises(UsageError, match="unknown topic 'quotes'"):
        list(opened.frames(topics=["quotes"]))


def test_a_loaded_table_has_the_types_that_pandas_users_expect(mixed: Layout) -> None:
    """Indexed by time; ids that may be missing are Int64, conid is a plain integer."""
    opened = recorder.open(mixed.root)
    market, orders = opened.load("market_data"), opened.load("orders")
    nothing = opened.load("status")

    for table in (market, orders, nothing):
        assert "ts_recv" == table.index.name
        assert "datetime64[us, UTC]" == str(table.index.dtype)
        assert "int64" == str(table["conid"].dtype)
        assert "int64" == str(table["seq"].dtype)
        assert "date" not in table.columns
    assert "float64" == str(market["bid_price"].dtype)
    assert "datetime64[us, UTC]" == str(market["ts_event"].dtype)
    assert "Int64" == str(orders["order_id"].dtype)
    assert [101.5, None, None] == [None if math.isnan(price) else price for price in orders["price"]]
    assert [1, 1, 1] == orders["order_id"].tolist()
    assert pd.Timestamp("2026-11-20T12:00:00.001Z") == market.index[1]


def test_columns_narrow_a_table_and_known_fields_come_typed(layout: Layout) -> None:
    """A field that is no column is taken out of `extra`, by name or by wire key."""
    rows = [
        quote(0, {"84": "1.5", "7290": "28.5", "x": "1"}),
        quote(1, {"7290": "1,028", "7287": "0.5%"}),
        quote(2, {"84": "2", "7290": "n/a"}),
    ]
    write_session(layout, [Given(NOON + number, data) for number, data in enumerate(rows)])
    opened = recorder.open(layout.root)
    from_journal = opened.load("market_data", columns=["7290", "bid_price"])
    archive(layout)
    market_data = load_topics()["market_data"]
    name = market_data.field("7290").name
    table = opened.load("market_data", columns=["7290", "bid_price"])

    pd.testing.assert_frame_equal(from_journal, table)
    assert ["conid", name, "bid_price"] == table.columns.tolist()
    assert [28.5, 1028.0, None] == [None if math.isnan(value) else value for value in table[name]]
    assert {"7290": "n/a"} == dict(opened.load("market_data", columns=["extra"])["extra"].iloc[2])
    assert {"7290": "28.5", "x": "1"} == dict(opened.load("market_data")["extra"].iloc[0])
    assert ["date", "conid", "ts_recv"] == opened.table("market_data", columns=["conid"]).column_names
    with pytest.raises(UsageError, match="market_data has no field 'bid_prise'"):
        opened.load("market_data", columns=["bid_prise"])


def test_filling_carries_values_forward_over_parts_and_from_before_the_start(mixed: Layout) -> None:
    """Each contract its own; what was never sent stays absent."""
    opened = recorder.open(mixed.root)
    orders = opened.load("orders", fill=True)
    late = opened.load("orders", fill=True, start="2026-11-21T12:00:00.030")

    assert [101.5, 101.5, 101.5] == orders["price"].tolist()
    assert ["Submitted", "Submitted", "Filled"] == orders["status"].tolist()
    assert [101.5] == late["price"].tolist()
    assert [10.0] == late["filled_quantity"].tolist()
    assert orders["avg_price"].isna().all()


KEYS = ("84", "86", "7762")
SPARSE = st.lists(
    st.tuples(
        st.sampled_from([AAPL, IBM]),
        st.dictionaries(st.sampled_from(KEYS), st.integers(0, 99).map(str), min_size=1),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=20, database=None)
@given(sparse=SPARSE, start=st.integers(0, 25), archived=st.booleans())
def test_filling_is_what_a_naive_loop_does(
    sparse: list[tuple[int, dict[str, str], bool]],
    start: int,
    archived: bool,  # noqa: FBT001
) -> None:
    """For any deltas, cut into any parts, from any start."""
    given_frames = [
        Given(NOON + number, quote(number, cells, conid=conid)) for number, (conid, cells, _) in enumerate(sparse)
    ]
    state: dict[int, dict[str, float]] = {AAPL: {}, IBM: {}}
    expected = []
    for conid, cells, _ in sparse:
        state[conid] |= {key: float(value) for key, value in cells.items()}
        expected.append([conid, *(state[conid].get(key) for key in KEYS)])
    with tempfile.TemporaryDirectory() as folder:
        layout = make_layout(Path(folder) / "data", DayBoundary("00:00 UTC"))
        rotations = [number for number, (_, _, cuts) in enumerate(sparse) if cuts]
        write_session(layout, given_frames, rotations=rotations)
        if archived:
            archive(layout)
        begin = datetime(2026, 11, 20, 12, tzinfo=UTC) + timedelta(microseconds=start)
        columns = ["bid_price", "ask_price", "volume_long"]
        table = recorder.open(layout.root).table("market_data", fill=True, start=begin, columns=columns)
        found = [list(row.values())[1:] for row in table.drop_columns(["ts_recv"]).to_pylist()]

    assert expected[start:] == found


def row_set(table: pa.Table) -> Counter[str]:
    """Give a table's rows without their order."""
    return Counter(repr(sorted(row.items())) for row in table.to_pylist())


@pytest.mark.parametrize("topic", ["market_data", "orders", "pnl", "status"])
def test_a_scan_has_the_rows_of_the_table(mixed: Layout, topic: str) -> None:
    """Lazily, with date and conid to filter by; also opened by a relative path."""
    opened = recorder.open(os.path.relpath(mixed.root))
    table, scanned = opened.table(topic), opened.scan(topic)

    assert set(table.column_names) == set(scanned.schema.names)
    assert row_set(table) == row_set(scanned.to_table().select(table.column_names))


def test_a_scan_is_narrowed_before_it_is_read(mixed: Layout) -> None:
    """By partition, time and column."""
    scanned = recorder.open(mixed.root).scan("market_data")
    mine = scanned.to_table(columns=["bid_price"], filter=ds.field("conid") == IBM)
    dated = scanned.to_table(columns=["seq"], filter=ds.field("date") == pa.scalar(date(2026, 11, 21)))

    assert [0.0, 0.25, 0.5, 0.75, 1.0] == sorted(mine["bid_price"].to_pylist())
    assert ["bid_price"] == mine.column_names
    assert 7 == dated.num_rows


def test_replay_gives_records(mixed: Layout) -> None:
    """Of one class a topic, in the order of frames; absent numbers are NaN, absent integers and texts None."""
    events = list(recorder.open(mixed.root).replay())
    first, bought, pnl = events[0], next(e for e in events if e.topic == "orders"), events[-5]

    assert 17 + 3 + 2 == len(events)
    assert [(event.session, event.seq, event.item) for event in events] == sorted(
        (event.session, event.seq, event.item) for event in events
    )
    assert ("MarketData", "market_data", AAPL, 0.0) == (type(first).__name__, first.topic, first.conid, first.bid_price)
    assert (NOON, NOON // 1000 * 1000, 0, 0) == (first.ts_recv, first.ts_event, first.seq, first.item)
    assert math.isnan(first.ask_price)
    assert first.last_price_flag is None
    assert (101.5, 1, "Submitted", None) == (bought.price, bought.order_id, bought.status, bought.ts_event)
    assert bought.last_execution_time is None
    assert isinstance(bought.order_id, int)
    assert ("Pnl", "DU2", 2.0, None, 1) == (type(pnl).__name__, pnl.account, pnl.net_liquidity, pnl.row_type, pnl.item)
    assert math.isnan(pnl.daily_pnl)


def test_columns_narrow_a_replay_and_its_records(mixed: Layout) -> None:
    """With several topics, each has those of them that it knows."""
    opened = recorder.open(mixed.root)
    leading = ("ts_recv", "ts_event", "session", "seq", "item", "conid")
    one = next(opened.replay("market_data", columns=["bid_price", "extra"]))
    both = {type(event)._fields for event in opened.replay(["market_data", "orders"], columns=["bid_price", "price"])}

    assert (*leading, "bid_price", "extra") == one._fields
    assert {(*leading, "bid_price"), (*leading, "price")} == both
    with pytest.raises(UsageError, match="no field 'bid_prise'"):
        list(opened.replay(["market_data", "orders"], columns=["bid_prise"]))
    with pytest.raises(UsageError, match="unknown topic"):
        opened.replay("quotes")


def test_two_recorders_are_merged_by_the_highest_time_so_far(layout: Layout) -> None:
    """A clock that steps back reorders nothing; equal times go by the recorders' names."""
    one = [(0, 1), (10, 2), (5, 3), (20, 4)]
    two = [(0, 5), (9, 6), (10, 7), (11, 8), (30, 9)]
    for name, session, stamped in (("a", SESSION, one), ("b", LATER, two)):
        given_frames = [Given(NOON + at, quote(number)) for at, number in stamped]
        write_session(layout, given_frames, recorder=name, session=session, rotations=[2])
    opened, expected = recorder.open(layout.root), [1, 5, 6, 2, 3, 7, 8, 4, 9]

    def found() -> list[list[float]]:
        return [
            bids(opened.load("market_data")),
            [event.bid_price * 4 for event in opened.replay("market_data")],
            [quotes_of[frame.data] for frame in opened.frames()],
        ]

    quotes_of = {quote(number): number for number in range(10)}
    assert [expected] * 3 == found()
    archive(layout, recorder="b")
    assert [expected] * 3 == found()
    archive(layout, recorder="a")
    assert [expected] * 3 == found()


def test_a_reader_beside_an_archiver_sees_every_frame_and_row_once(layout: Layout) -> None:
    """However often segments become parts under it, in another process."""
    given_frames = quotes(600)
    write_session(layout, given_frames, rotations=range(5, 600, 5))
    sent = [frame.data for frame in given_frames]
    opened = recorder.open(layout.root)
    looks = 0
    with subprocess.Popen([sys.executable, "-c", FLUSH, str(layout.root)], env=environment()) as flushing:
        while flushing.poll() is None:
            looks += 1
            assert sent == payloads(layout.root)
            assert list(range(600)) == opened.table("market_data")["seq"].to_pylist()
            assert list(range(600)) == [event.seq for event in opened.replay("market_data", columns=["bid_price"])]
            assert list(range(600)) == sorted(opened.scan("market_data").to_table(columns=["seq"])["seq"].to_pylist())
        assert 0 == flushing.returncode

    assert looks > 2
    assert [] == layout.segments("main")
    assert sent == payloads(layout.root)


def test_a_reader_that_is_slow_sees_every_frame_once(layout: Layout) -> None:
    """Segments become parts between any two frames that it takes."""
    given_frames = quotes(40)
    paths = write_session(layout, given_frames, rotations=range(4, 40, 4))
    away = [path.rename(layout.root / path.name) for path in paths]
    for path in away:
        path.rename(layout.journal("main") / path.name)
    reader = recorder.open(layout.root).frames()
    seen = []
    for number, frame in enumerate(reader):
        seen.append(frame.seq)
        if number in (1, 17, 30):
            hidden = [path.rename(layout.root / path.name) for path in layout.segments("main")[number // 8 + 1 :]]
            archive(layout)
            for path in hidden:
                path.rename(layout.journal("main") / path.name)

    assert list(range(40)) == seen


def test_a_reader_beside_a_growing_segment_sees_a_prefix(layout: Layout) -> None:
    """At any byte of what is being written."""
    (path,) = write_session(layout, quotes(3))
    whole = path.read_bytes()
    counts = set()
    for size in [*range(0, len(whole), 11), len(whole)]:
        path.write_bytes(whole[:size])
        found = payloads(layout.root)
        assert [frame.data for frame in quotes(3)][: len(found)] == found
        assert len(found) == recorder.open(layout.root).table("market_data").num_rows
        counts.add(len(found))

    assert {0, 3} == counts


def test_a_damaged_part_is_an_error_that_names_it(layout: Layout) -> None:
    """A page's checksum does not match, or the file is no Parquet."""
    write_session(layout, quotes(50))
    archive(layout)
    (part,) = (layout.root / "market_data").rglob("*.parquet")
    content = bytearray(part.read_bytes())
    for at in range(200, len(content) // 2, 40):
        content[at] ^= 0xFF
    part.write_bytes(content)
    with pytest.raises(Damaged) as caught:
        recorder.open(layout.root).load("market_data")
    part.write_bytes(b"PAR1")

    assert part == caught.value.path
    with pytest.raises(Damaged, match=part.name):
        recorder.open(layout.root).load("market_data")


def test_an_empty_archive_gives_empty_tables(layout: Layout) -> None:
    """With every column there would be."""
    opened = recorder.open(layout.root)

    assert 0 == len(opened.load("market_data"))
    assert "bid_price" in opened.load("market_data").columns
    assert 0 == opened.scan("market_data").count_rows()
    assert [] == [*opened.replay(), *opened.frames()]
    assert {} == opened.digests()


TOOLS_TOPICS = {"market_data": 17, "orders": 3, "pnl": 2, "frames": 22}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an archive that is all Parquet, with several contracts, dates and sessions."""
    layout = make_layout(tmp_path_factory.mktemp("plain") / "data", DayBoundary("00:00 UTC"))
    write_session(layout, [*quotes(5), *quotes(5, start=NOON + 10_000, conid=IBM)], rotations=[4])
    second = [
        Given(NOON + DAY, order(1, conid=IBM, price="101.5", status="Submitted")),
        *quotes(7, first=5, start=NOON + DAY),
        Given(NOON + DAY + 20_000, order(1, filledQuantity=10)),
        Given(NOON + DAY + 20_001, PNL),
        Given(NOON + DAY + 50_000, order(1, status="Filled")),
        Given(NOON + DAY + 50_000, b"[]"),
    ]
    write_session(layout, second, session=LATER, rotations=[4, 8])
    archive(layout)
    return layout.root


@pytest.mark.parametrize("topic", TOOLS_TOPICS)
def test_plain_pandas_reads_every_topic_folder(plain: Path, topic: str) -> None:
    """With no help from us; partition keys become categories."""
    table = pd.read_parquet(plain / topic)

    assert TOOLS_TOPICS[topic] == len(table)
    assert {"2026-11-20", "2026-11-21"} >= set(table["date"].astype(str))
    assert topic == "frames" or set(table["conid"].astype(int)) <= {0, AAPL, IBM}


@pytest.mark.parametrize("topic", TOOLS_TOPICS)
def test_duckdb_reads_every_topic_folder(plain: Path, topic: str) -> None:
    """With the partition keys as columns."""
    pattern = f"{plain}/{topic}/**/*.parquet"
    query = "select count(*), min(date)::varchar from read_parquet($pattern, hive_partitioning=true)"
    with duckdb.connect() as connection:
        found = connection.execute(query, {"pattern": pattern}).fetchall()

    assert [(TOOLS_TOPICS[topic], "2026-11-20" if topic in ("market_data", "frames") else "2026-11-21")] == found


@pytest.mark.parametrize("topic", TOOLS_TOPICS)
def test_polars_reads_every_topic_folder(plain: Path, topic: str) -> None:
    """Lazily, with the partition keys as columns."""
    table = pl.scan_parquet(plain / topic, hive_partitioning=True).collect()

    assert TOOLS_TOPICS[topic] == table.height
    assert {date(2026, 11, 20), date(2026, 11, 21)} >= set(table["date"].to_list())
    assert {"date"} | (set() if topic == "frames" else {"conid"}) <= set(table.columns)


def test_every_topic_folder_of_the_archive_is_one_that_tools_read(plain: Path) -> None:
    """So that none is forgotten here."""
    own = {"journal", "quarantine", ".tmp", "archive.toml"}

    assert set(TOOLS_TOPICS) == {path.name for path in plain.iterdir()} - own
