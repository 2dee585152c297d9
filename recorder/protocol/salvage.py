"""Salvage: the whole records of a damaged segment, those behind the damage included."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from recorder.protocol.segment import MAGIC, Header, Scan, encode_end

_LIKELY: Final = re.compile(rb"[FE](?=.{5}\0\0\0)|H(?=\{)", re.DOTALL)
"""How payloads begin: frames and ends with a number far below 2**40, a header with JSON."""
_PREFIX: Final = 8  # length and checksum
_COUNT: Final = slice(9, 13)  # of frames, in the payload of a batch
_COLUMNS: Final = 17  # bytes that each of them takes beside its data
_MOST_HEADER: Final = 65_536


class Run(NamedTuple):
    """Frames `first` to `last`, which follow one another, in the bytes `begin` to `end` of the segment.

    `ts_first` and `ts_last` are the ts_recv of both, `ts_max` is the highest; `records` are their records.
    """

    first: int
    last: int
    begin: int
    end: int
    ts_first: int
    ts_last: int
    ts_max: int
    records: list[memoryview]


class Salvaged(NamedTuple):
    """What is whole in a segment: its header, runs of frames in order, and the last frame that its end record names."""

    header: Header | None
    runs: list[Run]
    last_seq: int | None


def salvage(segment: bytes | memoryview) -> Salvaged:
    """Find every whole record. Frames whose numbers are not above those before them are left out."""
    view = memoryview(segment)
    header, runs, last_seq = None, list[Run](), None
    at: int | None = len(MAGIC) if bytes(view[: len(MAGIC)]) == MAGIC else next_record(view, 0)
    while at is not None and at < len(view):
        record = _record_at(view, at)
        if record is None:
            at = next_record(view, at + 1)
            continue
        scan = Scan(record, whole=False)
        for batch in scan:
            stamps = int(batch.ts_recv[0]), int(batch.ts_recv[-1]), int(batch.ts_recv.max())
            run = Run(batch.first_seq, batch.last_seq, at, at + len(record), *stamps, [record])
            _join(runs, run)
        header = header or scan.header
        if scan.finished:
            last_seq = int.from_bytes(record[-8:], "little")
        at += len(record)
    return Salvaged(header, runs, last_seq)


def next_record(segment: memoryview, start: int) -> int | None:
    """Find the first whole record at or behind an offset; None if there is none."""
    for found in _LIKELY.finditer(segment, start + _PREFIX):
        at = found.start() - _PREFIX
        if _record_at(segment, at) is not None:
            return at
    return None


def _record_at(segment: memoryview, at: int) -> memoryview | None:
    """Give the whole record that begins here; None if none does."""
    length = int.from_bytes(segment[at : at + 4], "little")
    record = segment[at : at + _PREFIX + length]
    if not length or len(record) < _PREFIX + length or not _may_be(record[_PREFIX:]):
        return None
    scan = Scan(record, whole=False)
    for _ in scan:
        pass
    return record if scan.bad is None and scan.end == len(record) else None


def _may_be(payload: memoryview) -> bool:
    """Say whether a payload may be one, by its length: a checksum over all that follows is long to compute."""
    kind = bytes(payload[:1])
    if kind == b"E":
        return len(payload) == len(encode_end(0)) - _PREFIX
    if kind == b"H":
        return len(payload) <= _MOST_HEADER
    count = int.from_bytes(payload[_COUNT], "little")
    return kind == b"F" and count > 0 and _COUNT.stop + _COLUMNS * count <= len(payload)


def _join(runs: list[Run], run: Run) -> None:
    if not runs or run.first > runs[-1].last + 1:
        runs.append(run)
    elif run.first == runs[-1].last + 1:
        before = runs[-1]
        before.records.extend(run.records)
        highest = max(before.ts_max, run.ts_max)
        runs[-1] = before._replace(last=run.last, end=run.end, ts_last=run.ts_last, ts_max=highest)
