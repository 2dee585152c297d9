"""Flat frames are read as a JSON parser reads them, or left to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.archive.digest import table_digest
from recorder.protocol.cells import Cells
from recorder.protocol.decode import Decoder
from recorder.protocol.flat_frames import read_flat
from recorder.protocol.segment import FrameBatch, Scan, code_of, encode_batch
from recorder.protocol.topics import load_topics
from recorder.replay.synthetic import SyntheticFeed

TOPICS = load_topics()
QUOTE = b'{"conidEx":"265598","conid":265598,"_updated":1785763811020,"84":"189.52","83":-0.8,"topic":"smd+265598"}'


def batch_of(frames: Sequence[bytes], kind: str = "in text") -> FrameBatch:
    """Make a batch as the journal gives it."""
    code = {"in text": code_of("in", "text"), "in binary": code_of("in", "binary"), "out": code_of("out", "text")}
    seqs = range(len(frames))
    (batch,) = Scan(encode_batch(0, list(seqs), [1] * len(frames), [code[kind]] * len(frames), frames), whole=False)
    return batch


def read(frames: Sequence[bytes], kind: str = "in text") -> dict[int, dict[str, Any]]:
    """Read the flat ones among frames: keys and values by the number of the frame."""
    flat = read_flat(batch_of(frames, kind))
    if flat is None:
        return {}
    rows: dict[int, dict[str, Any]] = {frame: {} for frame in flat.frames.tolist()}
    for key, cells in flat.pairs.items():
        for row, value in Cells(flat.frames[cells.rows], cells.values).pairs():
            rows[row][key] = value
    assert {frame: row["topic"] for frame, row in rows.items()} == dict(
        zip(flat.frames.tolist(), flat.topics.to_pylist(), strict=True)
    )
    return rows


@pytest.mark.parametrize(
    "frame",
    [
        QUOTE,
        b'{"topic":"smd+1"}',
        b'{"topic":"xyz","hb":1785763811020}',
        b'{"":"","topic":""}',
        b'{"a":"{[,:]}","topic":" smd + 1 "}',
        b'{"topic":"smd+1","a":1,"b":1.5,"c":-2e3,"d":true,"e":false,"f":null,"g":0}',
        b'{"topic":"smd+1","a":-0,"b":-0.0,"c":1E5,"d":123456789012345678901234567890}',
        b'{"topic":"smd+1","a": 1}',
    ],
)
def test_a_flat_frame_is_read_as_a_parser_reads_it(frame: bytes) -> None:
    """Among others and alone, of text and of binary frames; values have the same types."""
    expected = json.loads(frame)
    found = [*read([QUOTE, frame]).values(), read([frame], "in binary")[0]]

    assert [json.loads(QUOTE), expected, expected] == found
    assert [type(expected[key]) for key in expected] == [type(found[2][key]) for key in expected]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b"{",
        b'"',
        b"ech+hb",
        b'{"topic":"smd+1","a":"\\u0041"}',
        b'{"topic":"smd+1","a":"\xc3\xb6"}',
        b'{"topic":"smd+1","a":"\x1f"}',
        b'{"topic":"smd+1","a":"1","a":"2"}',
        b'{"topic":"smd+1","a":{"b":"1"}}',
        b'{"topic":"smd+1","a":[1]}',
        b'{"topic":"smd+1","a":[]}',
        b'{"topic":"smd+1","a":["1"]}',
        b'{"topic": "smd+1"}',
        b'{"topic":"smd+1" }',
        b' {"topic":"smd+1"}',
        b'{"topic":"smd+1"}\n',
        b'{"topic":"smd+1",}',
        b'{"topic":"smd+1","a"}',
        b'{"topic":"smd+1","a":}',
        b'{"topic":"smd+1","a":,"b":1}',
        b'{"topic":"smd+1""a":1}',
        b'{"topic":"smd+1":"a"}',
        b'{"topic":"smd+1","a":1,2}',
        b'{"topic":"smd+1","a":01}',
        b'{"topic":"smd+1","a":+1}',
        b'{"topic":"smd+1","a":0x1F}',
        b'{"topic":"smd+1","a":1.}',
        b'{"topic":"smd+1","a":1e999}',
        b'{"topic":"smd+1","a":NaN}',
        b'{"topic":"smd+1","a":1}}',
        b'{"topic":"smd+1"},{"topic":"smd+1"}',
        b'{"a":"1"}',
        b'{"topic":1}',
        b'{"topic":null,"a":"1"}',
    ],
)
def test_any_other_frame_is_left_to_the_parser(frame: bytes) -> None:
    """And harms neither the one before it nor the one behind it."""
    assert {0: json.loads(QUOTE), 2: json.loads(QUOTE)} == read([QUOTE, frame, QUOTE])
    assert {} == read([frame])


def test_what_was_not_received_is_not_read() -> None:
    """A request has the shape of a frame, too."""
    assert {} == read([QUOTE], "out")


def test_so_many_keys_that_they_are_no_columns_are_left_to_the_parser() -> None:
    """Noise must not cost seconds."""
    assert {} == read([b'{"topic":"smd+1","%d":"x"}' % number for number in range(1_001)])


# ------------------------------------------------------------------ the same rows

KEYS = st.sampled_from(
    ["31", "83", "87_raw", "conid", "_updated", "conidEx", "55", "9999", "6119", "", "hb", "success"]
)
TEXTS = st.sampled_from(["", "C188.10", "1,300", "+1.05", "24.2M", "-0", "8314@NYSE", "5", "{", ":", ",", "ö", "x\ny"])
NUMBERS = st.sampled_from([0, 1, -5, 265598, 1785763811020, 2**53 + 1, 2**63, 1.5, -0.0, 1e300])
VALUES = TEXTS | NUMBERS | st.none() | st.booleans() | st.lists(st.integers(), max_size=1) | st.just({"a": "b"})
WIRES = st.sampled_from(["smd+265598", "smd+8314@NYSE", "system", "xyz", "sor"])
OBJECTS = st.builds(
    lambda row, wire: json.dumps(row | {"topic": wire}, separators=(",", ":"), ensure_ascii=False).encode(),
    st.dictionaries(KEYS, VALUES, max_size=5),
    WIRES,
)
DAMAGED = st.builds(
    lambda frame, at, inside, gone: frame[: at + 1] + inside + frame[at + 1 + gone :],
    OBJECTS,
    st.integers(0, 60),
    st.sampled_from(
        [b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\", b" ", b"0", b"-", b"e", b".", b"\x00", b"\xff", b""]
    ),
    st.integers(0, 3),
)


Outcome = tuple[dict[str, tuple[list[str], str, list[int]]], list[str | None], dict[str, int]]


def all_of(frames: Sequence[bytes]) -> Outcome:
    """Decode frames; give everything as plain values, of tables the columns and the digest: that tells 0 from -0."""
    result = Decoder(TOPICS).decode(batch_of(frames))
    rows = {
        name: (found.table.column_names, table_digest(found.table), found.conid.tolist())
        for name, found in result.rows.items()
    }
    return rows, result.frame_topics.to_pylist(), result.undecoded


@given(st.lists(OBJECTS | DAMAGED, min_size=1, max_size=6))
@example([b'{"topic":"smd+1","31":-0}', b'{"topic":"smd+1","31":"-0"}'])
def test_flat_or_not_a_frame_gives_the_same_rows(frames: list[bytes]) -> None:
    """A frame with a space behind it is the same JSON, and not flat."""
    assert all_of([frame + b" " for frame in frames]) == all_of(frames)


def test_market_data_as_the_gateway_writes_it_is_flat() -> None:
    """The quick way is the one that is taken: all frames of a synthetic market."""
    feed = SyntheticFeed(seed=1, contracts=3, rate=1_000)
    feed.want([f"smd+{conid}" for conid in feed.instruments])
    sent = [feed.snapshot(f"smd+{conid}", 0) for conid in feed.instruments]
    for now in range(20_000, 200_000, 20_000):
        sent += [update.data for update in feed.advance(now).updates if update.stream.startswith("smd+")]
    frames = [frame for frame in sent if frame is not None]

    assert [json.loads(frame) for frame in frames] == list(read(frames).values())
    assert len(frames) > 50
