"""The content digest: one line that says what a stream of frames holds, whoever computes it."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence


class ContentDigest:
    """A running digest of one topic's frames, in order, as a gateway sent them (the id in a `tic` masked).

    SHA-256 over: the topic's name, a newline, the count as decimal digits, a newline, SHA-256 of all lengths (32-bit
    little-endian each), SHA-256 of all payloads. Sessions, sequence numbers and times stay out, so a sender, a
    capture, an archive and a capture of its replay agree.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.count = 0
        self._lengths = hashlib.sha256()
        self._payloads = hashlib.sha256()

    def add(self, payload: bytes) -> None:
        """Take the next frame in."""
        self.count += 1
        self._lengths.update(len(payload).to_bytes(4, "little"))
        self._payloads.update(payload)

    def extend(self, payloads: Sequence[bytes]) -> None:
        """Take the next frames in."""
        self.count += len(payloads)
        self._lengths.update(array("I", map(len, payloads)).tobytes())
        self._payloads.update(b"".join(payloads))

    def extend_joined(self, count: int, lengths: bytes, payloads: bytes | memoryview) -> None:
        """Take the next frames in, given as 32-bit little-endian lengths and all payloads behind one another."""
        self.count += count
        self._lengths.update(lengths)
        self._payloads.update(payloads)

    def copy(self) -> ContentDigest:
        """Copy the digest with what was taken in so far."""
        twin = ContentDigest(self.topic)
        twin.count, twin._lengths, twin._payloads = self.count, self._lengths.copy(), self._payloads.copy()
        return twin

    def hexdigest(self) -> str:
        """Give the digest of what was taken in so far, 64 hex digits."""
        whole = hashlib.sha256(f"{self.topic}\n{self.count}\n".encode())
        whole.update(self._lengths.digest())
        whole.update(self._payloads.digest())
        return whole.hexdigest()
