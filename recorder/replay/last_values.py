"""Which of many frames tell the last value of a key of a stream: a few of thousands, found without reading JSON.

To fold those in their order gives what folding all would give. Keys are found as `"key":` among the bytes, all at once;
where that cannot be told for sure (escapes, objects within objects, keys longer than 16 bytes, white space) the answer
is that it is not known.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_WORD: Final = 8
_PAD: Final = 2 * _WORD
_QUOTE, _COLON, _OPEN = (np.uint8(ord(char)) for char in '":{')
_BLANKS: Final = tuple(bytes((char,)) for char in b" \t\n\r")
_QUOTES: Final = np.uint64(0x2222222222222222)
_LOW: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_SCRAMBLE: Final = np.uint64(0x9E3779B97F4A7C15)
_BUCKET_BITS: Final = 16


class Keys(NamedTuple):
    """The keys of some frames: what they are, and of each that is met, in order, its number and its frame's."""

    names: frozenset[str]
    numbers: Places
    frames: Places


def keys_among(offsets: Places, blob: memoryview) -> Keys | None:
    """Find the keys of frames that are JSON objects; None where that is not sure.

    Frame i is `blob[offsets[i]:offsets[i + 1]]`.
    """
    start, end = int(offsets[0]), int(offsets[-1])
    padded = b"".join((bytes(_PAD), blob[start:end]))
    data = np.frombuffer(padded, np.uint8)
    starts = offsets[:-1] - start + _PAD
    if b"\\" in padded or np.count_nonzero(data == _OPEN) != len(starts) or not (data[starts] == _OPEN).all():
        return None
    quotes = data[:-1] == _QUOTE
    if any((quotes & (data[1:] == ord(blank))).any() for blank in _BLANKS if blank in padded):
        return None  # a key may have white space behind it
    closings = np.flatnonzero(quotes & (data[1:] == _COLON))
    numbers, firsts = _numbered(data, closings)
    if numbers is None:
        return None
    names = frozenset(padded[max(_PAD, at - 2 * _WORD) : at].rpartition(b'"')[2].decode() for at in firsts.tolist())
    frames = np.repeat(np.arange(len(starts)), np.diff(np.searchsorted(closings, starts), append=len(closings)))
    return Keys(names, numbers, frames)


def telling(numbers: npt.NDArray[np.int32], keys: Keys) -> Places:
    """Give the frames that have the last value of some key of their stream, in order.

    `numbers` are those of the frames' streams.
    """
    width = int(keys.numbers.max(initial=0)) + 1
    last = np.full((int(numbers.max(initial=0)) + 1) * width, -1, np.int64)
    last[numbers[keys.frames] * np.int64(width) + keys.numbers] = keys.frames  # of several, the last is kept
    tells = np.zeros(len(numbers), np.bool_)
    tells[last[last >= 0]] = True
    return np.flatnonzero(tells)


def _numbered(data: npt.NDArray[np.uint8], closings: Places) -> tuple[Places | None, Places]:
    """Give each key, which ends before a closing quote, a number, None if that is not sure; and the first of each."""
    words: Words = np.ndarray((len(data) - _WORD + 1,), np.uint64, buffer=data, strides=(1,))
    low, whole = _behind_quote(words[closings - _WORD])
    high = np.zeros_like(low)
    longer = np.flatnonzero(~whole)
    high[longer], ended = _behind_quote(words[closings[longer] - 2 * _WORD])
    if not ended.all():
        return None, closings[:0]
    # frames say each key in hundreds: a table of keys by scrambled value, and every other compared with what is there
    buckets = ((low ^ (high * _SCRAMBLE)) * _SCRAMBLE) >> np.uint64(64 - _BUCKET_BITS)
    table = np.full(1 << _BUCKET_BITS, -1, np.int32)
    table[buckets] = np.arange(len(buckets), dtype=np.int32)
    known = np.flatnonzero(table >= 0)
    chosen = table[known]
    table[known] = np.arange(len(known), dtype=np.int32)
    numbers = table[buckets]
    if not (np.array_equal(low[chosen][numbers], low) and np.array_equal(high[chosen][numbers], high)):
        return None, closings[:0]
    return numbers.astype(np.int64), closings[chosen]


def _behind_quote(words: Words) -> tuple[Words, npt.NDArray[np.bool_]]:
    """Leave of eight bytes those behind the last quote among them; say whether there is one."""
    differing = words ^ _QUOTES
    marks = ~(((differing & _LOW) + _LOW) | differing | _LOW)  # the top bit of each byte that is a quote
    for shift in (8, 16, 32):
        marks |= marks >> np.uint64(shift)  # and of every byte before it
    there = marks != 0
    kept = words & ~((marks >> np.uint64(7)) * np.uint64(0xFF))
    return kept, there
