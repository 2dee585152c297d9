"""The trail of a connection: how much of what was sent has arrived."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.masking import mask_tic
from recorder.replay import trail
from recorder.replay.tally import Tally
from recorder.replay.trail import SHORT, Trail, short_digest


def sent(frames: Sequence[bytes]) -> Trail:
    """Leave the trail of frames."""
    one = Trail()
    for data in frames:
        one.add("sor", data)
    return one


@given(frames=st.lists(st.binary(max_size=4), max_size=40), block=st.integers(1, 9))
def test_a_trail_shows_the_last_frames_one_by_one_and_those_before_as_a_digest(frames: list[bytes], block: int) -> None:
    """At least a block of them, and never two blocks more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trail, "BLOCK", block)
        shown = sent(frames).shown()
    before = Tally()
    for data in frames[: shown.first]:
        before.add("sor", data)
    each = bytes.fromhex(shown.frames)

    assert before.totals() == shown.topics
    assert [short_digest(data) for data in frames[shown.first :]] == [
        each[start : start + SHORT] for start in range(0, len(each), SHORT)
    ]
    assert min(block, len(frames)) <= len(frames) - shown.first < 2 * block


def test_a_trail_counts_as_a_tally_does() -> None:
    """It is one."""
    plain = Tally()
    plain.add("sor", b"1")

    assert plain.totals() == sent([b"1"]).totals()


def test_a_tic_counts_as_it_is_recorded() -> None:
    """With its id masked: what was sent and what is in an archive compare."""
    tic = b'{"topic":"tic","id":"5f0c1e2d3b4a5968"}'
    trail_of_one = Trail()
    trail_of_one.add("tic", tic)

    assert short_digest(mask_tic(tic)).hex() == trail_of_one.shown().frames != short_digest(tic).hex()
