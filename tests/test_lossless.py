"""Valid frames of every topic decode without loss: each value is in its column by meaning, or in `extra` as it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.protocol.cells import to_text
from recorder.protocol.decode import Decoder
from recorder.protocol.segment import Scan, code_of, encode_batch
from recorder.protocol.tables import complete, topic_schema
from recorder.protocol.topics import Column, Topic, load_topics

TOPICS = load_topics()
NAMES = [topic.name for topic in TOPICS if topic.prefixes or topic.rest is not None]
ACCOUNTS = ["DU1000001", "DU1000002"]
CONIDS = st.sampled_from([265598, 8314, 28812380, 712345678])
UNKNOWN = st.sampled_from(["zz", "neu", "Key with space", "_x", "ключ"])

Row = dict[str, Any]


class Written(NamedTuple):
    """A value on the wire and what it means, by column."""

    wire: Any
    meaning: Row


class Made(NamedTuple):
    """A frame and the rows that must come of it."""

    data: bytes
    kind: str
    rows: list[Row]


# ------------------------------------------------------------------ values: how each meaning can be written


@st.composite
def numbers(draw: st.DrawFn, *, suffix: bool, percent: bool = False) -> tuple[Any, float]:
    """Write a number as the broker does: JSON, text, commas, a sign, an exponent, a suffix."""
    digits, places = draw(st.integers(-(10**9), 10**9)), draw(st.integers(0, 4))
    value = float(f"{digits}e-{places}")
    plain = f"{value:.{places}f}"
    forms: list[Any] = [value, plain, f"{value:,.{places}f}", f"{value:+.{places}f}", f"{digits}E-{places}"]
    if percent:
        forms = [value, f"{plain}%", f"{value:+.{places}f}"]
    if value.is_integer():
        forms.append(int(value))
    wire = draw(st.sampled_from(forms))
    if suffix and draw(st.booleans()):
        letter, factor = draw(st.sampled_from([("K", 10**3), ("M", 10**6), ("B", 10**9)]))
        whole = draw(st.integers(0, 9999))
        return f"{whole}{letter}", float(whole * factor)
    return wire, value


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(lambda text: (text, text))
JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=4,
)
OTHER_TEXTS = JSON.filter(lambda value: value != "").map(lambda value: (value, to_text(value)))
INTEGERS = st.integers(-(2**63), 2**63 - 1).flatmap(lambda n: st.sampled_from([(n, n), (str(n), n)]))
FLAGS = st.booleans().flatmap(
    lambda flag: st.sampled_from([flag, int(flag), str(int(flag)), str(flag).lower()]).map(lambda wire: (wire, flag))
)
MS = st.integers(0, 4 * 10**12).flatmap(lambda n: st.sampled_from([(n, n * 1000), (str(n), n * 1000)]))
SECONDS = st.integers(0, 4 * 10**9).flatmap(lambda n: st.sampled_from([(n, n * 10**6), (str(n), n * 10**6)]))
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2068, 12, 31)).map(  # noqa: DTZ001  hypothesis wants naive bounds
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
TIME_TEXTS = st.tuples(MOMENTS, st.sampled_from(["%Y%m%d-%H:%M:%S", "%y%m%d%H%M%S"])).map(
    lambda pair: (pair[0].strftime(pair[1]), int(pair[0].timestamp()) * 10**6)
)
SIMPLE: dict[str, st.SearchStrategy[tuple[Any, Any]]] = {
    "price": numbers(suffix=False),
    "size": numbers(suffix=True),
    "number": numbers(suffix=True),
    "percent": numbers(suffix=False, percent=True),
    "integer": INTEGERS,
    "text": TEXTS | OTHER_TEXTS,
    "flag": FLAGS,
    "time_ms": MS,
    "time_s": SECONDS,
    "time_text": TIME_TEXTS,
}


@st.composite
def written(draw: st.DrawFn, columns: list[Column]) -> Written:
    """Write the value of one key, which one column has, or two where something stands before a price."""
    by_parser = {column.parser: column.name for column in columns}
    if "price_flag" in by_parser:
        letter, (_, price) = draw(st.sampled_from(["C", "H", ""])), draw(numbers(suffix=False))
        meaning = {by_parser["price"]: price} | ({by_parser["price_flag"]: letter} if letter else {})
        return Written(f"{letter}{price!r}", meaning)
    if "at_size" in by_parser:
        (price_text, price), (size_text, size) = draw(numbers(suffix=False)), draw(numbers(suffix=True))
        if draw(st.booleans()):
            return Written(price_text, {by_parser["at_price"]: price})
        return Written(f"{size_text} @ {price_text}", {by_parser["at_price"]: price, by_parser["at_size"]: size})
    (column,) = columns
    wire, meaning = draw(SIMPLE[column.parser])
    return Written(wire, {column.name: meaning})


# ------------------------------------------------------------------ frames


@st.composite
def rows_of(draw: st.DrawFn, topic: Topic, factor: float) -> tuple[Row, Row]:
    """Make a row as it is on the wire, and what it must decode to but for what stands around it."""
    wire: Row = {}
    expected: Row = {}
    by_key: dict[str, list[Column]] = {}
    for column in topic.columns:
        by_key.setdefault(column.key, []).append(column)
    for key, columns in by_key.items():
        if key.startswith("@") or key in ("topic", *topic.conid.keys) or not draw(st.booleans()):
            continue
        one = draw(written(columns))
        wire[key] = one.wire
        for column in columns:
            if column.times is not None:
                one.meaning[column.name] *= factor
        expected |= one.meaning
    if draw(st.booleans()) and topic.conid.keys:
        conid = draw(CONIDS)
        key = draw(st.sampled_from(topic.conid.keys))
        wire[key] = draw(st.sampled_from([conid, str(conid)]))
        expected["conid"] = conid
        expected |= {column.name: str(conid) for column in by_key.get(key, [])}
    if topic.event_time is not None and draw(st.booleans()):
        wire[topic.event_time], expected["ts_event"] = draw(SIMPLE[topic.event_parser])
    unknown = draw(st.dictionaries(UNKNOWN, JSON, max_size=2))
    wire |= unknown
    if unknown:
        expected["extra"] = {key: to_text(value) for key, value in unknown.items()}
    return wire, expected


class Envelope(NamedTuple):
    """What stands around the rows of a frame: its topic and keys, what they mean, and the factor of a volume."""

    frame: Row
    meaning: Row
    factor: float


@st.composite
def envelopes_of(draw: st.DrawFn, topic: Topic) -> Envelope:
    """Make the outside of a frame; one of REST has none."""
    prefix = draw(st.sampled_from(topic.prefixes)) if topic.prefixes else ""
    account, conid, exchange = draw(st.sampled_from(ACCOUNTS)), str(draw(CONIDS)), draw(st.sampled_from(["", "NYSE"]))
    target = f"{conid}@{exchange}" if exchange else conid
    ladder = [account, conid, *([exchange] if exchange else [])]
    parts = {"smd": [target], "smh": [target], "ssd": [account], "sld": [account], "sbd": ladder}.get(prefix, [])
    factor = draw(st.sampled_from([1.0, 40.0, 100.0]))
    frame: Row = {"topic": "+".join([prefix, *parts])}
    meaning: Row = {"conid": int(conid) if topic.conid.topic else 0}
    known = {"@prefix": prefix, "@source": "stream" if prefix else "rest", "topic": frame["topic"]}
    known |= {f"@topic.{number}": part for number, part in enumerate(parts, start=1)}
    for column in topic.columns:
        if column.key.startswith("@frame."):
            value = draw(SIMPLE[column.parser]) if column.key != "@frame.volumeFactor" else (factor, factor)
            frame[column.key.removeprefix("@frame.")], meaning[column.name] = value
        elif column.key in known and (column.key != "topic" or topic.payload is None):
            meaning[column.name] = known[column.key]
    return Envelope(frame, meaning, factor)


@st.composite
def frames_of(draw: st.DrawFn, topic: Topic) -> Made:
    """Make a valid frame of a topic with all its rows."""
    frame, around, factor = draw(envelopes_of(topic))
    rows = draw(st.lists(rows_of(topic, factor), min_size=1, max_size=1 if topic.rows == "frame" else 3))
    wires, expected = [wire for wire, _ in rows], [around | row for _, row in rows]
    if not topic.prefixes:
        assert topic.rest is not None, "else it has a prefix"
        return Made(f"GET {topic.rest.path}\n{json.dumps({topic.rest.payload: wires})}".encode(), "rest", expected)
    if topic.payload is None:
        frame = wires[0] | frame
    elif topic.rows == "entry":
        names = [f"{ACCOUNTS[0]}.{model}" for model in ("Core", "Tech.Growth", "Bonds")]
        frame[topic.payload] = dict(zip(names, wires, strict=False))
        keys = {column.key: column.name for column in topic.columns}
        for name, row in zip(names, expected, strict=False):
            row[keys["@entry.0"]], _, row[keys["@entry.1"]] = name.partition(".")
    else:
        lone = topic.rows == "frame" or (len(rows) == 1 and draw(st.booleans()))
        frame[topic.payload] = wires[0] if lone else wires
    return Made(json.dumps(frame).encode(), "in", expected)


def decoded(made: Made, topic: Topic) -> list[Row]:
    """Decode a frame to its rows, without nulls and without what the journal knows."""
    written_batch = encode_batch(0, [0], [1], [code_of("rest" if made.kind == "rest" else "in", "text")], [made.data])
    (batch,) = Scan(written_batch, whole=False)
    result = Decoder(TOPICS).decode(batch)
    assert ({}, [topic.name]) == (result.undecoded, list(result.rows))
    rows = result.rows[topic.name]
    table = complete(rows.table, topic_schema(topic), session="s").drop(["ts_recv", "session", "seq", "item"])
    columns = {
        name: (table[name].cast(pa.int64()) if pa.types.is_timestamp(table[name].type) else table[name]).to_pylist()
        for name in table.column_names
    }
    columns["extra"] = [None if pairs is None else dict(pairs) for pairs in columns["extra"]]
    columns["conid"] = rows.conid.tolist()
    return [
        {name: value for name, value in zip(columns, values, strict=True) if value is not None}
        for values in zip(*columns.values(), strict=True)
    ]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_valid_frame_loses_nothing(name: str, data: st.DataObject) -> None:
    """Numbers are there by value, texts exactly, and what nobody knows as it was."""
    topic = TOPICS[name]
    made = data.draw(frames_of(topic))

    assert made.rows == decoded(made, topic)


PREFIXES = st.sampled_from([prefix for topic in TOPICS for prefix in topic.prefixes])
SHAPES = st.sampled_from(
    [
        b"%(noise)s",
        b'{"topic":"%(prefix)s",%(noise)s',
        b'{"topic":"%(prefix)s+%(noise)s"}',
        b'{"topic":"%(prefix)s+DU1+5","args":%(noise)s}',
        b'{"data":[{"price":"%(noise)s"}],"topic":"%(prefix)s"}',
        b'{"result":[{"timestamp":%(noise)s}],"topic":"%(prefix)s"}',
    ]
)
NOISE = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())
NOISY = st.builds(
    lambda shape, prefix, noise: shape % {b"prefix": prefix.encode(), b"noise": noise}, SHAPES, PREFIXES, NOISE
)


@given(st.lists(NOISY, min_size=1))
def test_noise_in_any_topic_is_no_error(payloads: list[bytes]) -> None:
    """Whatever stands where a topic expects its rows, its topic or its values."""
    count = len(payloads)
    (batch,) = Scan(encode_batch(0, [0] * count, [1] * count, [code_of("in", "binary")] * count, payloads), whole=False)
    result = Decoder(TOPICS).decode(batch)

    assert count == len(result.frame_topics)
    assert all(len(rows.conid) == rows.table.num_rows for rows in result.rows.values())
