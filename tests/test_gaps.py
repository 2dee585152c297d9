"""The gap ledger on disk: rows, open gaps, readers, replays and checks, wherever its marks are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pandas as pd
import pytest
from conftest import AAPL, DAY, IBM, NOON, SESSION, Given, archive, commits, quote, quotes, write_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.archive.archive_digest import archive_digest
from recorder.archive.commit import Commit
from recorder.archive.compaction import compact
from recorder.archive.gaps import read_gaps
from recorder.archive.layout import Layout, make_layout
from recorder.archive.reading import Reader, Span
from recorder.archive.rebuild import rebuild
from recorder.archive.verify import Problem, verify
from recorder.cli import main as cli
from recorder.errors import GapError, UsageError
from recorder.library import Archive
from recorder.protocol.days import DayBoundary
from recorder.protocol.ledger import Closed, Ending, Gap, Ledger, begin_session, closed_mark, opened_mark, read_gap
from recorder.protocol.topics import load_topics
from recorder.replay.gap_events import Gap as GapEvent

TOPICS = load_topics()
LATER = "20261121T120000bbbb"
SECOND = 1_000_000
COLUMNS = ["recorder", "session", "topic", "conid", "start", "end", "cause", "evidence", "information"]


def mark(ts: int, data: bytes | None) -> Given:
    """Make a frame of a mark."""
    assert data is not None
    return Given(ts, data, "mark")


def hole(number: int, *, conid: int | None = None, topic: str = "market_data", length: int = SECOND) -> list[Given]:
    """Make the marks of a gap that begins `number` seconds after noon."""
    gap = Gap(topic, conid, NOON + number * SECOND, "disconnected", "the line was cut")
    end = gap.start + length
    return [mark(gap.start, opened_mark(gap)), mark(end, closed_mark(gap, end=end))]


Listed = tuple[str, int | None, float, float | None, str]


def listed(layout: Layout, topic: Any = None, **narrowed: Any) -> list[Listed]:
    """Give the ledger's rows as topic, contract (None: all), seconds after noon (None: open) and cause."""
    rows: list[Any] = list(Archive(layout.root).gaps(topic, **narrowed).itertuples())
    return [
        (row.topic, None if pd.isna(row.conid) else row.conid, after_noon(row.start), after_noon(row.end), row.cause)
        for row in rows
    ]


def after_noon(moment: Any) -> Any:
    """Give seconds after noon; None for a moment that is missing."""
    return None if pd.isna(moment) else (moment - pd.Timestamp(NOON, unit="us", tz="UTC")).total_seconds()


def problems(layout: Layout, *, rederive: bool = False) -> list[Problem]:
    """Verify an archive."""
    return verify(layout, TOPICS, rederive=rederive, done=lambda _frames: None).problems


def digest(layout: Layout) -> str:
    """Compute an archive's digest."""
    return archive_digest(Reader(layout, TOPICS), done=lambda _frames: None).hexdigest()


@pytest.fixture
def cut_twice(layout: Layout) -> Layout:
    """Record quotes of two contracts with a hole in all, one in AAPL alone, and one that stays open."""
    frames = [
        *quotes(3),
        *quotes(3, conid=IBM, start=NOON + 10_000),
        *hole(10),
        *quotes(2, start=NOON + 11 * SECOND),
        *quotes(2, conid=IBM, start=NOON + 12 * SECOND),
        *hole(20, conid=AAPL),
        *quotes(2, start=NOON + 21 * SECOND),
        *quotes(2, conid=IBM, start=NOON + 21 * SECOND),
        mark(NOON + 30 * SECOND, opened_mark(Gap("pnl", None, NOON + 30 * SECOND, "stale", "silent"))),
    ]
    write_session(layout, sorted(frames, key=lambda frame: frame.ts), rotations=[7, 13])
    return layout


ROWS = [
    ("market_data", None, 10.0, 11.0, "disconnected"),
    ("market_data", AAPL, 20.0, 21.0, "disconnected"),
    ("pnl", None, 30.0, None, "stale"),
]


@pytest.mark.parametrize("flushed", [False, True])
def test_the_ledger_is_the_same_in_the_journal_and_in_parquet(cut_twice: Layout, flushed: bool) -> None:  # noqa: FBT001
    """A gap that is open has no end."""
    if flushed:
        archive(cut_twice)
    frame = Archive(cut_twice.root).gaps()

    assert listed(cut_twice) == ROWS
    assert list(frame.columns) == COLUMNS
    assert {"main"} == set(frame["recorder"])
    assert str(frame["start"].dtype) == str(frame["end"].dtype) == "datetime64[us, UTC]"
    assert frame["conid"].dtype == pd.Int64Dtype()


