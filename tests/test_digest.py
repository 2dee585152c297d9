"""The content digest says what a stream of frames holds, however it was taken in."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.digest import ContentDigest

PAYLOADS = st.lists(st.binary(max_size=40), max_size=10)
FRAMES = [b'{"topic":"smd+1"}', b"", b"\xff"]


def digest_of(payloads: list[bytes], topic: str = "market_data") -> str:
    """Take in payloads all at once."""
    digest = ContentDigest(topic)
    digest.extend(payloads)
    return digest.hexdigest()


def by_hand(topic: str, payloads: list[bytes]) -> str:
    """Compute what the documentation says."""
    lengths = hashlib.sha256(b"".join(struct.pack("<I", len(payload)) for payload in payloads)).digest()
    contents = hashlib.sha256(b"".join(payloads)).digest()
    return hashlib.sha256(f"{topic}\n{len(payloads)}\n".encode() + lengths + contents).hexdigest()


@given(st.text(max_size=10), PAYLOADS)
def test_the_digest_is_the_documented_one(topic: str, payloads: list[bytes]) -> None:
    """Anybody can compute it with nothing but SHA-256."""
    assert by_hand(topic, payloads) == digest_of(payloads, topic)


def test_the_digest_of_a_known_stream_never_changes() -> None:
    """Digests that users wrote down stay comparable with those of later versions."""
    assert digest_of(FRAMES) == "bcb86f1f18ae49cb20e063cc605816ad714b3039bb8ee15819e163d26287068d"


@given(PAYLOADS, st.data())
def test_one_by_one_is_as_all_at_once(payloads: list[bytes], data: st.DataObject) -> None:
    """Any mix of both."""
    digest, rest = ContentDigest("market_data"), list(payloads)
    while rest:
        taken = data.draw(st.integers(0, len(rest)))
        digest.extend(rest[:taken])
        rest = rest[taken:]
        if rest:
            digest.add(rest.pop(0))

    assert digest_of(payloads) == digest.hexdigest()
    assert len(payloads) == digest.count


@pytest.mark.parametrize(
    "other",
    [FRAMES[:-1], FRAMES[::-1], [*FRAMES, b""], [b"".join(FRAMES)], [FRAMES[0][:-1], b"}", *FRAMES[2:]], []],
)
def test_other_frames_have_another_digest(other: list[bytes]) -> None:
    """Fewer, more, in another order, or divided elsewhere."""
    assert digest_of(FRAMES) != digest_of(other)


def test_another_topic_has_another_digest() -> None:
    """The same bytes under another name are something else."""
    assert digest_of(FRAMES) != digest_of(FRAMES, "orders")


def test_a_copy_goes_its_own_way() -> None:
    """What one takes in later does not reach the other."""
    first = ContentDigest("market_data")
    first.extend(FRAMES[:1])
    second = first.copy()
    first.extend(FRAMES[1:])
    second.add(b"other")

    assert digest_of(FRAMES) == first.hexdigest()
    assert digest_of([FRAMES[0], b"other"]) == second.hexdigest()
    assert (3, 2) == (first.count, second.count)


def test_a_digest_can_be_read_while_it_runs() -> None:
    """Reading it changes nothing."""
    digest = ContentDigest("market_data")
    read = [digest.hexdigest()]
    for frame in FRAMES:
        digest.add(frame)
        read.append(digest.hexdigest())

    assert [digest_of(FRAMES[:count]) for count in range(len(FRAMES) + 1)] == read
