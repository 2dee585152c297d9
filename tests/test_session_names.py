"""The names of sessions: parts of all recorders lie side by side, so no two recorders may use one name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SESSION, Script, archive, gateway_with, in_loop, quotes, recording, settings_for, write_session

from recorder import recording as module
from recorder.archive.catalog import is_taken
from recorder.archive.layout import Layout
from recorder.lock import CAPTURE, Failure, Holder, RecorderLock, read_holder


@pytest.mark.parametrize("where", ["lock", "journal", "parts"])
def test_a_name_is_taken_while_anything_bears_it(layout: Layout, where: str) -> None:
    """A recorder that has just begun, one that journals, and what was archived long ago."""
    other = "20261120T120000bbbb"
    if where == "lock":
        lock = RecorderLock(layout.journal("other"), CAPTURE, root=layout.root)
        lock.acquire()
        lock.write(Holder(1, SESSION))
        lock.release()
    else:
        write_session(layout, quotes(2), recorder="other")
    if where == "parts":
        archive(layout, recorder="other")

    assert (True, False) == (is_taken(layout, SESSION), is_taken(layout, other))


@in_loop
async def test_two_recorders_that_draw_the_same_letters_in_one_second_get_two_names(tmp_path: Path) -> None:
    """The second draws again."""
    names = iter(["20261120T120000aaaa", "20261120T120000aaaa", "20261120T120000bbbb"])
    kept: Callable[..., str] = vars(module)["new_session"]
    vars(module)["new_session"] = lambda _now, *, after: next(names)  # noqa: ARG005  chance, taken out
    try:
        async with gateway_with(Script()) as gateway:
            settings = [settings_for(gateway, tmp_path / "data", recorder_name=name) for name in ("one", "two")]
            async with recording(settings[0]) as one, recording(settings[1]) as two:
                outcomes = [await one.stop(), await two.stop()]
    finally:
        vars(module)["new_session"] = kept

    assert ["20261120T120000aaaa", "20261120T120000bbbb"] == [outcome.session for outcome in outcomes]


def test_a_note_that_was_not_cut_to_its_length_is_still_read(layout: Layout) -> None:
    """Its writer was killed over a longer note; else the next session might take the name of the one before."""
    lock = RecorderLock(layout.journal("other"), CAPTURE, root=layout.root)
    lock.acquire()
    lock.write(Holder(1, SESSION, failure=Failure(SESSION, "a long note")))
    longer = lock.path.read_bytes()
    lock.write(Holder(1, SESSION))
    shorter = lock.path.read_bytes()
    lock.path.write_bytes(shorter + longer[len(shorter) :])
    lock.release()

    assert len(shorter) < len(longer)
    assert Holder(1, SESSION) == read_holder(lock.path)
