"""`recorder flush`: what a capture left in the journal is archived, and everything that was odd is said."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from conftest import (
    AAPL,
    END_RECORD,
    NOON,
    ROOT,
    SESSION,
    Given,
    archive,
    commits,
    cut,
    order,
    payloads,
    quote,
    quotes,
    write_session,
)

from recorder.archive.layout import Layout
from recorder.cli import main as cli
from recorder.lock import ARCHIVER, CAPTURE, Holder, RecorderLock

EARLIER = "20261119T120000aaaa"


def flush(layout: Layout, *options: str) -> int:
    """Run the command on an archive."""
    return cli.run(["flush", "--data", str(layout.root), *options])


def test_what_a_dead_capture_left_is_archived(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames, parts and rows of the session are told; the journal is empty afterwards."""
    write_session(layout, quotes(3), rotations=[2], dead=True)

    assert flush(layout) == 0
    assert capsys.readouterr().out == f"session {SESSION} of main: 3 frames into 4 parts (rows: market_data 3)\n"
    assert layout.segments("main") == []
    assert payloads(layout.root) == [quote(0), quote(1), quote(2)]


def test_an_empty_journal_is_said_to_be_empty(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to do is fine, with no journal at all and with one that was flushed before."""
    codes = [flush(layout)]
    write_session(layout, quotes(1))
    archive(layout)
    codes.append(flush(layout))

    assert codes == [0, 0]
    assert capsys.readouterr().out == "nothing to archive: the journal is empty\n" * 2


def test_json_tells_sessions_and_torn_ends(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """One document with the documented keys."""
    write_session(layout, [Given(NOON, order(7, conid=AAPL))], session=EARLIER)
    (torn,) = write_session(layout, quotes(2))[-1:]
    cut(torn, END_RECORD)
    with torn.open("ab") as file:
        file.write(b"\xff" * 5)

    assert flush(layout, "--json") == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    kept = Path(said["torn"][0].pop("kept"))
    assert said == {
        "sessions": [
            {
                "recorder": "main",
                "session": EARLIER,
                "segments": 1,
                "frames": 1,
                "parts": 2,
                "rows": {"orders": 1},
                "underived": {},
            },
            {
                "recorder": "main",
                "session": SESSION,
                "segments": 1,
                "frames": 2,
                "parts": 2,
                "rows": {"market_data": 2},
                "underived": {},
            },
        ],
        "torn": [{"segment": str(torn), "what": said["torn"][0]["what"]}],
        "unread": [],
    }
    assert (kept.read_bytes(), err) == (b"\xff" * 5, "")


def test_every_key_of_the_json_is_documented(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Each stands in the command's section of docs/cli.md."""
    write_session(layout, quotes(1), dead=True)
    assert flush(layout, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    section = (ROOT / "docs" / "cli.md").read_text("utf-8").partition("\n## recorder flush\n")[2].partition("\n## ")[0]

    groups = [said, said["sessions"][0], said["torn"][0]]
    assert [key for group in groups for key in group if f"`{key}`" not in section] == []


def test_a_torn_end_is_a_warning_that_names_where_the_rest_is_kept(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """The frames before it are archived, the bytes behind it are in quarantine/, and the exit code is 0."""
    (path,) = write_session(layout, quotes(2), dead=True)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\x09")

    assert flush(layout) == 0
    kept = layout.quarantine / f"{path.name}.{whole}"
    assert capsys.readouterr().err == (
        f"warning: {path} broke off (an incomplete record at byte {whole}); the rest is kept in {kept}\n"
    )
    assert kept.read_bytes() == b"\x09"
    assert payloads(layout.root) == [quote(0), quote(1)]


def test_a_capture_that_runs_is_let_alone_and_others_are_flushed(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lock ends the command with 1 and one line, when the other recorder's journal is in Parquet."""
    write_session(layout, quotes(2), recorder="busy", session=EARLIER)
    write_session(layout, quotes(2))
    lock = RecorderLock(layout.journal("busy"), CAPTURE, root=layout.root)
    lock.acquire()
    lock.write(Holder(os.getpid(), EARLIER))

    assert flush(layout) == 1
    lock.release()
    out, err = capsys.readouterr()
    assert out == f"session {SESSION} of main: 2 frames into 2 parts (rows: market_data 2)\n"
    assert err == (
        f"recorder: recorder 'busy' is in use: process {os.getpid()}, session {EARLIER}, holds {lock.path}\n"
        "try: let it be: a capture that runs flushes by itself\n"
    )
    assert (len(layout.segments("busy")), layout.segments("main")) == (1, [])


def test_two_recorders_that_run_are_one_line(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """None is left out."""
    locks = []
    for name in ("one", "two"):
        locks.append(RecorderLock(layout.journal(name), CAPTURE, root=layout.root))
        locks[-1].acquire()

    assert flush(layout, "--json") == 1
    for lock in locks:
        lock.release()
    out, err = capsys.readouterr()
    assert json.loads(out) == {"sessions": [], "torn": [], "unread": []}
    assert re.match(r"recorder: recorder 'one' is in use: .*; recorder 'two' is in use: .*\ntry: .*\n\Z", err)


def test_one_recorder_can_be_named(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """The other one's journal stays; a name that is none is a usage error."""
    write_session(layout, quotes(1), recorder="one", session=EARLIER)
    write_session(layout, quotes(1), recorder="two")

    assert [flush(layout, "--name", "two"), flush(layout, "--name", "tow")] == [0, 2]
    assert capsys.readouterr().err == "recorder: --name: there is no recorder 'tow'\ntry: use one of: one, two\n"
    assert (len(layout.segments("one")), layout.segments("two")) == (1, [])


def test_damage_is_one_line_and_keeps_the_segment(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """A bit that changed in a segment that is not the last: exit code 1, and no frame is skipped."""
    first, second = write_session(layout, quotes(4), rotations=[2], dead=True)
    data = bytearray(first.read_bytes())
    data[-40] ^= 1
    first.write_bytes(data)

    assert flush(layout) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    assert re.match(rf"recorder: {first}: a record whose checksum does not match at byte \d+\ntry: ", err)
    assert (layout.segments("main"), commits(layout)) == ([first, second], [])


def test_the_archivers_lock_says_what_was_archived_last(layout: Layout) -> None:
    """Whoever looks for holes later knows how far a session went, also when its parts are gone."""
    write_session(layout, quotes(3), rotations=[2])

    assert flush(layout) == 0
    holder = json.loads((layout.journal("main") / ARCHIVER).read_text("utf-8"))
    assert (holder["pid"], holder["session"], holder["last"]) == (os.getpid(), SESSION, 2)


def test_a_folder_that_is_no_archive_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and nothing is made there."""
    assert cli.run(["flush", "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"recorder: {tmp_path} is no archive: it has no archive.toml\ntry: ")
    assert list(tmp_path.iterdir()) == []
