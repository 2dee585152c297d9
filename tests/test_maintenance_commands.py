"""`recorder verify`, `compact`, `rebuild` and `digest`: what they print, and with which exit code they end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import AAPL, DAY, NOON, ROOT, SESSION, Given, archive, cut, order, quotes, write_session

import recorder
from recorder.archive.archive_digest import archive_digest
from recorder.archive.layout import Layout
from recorder.archive.reading import Reader
from recorder.cli import main as cli
from recorder.lock import MAINTENANCE, RecorderLock
from recorder.protocol.topics import load_topics

COMMANDS = {
    "verify": ["verify"],
    "compact": ["compact"],
    "rebuild": ["rebuild", "--topic", "market_data"],
    "digest": ["digest"],
}
HOLE = f"frames/date=2026-11-20/{SESSION}-{2:012d}-{5:012d}.parquet"
TYPED = f"market_data/date=2026-11-20/conid={AAPL}/{SESSION}-{0:012d}-{1:012d}.parquet"


@pytest.fixture
def made(layout: Layout) -> Layout:
    """Make an archive of two dates, in several parts."""
    first = [*quotes(4), Given(NOON + 5000, order(1, conid=AAPL)), *quotes(2, start=NOON + 6000)]
    write_session(layout, [*first, *quotes(3, start=NOON + DAY)], rotations=[2, 6])
    archive(layout)
    return layout


def run(layout: Layout, *arguments: str) -> int:
    """Run a command on an archive."""
    return cli.run([arguments[0], "--data", str(layout.root), *arguments[1:]])


def document(layout: Layout, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """Read what a command prints with `--json`; nothing else is printed."""
    assert code == run(layout, *arguments, "--json")
    out, err = capsys.readouterr()
    said: dict[str, Any] = json.loads(out)
    assert "" == err
    return said


def section(command: str) -> str:
    """Give a command's section of docs/cli.md."""
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    found = re.search(rf"^## recorder {command}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def keys(said: Any) -> set[str]:
    """Give all keys of a document but those that are names of topics."""
    if isinstance(said, list):
        return {key for one in said for key in keys(one)}
    if not isinstance(said, dict):
        return set()
    topics = {topic.name for topic in load_topics()}
    return {key for key in said if key not in topics} | {key for value in said.values() for key in keys(value)}


def test_a_whole_archive_is_told_in_one_line(made: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """With what was checked; a dead session's segment is a note."""
    assert 0 == run(made, "verify")
    write_session(made, quotes(2, start=NOON + 2 * DAY), session="20261122T120000bbbb", dead=True)
    assert 0 == run(made, "verify", "--rederive")

    lines = capsys.readouterr().out.splitlines()
    assert "whole: 10 frames and 10 rows in 4 frames parts" == lines[0]
    assert lines[1].startswith("note: session 20261122T120000bbbb is being written, or its capture was killed")
    assert lines[0] == lines[2]


def test_problems_are_lines_and_exit_code_1(made: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Kind, path and what; nothing is changed."""
    cut(made.root / TYPED, 50)
    before = sorted(made.root.rglob("*"))

    assert 1 == run(made, "verify")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"damaged: {made.root / TYPED}: ")
    assert "1 problem; checked 10 frames and 8 rows in 4 frames parts" == lines[1]
    assert before == [path for path in sorted(made.root.rglob("*")) if path.name != MAINTENANCE]


def test_a_repair_moves_and_a_rebuild_mends(made: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is that of what was found; afterwards it is 0 again."""
    cut(made.root / TYPED, 50)
    moved = made.quarantine / TYPED

    assert str(moved) == document(made, capsys, "verify", "--repair", code=1)["moved"][0]
    assert moved.is_file()
    assert 1 == run(made, "verify", "--repair")
    assert "moved to" not in capsys.readouterr().out
    assert 0 == run(made, "rebuild", "--topic", "market_data")
    assert "market_data: 9 rows derived from 10 frames of 2 dates\n" == capsys.readouterr().out
    assert 0 == run(made, "verify", "--rederive")


def test_compaction_tells_what_it_did(made: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """And that there was nothing to do."""
    assert 0 == run(made, "compact", "--before", "2026-11-21")
    assert 0 == run(made, "compact", "--before", "2026-11-21")
    assert (
        "2026-11-20: 7 parts are now 3; 7 frames, digests unchanged\n"
        "nothing to compact: every finished date is compact\n"
    ) == capsys.readouterr().out
    assert {"dates": []} == document(made, capsys, "compact")


def test_digests_are_those_of_the_library(made: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive's, then each topic's; compaction and rebuilding change neither."""
    said = document(made, capsys, "digest")
    run(made, "compact")
    run(made, "rebuild", "--topic", "market_data,orders")
    capsys.readouterr()
    assert 0 == run(made, "digest")
    lines = capsys.readouterr().out.splitlines()
    contents = recorder.open(made.root).digests()

    assert archive_digest(Reader(made, load_topics()), done=lambda _frames: None).hexdigest() == said["archive"]
    assert {name: one.hexdigest() for name, one in contents.items()} == {
        name: one["digest"] for name, one in said["topics"].items()
    }
    assert f"archive {said['archive']}" == lines[0]
    assert [["market_data", "9", "frames"], ["orders", "1", "frames"]] == [line.split()[:3] for line in lines[1:]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_of_the_json_is_documented(made: Layout, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """In the command's section; nothing but the document is printed."""
    (made.root / "market_data" / "mine.txt").touch()
    said = document(made, capsys, *COMMANDS[command], code=int(command == "verify"))

    assert keys(said)
    assert [key for key in keys(said) if f"`{key}`" not in section(command)] == []


@pytest.mark.parametrize("command", ["compact", "rebuild", "verify --repair"])
def test_one_maintenance_at_a_time(made: Layout, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """The second says who holds the lock; reading commands need none."""
    lock = RecorderLock(made.root / "journal", MAINTENANCE, root=made.root)
    lock.acquire()
    try:
        name, *options = command.split()
        assert 1 == run(made, *COMMANDS[name], *options)
        assert capsys.readouterr().err.startswith("recorder: another compaction or rebuild runs: ")
        assert [0, 0] == [run(made, "verify"), run(made, "digest")]
    finally:
        lock.release()


@pytest.mark.parametrize("command", COMMANDS)
def test_progress_is_not_on_standard_output(
    made: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A terminal's standard error gets the bar; the document stays one."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert 0 == run(made, *COMMANDS[command], "--json")
    out = capsys.readouterr().out

    assert json.loads(out)
    assert "\x1b" not in out


def test_what_cannot_be_done_is_one_line(made: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 for a wrong call, 1 for a damaged archive, which no command takes for a whole one."""
    assert 2 == run(made, "compact", "--before", "tomorrow")
    assert 2 == run(made, "rebuild", "--topic", "quotes")
    assert 2 == run(made, "rebuild")
    assert [1, 1] == [cli.run([command, "--data", str(tmp_path / "none")]) for command in ("verify", "digest")]
    (made.root / HOLE).write_bytes(b"PAR1")
    capsys.readouterr()
    assert [1, 1, 1] == [run(made, *COMMANDS[command]) for command in ("compact", "rebuild", "digest")]

    out, err = capsys.readouterr()
    assert "" == out
    assert 3 == err.count(f"recorder: {made.root / HOLE}: the part cannot be read")
    assert 3 == err.count("try: run `recorder verify`")
