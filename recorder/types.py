"""The values that every room passes on: frames."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

Kind = Literal["in", "out", "rest", "mark"]
Op = Literal["text", "binary"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
OPS: Final[tuple[Op, ...]] = get_args(Op)


class Frame(NamedTuple):
    """One thing that a capture saw or did, as it was.

    `kind` is `in` (received), `out` (sent), `rest` (a recorded REST answer: request line, newline, body) or `mark`
    (a note of the recorder's own, JSON). `seq` counts all kinds of a session from 0 without holes; `conn` counts the
    connections of the session from 1 (0: before the first). `ts_recv` is our clock at receipt, in microseconds since
    the Unix epoch, UTC.
    """

    recorder: str
    session: str
    seq: int
    ts_recv: int
    conn: int
    kind: Kind
    op: Op
    data: bytes
