"""Frames become the rows that the samples expect; nothing is lost, and nothing that arrives is an error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.protocol.cells import CellParser, Cells, to_column, to_text
from recorder.protocol.decode import Decoder
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.dialect import PARSERS
from recorder.protocol.envelope import wire_topic
from recorder.protocol.ledger import Gap, Ledger, closed_mark, opened_mark
from recorder.protocol.segment import FrameBatch, Scan, code_of, encode_batch
from recorder.protocol.tables import ORDER, complete, topic_schema
from recorder.protocol.topics import Topics, load_topics
from recorder.types import Kind

SCHEMAS = Path(__file__).parent.parent / "schemas"
TOPICS = load_topics(SCHEMAS)
T0 = 1_785_763_811_000_000
AAPL = 265598
MARKET_DATA = TOPICS["market_data"]


class Sample(msgspec.Struct):
    """One line of a samples file."""

    frame: str
    rows: list[dict[str, Any]]
    source: str
    kind: Kind = "in"


def samples_of(name: str) -> list[Sample]:
    """Read a topic's samples."""
    lines = (SCHEMAS / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [msgspec.json.decode(line, type=Sample) for line in lines]


SAMPLES = {topic.name: samples_of(topic.name) for topic in TOPICS}
EVERY_SAMPLE = [(name, line) for name, samples in SAMPLES.items() for line in range(1, len(samples) + 1)]


class Sent(NamedTuple):
    """One frame to be decoded."""

    data: bytes
    kind: Kind = "in"


def batch_of(frames: Sequence[Sent], *, first_seq: int = 0) -> FrameBatch:
    """Make a batch as the journal gives it; times follow the sequence."""
    seqs = range(first_seq, first_seq + len(frames))
    codes = [code_of(frame.kind, "binary" if seq % 2 else "text") for seq, frame in zip(seqs, frames, strict=True)]
    written = encode_batch(
        first_seq, [T0 + seq for seq in seqs], [1] * len(frames), codes, [frame.data for frame in frames]
    )
    (batch,) = Scan(written, whole=False)
    return batch


Row = dict[str, Any]


class Outcome(NamedTuple):
    """All that decoding says, in plain values: rows by topic, the topic of each frame, counts of what was not read."""

    rows: dict[str, list[Row]]
    topics: list[str | None]
    undecoded: dict[str, int]


def decoded(frames: Sequence[Sent], *, cuts: Iterable[int] = (), state: DecodingState | None = None) -> Outcome:
    """Decode frames in batches that begin at the cuts; times as microseconds."""
    decoder, edges = Decoder(TOPICS, state), [0, *sorted(cuts), len(frames)]
    outcome = Outcome({}, [], {})
    for begin, end in pairwise(edges):
        if begin == end:
            continue
        result = decoder.decode(batch_of(frames[begin:end], first_seq=begin))
        outcome.topics.extend(result.frame_topics.to_pylist())
        for name, missed in result.undecoded.items():
            outcome.undecoded[name] = outcome.undecoded.get(name, 0) + missed
        for name, rows in result.rows.items():
            table = complete(rows.table, topic_schema(TOPICS[name]), session="s")
            outcome.rows.setdefault(name, []).extend(as_rows(table, rows.conid.tolist()))
    return outcome


def as_rows(table: pa.Table, conids: list[int]) -> Iterator[Row]:
    """Give rows as samples write them: without nulls, times as microseconds, `extra` as an object."""
    plain = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table.itercolumns()
    ]
    columns = [column.to_pylist() for column in plain]
    for conid, *values in zip(conids, *columns, strict=True):
        row = {name: value for name, value in zip(table.column_names, values, strict=True) if value is not None}
        if "extra" in row:
            row["extra"] = dict(row["extra"])
        yield row | {"conid": conid}


def only_row(data: bytes, topic: str = "market_data") -> Row:
    """Decode one frame to its one row."""
    ((row,),) = decoded([Sent(data)]).rows.values()
    assert topic == decoded([Sent(data)]).topics[0]
    return row


