"""Masking of session tokens, so that none reaches a file."""

from __future__ import annotations

import hashlib
import re

from recorder.protocol.envelope import wire_topic

_TIC_ID = re.compile(rb'("id"\s*:\s*")([^"]+)(")')


def mask(token: bytes) -> bytes:
    """Give what stands for a token: the hex SHA-256 of it, cut or repeated to its length, so that a change shows."""
    digest = hashlib.sha256(token).hexdigest().encode()
    return (digest * (len(token) // len(digest) + 1))[: len(token)]


def mask_tic(data: bytes) -> bytes:
    """Mask the `id` of a `tic` frame, which is the session token (seen in captures); give other frames as they are."""
    if b'"tic"' not in data or wire_topic(data) != "tic":
        return data
    return _TIC_ID.sub(lambda found: found[1] + mask(found[2]) + found[3], data)


class Masker:
    """Masks the tokens learnt so far in frames that are about to be journaled."""

    def __init__(self) -> None:
        self._tokens: tuple[tuple[bytes, bytes], ...] = ()

    def learn(self, token: str) -> None:
        """Mask this token from now on.

        Texts shorter than 8 characters are no tokens and would hit by chance. A text that holds a known token, such as
        a cookie written as JSON, adds nothing.
        """
        raw = token.encode()
        if len(raw) >= 8 and not any(known in raw for known, _ in self._tokens):  # noqa: PLR2004  see the docstring
            tokens = (*self._tokens, (raw, mask(raw)))
            self._tokens = tuple(sorted(tokens, key=lambda pair: -len(pair[0])))  # one may begin another

    def __call__(self, data: bytes) -> bytes:
        """Give the frame with every token masked. `tic` comes first: its id may be a token that was already learnt."""
        data = mask_tic(data)
        for token, masked in self._tokens:
            if token in data:
                data = data.replace(token, masked)
        return data

    def mask_all(self, frames: list[bytes]) -> list[bytes]:
        """Give frames with every token masked: one look at all of them, and at each only where it finds something."""
        whole = b"".join(frames)
        if b'"tic"' not in whole and not any(token in whole for token, _ in self._tokens):
            return frames
        return [self(frame) for frame in frames]
