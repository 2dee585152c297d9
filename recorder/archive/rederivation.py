"""Rederivation: the rows of a commit derived again from its frames, and held against what the commit says of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.commit import Commit
from recorder.archive.covered import covered_partitions, partition_key
from recorder.archive.digest import TableDigest
from recorder.archive.pieces import Piece, frame_batches
from recorder.archive.reading import Reader
from recorder.protocol.decode import Decoder
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.tables import complete, topic_schema
from recorder.protocol.topics import Topic


def rederive(reader: Reader, piece: Piece) -> Iterator[str]:
    """Say what of a committed piece's rows is not what its frames decode to."""
    commit = piece.commit
    assert commit is not None, "what is in the journal has no rows yet"
    decoder = Decoder(reader.topics, reader.state_before(piece))
    derived = {
        topic.name: _Derived(topic, piece.session)
        for topic in reader.topics
        if commit.topics.get(topic.name) == topic.fingerprint
    }
    undecoded: dict[str, int] = {}
    for batch in frame_batches(piece):
        decoded = decoder.decode(batch)
        for name, missed in decoded.undecoded.items():
            undecoded[name] = undecoded.get(name, 0) + missed
        for name, rows in decoded.rows.items():
            if name in derived:
                derived[name].add(rows.table, rows.conid)
    for topic, found in derived.items():
        digests = found.digests()
        for conid in sorted({*digests, *covered_partitions(commit, topic)}):
            info = commit.partitions.get(partition_key(topic, commit.date, conid))
            if info is None or conid not in digests or info.digest != digests[conid].hexdigest():
                what = f"{topic} of contract {conid} is not what its frames decode to"
                yield f"{what}; `recorder rebuild --topic {topic}` derives it"
    yield from _differences(decoder.state, commit)
    if undecoded != {name: missed for name, missed in commit.undecoded.items() if missed}:
        yield "other frames than its commit says give no rows"


def _differences(state: DecodingState, commit: Commit) -> Iterator[str]:
    if state.orders != commit.orders:
        yield "the contracts of orders are not those that its frames tell; `recorder rebuild --topic orders` mends it"
    if state.open_gaps != commit.open_gaps:
        yield "the open gaps are not those that its frames tell; `recorder rebuild --topic gaps` mends it"


class _Derived:
    """A topic's derived rows, digested by contract; some of them wait, so that slices are large."""

    _MOST = 131_072

    def __init__(self, topic: Topic, session: str) -> None:
        self._schema = topic_schema(topic)
        self._session = session
        self._waiting: list[tuple[pa.Table, npt.NDArray[np.int64]]] = []
        self._count = 0
        self._digests: dict[int, TableDigest] = {}

    def add(self, table: pa.Table, conid: npt.NDArray[np.int64]) -> None:
        self._waiting.append((table, conid))
        self._count += len(conid)
        if self._count >= self._MOST:
            self._digest()

    def digests(self) -> dict[int, TableDigest]:
        """Give the digest of each contract's rows."""
        self._digest()
        return self._digests

    def _digest(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables([table for table, _ in self._waiting], promote_options="default")
        conids = np.concatenate([conid for _, conid in self._waiting])
        self._waiting, self._count = [], 0
        order = np.argsort(conids, kind="stable")
        table, conids = complete(table.take(order), self._schema, session=self._session), conids[order]
        starts = np.flatnonzero(np.append(True, conids[1:] != conids[:-1])).tolist()
        for start, end in zip(starts, [*starts[1:], len(conids)], strict=True):
            self._digests.setdefault(int(conids[start]), TableDigest()).update(table.slice(start, end - start))