# ------------------------------------------------------------------ samples


@pytest.fixture(scope="module")
def sample_rows() -> dict[str, dict[int, list[Row]]]:
    """Decode each samples file as one stream; rows by topic and line."""
    found: dict[str, dict[int, list[Row]]] = {}
    for name, samples in SAMPLES.items():
        outcome = decoded([Sent(sample.frame.encode(), sample.kind) for sample in samples])
        by_line: dict[int, list[Row]] = {line: [] for line in range(1, len(samples) + 1)}
        for row in outcome.rows.pop(name):
            by_line[row["seq"] + 1].append(row)
        assert ([name] * len(samples), {}, {}) == (outcome.topics, outcome.rows, outcome.undecoded)
        found[name] = by_line
    return found


@pytest.mark.parametrize(("name", "line"), EVERY_SAMPLE, ids=str)
def test_a_sample_gives_the_rows_that_stand_beside_it(
    name: str, line: int, sample_rows: dict[str, dict[int, list[Row]]]
) -> None:
    """No column more, and none less."""
    sample = SAMPLES[name][line - 1]
    ours = {"ts_recv": T0 + line - 1, "session": "s", "seq": line - 1}
    expected = [row | ours | {"item": item} for item, row in enumerate(sample.rows)]

    assert expected == sample_rows[name][line], sample.source


# ------------------------------------------------------------------ batching

KEYS = st.sampled_from(
    [*(column.key for column in (*MARKET_DATA.columns, *MARKET_DATA.fields)), "conid", "_updated", "9999", "", "@topic"]
)
TEXTS = st.sampled_from(
    [
        "",
        " ",
        "NaN",
        "C",
        "C188.10",
        "H5",
        "189.52",
        "1,300",
        "+1.05",
        "24.2M",
        "0.56%",
        "1e5",
        "1e400",
        "-0",
        "5.",
        "n/a",
        "inf",
        "nan",
        "265598",
        "8314@NYSE",
        "-5",
        "12345678901234567890",
        "٣",
        "1",
        "true",
        "20260803-13:30:15",
        "x\x00y",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 265598, 8314, 1785763811020])
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.text(max_size=6)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
QUOTES = st.builds(
    lambda row, wire: row | {"topic": wire},
    st.dictionaries(KEYS.filter(lambda key: key != "topic"), VALUES, max_size=8),
    st.sampled_from(["smd+265598", "smd+8314@NYSE", "smd", "smd+", "smd+28812380;;;1/1", "smd+12345678901234567890"]),
)
ORDER_ROWS = st.dictionaries(
    st.sampled_from([column.key for column in TOPICS["orders"].columns] + ["conid", "topic", "new"]), VALUES, max_size=6
)
IDENTIFIED = st.builds(
    lambda row, acct, order: row | {"acct": acct, "orderId": order},
    ORDER_ROWS,
    st.sampled_from(["DU1", "DU2"]),
    st.sampled_from([1, 2, "1"]),
)
PAYLOADS = st.lists(IDENTIFIED | ORDER_ROWS | SCALARS, max_size=3) | IDENTIFIED | VALUES
ENTRIES = st.dictionaries(
    st.sampled_from(["DU1.Core", "DU2", "DU1.a.b", ""]),
    st.dictionaries(st.sampled_from(["dpl", "upl", "x"]), VALUES) | VALUES,
)
WIRE_TOPICS = st.sampled_from([prefix for topic in TOPICS for prefix in topic.prefixes] + ["xyz", "sor+x"])
OTHERS = st.builds(
    lambda wire, payload, beside: beside | {"topic": wire, "args": payload},
    WIRE_TOPICS,
    PAYLOADS | ENTRIES,
    st.dictionaries(st.sampled_from(["hb", "success", "id", "alive", "error", "@source"]), VALUES, max_size=3),
)
TOPICLESS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3) | VALUES
REST = st.builds(
    lambda path, body: Sent(f"GET {path}\n".encode() + json.dumps(body).encode(), "rest"),
    st.sampled_from(["/iserver/account/orders", "/v1/api/iserver/account/orders?force=true", "/tickle", ""]),
    st.fixed_dictionaries({"orders": PAYLOADS}) | VALUES,
)
REAL = st.sampled_from([Sent(sample.frame.encode(), sample.kind) for rows in SAMPLES.values() for sample in rows])
ODD = st.sampled_from(
    [
        b"",
        b"ech+hb",
        b"tic",
        b"smd+1",
        b"null",
        b"[]",
        b'{"topic":"smd+1","31":"K\xf6ln"}',
        b'{"topic":"smd+1","31":1e999}',
        b'{"topic":"sor","args":[{"orderId":1e999}]}',
        b'{"topic":"smd+1","31":"\\ud800"}',
        b'{"topic":"smd+1","31":NaN}',
        b'{"topic":1,"topic":"smd+1","55":"\xff"}',
        b'{"topic":"smd+1","31":' + b"[" * 300 + b"]" * 300 + b"}",
        b"\xff\xfe",
    ]
)
FRAMES = (
    st.builds(lambda value: Sent(json.dumps(value).encode()), QUOTES | OTHERS | TOPICLESS)
    | REST
    | REAL
    | ODD.map(Sent)
    | st.sampled_from([Sent(b'{"topic":"smd+1"}', "out"), Sent(b'{"event":"connected"}', "mark")])
)