def test_neither_flushing_nor_compaction_nor_a_rebuild_changes_the_digest(cut_twice: Layout) -> None:
    """Rows of gaps are rows like any other."""
    before = digest(cut_twice)
    archive(cut_twice)
    flushed = digest(cut_twice)
    list(compact(cut_twice, ["2026-11-20"], done=lambda _frames: None))
    rebuild(cut_twice, TOPICS, TOPICS["gaps"], done=lambda _frames: None)

    assert before == flushed == digest(cut_twice)
    assert listed(cut_twice) == ROWS
    assert problems(cut_twice, rederive=True) == []


def test_open_gaps_travel_in_the_commit(cut_twice: Layout) -> None:
    """The archiver goes on from them; so does a new decoder."""
    archive(cut_twice)

    assert [[("market_data", None)], [("market_data", AAPL)], [("pnl", None)]] == [
        [gap.key for gap in commit.open_gaps] for commit in commits(cut_twice)
    ]


def test_a_commit_of_before_the_ledger_is_read(cut_twice: Layout) -> None:
    """Its footer says nothing of open gaps."""
    archive(cut_twice)
    old = json.loads(msgspec.json.encode(commits(cut_twice)[0]))
    del old["open_gaps"]

    assert msgspec.convert(old, Commit).open_gaps == ()


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"topic": "market_data"}, [0, 1]),
        ({"topic": ["pnl", "orders"]}, [2]),
        ({"conid": IBM}, [0, 2]),
        ({"conid": [AAPL, IBM], "topic": "market_data"}, [0, 1]),
        ({"start": NOON + 10 * SECOND, "end": NOON + 11 * SECOND}, [0]),
        ({"start": NOON + 11 * SECOND, "end": NOON + 20 * SECOND}, []),
        ({"end": NOON + 10 * SECOND}, []),
        ({"start": NOON + 10_500_000, "end": NOON + 10_600_000}, [0]),
        ({"start": NOON + DAY}, [2]),
    ],
)
def test_a_query_gives_what_touches_it(cut_twice: Layout, narrowed: dict[str, Any], expected: list[int]) -> None:
    """Times choose by the hole, not by when it was noted; a contract has the holes of its whole topic."""
    archive(cut_twice)

    assert listed(cut_twice, **narrowed) == [ROWS[number] for number in expected]


def test_an_unknown_topic_is_refused(cut_twice: Layout) -> None:
    """With the known ones."""
    with pytest.raises(UsageError, match="quotes"):
        Archive(cut_twice.root).gaps("quotes")


# ------------------------------------------------------------------ loading


def test_a_load_can_mark_the_first_row_behind_a_hole(cut_twice: Layout) -> None:
    """Of each contract that the hole is in."""
    opened = Archive(cut_twice.root)
    whole = opened.load("market_data", gaps="mark")
    marked = whole[whole["after_gap"]]

    assert [(AAPL, 11.0), (IBM, 12.0), (AAPL, 21.0)] == [
        (conid, after_noon(ts)) for ts, conid in zip(marked.index, marked["conid"], strict=True)
    ]
    assert list(whole.columns) == [*opened.load("market_data").columns, "after_gap"]


@pytest.mark.parametrize("columns", [["bid_price"], ["bid_price", "session"]])
@pytest.mark.parametrize("fill", [False, True])
def test_a_narrowed_load_is_marked_too(cut_twice: Layout, columns: list[str], fill: bool) -> None:  # noqa: FBT001
    """It gets the one column more, and nothing else."""
    opened = Archive(cut_twice.root)
    plain = opened.table("market_data", columns=columns, fill=fill)
    marked = opened.table("market_data", columns=columns, fill=fill, gaps="mark")

    assert marked.column_names == [*plain.column_names, "after_gap"]
    assert sum(marked["after_gap"].to_pylist()) == 3
    assert marked.drop_columns("after_gap").equals(plain)


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("flushed", [False, True])
def test_a_row_has_the_same_mark_wherever_a_load_begins(cut_twice: Layout, flushed: bool, fill: bool) -> None:  # noqa: FBT001
    """A hole that was over before the first row asked for is one if nothing of the contract came since."""
    if flushed:
        archive(cut_twice)
    opened = Archive(cut_twice.root)
    whole = opened.load("market_data", gaps="mark", fill=fill)
    moments = {*whole.index, *opened.gaps()["end"].dropna(), *(moment + pd.Timedelta("1us") for moment in whole.index)}

    assert len(moments) > 10
    for start in moments:
        found = opened.load("market_data", start=start, gaps="mark", fill=fill)["after_gap"]
        assert whole["after_gap"][whole.index >= start].tolist() == found.tolist()


