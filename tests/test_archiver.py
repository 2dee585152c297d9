"""The archiver: segments into Parquet, exactly once, whatever breaks and when."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
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
    commits,
    cut,
    environment,
    frames_of,
    order,
    parts,
    quote,
    quotes,
    write_session,
)
from forge import forging

from recorder.archive import build, frames_build
from recorder.archive.archiver import Archiver, News, Torn
from recorder.archive.digest import TableDigest
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout, open_layout
from recorder.errors import Damaged
from recorder.library import Archive
from recorder.protocol.digest import ContentDigest
from recorder.protocol.topics import Topics, load_topics
from recorder.types import Frame

REST = b'GET /iserver/account/orders\n{"orders":[{"acct":"DU1","orderId":1,"conid":8314}],"snapshot":true}'
MIXED = [
    Given(NOON, b'{"event":"session_started","predecessor":null}', "mark"),
    Given(NOON + 1, b"smd+265598+{}", "out"),
    *quotes(3, start=NOON + 2),
    Given(NOON + 5000, REST, "rest"),
    *quotes(2, start=NOON + 6000, conid=IBM),
    Given(NOON + 9000, order(1, status="Submitted")),
    Given(NOON + 9001, order(2, conid=AAPL, status="Inactive"), "in", "binary"),
    Given(NOON + 9002, b"not JSON"),
    Given(NOON + 9003, b""),
    Given(NOON + 9004, b'{"topic":"spl","args":{"DU1.Core":{"dpl":1.5},"DU2":{"nl":2}}}'),
    Given(NOON + 9005, b'{"topic":"sor","args":3}'),
    *quotes(2, first=5, start=NOON + 9006),
    Given(NOON + 20000, order(1, status="Filled")),
]
ROTATIONS = (5, 10)
ROWS = {"market_data": 7, "orders": 4, "pnl": 2}
LATER = "20261120T130000bbbb"


@pytest.fixture
def journal(layout: Layout) -> list[Path]:
    """Write three segments that hold some of everything."""
    return write_session(layout, MIXED, rotations=ROTATIONS)


def tables(root: Path, topics: Sequence[str] = tuple(ROWS)) -> dict[str, list[dict[str, Any]]]:
    """Read topics' rows."""
    return {topic: Archive(root).table(topic).to_pylist() for topic in topics}


def everything(layout: Layout) -> tuple[list[str], list[Frame], dict[str, list[dict[str, Any]]], list[bytes]]:
    """Tell all that an archive holds: names of parts, frames, rows, footers."""
    footers = [msgspec.json.encode(commit) for commit in commits(layout)]
    return parts(layout), frames_of(layout.root), tables(layout.root), footers


def copy_of(layout: Layout, name: str) -> Layout:
    """Copy an archive."""
    return open_layout(shutil.copytree(layout.root, layout.root.parent / name))


def archiver(layout: Layout, *, topics: Topics | None = None, told: list[News] | None = None) -> Archiver:
    """Make an archiver of the recorder `main`."""
    news: list[News] = [] if told is None else told
    return Archiver(layout, topics or load_topics(), "main", tell=news.append)


def test_archiving_is_decoding(layout: Layout, journal: list[Path]) -> None:
    """Rows and frames are the same from the journal and from Parquet, and the journal is empty afterwards."""
    frames, rows = frames_of(layout.root), tables(layout.root)
    archive(layout)

    assert [] == layout.segments("main")
    assert MIXED == [Given(frame.ts_recv, frame.data, frame.kind, frame.op) for frame in frames]
    assert ROWS == {topic: len(found) for topic, found in rows.items()}
    assert frames == frames_of(layout.root)
    assert rows == tables(layout.root)


def test_rows_lie_in_typed_parts_by_topic_date_and_contract(layout: Layout, journal: list[Path]) -> None:
    """One part a segment; each with the topic's whole schema and neither date nor conid inside."""
    archive(layout)
    name = f"{SESSION}-{0:012d}-{4:012d}.parquet", f"{SESSION}-{5:012d}-{9:012d}.parquet"

    assert {
        f"market_data/date=2026-11-20/conid={AAPL}/{name[0]}",
        f"market_data/date=2026-11-20/conid={IBM}/{name[1]}",
        f"orders/date=2026-11-20/conid={IBM}/{name[1]}",
        f"frames/date=2026-11-20/{name[0]}",
        f"frames/date=2026-11-20/{name[1]}",
    } < set(parts(layout))
    schemas = {pq.read_schema(path) for path in (layout.root / "market_data").rglob("*.parquet")}
    assert 1 == len(schemas)
    assert not {"date", "conid"} & set(schemas.pop().names)