GAPS = st.builds(
    Gap,
    st.sampled_from(["market_data", "pnl"]),
    st.sampled_from([None, AAPL]),
    st.integers(0, 3),
    st.sampled_from(["stale", "disconnected"]),
    st.text(max_size=3),
)
GAP_MARKS = (GAPS.map(opened_mark) | GAPS.map(lambda gap: closed_mark(gap, end=9))).map(lambda mark: Sent(mark, "mark"))


@given(st.lists(FRAMES, min_size=1, max_size=12), st.data())
def test_rows_do_not_depend_on_how_frames_are_batched(frames: list[Sent], data: st.DataObject) -> None:
    """One by one, all at once, or cut anywhere: live decoding and a later rebuild agree."""
    cuts = data.draw(st.lists(st.integers(1, len(frames)), max_size=4))
    whole = decoded(frames)

    assert whole == decoded(frames, cuts=range(1, len(frames)))
    assert whole == decoded(frames, cuts=cuts)


NEAR_NUMBERS = st.text("0123456789+-.,eECHKMBT%na ", max_size=7)


@pytest.mark.parametrize("parser", [*PARSERS, "bare_price", "conid"])
@given(values=st.lists(VALUES | NEAR_NUMBERS, min_size=1, max_size=6))
@example(values=["5", "1e400"])
@example(values=[1, 2**53 + 1])
@example(values=[265598, -5])
@example(values=[1785763811020, 2**62])
@example(values=[1.7e308])
def test_a_column_does_not_depend_on_its_neighbours(parser: CellParser, values: list[Any]) -> None:
    """The quick way for values that are written alike means the same as the careful one."""
    together: list[tuple[int, Any]] = []
    alone: list[tuple[int, Any]] = []
    whole = to_column(
        Cells(np.arange(len(values)), values), parser, len(values), lambda row, value: together.append((row, value))
    )
    single = [
        to_column(Cells(np.array([0]), [value]), parser, 1, lambda _row, value, row=row: alone.append((row, value)))  # type: ignore[misc]
        for row, value in enumerate(values)
    ]

    assert pa.concat_arrays(single).equals(whole)
    assert alone == together