def test_a_contract_that_was_quiet_for_long_after_a_hole_is_marked(layout: Layout) -> None:
    """Hours before, which the look back finds step by step; another that has spoken since is not."""
    hour = 3_600 * SECOND
    frames = [*quotes(2), *quotes(1, conid=IBM), *hole(1), *quotes(1, start=NOON + hour, conid=IBM)]
    late = NOON + 5 * hour
    write_session(
        layout, [*frames, *quotes(2, start=late, step=SECOND), *quotes(1, start=late + 9 * SECOND, conid=IBM)]
    )
    found = Archive(layout.root).load("market_data", start=pd.Timestamp(late, unit="us", tz="UTC"), gaps="mark")

    assert [(AAPL, True), (AAPL, False), (IBM, False)] == list(zip(found["conid"], found["after_gap"], strict=True))


def test_a_hole_of_one_recorder_is_none_of_another(layout: Layout) -> None:
    """Rows of the other went on."""
    write_session(layout, [*quotes(2), *hole(1), *quotes(2, start=NOON + 2 * SECOND)])
    write_session(layout, quotes(2, start=NOON + 3 * SECOND), recorder="spare", session=LATER)
    marked = Archive(layout.root).load("market_data", gaps="mark")

    assert [False, False, True, False, False, False] == marked["after_gap"].tolist()


def test_a_load_can_refuse_a_hole_and_names_it(cut_twice: Layout) -> None:
    """What it says is enough to go on around it."""
    opened = Archive(cut_twice.root)
    with pytest.raises(GapError, match=r"market_data has a gap from .*disconnected.*and 1 more") as caught:
        opened.load("market_data", gaps="raise")
    error = caught.value
    before = opened.load("market_data", end=error.start, gaps="raise")

    assert (error.topic, error.conid, error.start, error.end) == (
        "market_data",
        None,
        NOON + 10 * SECOND,
        NOON + 11 * SECOND,
    )
    assert len(before) == 6
    assert len(opened.load("market_data", conid=IBM, start=error.end, gaps="raise")) == 4


def test_information_is_no_hole(layout: Layout) -> None:
    """A market that is closed stops no backtest and marks no row."""
    noted = Ledger().note("market_data", start=NOON, end=NOON + SECOND, cause="market_closed", evidence="XNYS")
    write_session(layout, [mark(NOON + SECOND, noted), *quotes(2, start=NOON + SECOND)])
    opened = Archive(layout.root)

    assert opened.gaps()["information"].tolist() == [True]
    assert not opened.load("market_data", gaps="mark")["after_gap"].any()
    assert len(opened.load("market_data", gaps="raise")) == 2
    assert len(list(opened.replay("market_data"))) == 2


@pytest.mark.parametrize("method", ["load", "replay"])
def test_another_choice_is_refused(cut_twice: Layout, method: str) -> None:
    """With those that there are."""
    with pytest.raises(UsageError, match="gaps: 'skip'") as caught:
        getattr(Archive(cut_twice.root), method)("market_data", gaps="skip")

    assert "raise" in str(caught.value.hint)


# ------------------------------------------------------------------ replaying


def test_a_replay_refuses_a_hole_before_it_gives_anything(cut_twice: Layout) -> None:
    """Unless it is told what to do with it."""
    opened = Archive(cut_twice.root)
    with pytest.raises(GapError, match="market_data has a gap"):
        opened.replay("market_data")

    assert len(list(opened.replay("orders"))) == 0
    assert len(list(opened.replay("market_data", gaps="ignore"))) == 14


def test_gaps_are_events_where_they_begin_and_end(cut_twice: Layout) -> None:
    """The last row before a hole comes before its start, the first one behind it after its end."""
    events: list[Any] = list(Archive(cut_twice.root).replay(["market_data", "pnl"], conids=[AAPL], gaps="event"))
    seen = [
        (event.edge, event.of_topic, event.conid) if event.topic == "gaps" else event.ts_recv - NOON for event in events
    ]

    assert seen == [
        *(0, 1000, 2000),
        ("start", "market_data", None),
        ("end", "market_data", None),
        *(11 * SECOND, 11 * SECOND + 1000),
        ("start", "market_data", AAPL),
        ("end", "market_data", AAPL),
        *(21 * SECOND, 21 * SECOND + 1000),
        ("start", "pnl", None),
    ]
    assert isinstance(events[3], GapEvent)
    assert (NOON + 10 * SECOND, NOON + 11 * SECOND, "disconnected") == (events[3].start, events[3].end, events[3].cause)