def test_the_footer_says_what_the_commit_holds(layout: Layout, journal: list[Path]) -> None:
    """Counts, digests, times and state; all of it can be computed again from the parts."""
    told = archive(layout)
    first, second, third = commits(layout)

    assert [first, second, third] == told
    assert [(0, 4), (5, 9), (10, 16)] == [(commit.first, commit.last) for commit in told]
    assert {"in": 3, "out": 1, "rest": 0, "mark": 1} == first.kinds
    assert {"market_data": 3} == first.claimed
    assert (0, {}) == (first.unclaimed, first.undecoded)
    assert [{"market_data": 3}, {"market_data": 2, "orders": 3}, {"market_data": 2, "orders": 1, "pnl": 2}] == [
        commit.rows for commit in told
    ]
    assert (2, {"orders": 1}) == (third.unclaimed, third.undecoded)
    assert {"DU1 1": IBM, "DU1 2": AAPL} == second.orders == third.orders
    assert (NOON, NOON + 2002) == (first.ts_min, first.ts_max)
    assert NOON + 20000 == third.latest == third.ts_max
    assert {topic.name: topic.fingerprint for topic in load_topics()} == third.topics
    for commit in told:
        for partition, info in commit.partitions.items():
            name = f"{commit.session}-{commit.first:012d}-{commit.last:012d}.parquet"
            table = pq.ParquetFile(layout.root / partition / name).read()
            digest = TableDigest()
            digest.update(table)
            assert (table.num_rows, digest.hexdigest()) == (info.rows, info.digest)


def test_archiving_again_changes_nothing(layout: Layout, journal: list[Path]) -> None:
    """An empty journal is no work."""
    archive(layout)
    before = everything(layout)

    assert [] == archive(layout)
    assert before == everything(layout)


def test_the_content_digest_runs_over_segments_and_restarts(layout: Layout, journal: list[Path]) -> None:
    """An archiver that starts later takes it up where the last one left it."""
    first = archiver(layout)
    first.follow(SESSION, everything=True)
    second = archiver(layout)
    while second.follow(SESSION, everything=True):
        pass
    whole = ContentDigest("market_data")
    whole.extend([given.data for given in MIXED if b'"smd+' in given.data])

    assert whole.hexdigest() == second.state(SESSION).contents["market_data"].hexdigest()
    assert [] == layout.segments("main")


STEPS = ("replace", "unlink", "fsync", "fdatasync", "mkdir", "chmod")
"""What the operating system is asked to do for a commit."""


