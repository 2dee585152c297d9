"""`recorder inspect`: what an archive holds, archived or not, and what is odd about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import (
    AAPL,
    DAY,
    END_RECORD,
    IBM,
    NOON,
    ROOT,
    SESSION,
    Given,
    archive,
    cut,
    order,
    quote,
    quotes,
    write_session,
)

from recorder.archive.inventory import SAMPLES, take_inventory
from recorder.archive.layout import Layout
from recorder.cli import main as cli
from recorder.errors import Damaged
from recorder.lock import CAPTURE, RecorderLock
from recorder.protocol.topics import Topics

LATER = "20261121T120000bbbb"
UNKNOWN = Given(NOON + 500, b'{"topic":"xyz+1","x":1}')
STARTED = Given(NOON - 1000, b'{"event":"session_started","predecessor":null}', "mark")
SESSIONS = [
    {
        "recorder": "main",
        "session": SESSION,
        "first": "2026-11-20T11:59:59.999000Z",
        "last": "2026-11-20T12:00:00.002000Z",
        "frames": 7,
        "kinds": {"in": 6, "out": 0, "rest": 0, "mark": 1},
        "end": "clean",
        "torn": None,
    },
    {
        "recorder": "main",
        "session": LATER,
        "first": "2026-11-21T12:00:00.000000Z",
        "last": "2026-11-21T12:00:00.003000Z",
        "frames": 4,
        "kinds": {"in": 4, "out": 0, "rest": 0, "mark": 0},
        "end": "open",
        "torn": None,
    },
]
"""What is told of the two sessions that the first test writes."""


def inspect(layout: Layout, *options: str) -> int:
    """Run the command on an archive."""
    return cli.run(["inspect", "--data", str(layout.root), *options])


def document(layout: Layout, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """Read what `--json` prints."""
    assert inspect(layout, "--json", *options) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def bytes_below(folder: Path) -> int:
    """Add up the sizes of the Parquet files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def test_json_counts_what_is_archived_and_what_is_in_the_journal(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every documented key, with values that can be checked against what was written."""
    write_session(layout, [STARTED, *quotes(3), UNKNOWN, *quotes(2, conid=IBM)])
    archive(layout)
    (segment,) = write_session(layout, quotes(4, start=NOON + DAY), session=LATER, dead=True)
    folder = layout.root / "market_data"

    assert document(layout, capsys) == {
        "data": str(layout.root),
        "format_version": 1,
        "day_boundary": "00:00 UTC",
        "sessions": SESSIONS,
        "topics": [
            {
                "topic": "market_data",
                "dates": ["2026-11-20", "2026-11-21"],
                "conids": [IBM, AAPL],
                "rows_archived": 5,
                "rows_in_journal": 4,
                "first": "2026-11-20T12:00:00.000000Z",
                "last": "2026-11-21T12:00:00.003000Z",
                "parts": 2,
                "bytes": bytes_below(folder),
                "undecoded": 0,
                "underived": 0,
                "differs": None,
            }
        ],
        "frames": {"archived": 7, "parts": 1, "bytes": bytes_below(layout.root / "frames")},
        "journal": {"frames": 4, "segments": 1, "bytes": segment.stat().st_size},
        "unclaimed": {
            "frames": 1,
            "samples": [
                {
                    "recorder": "main",
                    "session": SESSION,
                    "seq": 4,
                    "ts_recv": "2026-11-20T12:00:00.000500Z",
                    "bytes": len(UNKNOWN.data),
                    "data": UNKNOWN.data.decode(),
                }
            ],
        },
        "quarantine": [],
    }


def test_every_key_of_the_json_is_documented(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Each stands in the command's section of docs/cli.md."""
    write_session(layout, [STARTED, *quotes(3), UNKNOWN])
    said = document(layout, capsys)
    whole = (ROOT / "docs" / "cli.md").read_text("utf-8")
    section = whole.partition("\n## recorder inspect\n")[2].partition("\n## ")[0]

    groups = [said, said["sessions"][0], said["sessions"][0]["kinds"], said["topics"][0], said["frames"]]
    groups += [said["journal"], said["unclaimed"], said["unclaimed"]["samples"][0]]
    assert [key for group in groups for key in group if f"`{key}`" not in section] == []


def test_people_get_tables(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a session, a line a topic, and the sums."""
    write_session(layout, [*quotes(1200), UNKNOWN, Given(NOON, order(7, conid=IBM, price=1.5))])
    archive(layout)
    write_session(layout, quotes(2, start=NOON + DAY), session=LATER)

    assert inspect(layout) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"{layout.root}: a day begins at 00:00 UTC"
    assert f"main {SESSION} 2026-11-20 12:00:00 2026-11-20 12:00:01 1,202 0 0 0 clean" in lines
    market_data = next(line for line in lines if line.startswith("market_data"))
    assert market_data.startswith("market_data 2026-11-20 … 2026-11-21 (2) 1 1,200 2 2026-11-20 12:00:00")
    assert next(line for line in lines if line.startswith("orders")).startswith("orders 2026-11-20 1 1 0")
    assert any(line.startswith("archived 1,202 frames in 1 part, ") for line in lines)
    assert any(line.startswith("in journal 2 frames in 1 segment, ") for line in lines)
    assert lines[-2:] == ["unclaimed 1 frame of no known topic", f"{SESSION} 1200 {UNKNOWN.data.decode()!r}"]


def test_an_archive_without_frames_says_so(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was made and never recorded to is no error."""
    assert inspect(layout) == 0
    assert capsys.readouterr().out.endswith("\nnothing is recorded\n")
    assert document(layout, capsys)["sessions"] == []


def test_frames_that_no_topic_claims_or_that_do_not_decode_are_counted(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same counts from the journal and, once it is archived, from footers; the first few unclaimed are shown."""
    odd = [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"topic":"nix"}',
        b'{"topic":7}',
        b'{"topic":"sor","args":3}',
        b'{"topic":"spl"}',
    ]
    write_session(layout, [Given(NOON + number, data) for number, data in enumerate(odd)])
    before = document(layout, capsys)
    archive(layout)
    after = document(layout, capsys)

    assert before["unclaimed"] == after["unclaimed"]
    assert before["unclaimed"]["frames"] == 6
    assert [sample["data"] for sample in before["unclaimed"]["samples"]] == [
        "",
        "{",
        "[]",
        "\ufffd\ufffd",
        odd[4].decode(),
    ]
    assert len(before["unclaimed"]["samples"]) == SAMPLES
    for said in (before, after):
        assert {one["topic"]: one["undecoded"] for one in said["topics"]} == {"orders": 1, "pnl": 1}


def test_a_long_unclaimed_frame_is_shortened(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Its first 200 bytes, and how many it has."""
    write_session(layout, [Given(NOON, b"x" * 1000)])

    (sample,) = document(layout, capsys)["unclaimed"]["samples"]
    assert (sample["bytes"], sample["data"]) == (1000, "x" * 200)
    assert inspect(layout) == 0
    assert f"{'x' * 200!r} …\n" in capsys.readouterr().out


def test_a_session_ends_clean_open_or_torn(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an end record it is open while it is in the journal, and torn when it was archived."""
    (path,) = write_session(layout, quotes(2), dead=True)
    ends = [document(layout, capsys)["sessions"][0]["end"]]
    with path.open("ab") as file:
        file.write(b"\x01\x02\x03")
    archive(layout)
    write_session(layout, quotes(2), session=LATER)
    said = document(layout, capsys)
    ends += [session["end"] for session in said["sessions"]]

    assert ends == ["open", "torn", "clean"]
    assert said["sessions"][0]["torn"] == f"an incomplete record at byte {path_end(said)}"
    assert said["quarantine"] == [str(next(layout.quarantine.iterdir()))]
    assert inspect(layout) == 0
    out = capsys.readouterr().out
    assert f"torn         session {SESSION} of main: an incomplete record" in out
    assert f"quarantine   {said['quarantine'][0]}" in out


def path_end(said: dict[str, Any]) -> int:
    """Read from its name where the file in quarantine once began."""
    return int(said["quarantine"][0].rpartition(".")[2])


def test_one_session_or_date_can_be_looked_at(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """The counts are those of the choice; a date without frames holds nothing, a session that is none is an error."""
    write_session(layout, [*quotes(3), *quotes(2, start=NOON + DAY)])
    archive(layout)
    write_session(layout, [*quotes(4, start=NOON + DAY), *quotes(5, start=NOON + 2 * DAY)], session=LATER)

    def rows(*options: str) -> list[tuple[int, int]]:
        topics = document(layout, capsys, *options)["topics"]
        return [(topic["rows_archived"], topic["rows_in_journal"]) for topic in topics]

    assert rows() == [(5, 9)]
    assert rows("--session", SESSION) == [(5, 0)]
    assert rows("--session", LATER) == [(0, 9)]
    assert rows("--date", "2026-11-20") == [(3, 0)]
    assert rows("--date", "2026-11-21") == [(2, 4)]
    assert rows("--date", "2026-11-22", "--session", LATER) == [(0, 5)]
    assert rows("--date", "2020-01-01") == []
    assert [inspect(layout, "--session", "x"), inspect(layout, "--date", "tomorrow")] == [2, 2]
    assert capsys.readouterr().err == (
        "recorder: --session: no session 'x' is recorded\ntry: `recorder inspect` lists them\n"
        "recorder: --date: 'tomorrow' is not a date\ntry: write it as 2026-11-20\n"
    )


def test_rows_of_another_schema_are_told(layout: Layout, topics: Topics, capsys: pytest.CaptureFixture[str]) -> None:
    """A topic that has changed since: which part shows it, and how many frames have to be decoded at each reading."""
    write_session(layout, quotes(3))
    archive(layout)
    market_data = topics["market_data"]
    changed = msgspec.structs.replace(market_data, columns=market_data.columns[:-1])
    others = Topics([changed, *(topic for topic in topics if topic.name != "market_data")])

    count = take_inventory(layout, others).topics["market_data"]
    assert (count.rows, count.underived) == (3, 3)
    assert count.differs == next((layout.root / "market_data").rglob("*.parquet"))
    assert document(layout, capsys)["topics"][0]["differs"] is None


def test_the_first_and_last_row_are_exact_whatever_the_clock_did(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clock that steps back, segments that overlap, and a mark around the rows."""
    late = Given(NOON - 5000, quote(9))
    frames = [Given(NOON - 9000, b"{}"), *quotes(2), late, *quotes(3, start=NOON + 7000), Given(NOON + DAY // 4, b"{}")]
    write_session(layout, frames, rotations=[2, 5])
    archive(layout)

    (topic,) = document(layout, capsys)["topics"]
    assert (topic["first"], topic["last"]) == ("2026-11-20T11:59:59.995000Z", "2026-11-20T12:00:00.009000Z")


def test_leftovers_of_an_archiver_that_was_killed_are_not_counted(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed parts count when a frames part answers for them."""
    write_session(layout, quotes(3), rotations=[2])
    archive(layout)
    last = max((layout.root / "frames").rglob("*.parquet"))
    last.unlink()

    (topic,) = document(layout, capsys)["topics"]
    assert (topic["rows_archived"], topic["parts"]) == (2, 1)


def test_a_capture_that_runs_is_not_disturbed(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """No lock is taken; a segment that grows is read as far as it goes."""
    paths = write_session(layout, quotes(3), rotations=[2])
    cut(paths[-1], END_RECORD + 1)
    lock = RecorderLock(layout.journal("main"), CAPTURE, root=layout.root)
    lock.acquire()

    said = document(layout, capsys)
    lock.release()
    assert said["sessions"][0]["end"] == "open"
    assert said["journal"] == {"frames": 2, "segments": 2, "bytes": sum(path.stat().st_size for path in paths)}


def test_a_file_that_is_gone_for_good_or_broken_is_one_line(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, with the file's name."""
    write_session(layout, quotes(3))
    archive(layout)
    part = next((layout.root / "frames").rglob("*.parquet"))
    (part.parent / part.name.replace("0.parquet", "9.parquet")).write_bytes(b"PAR1")
    part.write_bytes(b"PAR1")

    assert inspect(layout) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    assert err.startswith(f"recorder: {part.parent}")


def test_parts_that_vanish_again_and_again_are_damage(
    layout: Layout, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count begins anew when a file vanishes, but not for ever."""
    write_session(layout, quotes(3))
    archive(layout)
    tries = []

    def vanish(*_args: object) -> None:
        tries.append(1)
        raise FileNotFoundError(2, "gone", "part")

    monkeypatch.setattr("recorder.archive.inventory.Partitions", vanish)
    with pytest.raises(Damaged, match="part: the file is missing"):
        take_inventory(layout, topics)
    assert len(tries) > 5


def test_a_bit_of_a_footer_never_ends_the_process(layout: Layout, topics: Topics) -> None:
    """Flipped in turn: the inventory is taken or says what is damaged, and Parquet's reader aborts on none."""
    write_session(layout, quotes(3))
    archive(layout)
    (path,) = (layout.root / "market_data").rglob("*.parquet")
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    said = 0
    for place in range(footer, len(content), 17):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            take_inventory(layout, topics)
        except Damaged:
            said += 1

    assert said > 10