def test_a_replay_from_within_a_hole_begins_with_it(cut_twice: Layout) -> None:
    """And one that ends within it does not see its end."""
    opened = Archive(cut_twice.root)
    inside = NOON + 10_500_000
    behind = list(opened.replay("market_data", conids=IBM, start=inside, gaps="event"))
    before = list(opened.replay("market_data", conids=IBM, end=inside, gaps="event"))

    assert [("start", inside), ("end", NOON + 11 * SECOND)] == [(gap.edge, gap.ts_recv) for gap in behind[:2]]
    assert ["start"] == [event.edge for event in before if event.topic == "gaps"]
    assert before[-1].topic == "gaps"


def test_an_empty_gap_is_two_events_before_what_came_then(layout: Layout) -> None:
    """A reconnect that missed nothing is seen too."""
    write_session(layout, [*quotes(1), *hole(1, length=0), *quotes(1, start=NOON + SECOND)])
    events = list(Archive(layout.root).replay("market_data", gaps="event"))

    assert ["market_data", "gaps", "gaps", "market_data"] == [event.topic for event in events]
    assert ["start", "end"] == [event.edge for event in events[1:3]]


# ------------------------------------------------------------------ commands


def run(capsys: pytest.CaptureFixture[str], layout: Layout, *args: str) -> str:
    """Give what a command prints."""
    assert cli.run([args[0], "--data", str(layout.root), *args[1:]]) == 0
    return capsys.readouterr().out


def test_the_command_lists_gaps(cut_twice: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people: the times, how long, of what, and why."""
    lines = run(capsys, cut_twice, "gaps").splitlines()

    assert lines[0].split() == ["start", "end", "lasted", "topic", "conid", "cause", "evidence"]
    assert lines[2].split()[:8] == [
        *("2026-11-20", "12:00:10", "2026-11-20", "12:00:11", "1.0s", "market_data", "all", "disconnected"),
    ]
    assert len(lines) == 5
    assert "open" in lines[4]


def test_the_command_lists_gaps_as_json(cut_twice: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """A list, with the ledger's columns as keys."""
    rows = json.loads(run(capsys, cut_twice, "gaps", "--json", "--topic", "market_data", "--conid", str(IBM)))

    assert rows == [
        {
            "recorder": "main",
            "session": SESSION,
            "topic": "market_data",
            "conid": None,
            "start": "2026-11-20T12:00:10.000000Z",
            "end": "2026-11-20T12:00:11.000000Z",
            "cause": "disconnected",
            "evidence": "the line was cut",
            "information": False,
        }
    ]


def test_the_command_says_that_there_are_none(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Also as JSON, and that is fine."""
    write_session(layout, quotes(3))

    assert run(capsys, layout, "gaps") == "no gaps\n"
    assert json.loads(run(capsys, layout, "gaps", "--json")) == []


def test_replayed_lines_say_where_a_hole_is(cut_twice: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """By default; an error or nothing if asked for."""
    narrowed = ("replay", "--topic", "market_data", "--conid", str(IBM))
    lines = [json.loads(line) for line in run(capsys, cut_twice, *narrowed).splitlines()]
    without = run(capsys, cut_twice, *narrowed, "--gaps", "ignore").splitlines()
    refused = cli.run([*narrowed, "--data", str(cut_twice.root), "--gaps", "raise"])

    assert {
        "topic": "gaps",
        "ts_recv": "2026-11-20T12:00:10.000000Z",
        "edge": "start",
        "recorder": "main",
        "of_topic": "market_data",
        "start": "2026-11-20T12:00:10.000000Z",
        "end": "2026-11-20T12:00:11.000000Z",
        "cause": "disconnected",
        "evidence": "the line was cut",
    } == lines[3]
    assert (9, 7, 1) == (len(lines), len(without), refused)
    assert "market_data has a gap" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--gaps", "skip"], ["--raw", "--gaps", "event"]])
def test_a_choice_that_means_nothing_is_refused(
    cut_twice: Layout, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is printed."""
    assert cli.run(["replay", "--data", str(cut_twice.root), *options]) == 2
    assert "--gaps" in capsys.readouterr().err


# ------------------------------------------------------------------ verification

OPEN = Gap("market_data", None, NOON, "stale", "silent")


def found(layout: Layout, frames: Sequence[Given], *, archived: bool = True) -> list[str]:
    """Verify a session; give the problems' texts."""
    write_session(layout, frames)
    if archived:
        archive(layout)
    listed = problems(layout, rederive=True)
    assert {"gaps"} >= {problem.kind for problem in listed}
    return [problem.what for problem in listed]


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(
    ("marks", "complaint"),
    [
        ([closed_mark(OPEN, end=NOON).replace(b'"end":', b'"end":1,"was":')], "ends before it starts"),
        ([opened_mark(OPEN), opened_mark(msgspec.structs.replace(OPEN, start=NOON + 1))], "opened while another is"),
        (
            [
                opened_mark(OPEN),
                closed_mark(OPEN, end=NOON + 5),
                opened_mark(msgspec.structs.replace(OPEN, start=NOON + 4)),
            ],
            "starts before the one before it ended",
        ),
        ([opened_mark(OPEN), closed_mark(msgspec.structs.replace(OPEN, evidence="?"), end=NOON + 5)], "as another"),
        ([b'{"event":"gap_opened","of":"pnl"}'], "cannot be read"),
    ],
)
def test_marks_that_make_no_sense_are_found(
    layout: Layout,
    marks: list[bytes],
    complaint: str,
    archived: bool,  # noqa: FBT001
) -> None:
    """In parts and in the journal."""
    texts = found(layout, [*quotes(1), *(mark(NOON + 100, one) for one in marks)], archived=archived)

    assert len(texts) == 1
    assert complaint in texts[0]


def test_a_gap_that_the_next_session_left_open_is_found(layout: Layout) -> None:
    """A dead session's gaps are closed by the one after it."""
    write_session(layout, [*quotes(1), mark(NOON + 100, opened_mark(OPEN))])
    write_session(layout, quotes(1, start=NOON + DAY), session=LATER)
    archive(layout)

    (problem,) = problems(layout)
    assert problem.kind == "gaps"
    assert "was open when the session before ended" in problem.what


def test_a_session_that_closes_what_was_left_is_fine(layout: Layout) -> None:
    """Its rows are the dead session's gap up to its last frame, and the time behind it."""
    ending = Ending(NOON + 100, (OPEN,), "process_down", "killed")
    ledger = Ledger(ending.open_gaps)
    begun = begin_session(ledger, ["market_data"], ending=ending)
    write_session(layout, [*quotes(1), mark(NOON + 100, opened_mark(OPEN))], dead=True)
    frames = [*(mark(NOON + DAY, one) for one in begun), mark(NOON + DAY, ledger.close("market_data", end=NOON + DAY))]
    write_session(layout, [*frames, Given(NOON + DAY, quote(1))], session=LATER)
    archive(layout)

    assert problems(layout, rederive=True) == []
    assert listed(layout) == [
        ("market_data", None, 0.0, 0.0001, "stale"),
        ("market_data", None, 0.0001, 86400.0, "process_down"),
    ]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "close", "note", "quote"]),
        st.sampled_from([("market_data", None), ("market_data", AAPL), ("pnl", None)]),
        st.integers(-2, 2),
    ),
    min_size=1,
    max_size=30,
)


