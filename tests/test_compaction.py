"""Compaction: fewer parts, the same rows, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import (
    AAPL,
    DAY,
    IBM,
    NOON,
    SESSION,
    Given,
    archive,
    commits,
    environment,
    frames_of,
    maintaining,
    miscount_levels,
    order,
    quotes,
    write_session,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.archive import compaction as module
from recorder.archive import frames_merge
from recorder.archive.archive_digest import archive_digest
from recorder.archive.compaction import Compacted, compact, finished_dates
from recorder.archive.layout import Layout, make_layout, open_layout, parse_part_name
from recorder.archive.reading import Reader
from recorder.archive.replacement import replace_date
from recorder.archive.verify import verify
from recorder.errors import Damaged
from recorder.library import Archive
from recorder.protocol.days import DayBoundary
from recorder.protocol.topics import load_topics

TOPICS = load_topics()
LATER, OTHER = "20261120T130000bbbb", "20261120T123000cccc"
DATE = "2026-11-20"
MIXED = [
    *quotes(6),
    *quotes(6, start=NOON + 6000, conid=IBM),
    Given(NOON + 15_000, order(1, conid=IBM, status="Submitted")),
    *quotes(3, first=6, start=NOON + 16_000),
    Given(NOON + 19_000, order(1, status="Filled")),
    Given(NOON + 19_001, b"not JSON"),
]
AFTER = [Given(given.ts + DAY // 24, given.data, given.kind, given.op) for given in MIXED]


def state(layout: Layout) -> tuple[str, dict[str, str], list[Any]]:
    """Give all that compaction must not change: the archive digest, the content digests, and rows."""
    opened = Archive(layout.root)
    digest = archive_digest(Reader(layout, TOPICS), done=lambda _frames: None).hexdigest()
    contents = {name: one.hexdigest() for name, one in opened.digests().items()}
    return digest, contents, [opened.table(topic).to_pylist() for topic in ("market_data", "orders")]


def run(layout: Layout) -> list[Compacted]:
    """Compact every date that is finished."""
    return compact(layout, finished_dates(layout, before="2030-01-01"), done=lambda _rows: None)


def problems(layout: Layout) -> list[Any]:
    """Verify, deriving every row again."""
    return verify(layout, TOPICS, rederive=True, done=lambda _frames: None).problems


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Make a date with two sessions of one recorder and one of another, each of several parts, and a second date."""
    layout = make_layout(tmp_path_factory.mktemp("prepared") / "data", DayBoundary("00:00 UTC"))
    write_session(layout, MIXED, rotations=(4, 7, 14))
    write_session(layout, [*AFTER, *quotes(4, start=NOON + DAY)], session=LATER, rotations=(6, 19))
    write_session(layout, quotes(6, conid=IBM), recorder="second", session=OTHER, rotations=(2,))
    for recorder in layout.recorders():
        archive(layout, recorder=recorder)
    return layout


@pytest.fixture
def made(prepared: Layout, tmp_path: Path) -> Layout:
    """Copy it, to be compacted."""
    return open_layout(shutil.copytree(prepared.root, tmp_path / "data"))


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    """Give every file by path: its inode and content."""
    paths = [path for path in root.rglob("*") if path.is_file() and "journal" not in path.parts]
    return {str(path.relative_to(root)): (path.stat().st_ino, path.read_bytes()) for path in paths}


def test_one_part_a_partition_and_session_is_left(made: Layout) -> None:
    """Sorted by frames; nothing that is read changes, and a second run finds nothing to do."""
    before, footers = state(made), commits(made)
    done = run(made)
    again = run(made)

    assert before == state(made)
    assert ([DATE, "2026-11-21"], []) == ([one.date for one in done], again)
    assert (8, 3) == (sum(one.date == DATE for one in footers), sum(one.date == DATE for one in commits(made)))
    assert len(list((made.root / "frames" / f"date={DATE}").iterdir())) == 3
    for path in made.root.rglob("*.parquet"):
        name, seq = parse_part_name(path.name), pq.ParquetFile(path).read(["seq"])["seq"].to_pylist()
        assert name is not None
        assert seq == sorted(seq)
        assert name.first <= seq[0] <= seq[-1] <= name.last
    for folder in (path for path in made.root.rglob("conid=*") if path.is_dir()):
        sessions = [path.name.partition("-")[0] for path in folder.iterdir()]
        assert len(sessions) == len(set(sessions))
    assert [] == problems(made)
    assert not (made.root / ".tmp" / ".compaction").exists()


