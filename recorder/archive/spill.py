"""A spill: decoded rows sorted by contract, on disk as soon as there are more of them than memory should hold.

1. Rows wait in memory until there are `MOST`. Then they are sorted by contract and written to a run, a temporary file
   with one batch a contract; the order of the rows of a contract stays.
2. They are given contract by contract, out of all runs. So neither memory nor open files grow with the contracts.
3. Runs are no part of an archive: nobody syncs them, and whoever made the folder removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MOST: Final = 1_000_000


class _Sorted(NamedTuple):
    """Rows in the order of contracts, and where each contract's begin."""

    table: pa.Table
    begins: dict[int, int]

    def slices(self) -> Iterator[tuple[int, pa.Table]]:
        ends = [*list(self.begins.values())[1:], self.table.num_rows]
        for (conid, begin), end in zip(self.begins.items(), ends, strict=True):
            yield conid, self.table.slice(begin, end - begin)


class _Run(NamedTuple):
    """A file of rows, and which batch holds a contract's."""

    file: pa.ipc.RecordBatchFileReader
    places: dict[int, int]


class Spill:
    """Takes decoded rows with the contract of each, and gives them contract by contract; runs are made in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[tuple[pa.Table, npt.NDArray[np.int64]]] = []
        self._count = 0
        self._runs: list[_Run] = []

    def add(self, table: pa.Table, conids: npt.NDArray[np.int64]) -> None:
        """Take the next rows."""
        self._waiting.append((table, conids))
        self._count += len(conids)
        if self._count >= MOST:
            self._write()

    def rows(self) -> Iterator[tuple[int, list[pa.Table]]]:
        """Give each contract's rows in the order in which they came, in tables of some of their columns."""
        rest = dict(self._sorted().slices()) if self._waiting else {}
        for conid in sorted({*rest, *(conid for run in self._runs for conid in run.places)}):
            found = [
                pa.Table.from_batches([run.file.get_batch(run.places[conid])])
                for run in self._runs
                if conid in run.places
            ]
            yield conid, [*found, *([rest[conid]] if conid in rest else [])]

    def _sorted(self) -> _Sorted:
        table = pa.concat_tables([table for table, _ in self._waiting], promote_options="default")
        conids = np.concatenate([conids for _, conids in self._waiting])
        self._waiting, self._count = [], 0
        order = np.argsort(conids, kind="stable")
        table, conids = table.combine_chunks().take(order), conids[order]
        begins = np.flatnonzero(np.append(True, conids[1:] != conids[:-1]))
        return _Sorted(table, dict(zip(conids[begins].tolist(), begins.tolist(), strict=True)))

    def _write(self) -> None:
        found = self._sorted()
        path = self._folder / f"run-{len(self._runs)}.arrow"
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(str(path), found.table.schema, options=options) as sink:
            for _, rows in found.slices():
                sink.write_table(rows.combine_chunks())  # one chunk is one batch
        places = {conid: place for place, conid in enumerate(found.begins)}
        self._runs.append(_Run(pa.ipc.open_file(pa.memory_map(str(path))), places))
