"""Flat frames: frames that are one object of texts and numbers, cut into cells all at once instead of one by one.

Almost every frame of a busy stream is flat. Where its texts begin and end is where its quotes stand, so that a batch of
them is read by comparing bytes of all frames at once. What is read is what a JSON parser reads, or nothing:

1. A frame is flat if it is `{`, then pairs of a quoted key and a quoted text or a bare number, `true`, `false` or
   `null`, parted by `:` and `,` alone, then `}`.
2. It holds printable ASCII without backslashes only, so that a text is its bytes and a quote is always a quote.
3. No key stands in it twice, and it says its topic.
4. Frames that are not flat are left to the parser. Nothing about a frame depends on the others of its batch.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.cells import Values
from recorder.protocol.envelope import read_json
from recorder.protocol.segment import IN_BINARY, IN_TEXT, FrameBatch

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

_QUOTE, _COLON, _COMMA, _OPEN, _CLOSE, _BACKSLASH = (np.uint8(ord(sign)) for sign in '":,{}\\')
_SPACE, _PRINTABLE = np.uint8(ord(" ")), np.uint8(ord("~") - ord(" "))
_MOST_KEYS: Final = 1_000  # no stream has so many, and each has its price
_SCALARS: Final = (int, float, bool, type(None))
_MOST_BYTES: Final = 2**31 - 1  # what the offsets of Arrow's texts can say


class FlatFrames(NamedTuple):
    """The flat frames of a batch: their numbers in it, their wire topics, and the values of each key."""

    frames: Places
    topics: pa.StringArray
    pairs: dict[str, FlatCells]

    def only(self, chosen: Mask) -> FlatFrames:
        """Give some of the frames."""
        if chosen.all():
            return self
        numbers = np.cumsum(chosen) - 1
        some = ((key, cells.only(chosen, numbers)) for key, cells in self.pairs.items())
        pairs = {key: cells for key, cells in some if len(cells.rows)}
        return FlatFrames(self.frames[chosen], self.topics.filter(pa.array(chosen)), pairs)


class FlatCells(NamedTuple):
    """The values of one key: `rows` says of which of the flat frames each is, ascending."""

    rows: Places
    values: Values

    def only(self, chosen: Mask, numbers: Places) -> FlatCells:
        """Give the values of some frames, which have new numbers."""
        kept = chosen[self.rows]
        if isinstance(self.values, list):
            values: Values = [value for value, keep in zip(self.values, kept.tolist(), strict=True) if keep]
        else:
            values = self.values.filter(pa.array(kept))
        return FlatCells(numbers[self.rows[kept]], values)


class _Pairs(NamedTuple):
    """Keys and values by where their bytes begin and end, and of which frame they are; `quoted` values are texts."""

    frame: Places
    key: tuple[Places, Places]
    value: tuple[Places, Places]
    quoted: Mask


def read_flat(batch: FrameBatch) -> FlatFrames | None:
    """Read the flat frames of a batch; None if there is none."""
    if len(batch.blob) > _MOST_BYTES:
        return None
    text = np.frombuffer(batch.blob, np.uint8)
    quotes = np.flatnonzero(text == _QUOTE)
    edges = np.searchsorted(quotes, batch.offsets)
    usable = _may_be_flat(batch, text, np.diff(edges))
    while usable.any():
        frames = np.flatnonzero(usable)
        own = quotes if len(frames) == len(batch) else quotes[np.repeat(usable, np.diff(edges))]
        pairs, odd = _cut(text, own, np.diff(edges)[frames] // 2, batch.offsets[frames + 1])
        if not odd.any():
            flat = _gather(batch.blob, frames, pairs, odd)
            if flat is not None:
                return flat
        usable[frames[odd]] = False
    return None


def _may_be_flat(batch: FrameBatch, text: npt.NDArray[np.uint8], quotes: Places) -> Mask:
    """Choose received frames that begin and end as objects do, of plain characters and with quotes in pairs."""
    odd = np.flatnonzero((text - _SPACE > _PRINTABLE) | (text == _BACKSLASH))
    usable: Mask = np.diff(np.searchsorted(odd, batch.offsets)) == 0
    usable &= (batch.code == IN_TEXT) | (batch.code == IN_BINARY)
    usable &= (quotes > 0) & (quotes % 2 == 0)
    frames = np.flatnonzero(usable)
    begin, end = batch.offsets[frames], batch.offsets[frames + 1]
    usable[frames] = (text[begin] == _OPEN) & (text[begin + 1] == _QUOTE) & (text[end - 1] == _CLOSE)
    return usable


def _cut(text: npt.NDArray[np.uint8], quotes: Places, counts: Places, ends: Places) -> tuple[_Pairs, Mask]:
    """Find keys and values between quotes, `counts` pairs of them a frame; say which frames are not written so."""
    opening, closing = quotes[0::2].copy(), quotes[1::2].copy()
    frame = np.repeat(np.arange(len(counts)), counts)
    last = np.cumsum(counts) - 1
    following = np.append(opening[1:], 0)  # where what stands between this quoted text and the next ends
    following[last] = ends
    end_sign = np.full(len(opening), _COMMA)
    end_sign[last] = _CLOSE

    is_key = text[closing + 1] == _COLON
    one_sign = following - closing == 2  # noqa: PLR2004  as `":"` or `","`
    before_text = is_key & one_sign
    expect_key = np.append(True, ~before_text[:-1])  # true of a frame's first: the one before it ends with }
    ended = text[following - 1] == end_sign
    good = (is_key == expect_key) & (before_text | (ended & (is_key ^ one_sign)))
    odd = np.zeros(len(counts), np.bool_)
    odd[frame[~good]] = True

    keys = np.flatnonzero(is_key)
    quoted = before_text[keys]
    texts = np.minimum(keys + 1, len(opening) - 1)
    begin = np.where(quoted, opening[texts] + 1, closing[keys] + 2)
    end = np.where(quoted, closing[texts], following[keys] - 1)
    return _Pairs(frame[keys], (opening[keys] + 1, closing[keys]), (begin, end), quoted), odd


def _gather(blob: memoryview, frames: Places, pairs: _Pairs, odd: Mask) -> FlatFrames | None:
    """Bring the values of each key together; None if frames turn out to be odd, which are then marked."""
    buffer = pa.py_buffer(blob)
    keys = _slices(buffer, *pairs.key, np.arange(len(pairs.frame))).dictionary_encode()
    if len(keys.dictionary) > _MOST_KEYS:
        odd[:] = True
        return None
    codes = keys.indices.to_numpy()
    order = np.argsort(codes.astype(np.uint16), kind="stable")  # of 16 bits: sorted by radix, in half the time
    codes, rows, quoted = codes[order], pairs.frame[order], pairs.quoted[order]
    odd[rows[1:][(codes[1:] == codes[:-1]) & (rows[1:] == rows[:-1])]] = True
    texts = _slices(buffer, *pairs.value, order)
    edges = np.searchsorted(codes, np.arange(len(keys.dictionary) + 1)).tolist()
    cells: dict[str, FlatCells] = {}
    stated = np.zeros(len(odd), np.bool_)
    for code, key in enumerate(keys.dictionary.to_pylist()):
        begin, end = edges[code], edges[code + 1]
        own = rows[begin:end]
        values, unread = _values(texts.slice(begin, end - begin), quoted[begin:end])
        odd[own[unread]] = True
        cells[key] = FlatCells(own, values)
        if key == "topic":
            stated[own[quoted[begin:end]]] = True
    odd |= ~stated
    return None if odd.any() else FlatFrames(frames, cells["topic"].values, cells)


def _slices(buffer: pa.Buffer, begin: Places, end: Places, order: Places) -> pa.StringArray:
    """Give slices of ASCII text, in some order; as they stand, none begins before the one before it has ended."""
    edges = np.empty(2 * len(begin), np.int32)
    edges[0::2], edges[1::2] = begin, end
    between = pa.StringArray.from_buffers(len(edges) - 1, pa.py_buffer(edges), buffer)
    return between.take(pa.array(2 * order))


def _values(texts: pa.StringArray, quoted: Mask) -> tuple[Values, list[int]]:
    """Give a key's values, and which of them are no JSON."""
    if quoted.all():
        return texts, []
    if not quoted.any():
        whole = _whole_numbers(texts)
        if whole is not None:
            return whole, []
    encoded = texts.dictionary_encode()
    scalars = [_read_scalar(text) for text in encoded.dictionary.to_pylist()]
    if not quoted.any() and {type(scalar) for scalar in scalars} == {float}:
        return pa.array(scalars, pa.float64()).take(encoded.indices), []
    values: list[Any] = [
        text if is_text else scalars[index]
        for text, index, is_text in zip(texts.to_pylist(), encoded.indices.to_pylist(), quoted.tolist(), strict=True)
    ]
    return values, [number for number, value in enumerate(values) if value is _NO_SCALAR]


class _NoScalar:
    """Stands for bare text that is no JSON number, `true`, `false` or `null`."""


_NO_SCALAR: Final = _NoScalar()


def _read_scalar(text: str) -> Any:
    value = read_json(text.encode())
    return value if type(value) in _SCALARS else _NO_SCALAR


def _whole_numbers(texts: pa.StringArray) -> pa.Int64Array | None:
    """Read whole numbers of 64 bits, each as JSON writes it; None if one is something else."""
    try:
        whole = texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    return whole if pc.all(pc.equal(whole.cast(pa.string()), texts)).as_py() else None
