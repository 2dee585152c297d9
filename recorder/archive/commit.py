"""Commits: what the footer of a frames part says about the segment that became it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from recorder.archive.layout import PartName
from recorder.errors import Damaged
from recorder.protocol.decoding_state import DecodingState, Orders
from recorder.protocol.ledger import Gap

KEY: Final = b"recorder"
CHECKSUM: Final = b"recorder.sha256"
"""The footer's own checksum: Parquet has none for its metadata."""


class PartitionInfo(msgspec.Struct, frozen=True):
    """The commit's rows in one partition: how many, and their `TableDigest`."""

    rows: int
    digest: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One archived segment: frames `first` to `last` of a session, on one date.

    `partitions` are the typed rows, by partition (`market_data/date=2026-11-22/conid=265598`); which part holds them is
    found by name, and compaction changes it. `topics` are the schema fingerprints of the topics
    whose rows are in parts; rows of other topics have to be decoded from the frames. `digest` is the frames'
    `TableDigest`; `ts_min` and `ts_max` bound their ts_recv. `kinds`, `claimed`, `unclaimed` and `undecoded` count
    frames: by kind; received, by topic; received that no topic claims; claimed that have no rows where some were
    expected. `orders`, `open_gaps` and `latest` are the state after the segment: the decoder's, and the highest ts_recv
    of the recorder so far. `late` lists the runs of frames whose ts_recv lies before that maximum: first and last
    sequence number and the maximum, from which the order of replay follows. `torn` says what followed the frames in the
    segment of a session that died.
    """

    recorder: str
    session: str
    first: int
    last: int
    date: str
    digest: str
    kinds: dict[str, int]
    claimed: dict[str, int]
    unclaimed: int
    undecoded: dict[str, int]
    partitions: dict[str, PartitionInfo]
    topics: dict[str, str]
    orders: Orders
    latest: int
    ts_min: int
    ts_max: int
    late: list[tuple[int, int, int]] = []
    torn: str | None = None
    open_gaps: tuple[Gap, ...] = ()

    @property
    def state(self) -> DecodingState:
        """The decoder's state after the segment."""
        return DecodingState(self.orders, self.open_gaps)

    @property
    def rows(self) -> dict[str, int]:
        """Rows by topic."""
        rows: dict[str, int] = {}
        for name, part in self.partitions.items():
            topic = name.partition("/")[0]
            rows[topic] = rows.get(topic, 0) + part.rows
        return rows


def encode_commit(commit: Commit) -> dict[str, str]:
    """Write a commit as a Parquet footer's metadata."""
    text = msgspec.json.encode(commit)
    return {KEY.decode(): text.decode(), CHECKSUM.decode(): hashlib.sha256(text).hexdigest()}


def read_commit(path: Path) -> Commit:
    """Read a frames part's commit; `Damaged` if the part has none that can be read, or lies where another belongs."""
    with damage(path):
        metadata = pq.read_metadata(path)
        text = metadata.metadata[KEY]
        if hashlib.sha256(text).hexdigest().encode() != metadata.metadata[CHECKSUM]:
            raise _misfit(path, "the footer's checksum does not match")
        commit = msgspec.json.decode(text, type=Commit)
    if metadata.num_rows != commit.last - commit.first + 1:
        raise _misfit(path, f"the part holds {metadata.num_rows:,} rows for frames {commit.first} to {commit.last}")
    name = f"date={commit.date}/{PartName(commit.session, commit.first, commit.last)}"
    if name != f"{path.parent.name}/{path.name}":
        raise _misfit(path, f"the part is that of frames/{name}")
    return commit


def _misfit(path: Path, what: str) -> Damaged:
    return Damaged(what, path=path, offset=0, hint="run `recorder verify`, and restore the file from a copy")


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn whatever Parquet's reader raises on a damaged file into `Damaged`.

    A file that is gone stays a `FileNotFoundError`: it may have become another one.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as exc:  # a bit may hit any of its parsers
        if isinstance(exc, FileNotFoundError):
            raise
        what = " ".join(str(exc).split())
        raise Damaged(f"the part cannot be read ({what})", path=path, offset=0, hint="run `recorder verify`") from exc