def frames_for(steps: list[tuple[str, tuple[str, int | None], int]], ledger: Ledger) -> Iterator[Given]:
    """Make the frames of a session whose clock may be off by some microseconds."""
    for number, (what, (topic, conid), off) in enumerate(steps):
        ts = NOON + number * 3
        data: bytes | None = quote(number)
        if what == "open":
            data = ledger.open(topic, conid, start=ts + off, cause="stale", evidence="")
        elif what == "close":
            data = ledger.close(topic, conid, end=ts + off)
        elif what == "note":
            data = ledger.note(topic, conid, start=ts + off, end=ts + 1, cause="clock_step", evidence="stepped")
        if data is not None:
            yield Given(ts, data, "in" if what == "quote" else "mark")


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sets(st.integers(1, 20), max_size=3))
def test_whatever_a_ledger_marks_is_in_the_archive_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, tuple[str, int | None], int]], cuts: set[int]
) -> None:
    """However segments cut it; and verification finds nothing."""
    layout = make_layout(tmp_path_factory.mktemp("gaps") / "data", DayBoundary("00:00 UTC"))
    ledger = Ledger()
    frames = list(frames_for(steps, ledger))
    if not frames:
        return
    write_session(layout, frames, rotations=cuts)
    journaled = listed(layout)
    archive(layout)
    closed = [read for frame in frames if isinstance(read := read_gap(frame.data), Closed)]
    expected = [(one.gap.key, one.gap.start, one.end) for one in closed]
    still_open = [(gap.key, gap.start, None) for gap in ledger.open_gaps]
    rows = read_gaps(Reader(layout, TOPICS), span=Span())

    assert sorted([*expected, *still_open], key=str) == sorted(
        (((row.topic, row.conid), row.start, row.end) for row in rows), key=str
    )
    assert journaled == listed(layout)
    assert problems(layout, rederive=True) == []
