"""Shares: the digests of slices of a table that follow one another, each as `table_digest` would give it.

A part of a few hundred rows costs a running digest more for its objects than for its bytes. Here many are laid out as
one table, once, and each slice is hashed in one call a column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.digest import Content, TableDigest, column_digest, lay_out

_NOTHING: Final = hashlib.sha256().digest()


def share_digests(table: pa.Table, edges: Sequence[int], whole: TableDigest) -> list[str]:
    """Give the digest of the rows between each two edges, 64 hex digits, and take all rows into `whole`.

    The edges ascend from 0 to the number of rows; each column of the table is one chunk.
    """
    lines = [[f"rows {end - begin}"] for begin, end in pairwise(edges)]
    for name in sorted(table.column_names):
        column = table.column(name)
        if column.null_count == table.num_rows:
            continue
        (array,) = column.chunks
        content = lay_out(array)
        whole.column(name).update(content)
        digests = _of_map(array, edges) if content.entries else _of_values(array, content, edges)
        for own, digest in zip(lines, digests, strict=True):
            if digest is not None:
                own.append(f"{name} {digest}")
    whole.rows += table.num_rows
    return [hashlib.sha256("\n".join(own).encode()).hexdigest() for own in lines]


def _of_map(array: pa.Array, edges: Sequence[int]) -> Iterator[str | None]:
    for begin, end in pairwise(edges):
        own = array.slice(begin, end - begin)
        yield None if own.null_count == len(own) else column_digest(own)


def _of_values(array: pa.Array, content: Content, edges: Sequence[int]) -> Iterator[str | None]:
    """Give a column's digest of each slice, None where it has no value."""
    validity, lengths, values = content.validity, content.lengths, content.values
    assert values is not None, "only maps have entries instead"
    counts = edges if array.null_count == 0 else _running(np.frombuffer(validity, np.uint8), edges)
    places = _places(array.type, lengths, counts)
    values = memoryview(values).cast("B")
    lengths = None if lengths is None else lengths.cast("B")
    for number, (begin, end) in enumerate(pairwise(edges)):
        first, last = counts[number], counts[number + 1]
        if first == last:
            yield None
            continue
        whole = last - first == end - begin
        column = hashlib.sha256(_ones(end - begin) if whole else hashlib.sha256(validity[begin:end]).digest())
        column.update(_NOTHING if lengths is None else hashlib.sha256(lengths[4 * first : 4 * last]).digest())
        column.update(hashlib.sha256(values[places[number] : places[number + 1]]).digest())
        yield column.hexdigest()


def _places(kind: pa.DataType, lengths: memoryview | None, counts: Sequence[int]) -> Sequence[int]:
    """Give where in a column's laid-out values the first ones of each slice begin."""
    if lengths is not None:
        return _running(np.frombuffer(lengths, "<u4"), counts)
    width = 1 if pa.types.is_boolean(kind) else kind.bit_width // 8
    return [count * width for count in counts]


def _running(numbers: npt.NDArray[np.unsignedinteger], edges: Sequence[int]) -> list[int]:
    """Give the sum of all numbers before each edge."""
    sums = np.concatenate([[0], np.cumsum(numbers, dtype=np.int64)])
    found: list[int] = sums[np.asarray(edges)].tolist()
    return found


@lru_cache(maxsize=4096)
def _ones(rows: int) -> bytes:
    """Give the digest of the validity of rows that all have a value."""
    return hashlib.sha256(b"\1" * rows).digest()
