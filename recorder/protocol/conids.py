"""Conids: which contract a row is about, where the row itself does not say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recorder.protocol.cells import Cells, to_text

_LEADING_CONID: Final = re.compile(r"[0-9]+")


def topic_part(wire: str, number: int) -> str | None:
    """Give a part of a wire topic, None if it has fewer: 265598 is part 2 of `sbd+DU1000001+265598`."""
    parts = wire.split("+")
    return parts[number] if number < len(parts) else None


def fill_from_topic(conid: npt.NDArray[np.int64], topics: Cells | None, part: int) -> None:
    """Give rows without a contract the one that a part of their frame's topic begins with."""
    for row, wire in topics.pairs() if topics is not None else ():
        text = topic_part(wire, part) if conid[row] == 0 and type(wire) is str else None
        if text is not None and (number := _LEADING_CONID.match(text)):
            conid[row] = int(number[0]) if len(number[0]) < 19 else 0  # noqa: PLR2004  what 64 bits can hold


def join(conid: npt.NDArray[np.int64], keys: Sequence[Cells | None], orders: dict[str, int]) -> None:
    """Give rows without a contract that of the earlier row with the same keys, and remember those that have one."""
    columns = [dict(cells.pairs()) if cells is not None else {} for cells in keys]
    for row in range(len(conid)):
        parts = [column.get(row) for column in columns]
        if None in parts:
            continue
        name = " ".join(map(to_text, parts))
        if conid[row]:
            orders[name] = int(conid[row])
        else:
            conid[row] = orders.get(name, 0)
