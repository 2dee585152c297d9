"""Rebuilding: a topic's rows derived again, and nothing else touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import AAPL, DAY, IBM, NOON, Given, archive, commits, maintaining, order, quote, quotes, write_session

from recorder.archive import rebuild as module
from recorder.archive import spill
from recorder.archive.archive_digest import archive_digest
from recorder.archive.archiver import Archiver
from recorder.archive.layout import Layout, make_layout, open_layout
from recorder.archive.parts import RowWriter
from recorder.archive.reading import Reader, Span
from recorder.archive.rebuild import Rebuilt, rebuild
from recorder.archive.replacement import replace_date
from recorder.archive.verify import verify
from recorder.protocol.days import DayBoundary
from recorder.protocol.topics import Column, Topics, load_topics
from recorder.recording import verify_archive

TOPICS = load_topics()
LATER = "20261121T120000bbbb"
FIRST = [
    *quotes(3),
    Given(NOON + 4000, order(1, conid=IBM, status="Submitted")),
    Given(NOON + 5000, quote(7, {"84": "1", "9999": "0.5"}, conid=IBM)),
    Given(NOON + 6000, order(1, status="Filled")),
    *quotes(2, first=3, start=NOON + 7000),
]
SECOND = [Given(NOON + DAY, quote(8, {"84": "2", "9999": "1.5"})), Given(NOON + DAY + 1, order(2, conid=AAPL))]


def changed(*, more: bool) -> Topics:
    """Give the topics with one column of market data more or less."""
    own = TOPICS["market_data"]
    moon = Column(name="moon_phase", key="9999", parser="number", doc="New.")
    columns = (*own.columns, moon) if more else tuple(one for one in own.columns if one.name != "bid_price")
    other = msgspec.structs.replace(own, columns=columns)
    return Topics([other if topic is own else topic for topic in TOPICS])


def flush(layout: Layout, topics: Topics) -> None:
    """Archive the journal, as a recorder with these topics does."""
    Archiver(layout, topics, "main", tell=lambda _news: None).archive_dead(live=None)


def rows(layout: Layout, topics: Topics, name: str = "market_data") -> list[dict[str, Any]]:
    """Read a topic's rows, as a recorder with these topics does."""
    topic = topics[name]
    columns = [*(column.name for column in topic.columns), "ts_event", "session", "extra"]
    found = Reader(layout, topics).tables("main", topic, conids=None, span=Span(), columns=columns)
    return [row for table in found for row in table.to_pylist()]


def run(layout: Layout, topics: Topics, name: str = "market_data") -> list[Rebuilt]:
    """Derive a topic again."""
    return rebuild(layout, topics, topics[name], done=lambda _frames: None)


def problems(layout: Layout, topics: Topics) -> list[Any]:
    """Verify, deriving every row again."""
    return verify(layout, topics, rederive=True, done=lambda _frames: None).problems


def digest(layout: Layout, topics: Topics) -> str:
    """Compute the archive digest."""
    return archive_digest(Reader(layout, topics), done=lambda _frames: None).hexdigest()


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Give every file below a folder: its inode and content."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes()) for path in paths}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Make an archive with the recorder's own topics, of two sessions."""
    layout = make_layout(tmp_path_factory.mktemp("prepared") / "data", DayBoundary("00:00 UTC"))
    write_session(layout, FIRST, rotations=(2, 5))
    archive(layout)
    write_session(layout, SECOND, session=LATER)
    return layout


@pytest.fixture
def made(prepared: Layout, tmp_path: Path) -> Layout:
    """Copy it."""
    return open_layout(shutil.copytree(prepared.root, tmp_path / "data"))