class Fault:
    """Lets the n-th step fail, and every one after it, as a disk does that is gone."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self.happened = False
        self._left = number
        for name in STEPS:
            patch.setattr(os, name, self._guarded(getattr(os, name)))

    def _guarded(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left <= 0:
                self.happened = True
                raise OSError(5, "Input/output error")
            return step(*args, **kwargs)

        return guarded


@pytest.mark.parametrize(("again", "every"), [("the same archiver", 2), ("another archiver", 3)])
def test_a_step_that_fails_leaves_nothing_that_the_next_try_does_not_mend(
    layout: Layout, again: str, every: int
) -> None:
    """Whichever it is: the archive is the same in the end, and readers see everything once in between."""
    write_session(layout, MIXED[2:7], rotations=[3])
    clean = copy_of(layout, "clean")
    archive(clean)
    expected = everything(clean)
    number, happened = 1, True
    while happened:
        broken = copy_of(layout, f"broken-{number}")
        first = archiver(broken)
        with pytest.MonkeyPatch.context() as patch, suppress(OSError):
            fault = Fault(patch, number)
            first.archive_dead(live=None)
        between = frames_of(broken.root), tables(broken.root)
        (first if again == "the same archiver" else archiver(broken)).archive_dead(live=None)

        assert expected[1:3] == between, number
        assert expected == everything(broken), number
        assert [] == broken.segments("main"), number
        shutil.rmtree(broken.root)
        number, happened = number + every, fault.happened
    assert number > 30


POINTS = [
    point
    for module in (build, frames_build)
    for point in re.findall(r'point\("(build\.\w+)"\)', Path(str(module.__file__)).read_text("utf-8"))
    if point != "build.leftover_removed"  # passed only where an earlier try left something: test_crashes has it
]


def test_an_archiver_killed_at_any_point_leaves_nothing_that_the_next_does_not_mend(layout: Layout) -> None:
    """Killed for good, at every named point of a commit."""
    write_session(layout, MIXED[:7], rotations=[4])
    clean = copy_of(layout, "clean")
    archive(clean)
    expected = everything(clean)
    assert len(POINTS) > 5
    with forging(layout.root.parent / "log") as forge:
        for number, point in enumerate(POINTS):
            broken = copy_of(layout, f"broken-{number}")
            assert -signal.SIGKILL == forge.run("flush", broken.root, kill_at=f"{point}:1"), point
            assert expected[1:3] == (frames_of(broken.root), tables(broken.root)), point
            archive(broken)
            assert expected == everything(broken), point
            assert [] == broken.segments("main"), point


def test_a_retry_tells_of_the_commit_that_nobody_heard_of(layout: Layout) -> None:
    """It failed between the commit and the removal of the segment."""
    write_session(layout, quotes(4), rotations=[2])
    told: list[News] = []
    one = archiver(layout, told=told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", failing)
        with pytest.raises(OSError, match="Input/output"):
            one.archive_dead(live=None)
    one.archive_dead(live=None)

    assert commits(layout) == told
    assert [] == layout.segments("main")


def failing(*_args: object, **_kwargs: object) -> None:
    """Fail as a disk does."""
    raise OSError(5, "Input/output error")


def test_leftovers_of_an_earlier_try_are_ignored_and_replaced(layout: Layout) -> None:
    """Also one that reached further, as an archiver may leave that lost its segment's end."""
    write_session(layout, quotes(6), rotations=[3])
    clean = copy_of(layout, "clean")
    archive(clean)
    folder = f"market_data/date=2026-11-20/conid={AAPL}"
    (layout.root / folder).mkdir(parents=True)
    whole = pq.ParquetFile(clean.root / folder / f"{SESSION}-{0:012d}-{2:012d}.parquet").read()
    for last in (1, 2, 9):
        part = layout.root / folder / f"{SESSION}-{0:012d}-{last:012d}.parquet"
        pq.write_table(pa.concat_tables([whole, whole]), part)
    before = tables(layout.root)
    archive(layout)

    assert before == tables(layout.root) == tables(clean.root)
    assert parts(clean) == parts(layout)


def test_a_damaged_typed_part_does_not_stop_the_archiver(layout: Layout) -> None:
    """Another part tells the schema; that one is for `recorder verify`."""
    write_session(layout, quotes(3))
    archive(layout)
    (part,) = (layout.root / "market_data").rglob("*.parquet")
    part.write_bytes(b"PAR1")
    write_session(layout, quotes(2), session=LATER)

    assert [{"market_data": 2}] == [commit.rows for commit in archive(layout)]


