"""What is known of a recording at a moment, and its frames as columns: against the plain way of doing either."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.digest import ContentDigest
from recorder.protocol.projection import keys_of, objects_of
from recorder.replay.batch import Listed, framed
from recorder.replay.last_values import keys_among
from recorder.replay.recorded_run import Columns, Run, columns_of
from recorder.replay.recorded_state import RecordedState

STREAMS = ("smd+1", "smd+22@NYSE", "spl")
KEYS = ("31", "84", "_updated", "server_id", "conidEx", "87_raw", "a key of more than 16", 'odd":', "{x", "topic2")
TEXTS = st.sampled_from(["1.00", "", "C188.10", '"', "\\", ":", '":', "{", "APPLE INC", " ", "é", "a,b"])
VALUES = TEXTS | st.integers(-5, 5) | st.none() | st.dictionaries(st.sampled_from(KEYS), TEXTS, max_size=2)
BODIES: st.SearchStrategy[dict[str, Any]] = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)
PLAIN: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(KEYS[:6]), st.sampled_from(["1.00", "", "A B"]), max_size=5
)
SPACED = (",", ": "), (",", ":"), (", ", " :")


@st.composite
def frames(draw: st.DrawFn, *, most: int = 20) -> list[tuple[str, bytes]]:
    """Draw frames of some streams, plain ones and awkward ones."""
    plain = draw(st.booleans())
    bodies: st.SearchStrategy[dict[str, Any]] = PLAIN if plain else BODIES
    spaced = st.just(SPACED[1]) if plain else st.sampled_from(SPACED)
    given_: list[tuple[str, bytes]] = []
    for _ in range(draw(st.integers(0, most))):
        stream, body = draw(st.sampled_from(STREAMS)), draw(bodies)
        content: dict[str, Any] = {**body, "topic": stream} if draw(st.booleans()) else {"topic": stream, **body}
        given_.append((stream, json.dumps(content, separators=draw(spaced), ensure_ascii=False).encode()))
    return given_


def columns(given_: Sequence[tuple[str, bytes]]) -> Columns:
    """Make columns of frames, as from a recording."""
    data = [data for _, data in given_]
    offsets = np.array([3, *map(len, data)], np.int64).cumsum()
    return columns_of(offsets, memoryview(b"xyz" + b"".join(data)), np.ones(len(data), bool))


@given(frames(), st.lists(st.integers(0, 40), max_size=3))
def test_a_run_is_what_the_frames_are_one_by_one(given_: list[tuple[str, bytes]], cuts: list[int]) -> None:
    """Streams, bytes, wire form, digests, and parts for clients that want less."""
    whole = columns(given_)
    edges = sorted({0, len(given_), *(cut for cut in cuts if cut < len(given_))})
    for first, last in pairwise(edges):
        run = Run(whole, first, last)
        streams, data = [one for one, _ in given_[first:last]], [one for _, one in given_[first:last]]
        assert (streams, data) == (list(run.streams), list(run.data))
        assert framed(data, 0x81) == bytes(run.wire(0x81))
        assert frozenset(streams) == run.names
        plain = Listed(streams, data)
        assert digests(plain) == digests(run)
        for wanted in [(("smd+1", None),), (("smd+1", frozenset({"topic", "31"})), ("spl", None))]:
            chosen = tuple(pair for pair in wanted if pair[0] in run.names)
            assert list(plain.part(chosen)) == list(run.part(chosen))


def digests(batch: Listed | Run) -> dict[str, str]:
    """Digest a batch by topics."""
    found = {}
    for topic, count, lengths, payloads in batch.of_topics:
        digest = ContentDigest(topic)
        digest.extend_joined(count, lengths, payloads)
        found[topic] = digest.hexdigest()
    return found


def test_long_payloads_get_long_headers() -> None:
    """Each of the three lengths that RFC 6455 has, at its edges."""
    data = [b'{"topic":"spl","a":"' + b"x" * size + b'"}' for size in (1, 103, 104, 65_513, 65_514, 70_000)]
    assert {len(one) for one in data} > {125, 126, 65_535, 65_536}
    whole = columns([("spl", one) for one in data])
    assert framed(data, 0x82) == bytes(Run(whole, 0, len(data)).wire(0x82))


@given(frames())
def test_no_key_is_overlooked(given_: list[tuple[str, bytes]]) -> None:
    """Or it is said that it is not known."""
    whole = columns(given_)
    found = keys_among(whole.offsets, whole.blob)
    if found is not None:
        assert (keys_of([data for _, data in given_]) or frozenset()) == found.names


@given(frames(), st.integers(1, 7))
def test_the_state_is_that_of_folding_every_frame(given_: list[tuple[str, bytes]], step: int) -> None:
    """However it is cut: of market data, the last writing of each key."""
    whole, state = columns(given_), RecordedState()
    for first in range(0, len(given_), step):
        state.add(Run(whole, first, min(first + step, len(given_))))
        if first % 3 == 0:
            state.fold()
    for stream in STREAMS[:2]:
        folded: dict[str, Any] = {}
        for found in objects_of([data for name, data in given_ if name == stream]):
            folded.update(found)
        expected = {key: json.loads(bytes(value)) for key, value in folded.items()} or None
        known = state.snapshot(stream)
        assert expected == (None if known is None else json.loads(known))


def test_plain_frames_are_told_by_a_few() -> None:
    """A thousand deltas of one stream are told by the last, and by the one that alone has a key."""
    deltas = [("smd+1", b'{"topic":"smd+1","31":"%d"}' % number) for number in range(1_000)]
    deltas[10] = ("smd+1", b'{"topic":"smd+1","server_id":"q1"}')
    told = Run(columns(deltas), 0, len(deltas)).telling()
    assert {"smd+1": [deltas[10][1], deltas[-1][1]]} == told