@pytest.mark.parametrize("more", [True, False], ids=["one column more", "one column less"])
def test_a_changed_schema_is_caught_up_with(made: Layout, tmp_path: Path, *, more: bool) -> None:
    """Until then only frames are archived and readers decode; afterwards it is as if it had always been so."""
    topics = changed(more=more)
    clean = make_layout(tmp_path / "clean", DayBoundary("00:00 UTC"))
    write_session(clean, FIRST, rotations=(2, 5))
    write_session(clean, SECOND, session=LATER)
    flush(clean, topics)
    flush(made, topics)
    before, orders = rows(made, topics), files(made.root / "orders")
    rebuilt = run(made, topics)

    assert [0.5, 1.5] == [row["moon_phase"] for row in before if row["moon_phase"]] if more else True
    assert 7 == len(before)
    assert before == rows(made, topics) == rows(clean, topics)
    assert [("2026-11-20", 8, 6), ("2026-11-21", 2, 1)] == [tuple(one) for one in rebuilt]
    assert digest(clean, topics) == digest(made, topics)
    assert ([], []) == (problems(made, topics), problems(clean, topics))
    assert {topics["market_data"].fingerprint} == {one.topics["market_data"] for one in commits(made)}
    assert 1 == len({tuple(pq.read_schema(path).names) for path in (made.root / "market_data").rglob("*.parquet")})
    assert orders == files(made.root / "orders")
    assert not (made.root / ".tmp" / ".rebuild").exists()


def test_rebuilding_what_is_right_changes_no_row(made: Layout) -> None:
    """Nor what the commits say; and a topic without rows gets no folder."""
    archive(made)
    before, said = rows(made, TOPICS), commits(made)
    run(made, TOPICS)
    run(made, TOPICS, "bulletins")

    assert (before, said) == (rows(made, TOPICS), commits(made))
    assert not (made.root / "bulletins").exists()
    assert [] == problems(made, TOPICS)


STEPS = ("rename", "replace", "link", "fsync", "mkdir", "unlink", "rmdir")


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "no exchange"])
def test_a_step_that_fails_hides_no_row_and_the_next_run_goes_on(
    prepared: Layout, tmp_path: Path, *, exchange: bool
) -> None:
    """Whichever step it is; readers with the old topics and with the new ones get theirs."""
    topics = changed(more=True)
    source = open_layout(shutil.copytree(prepared.root, tmp_path / "source"))
    flush(source, topics)
    expected, narrower = rows(source, topics), rows(source, TOPICS)
    number, left = 1, 0
    while left <= 0:
        layout = open_layout(shutil.copytree(source.root, tmp_path / f"{number}"))
        left = failing(layout, topics, number, exchange=exchange)

        assert expected == rows(layout, topics), number
        assert narrower == rows(layout, TOPICS), number
        run(layout, topics)
        assert expected == rows(layout, topics), number
        assert [] == problems(layout, topics), number
        shutil.rmtree(layout.root)
        number += 9

    assert number > 5 * 9


