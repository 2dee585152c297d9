"""The decoding state: what decoding a session's next frames needs to know of the earlier ones."""

from __future__ import annotations

import msgspec

from recorder.protocol.ledger import Gap

Orders = dict[str, int]


class DecodingState(msgspec.Struct, frozen=True):
    """Which contract an order belongs to, since an order's delta does not say, and the gaps that are open.

    It begins empty with a session, travels in each commit, and JSON can hold it.
    """

    orders: Orders = {}
    open_gaps: tuple[Gap, ...] = ()