def test_an_archiver_whose_capture_is_gone_ends_without_a_word(layout: Layout) -> None:
    """Nobody reads what it says, nobody writes to it; what it had begun is done by the next."""
    write_session(layout, quotes(30), rotations=range(3, 30, 3))
    process = subprocess.Popen(
        [sys.executable, "-m", "recorder.archive.follower", str(layout.root), "main", LATER],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    said = process.stderr.read()
    process.stderr.close()

    assert (0, b"") == (process.wait(20), said)
    archive(layout)
    assert [given.data for given in quotes(30)] == [frame.data for frame in frames_of(layout.root)]


def test_stray_temporary_files_are_cleared(layout: Layout, journal: list[Path]) -> None:
    """They are never inside a topic's folder."""
    layout.tmp("main").mkdir(parents=True)
    (layout.tmp("main") / "old-frames.parquet").write_bytes(b"half")
    archive(layout)

    assert [] == [path for path in (layout.root / ".tmp").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("damage", "kept", "what"),
    [
        (lambda path: cut(path, END_RECORD), 0, "no end record"),
        (lambda path: cut(path, 5), END_RECORD - 5, "an incomplete record"),
        (lambda path: append(cut_end(path), bytes(4096)), 4096, "an empty record"),
        (lambda path: append(cut_end(path), b"\x10\x00\x00\x00abcdefghijklmnopqrstu"), 25, "checksum"),
        (lambda path: append(cut_end(path), b"\x10\x00"), 2, "an incomplete record"),
    ],
    ids=["no end", "half an end", "zeros", "garbage", "half a length"],
)
def test_a_torn_tail_keeps_the_prefix_and_sets_the_rest_aside(
    layout: Layout, damage: Callable[[Path], None], kept: int, what: str
) -> None:
    """Only in the last segment of a dead session; the archiver says so, and so does the footer."""
    paths = write_session(layout, quotes(6), rotations=[3])
    damage(paths[-1])
    rest = paths[-1].read_bytes()[-kept:] if kept else b""
    told: list[News] = []
    archive(layout, tell=told.append)
    torn = [news for news in told if isinstance(news, Torn)]
    aside = list(layout.quarantine.iterdir()) if layout.quarantine.exists() else []

    assert [given.data for given in quotes(6)] == [frame.data for frame in frames_of(layout.root)]
    assert [paths[-1]] == [news.segment for news in torn]
    assert what in torn[0].what
    assert [None, torn[0].what] == [commit.torn for commit in commits(layout)]
    assert [news.kept for news in torn if news.kept] == aside
    assert rest == b"".join(path.read_bytes() for path in aside)
    assert [] == layout.segments("main")


def append(path: Path, data: bytes) -> None:
    """Add bytes to a file."""
    with path.open("ab") as file:
        file.write(data)


def cut_end(path: Path) -> Path:
    """Take the end record off a segment."""
    cut(path, END_RECORD)
    return path


def test_a_segment_may_break_off_anywhere(layout: Layout) -> None:
    """Whatever the byte: what is archived is a prefix, and together with the quarantine it is everything."""
    (path,) = write_session(layout, quotes(2))
    whole = path.read_bytes()
    sent = [given.data for given in quotes(2)]
    for size in range(0, len(whole), 7):
        broken = copy_of(layout, f"broken-{size}")
        (segment,) = broken.segments("main")
        segment.write_bytes(whole[:size])
        archive(broken)
        found = [frame.data for frame in frames_of(broken.root)]
        aside = b"".join(path.read_bytes() for path in broken.quarantine.glob("*"))

        assert sent[: len(found)] == found
        assert (len(sent) if size >= len(whole) - END_RECORD else 0) == len(found), size
        assert whole[:size].endswith(aside)
        assert [] == broken.segments("main")
        shutil.rmtree(broken.root)


@pytest.mark.parametrize("place", [20, 160, -30, -3])
def test_damage_in_an_earlier_segment_is_an_error_and_nothing_is_lost(layout: Layout, place: int) -> None:
    """With the file and the byte; what came before it is archived, the rest waits."""
    paths = write_session(layout, quotes(9), rotations=[3, 6])
    content = bytearray(paths[1].read_bytes())
    content[place] ^= 0x40
    paths[1].write_bytes(content)
    with pytest.raises(Damaged) as caught:
        archive(layout)

    assert paths[1] == caught.value.path
    assert 0 < caught.value.offset < len(content)
    assert f"{paths[1]}: " in str(caught.value)
    assert f"at byte {caught.value.offset}" in str(caught.value)
    assert [(0, 2)] == [(commit.first, commit.last) for commit in commits(layout)]
    assert paths[1:] == layout.segments("main")
    assert bytes(content) == paths[1].read_bytes()
    assert [] == [path for path in (layout.root / ".tmp").rglob("*") if path.is_file()]


def test_a_segment_of_another_format_is_no_torn_one(layout: Layout) -> None:
    """It waits for the recorder that can read it."""
    (path,) = write_session(layout, quotes(3))
    content = bytearray(path.read_bytes())
    content[7] += 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match="a journal of format 2, while this recorder reads format 1"):
        archive(layout)

    assert content == path.read_bytes()
    assert not layout.quarantine.exists()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_segment_is_an_error(layout: Layout, missing: int) -> None:
    """What follows it waits until it is back."""
    paths = write_session(layout, quotes(9), rotations=[3, 6])
    away = paths[missing].rename(layout.root.parent / "away")
    with pytest.raises(Damaged, match=f"frames {missing * 3} to {missing * 3 + 2} of session {SESSION} are missing"):
        archive(layout)
    waiting = layout.segments("main")
    away.rename(paths[missing])
    archive(layout)

    assert paths[missing + 1 :] == waiting
    assert [given.data for given in quotes(9)] == [frame.data for frame in frames_of(layout.root)]