@given(st.lists(FRAMES, min_size=1, max_size=10), st.integers(0, 10))
def test_a_new_decoder_goes_on_with_the_orders_of_the_one_before(frames: list[Sent], at: int) -> None:
    """The state goes through the commit's footer, which is JSON."""
    before = Decoder(TOPICS)
    if frames[:at]:
        before.decode(batch_of(frames[:at]))
    state = msgspec.json.decode(msgspec.json.encode(before.state), type=DecodingState)
    whole, rest = decoded(frames), decoded(frames[at:], state=state)

    for name, rows in rest.rows.items():
        expected = [row["conid"] for row in whole.rows[name] if row["seq"] >= at]
        assert expected == [row["conid"] for row in rows]


def test_a_decoder_leaves_the_state_that_it_was_given_alone() -> None:
    """A try that fails and is made again begins from the same state."""
    gap = Gap("pnl", None, T0, "stale", "silent")
    state = DecodingState({"DU1 1": 5}, (gap,))
    decoder = Decoder(TOPICS, state)
    decoder.decode(batch_of([Sent(b'{"topic":"sor","args":[{"acct":"DU1","orderId":2,"conid":7}]}')]))

    assert DecodingState({"DU1 1": 5}, (gap,)) == state
    assert DecodingState({"DU1 1": 5, "DU1 2": 7}, (gap,)) == decoder.state


@given(st.lists(GAP_MARKS | FRAMES, max_size=12), st.integers(0, 12))
def test_the_open_gaps_are_those_of_the_marks_however_they_are_cut(frames: list[Sent], at: int) -> None:
    """One decoder for all, and one that goes on with another's state, end with the same open gaps."""
    whole, before, ledger = Decoder(TOPICS), Decoder(TOPICS), Ledger()
    whole.decode(batch_of(frames))
    before.decode(batch_of(frames[:at]))
    behind = Decoder(TOPICS, before.state)
    behind.decode(batch_of(frames[at:], first_seq=at))
    for frame in frames:
        if frame.kind == "mark":
            ledger.follow(frame.data)

    assert set(ledger.open_gaps) == set(whole.state.open_gaps) == set(behind.state.open_gaps)


@given(st.lists(GAP_MARKS | FRAMES, max_size=12))
def test_a_decoder_of_marks_alone_gives_the_same_gaps(frames: list[Sent]) -> None:
    """It looks at nothing else, and so is quick in a journal of prices."""
    alone = Decoder(Topics([TOPICS["gaps"]])).decode(batch_of(frames)).rows.get("gaps")
    among = Decoder(TOPICS).decode(batch_of(frames)).rows.get("gaps")

    assert (alone is None) == (among is None)
    if alone is not None and among is not None:
        assert among.table.equals(alone.table)
        assert among.conid.tolist() == alone.conid.tolist()


def test_only_a_gap_that_is_over_has_a_row() -> None:
    """Nobody claims the mark that opens it."""
    ledger = Ledger()
    marks = [
        ledger.open("market_data", AAPL, start=T0, cause="stale", evidence="silent"),
        ledger.close("market_data", AAPL, end=T0 + 5),
    ]
    outcome = decoded([Sent(mark or b"", "mark") for mark in marks])

    assert [None, "gaps"] == outcome.topics
    ((row,),) = outcome.rows.values()
    expected = {"of_topic": "market_data", "conid": AAPL, "start": T0, "end": T0 + 5, "cause": "stale"}
    assert expected == {name: row[name] for name in expected}


# ------------------------------------------------------------------ nothing is lost


def means_nothing(value: Any) -> bool:
    """Tell what a column may leave out: null, an empty text, and for numbers NaN."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "NaN"))


@given(QUOTES)
def test_every_key_of_market_data_is_found_again(frame: dict[str, Any]) -> None:
    """In a column, in `extra`, in the event's time, or in the contract."""
    row = only_row(json.dumps(frame).encode())
    extra = row.get("extra", {})
    columns: dict[str, list[str]] = {}
    for column in MARKET_DATA.columns:
        columns.setdefault(column.key, []).append(column.name)
    for key, value in frame.items():
        if key in extra:
            assert to_text(value) == extra[key]
        elif key in columns:
            assert means_nothing(value) or any(name in row for name in columns[key])
        elif key == "_updated":
            assert means_nothing(value) or "ts_event" in row
        elif key == "conid":
            assert means_nothing(value) or row["conid"] == int(value) or int(value) == 0
        else:
            assert value is None
    assert set(extra) <= set(frame)


