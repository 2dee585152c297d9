"""No session token comes out of the masker, and nothing else is changed by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.masking import Masker, mask, mask_tic

TOKEN = "5f0c1e2d3b4a59687766554433221100"  # noqa: S105  made up
OTHER = "00112233445566778899aabbccddeeff"
TOKENS = st.text("0123456789abcdef", min_size=16, max_size=80)


def masker(*tokens: str) -> Masker:
    """Make a masker that knows these tokens."""
    made = Masker()
    for token in tokens:
        made.learn(token)
    return made


def tic(token: str) -> bytes:
    """Write the broker's answer to a ping."""
    return json.dumps({"topic": "tic", "alive": True, "id": token, "lastAccessed": 1785501230001}).encode()


def test_the_mask_is_the_digest_cut_to_the_tokens_length() -> None:
    """Anyone who knows a token can tell where it stood."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()

    assert digest[:32].encode() == mask(TOKEN.encode())


@given(st.binary(min_size=1, max_size=200))
def test_a_mask_has_the_tokens_length_and_is_always_the_same(token: bytes) -> None:
    """A long one repeats its digest."""
    digest = hashlib.sha256(token).hexdigest().encode()

    assert (digest * 4)[: len(token)] == mask(token)
    assert mask(token) == mask(token)


def test_a_change_of_the_token_shows() -> None:
    """The ledger's reader sees that the session became another."""
    assert mask_tic(tic(TOKEN)) != mask_tic(tic(OTHER))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"topic":"tic","id":"%s"}', b'{"topic":"tic","id":"%s"}'),
        (b'{"topic": "tic", "id" : "%s", "alive": true}', b'{"topic": "tic", "id" : "%s", "alive": true}'),
        (b'{"id":"%s","topic":"tic"}', b'{"id":"%s","topic":"tic"}'),
        (b'{"topic":"tic","args":{"id":"%s"}}', b'{"topic":"tic","args":{"id":"%s"}}'),
    ],
)
def test_the_id_of_a_tic_is_masked_even_if_nobody_learnt_it(before: bytes, after: bytes) -> None:
    """Everything around it stays, to the byte."""
    token = TOKEN.encode()

    assert after % mask(token) == mask_tic(before % token)
    assert after % mask(token) == masker()(before % token)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"topic":"ntf","args":[{"id":"118","text":"tic"}]}',
        b'{"topic":"ntf","args":[{"id":"118","type":"tic"}]}',
        b'{"topic":"tic","alive":true}',
        b'{"topic":"tic","id":5}',
        b'{"topic":"smd+1","31":"189.52"}',
        b"tic",
        b"ech+hb",
        b"\xff\x00",
        b"",
        b'{"topic":"ntf","x":"tic","y":' + b"[" * 100_000,
    ],
)
def test_other_frames_stay_as_they_are(frame: bytes) -> None:
    """Byte for byte."""
    assert frame == mask_tic(frame)
    assert frame == masker(TOKEN)(frame)


@pytest.mark.parametrize(
    "frame",
    [
        f'{{"session":"{TOKEN}"}}',
        f'{{"error":"Topic unknown {{\\"session\\":\\"{TOKEN}\\"}}","code":1}}',
        f'GET /tickle\n{{"session":"{TOKEN}"}}',
        f"{TOKEN}{TOKEN} {TOKEN}",
        f"\xff{TOKEN}",
    ],
)
def test_a_learnt_token_is_masked_in_any_frame(frame: str) -> None:
    """Received, sent or recorded from REST; also where the broker echoes it."""
    raw = frame.encode("latin-1")

    assert raw.replace(TOKEN.encode(), mask(TOKEN.encode())) == masker(OTHER, TOKEN)(raw)


@given(st.lists(TOKENS, min_size=1, max_size=3), st.lists(st.binary(max_size=20), max_size=4), st.data())
def test_no_token_comes_out(tokens: list[str], around: list[bytes], data: st.DataObject) -> None:
    """Wherever it stands, and the frame's length stays."""
    pieces = [data.draw(st.sampled_from(tokens)).encode() + piece for piece in around]
    frame = b"|".join(pieces)
    out = masker(*tokens)(frame)

    assert [] == [token for token in tokens if token.encode() in out]
    assert len(frame) == len(out)


@given(TOKENS)
def test_a_tics_id_is_masked_alike_whether_it_was_learnt_or_not(token: str) -> None:
    """It is masked once: else the first `tic` of a session would look like a change of session."""
    assert mask_tic(tic(token)) == masker()(tic(token)) == masker(token)(tic(token)) == masker(OTHER, token)(tic(token))


@pytest.mark.parametrize("text", ["", "a", "1234567"])
def test_short_texts_are_no_tokens(text: str) -> None:
    """They would hit by chance."""
    frame = b'{"topic":"smd+1234567","a":"1234567"}'

    assert frame == masker(text)(frame)


@given(st.lists(st.sampled_from([tic(TOKEN), tic(OTHER), TOKEN.encode(), b"smd", b'"tic"', b""]), max_size=6))
def test_many_frames_are_masked_as_each_alone(frames: list[bytes]) -> None:
    """The look at all of them together overlooks nothing."""
    known: Callable[[bytes], bytes] = masker(TOKEN)

    assert [known(frame) for frame in frames] == masker(TOKEN).mask_all(frames)
