"""The tally of all clients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.replay.batch import Listed
from recorder.replay.tally import Tally, Total

BATCHES = st.lists(st.tuples(st.integers(0, 2), st.lists(st.sampled_from(["smd+1", "sor", "tic"]), max_size=3)))


@given(BATCHES)
def test_the_total_is_what_all_clients_were_sent_in_the_order_of_sending(sent: list[tuple[int, list[str]]]) -> None:
    """Whoever is sent what: one client alone, one after another, or in turns."""
    expected, total, clients = Tally(), Total(), [Tally(), Tally(), Tally()]
    for number, (client, streams) in enumerate(sent):
        batch = Listed(streams, [b'{"n":%d,"topic":"%s"}' % (number, stream.encode()) for stream in streams])
        expected.take(batch)
        clients[client].take(batch)
        total.take_of(clients[client], batch)

        assert (expected.frames, expected.totals()) == (total.frames, total.totals())
