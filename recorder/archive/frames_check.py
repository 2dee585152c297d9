"""The check of a frames part: its rows, counted and digested again, against what its commit says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.commit import Commit
from recorder.archive.digest import TableDigest
from recorder.archive.frames_build import find_late
from recorder.archive.layout import Layout
from recorder.archive.ledger_check import Mark, gap_marks
from recorder.archive.statistics import checked_tables
from recorder.protocol.tables import FRAMES


class FramesCheck:
    """Reads a frames part once. Then `problems` says what is wrong with it, and `claims` what each topic claims.

    `in_order` tells whether its rows are the frames that its name says, one by one. `marks` are those about gaps.
    """

    def __init__(self, layout: Layout, path: Path, commit: Commit) -> None:
        self.problems: list[str] = []
        self.in_order = True
        self.marks: list[Mark] = []
        self._layout = layout
        self._path = path
        self._commit = commit
        self._digest = TableDigest()
        self._claims: dict[str, list[tuple[int, npt.NDArray[np.bool_]]]] = {}
        self._kinds: dict[str, int] = {}
        self._claimed: dict[str, int] = {}
        self._unclaimed = 0
        begins_late = bool(commit.late) and commit.late[0][0] == commit.first
        self._latest = commit.late[0][2] if begins_late else -(2**63)
        self._late: list[tuple[int, int, int]] = []
        self._bounds = 2**63 - 1, -(2**63)

    def read(self) -> None:
        """Read the part and judge it; `Damaged` if it cannot be read."""
        following = self._commit.first
        for table, laid_out in checked_tables(self._path, FRAMES):
            seq = table["seq"].to_numpy()
            if not np.array_equal(seq, np.arange(following, following + len(seq))):
                self.in_order = False
                self.problems.append(f"its frames do not follow {following} one by one")
                return
            laid_out.pop("topic", None)
            self._digest.take(laid_out, len(seq))
            self._stamps(following, table["ts_recv"].cast(pa.int64()).to_numpy())
            following += len(seq)
            self._whose(table)
            self._count(table, seq)
            self.marks += gap_marks(table)
        self._judge(following - 1)

    def claims(self, topic: str) -> npt.NDArray[np.bool_]:
        """Give a flag for each frame of the commit: whether a topic claims it."""
        claimed = np.zeros(self._commit.last - self._commit.first + 1, bool)
        for first_seq, mine in self._claims.get(topic, []):
            begin = first_seq - self._commit.first
            claimed[begin : begin + len(mine)] = mine[: max(0, len(claimed) - begin)]
        return claimed

    def _stamps(self, first_seq: int, stamps: npt.NDArray[np.int64]) -> None:
        if len(stamps):
            lowest, highest = self._bounds
            self._bounds = min(lowest, int(stamps.min())), max(highest, int(stamps.max()))
            self._latest = find_late(first_seq, stamps, self._latest, self._late)

    def _whose(self, table: pa.Table) -> None:
        for name in ("recorder", "session"):
            said, found = getattr(self._commit, name), table[name].unique().to_pylist()
            if found != [said]:
                self.problems.append(f"its frames are of {name} {found}, where its commit says {said}")

    def _count(self, table: pa.Table, seq: npt.NDArray[np.int64]) -> None:
        """Count frames by kind, and the received ones by topic."""
        kinds, kind_codes = _encoded(table["kind"])
        topics, topic_codes = _encoded(table["topic"])
        for code, kind in enumerate(kinds):
            self._kinds[kind] = self._kinds.get(kind, 0) + int((kind_codes == code).sum())
        received = kind_codes == (kinds.index("in") if "in" in kinds else -1)
        self._unclaimed += int((received & (topic_codes < 0)).sum())
        for code, name in enumerate(topics):
            mine = topic_codes == code
            self._claims.setdefault(name, []).append((int(seq[0]), mine))
            self._claimed[name] = self._claimed.get(name, 0) + int((mine & received).sum())

    def _judge(self, last: int) -> None:
        commit, day = self._commit, self._layout.boundary.day_of(self._commit.ts_min)
        holds = {
            "its frames do not end where its name says": last == commit.last,
            "its frames are not those of its commit (digest)": self._digest.hexdigest() == commit.digest,
            "its counts of frames are not those of its commit": _counts(self._kinds) == _counts(commit.kinds)
            and _counts(self._claimed) == _counts(commit.claimed)
            and self._unclaimed == commit.unclaimed,
            f"its frames are of another date than {commit.date}": day.date.isoformat() == commit.date
            and day.start <= commit.ts_min <= commit.ts_max < day.end,
            "its stamps are not those of its commit": self._bounds == (commit.ts_min, commit.ts_max),
            "its late frames are not those of its commit": (self._late, self._latest) == (commit.late, commit.latest),
        }
        self.problems += [what for what, good in holds.items() if not good]


def _encoded(column: pa.ChunkedArray) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Give a column's values, and the number of each row's value, -1 for null."""
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    codes: npt.NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy()
    return encoded.dictionary.to_pylist(), codes


def _counts(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
