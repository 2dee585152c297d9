"""A frame's outside is found whatever it holds, and what is no JSON is no error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.envelope import DEEPEST, NotJson, bare_topic, read_json, wire_topic

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def nested(levels: int) -> bytes:
    """Write lists inside lists."""
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("frame", "topic"),
    [
        (b'{"topic":"smd+265598","31":"1"}', "smd+265598"),
        (b'{"31":"1","topic":"smd+8314@OVERNIGHT"}', "smd+8314@OVERNIGHT"),
        (b' { "topic" : "spl" } ', "spl"),
        (b'{"topic":""}', ""),
        (b'{"topic":"s\\u006dd+1"}', "smd+1"),
        (b'{"topic":"smd+1","topic":"smd+2"}', "smd+2"),
        (b'{"topic":1,"topic":"smd+2"}', "smd+2"),
        (b'{"topic":"smd+2","topic":1}', None),
        (b'{"topic":null}', None),
        (b'{"topic":5}', None),
        (b'{"args":{"topic":"smd+1"}}', None),
        (b'{"message":"waiting for session"}', None),
        (b'["topic"]', None),
        (b'"smd+1"', None),
        (b"null", None),
        (b"7", None),
        (b"", None),
        (b"ech+hb", "ech+hb"),
        (b"tic", "tic"),
        (b"ech hb", None),
        (b" ech+hb", None),
        (b"Ech+hb", None),
        (b'{"topic":"smd+1"', None),
        (b'{"topic":"smd+1"} x', None),
        (b'\xef\xbb\xbf{"topic":"smd+1"}', None),
        (b'{"topic":"smd+1","55":"K\xf6ln"}', "smd+1"),
        (b'{"topic":"smd+\xff"}', "smd+\ufffd"),
        (b"ech+\xff", "ech+\ufffd"),
        (b"\xff\xfe", None),
        (b'{"topic":"smd+1","31":NaN}', None),
        (b'{"topic":"smd+1","31":1e999}', "smd+1"),
        (b'{"topic":"smd+1","31":"\\ud800"}', None),
        (b'{"topic":"smd+1","31":' + nested(300) + b"}", "smd+1"),
        (b'{"topic":"smd+1","31":' + nested(100_000) + b"}", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_wire_topic_is_found(frame: bytes, topic: str | None) -> None:
    """It is the last `topic` of the frame itself, if that is text."""
    assert topic == wire_topic(frame)


@given(st.text(), st.dictionaries(st.text().filter(lambda key: key != "topic"), JSON, max_size=5))
def test_the_wire_topic_does_not_depend_on_what_else_there_is(topic: str, rest: dict[str, Any]) -> None:
    """Any keys and values, before it and after it."""
    assert topic == wire_topic(json.dumps({"topic": topic, **rest}).encode())
    assert topic == wire_topic(json.dumps({**rest, "topic": topic}).encode())


@given(st.binary())
def test_noise_has_a_topic_or_none_and_is_no_error(noise: bytes) -> None:
    """Whatever arrives is looked at and passed on."""
    assert isinstance(wire_topic(noise), str | None)
    assert isinstance(read_json(noise), str | int | float | list | dict | None)


@given(JSON)
def test_json_is_read_as_it_is(value: Any) -> None:
    """Untyped, and nothing is dropped."""
    assert value == read_json(json.dumps(value).encode())
    assert not isinstance(read_json(json.dumps(value).encode()), NotJson)


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        (b'{"55":"K\xf6ln"}', {"55": "K\ufffdln"}),
        (b'{"\xff":1}', {"\ufffd": 1}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
    ],
)
def test_odd_json_is_read(frame: bytes, value: Any) -> None:
    """Bytes that are not UTF-8 are replaced; of two equal keys the last counts."""
    assert value == read_json(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"ech+hb",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b"{'a':1}",
        b'{"a":1',
        b'{"a":"\\ud800"}',
        b'{"a":1e999}',
        b"\xff",
    ],
)
def test_what_is_no_json_is_text(frame: bytes) -> None:
    """It can be told from a JSON text."""
    value = read_json(frame)

    assert NotJson is type(value)
    assert frame.decode("utf-8", "replace") == value


@pytest.mark.parametrize(("levels", "kind"), [(DEEPEST, list), (DEEPEST + 1, NotJson), (100_000, NotJson)])
def test_json_is_read_to_a_depth_that_does_not_depend_on_the_stack(levels: int, kind: type) -> None:
    """A frame must not decode at one time and fail at another."""
    assert kind is type(read_json(nested(levels)))


def test_many_shallow_brackets_are_no_depth() -> None:
    """A long list of orders is read."""
    assert [[]] * 1000 == read_json(b"[" + b",".join([b"[]"] * 1000) + b"]")
    assert {"a": "[" * 1000} == read_json(b'{"a":"' + b"[" * 1000 + b'"}')


@pytest.mark.parametrize(
    ("text", "topic"),
    [("ech+hb", "ech+hb"), ("tic", "tic"), ("ab", None), ("", None), ("tic tac", None), ("TIC", None), ("+hb", None)],
)
def test_a_bare_topic_begins_with_a_word(text: str, topic: str | None) -> None:
    """At least three small letters, then a plus or the end."""
    assert topic == bare_topic(text)