@given(st.lists(IDENTIFIED, min_size=1, max_size=3))
def test_every_key_of_an_order_is_found_again(orders: list[dict[str, Any]]) -> None:
    """In a column, in `extra`, or in the contract."""
    names = {column.key: column.name for column in TOPICS["orders"].columns}
    outcome = decoded([Sent(json.dumps({"topic": "sor", "args": orders}).encode())])
    for order, row in zip(orders, outcome.rows["orders"], strict=True):
        found = {key for key in order if key in row.get("extra", {}) or names.get(key) in row or key == "conid"}
        lost = {key: value for key, value in order.items() if key not in found and not means_nothing(value)}

        assert {} == {key: value for key, value in lost.items() if not key.startswith("@")}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"84": "C188.10"}, {"extra": {"84": "C188.10"}}),
        ({"84": " H1,188.10"}, {"extra": {"84": " H1,188.10"}}),
        ({"31": "C188.10"}, {"last_price": 188.1, "last_price_flag": "C"}),
        ({"conid": -5}, {"extra": {"conid": "-5"}}),
        ({"conid": "8314@NYSE"}, {"conid": 8314, "extra": {"conid": "8314@NYSE"}}),
        ({"conid": "1234567890123456789"}, {"extra": {"conid": "1234567890123456789"}}),
        ({"conid": "٣"}, {"extra": {"conid": "٣"}}),
        ({"conid": 0}, {}),
        ({"conid": True}, {"extra": {"conid": "true"}}),
        ({"_updated": 1.7e308}, {"extra": {"_updated": "1.7e308"}}),
        ({"_updated": 1785763811020.5}, {"ts_event": 1785763811020500}),
        ({"@topic": "smd+5", "@source": 1}, {"extra": {"@topic": "smd+5", "@source": "1"}}),
        ({"85": 10**400}, {"extra": {"85": "1" + "0" * 400}}),
        ({"86": 2**64 + 1}, {"ask_price": 2.0**64}),
        ({"84": {"a": [1, None]}, "9": {"b": {}}}, {"extra": {"84": '{"a":[1,null]}', "9": '{"b":{}}'}}),
        ({"9": False, "8": 0, "7": "", "6": None}, {"extra": {"9": "false", "8": "0", "7": ""}}),
    ],
)
def test_odd_market_data_is_kept(frame: dict[str, Any], expected: Row) -> None:
    """What a column cannot hold stays as text; a contract that is none leaves that of the topic."""
    row = only_row(json.dumps(frame | {"topic": "smd+265598"}).encode())
    ours = {"ts_recv": T0, "session": "s", "seq": 0, "item": 0, "wire_topic": "smd+265598", "conid": 265598}

    assert ours | expected == row


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"topic": "x", "@source": "y"}, {"extra": {"topic": "x", "@@source": "y"}}),
        ({"conid": 0, "conidex": "8314"}, {"conidex": "8314", "conid": 8314}),
        (
            {"conid": "none", "conidex": "8314@NYSE"},
            {"conidex": "8314@NYSE", "conid": 8314, "extra": {"conid": "none"}},
        ),
        ({"price": "C5"}, {"extra": {"price": "C5"}}),
    ],
)
def test_odd_orders_are_kept(order: dict[str, Any], expected: Row) -> None:
    """A key that looks like one of ours is not lost to it."""
    row = only_row(json.dumps({"topic": "sor", "args": [order]}).encode(), "orders")

    assert {"source": "stream", "conid": 0} | expected == {key: row[key] for key in row if key not in ORDER}


def test_a_conid_that_no_64_bits_can_hold_is_none() -> None:
    """Nothing is cut to fit."""
    rows = decoded(
        [Sent(b'{"topic":"smd+12345678901234567890"}'), Sent(b'{"topic":"smd+1","conid":9223372036854775808}')]
    )

    assert [0, 1] == [row["conid"] for row in rows.rows["market_data"]]


