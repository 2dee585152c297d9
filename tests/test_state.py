"""State: what was known of each contract, order and account at a moment, beside a fold that is slow and obvious."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pytest
from conftest import AAPL, DAY, IBM, NOON, SESSION, Given, archive, miscount_levels, order, quote, quotes, write_session
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive import parts, things
from recorder.archive.layout import Layout, make_layout
from recorder.errors import Damaged, UsageError
from recorder.protocol.days import DayBoundary
from recorder.protocol.topics import load_topics
from recorder.recording import compact_finished

LATER = "20261121T120000bbbb"
PNL = b'{"topic":"spl","args":{"DU1.Core":{"dpl":%s},"DU2":{"nl":2}}}'
COLUMNS = ("bid_price", "ask_price", "last_price", "last_price_flag", "volume_long")
KEYS = {"84": "bid_price", "86": "ask_price", "31": "last_price", "7762": "volume_long"}


class Sent(NamedTuple):
    """A frame: when it came, of which stream it is and what it says; whether a segment ends before it."""

    at: int
    stream: str
    cells: dict[str, str]
    cut: bool


NUMBERS = st.integers(0, 99).map(str)
CELLS = st.fixed_dictionaries(
    {},
    optional={
        "84": st.one_of(NUMBERS, st.just("n/a")),
        "86": NUMBERS,
        "31": st.one_of(NUMBERS, NUMBERS.map(lambda text: f"C{text}"), NUMBERS.map(lambda text: f"H{text}")),
        "7762": NUMBERS,
        "9999": NUMBERS,
    },
)
SENT = st.builds(Sent, st.integers(0, 9), st.sampled_from([f"{AAPL}", f"{AAPL}@NYSE", f"{IBM}"]), CELLS, st.booleans())


def data_of(sent: Sent) -> bytes:
    """Write a frame."""
    conid = int(sent.stream.partition("@")[0])
    return json.dumps({"topic": f"smd+{sent.stream}", "conid": conid, **sent.cells}).encode()


def fold(session: list[Sent], at: int) -> dict[str, dict[str, Any]]:
    """Give the state of each stream from the frames of a session that came by a moment."""
    states: dict[str, dict[str, Any]] = {}
    for seq, sent in enumerate(session):
        if sent.at > at:
            continue
        state = states.setdefault(sent.stream, dict.fromkeys(COLUMNS) | {"extra": {}})
        state["seq"] = seq
        for key, text in sent.cells.items():
            if key not in KEYS or text == "n/a":
                state["extra"][key] = text
                continue
            state["extra"].pop(key, None)
            state[KEYS[key]] = float(text.lstrip("CH"))
            if key == "31":
                state["last_price_flag"] = text[0] if text[0] in "CH" else None
    return states


def found_at(root: Path, at: int) -> dict[str, dict[str, Any]]:
    """Give the state that the archive gives."""
    rows = recorder.open(root).state("market_data", at=NOON + at).astype(object)
    rows = rows.where(rows.notna(), None)
    return {
        row["wire_topic"].removeprefix("smd+"): {
            **{name: row[name] for name in (*COLUMNS, "seq")},
            "extra": dict(row["extra"] or []),
        }
        for row in rows.to_dict("records")
    }


@settings(max_examples=25, database=None)
@given(
    first=st.lists(SENT, min_size=1, max_size=12),
    second=st.lists(SENT, max_size=12),
    at=st.integers(-1, 40),
    kept=st.sampled_from(["journal", "parts", "compacted", "both"]),
)
def test_the_state_is_what_a_naive_fold_gives(first: list[Sent], second: list[Sent], at: int, kept: str) -> None:
    """At any moment, from parts with small row groups and from the journal, whatever the clock did within a session."""
    second = [sent._replace(at=sent.at + 20) for sent in second]
    running = second if any(sent.at <= at for sent in second) else first
    with tempfile.TemporaryDirectory() as folder, patch.object(parts, "ROW_GROUP", 2):
        layout = make_layout(Path(folder) / "data", DayBoundary("00:00 UTC"))
        for session, frames in ((SESSION, first), (LATER, second)):
            if frames:
                cuts = [number for number, sent in enumerate(frames) if sent.cut]
                given_frames = [Given(NOON + sent.at, data_of(sent)) for sent in frames]
                write_session(layout, given_frames, session=session, rotations=cuts)
            if session == SESSION and kept == "both":
                archive(layout)
        if kept in ("parts", "compacted"):
            archive(layout)
        if kept == "compacted":
            compact_finished(layout, before="2100-01-01", done=lambda _rows: None)
        found = found_at(layout.root, at)

    assert fold(running, at) == found


def test_a_moment_counts_what_came_at_it(layout: Layout) -> None:
    """Before the first frame nothing is known."""
    write_session(layout, quotes(3))
    opened = recorder.open(layout.root)

    assert [0.25] == opened.state("market_data", at=NOON + 1000)["bid_price"].tolist()
    assert [0.0] == opened.state("market_data", at=NOON + 999)["bid_price"].tolist()
    assert [] == opened.state("market_data", at=NOON - 1)["bid_price"].tolist()
    assert pd.Timestamp("2026-11-20T12:00:00.001Z") == opened.state("market_data", at=NOON + 1500).index[0]
    with pytest.raises(UsageError, match="at: 'noon' is not a time"):
        opened.state("market_data", at="noon")


@pytest.mark.parametrize("archived", [False, True], ids=["journal", "parts"])
def test_orders_and_accounts_have_a_row_each(layout: Layout, archived: bool) -> None:  # noqa: FBT001
    """Also several orders of one contract, of which one spoke last long ago; over midnight."""
    frames = [
        Given(NOON, order(1, conid=IBM, price="101.5", status="Submitted")),
        Given(NOON + 1, order(2, conid=IBM, price="99", status="Submitted")),
        Given(NOON + 2, PNL % b"1.5"),
        Given(NOON + DAY, order(1, status="Filled")),
        Given(NOON + DAY, PNL % b"2.5"),
    ]
    with patch.object(parts, "ROW_GROUP", 1):
        write_session(layout, frames, rotations=[2])
        if archived:
            archive(layout)
    opened = recorder.open(layout.root)
    orders = opened.state("orders", at="2026-11-22")
    accounts = opened.state("pnl", at="2026-11-22", columns=["daily_pnl", "net_liquidity"])

    assert [(IBM, 1, "Filled", 101.5), (IBM, 2, "Submitted", 99.0)] == list(
        orders[["conid", "order_id", "status", "price"]].itertuples(index=False, name=None)
    )
    assert ["Submitted", "Submitted"] == opened.state("orders", at="2026-11-21")["status"].tolist()
    assert [2.5] == accounts.loc[accounts.account == "DU1", "daily_pnl"].tolist()
    assert [2.0] == accounts.loc[accounts.account == "DU2", "net_liquidity"].tolist()
    assert ["conid", "account", "model", "daily_pnl", "net_liquidity"] == accounts.columns.tolist()


def test_a_state_is_narrowed_by_contract_and_column(layout: Layout) -> None:
    """A field that is no column comes typed, a letter before its price beside it."""
    rows = [quote(0, {"84": "1", "74": "C10.5"}), quote(1, {"84": "2"}), quote(2, {"84": "3"}, conid=IBM)]
    write_session(layout, [Given(NOON + number, data) for number, data in enumerate(rows)])
    archive(layout)
    found = recorder.open(layout.root).state("market_data", at="2026-11-21", conid=AAPL, columns=["bid_price", "74"])

    assert ["conid", "wire_topic", "bid_price", "average_price", "average_price_flag"] == found.columns.tolist()
    assert [[AAPL, f"smd+{AAPL}", 2.0, 10.5, "C"]] == found.to_numpy().tolist()


def test_of_two_recorders_the_latest_row_counts(layout: Layout) -> None:
    """For each contract."""
    write_session(layout, quotes(3), recorder="a")
    write_session(layout, quotes(2, first=5, start=NOON - 10_000), recorder="b", session=LATER)
    opened = recorder.open(layout.root)

    assert [0.25] == opened.state("market_data", at=NOON + 1000)["bid_price"].tolist()
    assert [0.5] == opened.state("market_data", at=NOON + 9000)["bid_price"].tolist()


def test_damage_that_the_state_depends_on_is_an_error(layout: Layout) -> None:
    """A page that was changed, and a part that is gone."""
    write_session(layout, quotes(50))
    archive(layout)
    (part,) = (layout.root / "market_data").rglob("*.parquet")
    whole = part.read_bytes()
    content = bytearray(whole)
    for at in range(200, len(content) // 2, 40):
        content[at] ^= 0xFF
    part.write_bytes(content)
    with pytest.raises(Damaged) as caught:
        recorder.open(layout.root).state("market_data", at="2026-11-21")
    part.unlink()

    assert part == caught.value.path
    with pytest.raises(Damaged, match="it holds 0 rows"):
        recorder.open(layout.root).state("market_data", at="2026-11-21")


def test_a_footer_that_contradicts_itself_is_an_error(layout: Layout) -> None:
    """Where to ask pyarrow for its statistics would end the process."""
    write_session(layout, quotes(50))
    archive(layout)
    (part,) = (layout.root / "market_data").rglob("*.parquet")
    miscount_levels(part)
    with pytest.raises(Damaged) as caught:
        recorder.open(layout.root).state("market_data", at="2026-11-21")

    assert part == caught.value.path


def test_the_life_of_an_order_is_a_table(layout: Layout) -> None:
    """Each row is its whole state; other orders are not in it."""
    frames = [
        Given(NOON, order(1, filledQuantity=0)),
        Given(NOON + 1, order(1, conid=IBM, price="101.5", status="Submitted")),
        Given(NOON + 2, order(2, conid=IBM, price="99", status="Submitted")),
        Given(NOON + 3, order(1, filledQuantity=10)),
        Given(NOON + 4, order(1, status="Filled")),
    ]
    write_session(layout, frames)
    opened = recorder.open(layout.root)
    life = opened.order(1)

    assert [None, "Submitted", "Submitted", "Filled"] == [
        text if isinstance(text, str) else None for text in life["status"]
    ]
    assert [0.0, 0.0, 10.0, 10.0] == life["filled_quantity"].tolist()
    assert [101.5, 101.5] == opened.order(1, start=NOON + 2)["price"].tolist()[-2:]
    assert 2 == len(opened.order(1, start=NOON + 3))
    with pytest.raises(UsageError, match="order 7 was not recorded"):
        opened.order(7)


def test_a_fold_keeps_no_memory_of_the_rows_it_was_taken_of() -> None:
    """Ten million rows of a hundred contracts were all kept until the last contract was folded: 2.7 GB."""
    topic = load_topics()["market_data"]
    count = 100_000
    numbers = pa.array(range(count), pa.int64())
    values = {"conid": pa.repeat(AAPL, count), "ts_recv": numbers, "seq": numbers, "bid_price": numbers.cast("float64")}
    table = pa.table({**values, **{name: pa.repeat("smd+265598", count) for name in topic.identity}})
    folded = things.fold(table, topic)

    assert [float(count - 1)] == folded["bid_price"].to_pylist()
    assert folded.get_total_buffer_size() < 10_000