def failing(layout: Layout, topics: Topics, number: int, *, exchange: bool) -> int:
    """Rebuild while the n-th step of the disk fails; give how many steps there would have been to go."""
    left = number

    def guarded(step: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(5, "Input/output error")
            return step(*args, **options)

        return act

    with pytest.MonkeyPatch.context() as patch:
        if not exchange:
            patch.setattr("recorder.archive.replacement._exchange", lambda *_folders: False)
        for name in STEPS:
            patch.setattr(os, name, guarded(getattr(os, name)))
        try:
            run(layout, topics)
        except OSError:
            assert left <= 0
    return left


def test_rows_that_memory_does_not_hold_are_the_same_rows(
    made: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait in runs on disk, of which nothing is left; however many contracts there are, few files are open."""
    other = open_layout(shutil.copytree(made.root, tmp_path / "other"))
    contracts = [quotes(2, start=NOON + DAY + 10 * conid, conid=conid) for conid in range(1, 60)]
    for layout in (made, other):
        write_session(layout, [given for two in contracts for given in two], session="20261121T130000cccc")
        flush(layout, TOPICS)
    run(other, TOPICS)
    monkeypatch.setattr(spill, "MOST", 1)
    opened: list[int] = []
    written = RowWriter.finish

    def counted(self: RowWriter, metadata: dict[str, str]) -> None:
        opened.append(sum(entry.is_file() for entry in Path("/proc/self/fd").iterdir()))
        written(self, metadata)

    monkeypatch.setattr(RowWriter, "finish", counted)
    run(made, TOPICS)

    assert len(opened) > 59
    assert max(opened) - min(opened) < 20
    assert digest(other, TOPICS) == digest(made, TOPICS)
    assert [] == problems(made, TOPICS)
    assert [] == [path for path in (made.root / ".tmp").rglob("*") if path.is_file()]


def test_orders_keep_their_contracts_over_segments_and_dates(layout: Layout) -> None:
    """Also where a clock that stepped makes the dates take turns."""
    at = [NOON, NOON + 1, NOON + DAY, NOON + DAY + 1, NOON + 2, NOON + 3, NOON + DAY + 2]
    said: list[dict[str, Any]] = [{"conid": AAPL}, {}, {"conid": IBM}, {}, {}, {"conid": 7}, {}]
    frames = [
        Given(stamp, order(1, price=str(number), **more))
        for number, (stamp, more) in enumerate(zip(at, said, strict=True))
    ]
    write_session(layout, frames, rotations=(1, 3, 5))
    archive(layout)
    before, said_before = rows(layout, TOPICS, "orders"), commits(layout)
    run(layout, TOPICS, "orders")

    assert [AAPL, AAPL, IBM, IBM, IBM, 7, 7] == [row["conid"] for row in before]
    assert before == rows(layout, TOPICS, "orders")
    assert said_before == commits(layout)
    assert [] == problems(layout, TOPICS)


def test_what_was_known_before_a_hole_is_known_behind_it(layout: Layout) -> None:
    """As it is where frames are archived and read: an order's contract was told before the hole."""
    frames = [Given(NOON, order(1, conid=AAPL)), *(Given(NOON + number, order(1)) for number in range(1, 6))]
    write_session(layout, frames, rotations=(2, 4))
    segment = sorted(layout.journal("main").glob("*.seg"))[1]
    segment.write_bytes(segment.read_bytes()[:200] + b"?" + segment.read_bytes()[201:])
    verify_archive(layout, TOPICS, rederive=False, repair=True, done=lambda _frames: None)
    archive(layout)
    before = rows(layout, TOPICS, "orders")
    run(layout, TOPICS, "orders")

    assert [(seq, AAPL) for seq in (0, 1, 4, 5)] == [(row["seq"], row["conid"]) for row in before]
    assert before == rows(layout, TOPICS, "orders")
    assert [] == problems(layout, TOPICS)


def test_what_is_flushed_meanwhile_is_kept(made: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each exchange of folders another session is archived, by a recorder with the same topics."""
    archive(made)
    sessions = [f"20261120T1{hour}0000cccc" for hour in (3, 4, 5)]
    real = replace_date

    def late(layout: Layout, *args: Any, **options: Any) -> None:
        if sessions:
            session = sessions.pop()
            start = NOON + DAY // 24 * int(session[9:11])
            write_session(layout, quotes(2, start=start - DAY // 2), session=session, recorder=session)
            archive(layout, recorder=session)
        real(layout, *args, **options)

    monkeypatch.setattr(module, "replace_date", late)
    count = len(rows(made, TOPICS))
    with maintaining(made):
        run(made, TOPICS)
    market_data = TOPICS["market_data"]
    others = [
        table.num_rows
        for recorder in Reader(made, TOPICS).recorders()
        for table in Reader(made, TOPICS).tables(recorder, market_data, conids=None, span=Span(), columns=["bid_price"])
    ]

    assert [] == sessions
    assert count + 6 == sum(others)
    assert [] == problems(made, TOPICS)