# ------------------------------------------------------------------ nothing is an error


def hostile(inner: bytes) -> bytes:
    """Put a value into a frame of market data."""
    return b'{"topic":"smd+1","31":' + inner + b"}"


@pytest.mark.parametrize(
    ("frame", "topic", "rows", "undecoded"),
    [
        (hostile(b"[" * 240 + b"]" * 240), "market_data", 1, 0),
        (hostile(b"[" * 900 + b"]" * 900), "market_data", 0, 1),
        (hostile(b"[" * 100_000 + b"]" * 100_000), None, 0, 0),
        (b"[" * 100_000, None, 0, 0),
        (b'{"a":' * 100_000, None, 0, 0),
        (hostile(b"9" * 400), "market_data", 1, 0),
        (hostile(b"9" * 5000), "market_data", 0, 1),
        (hostile(b"1e999"), "market_data", 0, 1),
        (hostile(b"-1e999"), "market_data", 0, 1),
        (hostile(b'"' + b"9" * 5000 + b'"'), "market_data", 1, 0),
        (hostile(b"NaN"), None, 0, 0),
        (hostile(b"-Infinity"), None, 0, 0),
        (hostile(b'"NaN"'), "market_data", 1, 0),
        (hostile(b'"\\ud800"'), None, 0, 0),
        (hostile(b'"\\ud83d\\ude00"'), "market_data", 1, 0),
        (hostile(b'"\xff"'), "market_data", 1, 0),
        (hostile(b'"a","31":"b"'), "market_data", 1, 0),
        (hostile(b'"\\u0000"'), "market_data", 1, 0),
        (b'{"topic":"smd+\xff"}', "market_data", 1, 0),
        (b'{"topic":"smd+1"', None, 0, 0),
        (b'["smd+1"]', None, 0, 0),
        (b'"smd+1"', None, 0, 0),
        (b"", None, 0, 0),
        (b"\x00\xff", None, 0, 0),
        (b"ech+hb", "system", 1, 0),
        (b"ech+\xff", "system", 1, 0),
        (b"Topic unknown", None, 0, 0),
        (b'{"topic":"xyz"}', None, 0, 0),
        (b'{"topic":"sor"}', "orders", 0, 1),
        (b'{"topic":"sor","args":7}', "orders", 0, 1),
        (b'{"topic":"sor","args":[]}', "orders", 0, 0),
        (b'{"topic":"sor","args":[1,{},"x"]}', "orders", 1, 2),
        (b"sor", "orders", 0, 1),
        (b'{"topic":"spl","args":[]}', "pnl", 0, 1),
        (b'{"topic":"spl","args":{"DU1":1,"DU2":{}}}', "pnl", 1, 1),
        (b'{"topic":"sts"}', "status", 0, 1),
    ],
)
def test_hostile_frames_are_counted(frame: bytes, topic: str | None, rows: int, undecoded: int) -> None:
    """Unclaimed, undecoded or decoded: each received frame is one of them, and a good one after it is not harmed."""
    good = Sent(b'{"topic":"smd+265598","31":"5"}')
    outcome = decoded([Sent(frame), good])
    of_it = [row for found in outcome.rows.values() for row in found if row["seq"] == 0]

    assert [topic, "market_data"] == outcome.topics
    assert rows == len(of_it)
    assert ({topic: undecoded} if undecoded else {}) == outcome.undecoded
    assert [5.0] == [row["last_price"] for row in outcome.rows["market_data"] if row["seq"] == 1]