def test_a_segment_that_is_committed_already_is_removed(layout: Layout) -> None:
    """And what it holds is not archived twice."""
    paths = write_session(layout, quotes(9), rotations=[3, 6])
    kept = shutil.copy(paths[1], layout.root.parent / "kept")
    archive(layout)
    before = everything(layout)
    shutil.copy(kept, paths[1])
    during = frames_of(layout.root), tables(layout.root)
    archive(layout)

    assert before[1:3] == during
    assert before == everything(layout)
    assert [] == layout.segments("main")


def test_a_segment_is_kept_if_the_commit_that_has_its_place_cannot_be_read(layout: Layout) -> None:
    """Then it is all there is of these frames; when the part is out of the way they are archived again."""
    (path,) = write_session(layout, quotes(9))
    kept = shutil.copy(path, layout.root.parent / "kept")
    archive(layout)
    shutil.copy(kept, path)
    (part,) = (layout.root / "frames").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(Damaged) as caught:
        archive(layout)

    assert part == caught.value.path
    assert [path] == layout.segments("main")
    part.unlink()
    archive(layout)
    assert [given.data for given in quotes(9)] == [frame.data for frame in frames_of(layout.root)]


def test_an_empty_segment_of_a_dead_session_is_removed(layout: Layout) -> None:
    """The machine died between making the file and writing to it."""
    layout.journal("main").mkdir(parents=True)
    (layout.journal("main") / f"{SESSION}-{0:012d}.seg").touch()

    assert [] == archive(layout)
    assert [] == layout.segments("main")
    assert [] == parts(layout)


def test_an_order_keeps_its_contract_from_segment_to_segment(layout: Layout) -> None:
    """Also when each is archived by another archiver; a new session begins anew."""
    given = [Given(NOON + number, order(number % 3)) for number in range(3, 9)]
    given[0:0] = [Given(NOON + number, order(number, conid=100 + number)) for number in range(3)]
    write_session(layout, given, rotations=[2, 4, 6])
    for _ in range(4):
        assert archiver(layout).follow(SESSION, everything=True)
    write_session(layout, [Given(NOON + 100, order(1, status="Filled"))], session=LATER)
    before = Archive(layout.root).load("orders")["conid"].tolist()
    archive(layout)

    assert [100, 101, 102, 100, 101, 102, 100, 101, 102, 0] == before
    assert before == Archive(layout.root).load("orders")["conid"].tolist()


def changed_topics(folder: Path) -> Topics:
    """Read the topics with one column more in market data."""
    shutil.copytree(ROOT / "schemas", folder)
    path = folder / "market_data.toml"
    column = '    { name = "moon_phase", key = "9999", parser = "number", doc = "New." },\n'
    text = path.read_text("utf-8")
    at = text.index("    # quotes\n")
    path.write_text(text[:at] + column + text[at:])
    return load_topics(folder)