def test_the_merged_commit_says_what_its_parts_said(made: Layout) -> None:
    """Sums, bounds, and the state behind the last."""
    own = [one for one in commits(made) if one.session == SESSION]
    run(made)
    (merged,) = [one for one in commits(made) if one.session == SESSION]

    assert (0, len(MIXED) - 1, DATE) == (merged.first, merged.last, merged.date)
    assert {"in": len(MIXED), "out": 0, "rest": 0, "mark": 0} == merged.kinds
    assert {"market_data": 15, "orders": 2} == merged.claimed == merged.rows
    assert (1, {}) == (merged.unclaimed, merged.undecoded)
    assert (own[-1].orders, own[-1].latest, own[-1].topics) == (merged.orders, merged.latest, merged.topics)
    assert (NOON, max(given.ts for given in MIXED)) == (merged.ts_min, merged.ts_max)


@settings(max_examples=6, database=None)
@given(
    rotations=st.lists(st.sets(st.integers(1, len(MIXED) - 1), max_size=6), min_size=2, max_size=2),
    schedule=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_no_schedule_of_flushes_and_compactions_changes_what_is_read(
    prepared: Layout, tmp_path_factory: pytest.TempPathFactory, rotations: list[set[int]], schedule: list[bool]
) -> None:
    """Segments of any size, compacted or not after each session, the current date included."""
    layout = make_layout(tmp_path_factory.mktemp("some") / "data", DayBoundary("00:00 UTC"))
    last = [*AFTER, *quotes(4, start=NOON + DAY)]
    for session, frames, cuts, now in zip((SESSION, LATER), (MIXED, last), rotations, schedule, strict=False):
        write_session(layout, frames, session=session, rotations=cuts)
        archive(layout)
        if now:
            run(layout)
    write_session(layout, quotes(6, conid=IBM), recorder="second", session=OTHER)
    archive(layout, recorder="second")
    if schedule[2]:
        run(layout)

    assert state(prepared) == state(layout)
    assert [] == problems(layout)
    shutil.rmtree(layout.root)


STEPS = ("rename", "replace", "link", "fsync", "mkdir", "unlink", "rmdir")


class Fault:
    """Lets the n-th step of the disk fail, once."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self.happened = False
        self._left = number
        for name in STEPS:
            patch.setattr(os, name, self._guarded(getattr(os, name)))

    def _guarded(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self.happened = True
                raise OSError(5, "Input/output error")
            return step(*args, **options)

        return guarded


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "no exchange"])
def test_a_step_that_fails_leaves_a_whole_archive_and_the_next_run_goes_on(
    prepared: Layout, tmp_path: Path, *, exchange: bool
) -> None:
    """Whichever step it is; every reader gets every row in between."""
    before, number, happened = state(prepared), 1, True
    while happened:
        layout = open_layout(shutil.copytree(prepared.root, tmp_path / f"{number}"))
        with pytest.MonkeyPatch.context() as patch:
            if not exchange:
                patch.setattr("recorder.archive.replacement._exchange", lambda *_folders: False)
            fault = Fault(patch, number)
            try:
                run(layout)
            except OSError:
                assert fault.happened
        happened = fault.happened

        assert before == state(layout), number
        run(layout)
        assert before == state(layout), number
        assert [] == problems(layout), number
        assert 4 == len(list((layout.root / "frames").rglob("*.parquet"))), number
        shutil.rmtree(layout.root)
        number += 11  # a prime: other steps than the last time

    assert number > 5 * 11


def test_what_no_commit_covers_is_taken_along(made: Layout) -> None:
    """Leftovers of an archiver, files of somebody else; and what a partition never had is not merged into it."""
    folder = made.root / "market_data" / f"date={DATE}" / f"conid={AAPL}"
    good = min(folder.iterdir())
    others = {
        folder / f"{OTHER[:-1]}z-{0:012d}-{3:012d}.parquet": good.read_bytes(),
        folder / "notes.txt": b"mine",
        folder.parent / "conid=7" / good.name: good.read_bytes(),
        made.root / "frames" / f"date={DATE}" / "README": b"mine too",
    }
    for path, content in others.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    before = state(made)
    run(made)

    assert others == {path: path.read_bytes() for path in others}
    assert before == state(made)
    assert set(others) == {problem.path for problem in problems(made)}


def test_parts_that_arrive_meanwhile_are_kept(made: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush commits another session of the date between the merging and the exchange."""
    arriving = ["main", "second", "third"]
    real = replace_date

    def late(layout: Layout, *args: Any, **options: Any) -> None:
        if arriving:
            recorder = arriving.pop()
            session = f"20261120T14000{len(arriving)}dddd"
            write_session(layout, quotes(3, start=NOON + DAY // 12), recorder=recorder, session=session)
            archive(layout, recorder=recorder)
        real(layout, *args, **options)

    monkeypatch.setattr(module, "replace_date", late)
    frames = len(frames_of(made.root))
    with maintaining(made):
        run(made)

    assert [] == arriving
    assert frames + 9 == len(frames_of(made.root))
    assert [] == problems(made)
    run(made)
    assert [] == problems(made)


def test_a_session_whose_clock_went_back_over_midnight_is_merged_in_runs(layout: Layout) -> None:
    """Frames of two dates in turn: what does not follow one another is not merged, and nothing is lost."""
    turns = [NOON, NOON + 1000, NOON + DAY, NOON + DAY + 1000, NOON + 2000, NOON + 3000, NOON + DAY + 2000]
    frames = [Given(at, quotes(1, first=number)[0].data) for number, at in enumerate(turns)]
    write_session(layout, frames, rotations=(1, 3, 5))
    archive(layout)
    before = state(layout)
    run(layout)
    ranges = [(one.date[-2:], one.first, one.last) for one in commits(layout)]

    assert before == state(layout)
    assert [("20", 0, 1), ("21", 2, 3), ("20", 4, 5), ("21", 6, 6)] == ranges
    assert [] == problems(layout)
    assert [] == run(layout)


Damage = Callable[[Path], object]


def rewrite(path: Path) -> None:
    """Take a row out of a part."""
    pq.write_table(pq.ParquetFile(path).read().slice(1), path)


DAMAGE: dict[str, tuple[str, Damage]] = {
    "a row less": (f"market_data/date={DATE}/conid={IBM}", rewrite),
    "a missing part": (f"market_data/date={DATE}/conid={IBM}", Path.unlink),
    "no part at all": (f"orders/date={DATE}/conid={IBM}", lambda path: shutil.rmtree(path.parent)),
    "an unreadable part": (f"market_data/date={DATE}/conid={IBM}", lambda path: path.write_bytes(b"PAR1")),
    "a footer that contradicts itself": (f"market_data/date={DATE}/conid={IBM}", miscount_levels),
    "an unreadable frames part": (f"frames/date={DATE}", lambda path: path.write_bytes(b"PAR1")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_what_was_written_is_not_replaced(made: Layout, damage: str) -> None:
    """The error names the place; that topic and the frames stay as they are, to the file, and nothing is left over."""
    folder, act = DAMAGE[damage]
    act(min((made.root / folder).iterdir()))
    before = files(made.root)
    with pytest.raises(Damaged) as caught:
        run(made)
    after = files(made.root)

    assert str(caught.value.path).startswith(str(made.root / folder))
    kept = (f"frames/date={DATE}", folder)
    assert {name: file for name, file in before.items() if name.startswith(kept)} == {
        name: file for name, file in after.items() if name.startswith(kept)
    }
    assert [] == [path for path in (made.root / ".tmp").rglob("*") if path.is_file()]


def test_a_text_that_many_rows_have_is_not_taken_to_be_that_of_all(layout: Layout) -> None:
    """Another one follows, none, and the first again: no part is read, or written, as if all had the first."""
    words = [{"status": "Submitted"}] * 70 + [{"status": "Filled"}] * 5 + [{}] * 5 + [{"status": "Submitted"}] * 5
    frames = [Given(NOON + number, order(1, conid=IBM, **word)) for number, word in enumerate(words)]
    write_session(layout, frames, rotations=(71, 76, 81))
    archive(layout)
    before = state(layout)
    run(layout)

    assert [word.get("status") for word in words] == Archive(layout.root).table("orders")["status"].to_pylist()
    assert before == state(layout)
    assert [] == problems(layout)


@pytest.mark.parametrize("ahead", [0, 1])
def test_runs_that_wait_for_the_typed_rows_are_merged_as_others_are(
    made: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ahead: int
) -> None:
    """The frames of many runs are not all copied ahead."""
    other = open_layout(shutil.copytree(made.root, tmp_path / "other"))
    run(other)
    monkeypatch.setattr(frames_merge, "_AHEAD", ahead)
    run(made)

    assert {name: content for name, (_, content) in files(other.root).items()} == {
        name: content for name, (_, content) in files(made.root).items()
    }


def test_a_damaged_date_does_not_hold_up_the_others(layout: Layout) -> None:
    """They are compacted before the damage is raised."""
    for day in (0, 1):
        write_session(layout, quotes(6, start=NOON + day * DAY), session=f"2026112{day}T120000aaaa", rotations=(2, 4))
    archive(layout)
    first, second = layout.dates("frames")
    min((layout.root / "market_data" / f"date={first}" / f"conid={AAPL}").iterdir()).write_bytes(b"nothing")
    with pytest.raises(Damaged, match=first):
        run(layout)

    assert 3 == len(list(layout.frames(first).iterdir()))
    assert 1 == len(list(layout.frames(second).iterdir()))


def test_a_name_alone_proves_nothing(made: Layout) -> None:
    """A part that is named as if it held the rows of others does not let them be removed."""
    folder = made.root / "market_data" / f"date={DATE}" / f"conid={AAPL}"
    good = min(folder.iterdir())
    wide = folder / f"{SESSION}-{0:012d}-{len(MIXED) - 1:012d}.parquet"
    shutil.copy(good, wide)
    before = files(made.root)
    with pytest.raises(Damaged, match="it is named as if it held the rows of"):
        run(made)

    after = files(made.root)

    assert {name: file for name, file in before.items() if DATE in name} == {
        name: file for name, file in after.items() if DATE in name
    }


def test_dates_that_are_not_finished_are_left_alone(made: Layout) -> None:
    """The current one, those behind the limit, those of which the journal still has something."""
    assert [DATE, "2026-11-21"] == finished_dates(made, before="2026-11-22")
    assert [DATE] == finished_dates(made, before="2026-11-21")
    write_session(made, quotes(2), session="20261120T150000eeee")
    assert ["2026-11-21"] == finished_dates(made, before="2026-11-22")


def test_a_segment_that_is_archived_meanwhile_does_not_disturb(made: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may vanish between the listing and the look into it."""
    paths = write_session(made, quotes(2), session="20261120T150000eeee")
    monkeypatch.setattr(Layout, "segments", lambda _self, _recorder: paths)
    archive_away = [path.unlink() for path in paths]  # type: ignore[func-returns-value]

    assert [None] == archive_away
    assert [DATE, "2026-11-21"] == finished_dates(made, before="2026-11-22")


COMPACT = (
    "import sys; from pathlib import Path; from recorder.archive.compaction import compact;"
    " from recorder.archive.layout import open_layout; layout = open_layout(Path(sys.argv[1]));"
    " [compact(layout, [date], done=lambda rows: None) for date in layout.dates('frames')]"
)


def unique(rows: Iterable[Any]) -> bool:
    """Say whether no row is there twice."""
    found = list(rows)
    return len(found) == len(set(found))


def test_readers_beside_a_compaction_get_every_row_once(layout: Layout) -> None:
    """Ours miss none, in any way of reading; plain pandas sees none twice."""
    for day in range(5):
        sent = [*quotes(60, start=NOON + day * DAY), *quotes(60, start=NOON + day * DAY + 1, conid=IBM)]
        write_session(layout, sent, session=f"2026112{day}T120000aaaa", rotations=range(5, 120, 5))
    archive(layout)
    opened = Archive(layout.root)
    frames, rows, looks = frames_of(layout.root), opened.table("market_data"), 0
    expected = {(row["session"], row["seq"]) for row in rows.select(["session", "seq"]).to_pylist()}
    with subprocess.Popen([sys.executable, "-c", COMPACT, str(layout.root)], env=environment()) as compacting:
        while compacting.poll() is None:
            looks += 1
            assert frames == frames_of(layout.root)
            assert rows.equals(opened.table("market_data"))
            with suppress(FileNotFoundError):  # a dataset lists first and opens later
                scanned = opened.scan("market_data").to_table(columns=["session", "seq"]).to_pylist()
                assert unique((row["session"], row["seq"]) for row in scanned)
                assert expected == {(row["session"], row["seq"]) for row in scanned}
            with suppress(FileNotFoundError):
                plain = pd.read_parquet(layout.root / "market_data", columns=["session", "seq"])
                assert unique(zip(plain["session"], plain["seq"], strict=True))
        assert 0 == compacting.returncode

    assert looks > 1
    assert rows.equals(opened.table("market_data"))
    assert 5 == len(list((layout.root / "frames").rglob("*.parquet")))