@pytest.mark.parametrize(
    ("answer", "topic", "rows", "undecoded"),
    [
        (b'GET /v1/api/iserver/account/orders?force=true\n{"orders":[{},{}]}', "orders", 2, 0),
        (b"GET /iserver/account/orders\n<html>", "orders", 0, 1),
        (b'GET /iserver/account/orders\n{"error":"no"}', "orders", 0, 1),
        (b"GET /iserver/account/orders", "orders", 0, 1),
        (b"GET /tickle\n{}", None, 0, 0),
        (b"", None, 0, 0),
        (b'\xff\n{"orders":[]}', None, 0, 0),
    ],
)
def test_rest_answers_are_claimed_by_their_path(answer: bytes, topic: str | None, rows: int, undecoded: int) -> None:
    """Its query is no part of it."""
    outcome = decoded([Sent(answer, "rest")])

    assert [topic] == outcome.topics
    assert rows == len(outcome.rows.get("orders", []))
    assert ({"orders": undecoded} if undecoded else {}) == outcome.undecoded


def test_what_was_sent_and_what_was_noted_is_not_decoded() -> None:
    """It is archived, and no topic's."""
    data = b'{"topic":"smd+1","31":"5"}'

    assert Outcome({}, [None, None], {}) == decoded([Sent(data, "out"), Sent(data, "mark")])


def test_a_batch_without_frames_has_no_rows() -> None:
    """Not an error either."""
    result = Decoder(TOPICS).decode(batch_of([]))

    assert ({}, 0, {}) == (result.rows, len(result.frame_topics), result.undecoded)


@given(st.lists(st.binary(max_size=60) | ODD, min_size=1, max_size=5))
def test_noise_is_never_an_error(frames: list[bytes]) -> None:
    """A frame that is claimed has rows or is counted."""
    outcome = decoded([Sent(frame) for frame in frames])
    with_rows = {row["seq"] for rows in outcome.rows.values() for row in rows}
    silent = [seq for seq, topic in enumerate(outcome.topics) if topic is not None and seq not in with_rows]

    assert len(silent) <= sum(outcome.undecoded.values())


@given(st.integers(200, 1200), st.sampled_from([b"31", b"9999", b"conid", b"_updated", b"55", b"topic"]))
def test_no_depth_is_an_error(levels: int, key: bytes) -> None:
    """What can be read can also be written into `extra`, wherever the stack ends."""
    decoded([Sent(b'{"topic":"smd+1","%s":%s}' % (key, b"[" * levels + b"]" * levels))])


@given(FRAMES.filter(lambda frame: frame.kind == "in"))
def test_the_decoder_and_the_envelope_agree_about_the_topic(frame: Sent) -> None:
    """What the capture counts, what the digest covers and what the archive says is one topic."""
    claiming = TOPICS.claiming(wire_topic(frame.data))

    assert [claiming.name if claiming else None] == decoded([frame]).topics


@given(st.binary(max_size=60))
def test_the_decoder_and_the_envelope_agree_about_noise(noise: bytes) -> None:
    """Also what looks like the beginning of a frame."""
    for data in (noise, b'{"topic":"smd+1",' + noise, b'{"topic":"smd+1","x":' + noise + b"}", b"ech+" + noise):
        claiming = TOPICS.claiming(wire_topic(data))

        assert [claiming.name if claiming else None] == decoded([Sent(data)]).topics


def test_rows_are_in_the_order_of_frames_and_items() -> None:
    """However different their shapes are."""
    frames = [sample.frame.encode() for sample in SAMPLES["orders"] if sample.kind == "in"] * 3
    table = Decoder(TOPICS).decode(batch_of([Sent(frame) for frame in frames], first_seq=100)).rows["orders"].table
    keys = list(zip(table["seq"].to_pylist(), table["item"].to_pylist(), strict=True))

    assert sorted(set(keys)) == keys
    assert pc.min(table["seq"]).as_py() >= 100


def test_a_decoder_keeps_no_memory_of_noise() -> None:
    """Wire topics without end do not grow it for ever."""
    decoder = Decoder(TOPICS)
    for first in range(0, 120_000, 40_000):
        decoder.decode(batch_of([Sent(b'{"topic":"x%d"}' % number) for number in range(first, first + 40_000)]))

    assert len(decoder._claims) <= 100_000