def test_under_another_schema_only_frames_are_archived_and_readers_decode_them(layout: Layout, tmp_path: Path) -> None:
    """Other topics go on; a topic's parts always have one schema."""
    topics = changed_topics(tmp_path / "schemas")
    write_session(layout, quotes(3))
    archive(layout)
    given = [Given(NOON + DAY, quote(7, {"9999": "0.5", "84": "1"})), Given(NOON + DAY, order(1, conid=IBM))]
    write_session(layout, given, session=LATER)
    newer = archiver(layout, topics=topics)
    newer.archive_dead(live=None)
    from recorder.archive.reading import Reader, Span  # noqa: PLC0415

    def read(known: Topics) -> list[dict[str, Any]]:
        topic = known["market_data"]
        columns = ["bid_price", "extra", *(["moon_phase"] if known is topics else [])]
        found = Reader(layout, known).tables("main", topic, conids=None, span=Span(), columns=columns)
        return [row for table in found for row in table.to_pylist()]

    assert ["market_data"] == list(newer.underived)
    assert layout.root / "market_data" in newer.underived["market_data"].parents
    assert [{"market_data": 3}, {"orders": 1}] == [commit.rows for commit in commits(layout)]
    assert 1 == len(list((layout.root / "market_data").rglob("*.parquet")))
    assert [None, None, None, 0.5] == [row["moon_phase"] for row in read(topics)]
    assert [0.0, 0.25, 0.5, 1.0] == [row["bid_price"] for row in read(topics)]
    assert [0.0, 0.25, 0.5, 1.0] == [row["bid_price"] for row in read(load_topics())]
    assert [("9999", "0.5")] == read(load_topics())[-1]["extra"]


def test_frames_behind_a_clock_that_stepped_back_are_noted(layout: Layout) -> None:
    """As runs, each with the highest time before it; also over segments, dates and sessions."""
    offsets = [0, 10, 5, 6, 20, 7, 30, 12, 13]
    write_session(layout, [Given(NOON + at, b"%d" % at) for at in offsets], rotations=[8])
    write_session(layout, [Given(NOON + 29, b""), Given(NOON - DAY, b""), Given(NOON + 31, b"")], session=LATER)
    archive(layout)
    late = [[(first, last, top - NOON) for first, last, top in commit.late] for commit in commits(layout)]

    assert [[(2, 3, 10), (5, 5, 20), (7, 7, 30)], [(8, 8, 30)], [(0, 0, 30)], [(1, 1, 30)], []] == late
    assert ["2026-11-20", "2026-11-20", "2026-11-20", "2026-11-19", "2026-11-20"] == [
        commit.date for commit in commits(layout)
    ]
    frames = [frame.data for frame in frames_of(layout.root) if frame.session == SESSION]
    assert [b"%d" % at for at in offsets] == frames


def test_a_live_segment_is_followed_and_committed_when_it_is_finished(layout: Layout) -> None:
    """What dead sessions left is none of its business."""
    (live,) = write_session(layout, quotes(4), session=LATER)
    write_session(layout, quotes(2))
    whole = live.read_bytes()
    cut(live, END_RECORD)
    one = archiver(layout)
    first = one.follow(LATER, everything=True)
    rows = dict(one.building.rows) if one.building else {}
    live.write_bytes(whole)
    second = one.follow(LATER, everything=False)

    assert (False, True, False) == (first, second, one.follow(LATER, everything=True))
    assert {"market_data": 4} == rows
    assert [LATER] == [commit.session for commit in commits(layout)]
    assert 1 == len(one.archive_dead(live=LATER))


def test_a_frame_larger_than_what_is_read_at_once_is_archived(layout: Layout) -> None:
    """The first of its segment, and the next, and one in between."""
    big = [b'{"topic":"ntf","args":{"text":"%s"}}' % (b"%d" % number * 3_000_000) for number in range(4)]
    write_session(layout, [Given(NOON + number, data) for number, data in enumerate([big[0] * 3, *big])])
    archive(layout)

    assert [big[0] * 3, *big] == [frame.data for frame in frames_of(layout.root)]
    assert [1_000_000 * 3] * 4 == [
        len(text) for text in Archive(layout.root).load("notifications")["text"].dropna().tolist()
    ]


def test_readers_of_a_segment_see_what_is_whole(layout: Layout) -> None:
    """And go on where they were when there is more."""
    (path,) = write_session(layout, quotes(3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-END_RECORD])
    reader = SegmentReader(path)
    first = [batch.last_seq for batch in reader.batches()]
    path.write_bytes(whole)

    assert [2] == first
    assert not reader.finished
    assert [] == list(reader.batches())
    assert reader.finished
