"""`recorder verify`'s check: whatever happens to a file is found, told in one way, and can be set aside."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
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
    frames_of,
    miscount_levels,
    order,
    quotes,
    write_session,
)

from recorder.archive.commit import CHECKSUM, KEY, Commit, encode_commit
from recorder.archive.layout import Layout, make_layout, open_layout
from recorder.archive.rebuild import rebuild
from recorder.archive.repair import set_aside
from recorder.archive.verify import Problem, Report, verify
from recorder.errors import Damaged
from recorder.library import Archive
from recorder.protocol.days import DayBoundary
from recorder.protocol.topics import Topics, load_topics
from recorder.recording import flush

MIDDLE, LAST = "20261121T120000bbbb", "20261122T120000cccc"
TOPICS: Final = load_topics()
PAGE: Final = (ROOT / "docs" / "durability.md").read_text("utf-8")
DATE: Final = "date=2026-11-20"


def started(predecessor: tuple[str, int] | None) -> bytes:
    """Make a session's first mark."""
    named = None if predecessor is None else {"session": predecessor[0], "last_seq": predecessor[1]}
    return msgspec.json.encode({"event": "session_started", "predecessor": named})


def session(start: int, predecessor: tuple[str, int] | None) -> list[Given]:
    """Make a session's fifteen frames, in three segments of five: two contracts in each, an order in two."""
    return [
        Given(start, started(predecessor), "mark"),
        *quotes(2, start=start + 1),
        *quotes(2, start=start + 3000, conid=IBM),
        *quotes(2, first=2, start=start + 5000),
        *quotes(2, first=2, start=start + 7000, conid=IBM),
        Given(start + 9000, order(1, conid=IBM, status="Submitted")),
        *quotes(2, first=4, start=start + 10_000),
        *quotes(2, first=4, start=start + 12_000, conid=IBM),
        Given(start + 14_000, order(1, status="Filled")),
    ]


def record(root: Path, *, archived: bool = True, sessions: int = 3) -> Layout:
    """Record three sessions on three days, or fewer."""
    layout = make_layout(root, DayBoundary("00:00 UTC"))
    before = None
    for day, name in enumerate((SESSION, MIDDLE, LAST)[:sessions]):
        write_session(layout, session(NOON + day * DAY, before), session=name, rotations=(5, 10))
        before = name, 14
    if archived:
        flush(layout, tell=lambda _news: None)
    return layout


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Make an archive that is whole; tests copy it."""
    return record(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture(scope="session")
def journaled(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Make the same, with everything still in the journal."""
    return record(tmp_path_factory.mktemp("journaled") / "data", archived=False)


@pytest.fixture
def whole(made: Layout, tmp_path: Path) -> Layout:
    """Copy the archive that is whole, to be damaged."""
    return open_layout(shutil.copytree(made.root, tmp_path / "data"))


def check(layout: Layout, *, rederive: bool = False) -> Report:
    """Verify an archive."""
    return verify(layout, TOPICS, rederive=rederive, done=lambda _frames: None)


def part(topic: str, first: int, *, name: str = SESSION, conid: int | None = AAPL) -> Path:
    """Give a part's path from the archive's folder."""
    day = 20 + (SESSION, MIDDLE, LAST).index(name)
    partition = f"/conid={conid}" if topic != "frames" else ""
    return Path(f"{topic}/date=2026-11-{day}{partition}/{name}-{first:012d}-{first + 4:012d}.parquet")


TYPED, FRAMES = part("market_data", 5), part("frames", 5)


def test_a_whole_archive_passes(made: Layout, journaled: Layout) -> None:
    """In Parquet and in the journal, also with all rows derived again."""
    counts: list[int] = []
    report = verify(made, TOPICS, rederive=True, done=counts.append)

    assert ([], [], 9, 45, 42) == (report.problems, report.notes, *report[:3])
    assert 45 == counts[-1]
    assert (0, 0, 0, [], [], []) == check(journaled)


# ------------------------------------------------------------------ kinds of damage


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a part again with other rows, as a tool might, and keep what its footer says of us."""
    table = pq.ParquetFile(path).read()
    kept = {key: value for key, value in pq.read_metadata(path).metadata.items() if key in (KEY, CHECKSUM)}
    pq.write_table(change(table).replace_schema_metadata(kept), path, write_page_checksum=True)


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Give a table with another column of that name."""
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(place), values)


def other_bids(table: pa.Table) -> pa.Table:
    """Change every bid."""
    return set_column(table, "bid_price", pc.add(table["bid_price"], 1.0))


def other_data(table: pa.Table) -> pa.Table:
    """Change one byte of the first frame."""
    data = table["data"].to_pylist()
    return set_column(table, "data", pa.array([data[0][:-1] + b"~", *data[1:]], pa.binary()))


def edit_commit(path: Path, change: Callable[[dict[str, Any]], Any], *, checked: bool) -> None:
    """Change what a footer says, with or without its checksum."""
    said = msgspec.json.decode(pq.read_metadata(path).metadata[KEY])
    change(said)
    text = msgspec.json.encode(said)
    checksum = hashlib.sha256(text).hexdigest().encode() if checked else pq.read_metadata(path).metadata[CHECKSUM]
    metadata = {KEY: text, CHECKSUM: checksum}
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(metadata), path, write_page_checksum=True)


def forget_the_commit(path: Path) -> None:
    """Write a frames part again without its footer."""
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), path, write_page_checksum=True)


def flip(path: Path, place: int) -> None:
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def in_page(path: Path) -> int:
    """Find a byte of a page's compressed values."""
    column = pq.read_metadata(path).row_group(0).column(0)
    return int(column.data_page_offset + column.total_compressed_size - 3)


def in_footer(path: Path, text: bytes) -> int:
    """Find a text in a part's footer."""
    content = path.read_bytes()
    return content.index(text, len(content) - 8 - int.from_bytes(content[-8:-4], "little"))


def exchange(one: Path, other: Path) -> None:
    """Exchange two files."""
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def widened(path: Path) -> Path:
    """Give the name of a part that would hold more frames than this one."""
    return path.with_name(path.name.replace(f"{9:012d}.", f"{14:012d}."))


def narrowed(path: Path) -> Path:
    """Give the name of a part that would hold fewer frames than this one."""
    return path.with_name(path.name.replace(f"{9:012d}.", f"{8:012d}."))


def to(path: Path, content: bytes = b"not ours") -> Path:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Case(NamedTuple):
    """A kind of damage: how it is done, given the archive's folder, and the path that is named."""

    damage: Callable[[Path], object]
    named: Path | None


def on(path: Path, act: Callable[[Path], object], named: Path | None = None) -> Case:
    """Do something to one file."""
    return Case(lambda root: act(root / path), named or path)


def gone(*patterns: str, named: Path) -> Case:
    """Remove files."""

    def remove(root: Path) -> None:
        for path in [path for pattern in patterns for path in root.glob(pattern)]:
            path.unlink()

    return Case(remove, named)


def claim_no_rows(commit: dict[str, Any]) -> None:
    """Let a commit answer for no rows of market data."""
    commit["partitions"] = {key: info for key, info in commit["partitions"].items() if "market_data" not in key}


LOCK = Path("journal/main/archiver.lock")
ELSEWHERE = Path(f"market_data/{DATE}/conid=7/{TYPED.name}")
STRANGER = TYPED.with_name(TYPED.name.replace("aaaa", "zzzz"))
PARTS = {
    "a typed part is cut off": on(TYPED, lambda path: cut(path, 100)),
    "a typed part is empty": on(TYPED, lambda path: path.write_bytes(b"")),
    "a bit of a page of a typed part is flipped": on(TYPED, lambda path: flip(path, in_page(path))),
    "a bit of a typed part's footer is flipped": on(TYPED, lambda path: flip(path, in_footer(path, b"bid_price"))),
    "a bit of the counts of levels in a typed part's footer is flipped": on(TYPED, miscount_levels),
    "a typed part is missing": gone(str(TYPED), named=TYPED.parent),
    "rows were removed from a typed part": on(TYPED, lambda path: rewrite(path, lambda table: table.slice(1))),
    "rows were added to a typed part": on(
        TYPED, lambda path: rewrite(path, lambda table: pa.concat_tables([table, table.slice(1)]))
    ),
    "values of a typed part were changed": on(TYPED, lambda path: rewrite(path, other_bids)),
    "a typed part lacks a column": on(
        TYPED, lambda path: rewrite(path, lambda table: table.drop_columns(["bid_price"]))
    ),
    "typed parts of two contracts changed places": Case(
        lambda root: exchange(root / TYPED, root / part("market_data", 5, conid=IBM)), TYPED
    ),
    "a copy of a typed part lies in another contract's folder": Case(
        lambda root: to(root / ELSEWHERE, (root / TYPED).read_bytes()), ELSEWHERE
    ),
    "a copy of a typed part has the name of a session that is not there": Case(
        lambda root: to(root / STRANGER, (root / TYPED).read_bytes()), STRANGER
    ),
    "a copy of a typed part has the name of more frames": Case(
        lambda root: to(widened(root / TYPED), (root / TYPED).read_bytes()), widened(TYPED)
    ),
    "a file that is no part lies among parts": Case(
        lambda root: [to(root / TYPED.with_name("notes.txt")), to(root / FRAMES.with_name("mine.parquet"))],
        TYPED.with_name("notes.txt"),
    ),
    "a frames part is cut off": on(FRAMES, lambda path: cut(path, 100)),
    "a frames part is empty": on(FRAMES, lambda path: path.write_bytes(b"")),
    "a bit of a page of a frames part is flipped": on(FRAMES, lambda path: flip(path, in_page(path))),
    "a bit of a frames part's footer is flipped": on(FRAMES, lambda path: flip(path, in_footer(path, b'"late"'))),
    "rows were removed from a frames part": on(FRAMES, lambda path: rewrite(path, lambda table: table.slice(1))),
    "bytes of a frame were changed in a frames part": on(FRAMES, lambda path: rewrite(path, other_data)),
    "frames parts changed places": Case(
        lambda root: exchange(root / FRAMES, root / part("frames", 5, name=MIDDLE)), FRAMES
    ),
    "a copy of a frames part has another name": Case(
        lambda root: to(widened(root / FRAMES), (root / FRAMES).read_bytes()), widened(FRAMES)
    ),
    "a copy of a frames part has the name of fewer frames": Case(
        lambda root: to(narrowed(root / FRAMES), (root / FRAMES).read_bytes()), narrowed(FRAMES)
    ),
    "a frames part without its commit": on(FRAMES, forget_the_commit),
    "a commit was edited": on(
        FRAMES, lambda path: edit_commit(path, lambda said: said.update(unclaimed=3), checked=False)
    ),
    "a commit was edited, and its checksum": on(
        FRAMES, lambda path: edit_commit(path, lambda said: said["claimed"].update(market_data=3), checked=True)
    ),
    "a commit answers for no rows of frames that have some": on(
        FRAMES, lambda path: edit_commit(path, claim_no_rows, checked=True)
    ),
    "a frames part amid a session is missing": gone(str(FRAMES), named=part("frames", 10)),
    "a session's last frames part is missing": gone(str(part("frames", 10)), named=part("frames", 0, name=MIDDLE)),
    "the last frames part of all is missing": gone(str(part("frames", 10, name=LAST)), named=LOCK),
    "all parts of a session are missing": gone(f"**/{MIDDLE}-*.parquet", named=part("frames", 0, name=LAST)),
}


def segment(first: int, *, name: str = SESSION) -> Path:
    """Give a segment's path from the archive's folder."""
    return Path(f"journal/main/{name}-{first:012d}.seg")


JOURNAL = {
    "the last segment of a dead session is torn": on(segment(10, name=MIDDLE), lambda path: cut(path, END_RECORD + 5)),
    "a bit of a finished segment is flipped": on(segment(10), lambda path: flip(path, 200)),
    "a segment is of another format": on(segment(10), lambda path: flip(path, 7)),
    "a segment is missing": gone(str(segment(5)), named=segment(10)),
}


class Told(NamedTuple):
    """A row of the table in docs/durability.md."""

    kinds: set[str]
    names: str
    readers: str


def documented() -> dict[str, Told]:
    """Read the table of damage."""
    found = re.search(r"<!-- damage -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE)
    assert found is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return {row[0]: Told(set(re.findall(r"`(\w+)`", row[1])), row[2], row[3]) for row in rows}


TABLE: Final = documented()


def test_the_table_of_damage_has_a_row_for_every_case() -> None:
    """And a case for every row."""
    assert [*PARTS, *JOURNAL] == list(TABLE)


def readers(root: Path) -> dict[str, Callable[[], Any]]:
    """Give every way to read an archive."""
    opened = Archive(root)
    return {
        "load": lambda: opened.load("market_data").reset_index().to_dict("records").__repr__(),
        "table": lambda: opened.table("market_data").to_pylist(),
        "replay": lambda: repr(list(opened.replay())),
        "frames": lambda: list(opened.frames()),
        "scan": lambda: sorted(map(repr, opened.scan("market_data").to_table().to_pylist())),
    }


@pytest.fixture(scope="session")
def before(made: Layout) -> dict[str, Any]:
    """Read the archive that is whole in every way."""
    return {name: read() for name, read in readers(made.root).items()}


def assert_read(root: Path, told: Told, named: Path, before: dict[str, Any]) -> None:
    """Check that readers do what the table says."""
    found: dict[str, Any] = {}
    raised: dict[str, Exception] = {}
    for name, read in readers(root).items():
        try:
            found[name] = read()
        except (Damaged, OSError, pa.ArrowInvalid) as exc:
            raised[name] = exc
    assert {"scan"} >= {name for name, exc in raised.items() if not isinstance(exc, Damaged)}
    differ = {name for name, value in found.items() if value != before[name]}
    if told.readers == "`Damaged`":
        own = {"frames"} if named.parts[0] in ("frames", "journal") else {"load", "table", "replay", "scan"}
        assert own <= set(raised)
        assert set() == differ
        for name in own - {"scan"}:
            path = getattr(raised[name], "path", root)
            assert path == root / named or (path.suffix == ".seg" and "behind it" in str(raised[name]))
    else:
        assert {} == raised
        assert bool(differ) == (told.readers == "cannot tell")


@pytest.fixture(scope="session")
def rebuilt(made: Layout, before: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Rebuild an archive that is whole; give all its files, from which everything is read as before."""
    layout = open_layout(shutil.copytree(made.root, tmp_path_factory.mktemp("rebuilt") / "data"))
    rebuild(layout, TOPICS, TOPICS["market_data"], done=lambda _frames: None)

    assert [] == check(layout, rederive=True).problems
    assert before == {name: read() for name, read in readers(layout.root).items()}
    return files(layout.root)


def files(root: Path) -> dict[str, bytes]:
    """Read all files of an archive, by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


DERIVABLE = [name for name in PARTS if "typed part" in name or "no rows" in name]


@pytest.mark.parametrize("damage", PARTS)
def test_damage_to_parts_is_told_repaired_and_derived_again_as_documented(
    whole: Layout, before: dict[str, Any], rebuilt: dict[str, bytes], damage: str
) -> None:
    """By `verify`, with kind and path; readers raise, or give all rows, or are documented not to know.

    A repair moves each file under its own path below quarantine/ and deletes none; what a second one would move is
    nothing. After a rebuild an archive with damaged typed parts has the very bytes of one that was never damaged.
    """
    case, told = PARTS[damage], TABLE[damage]
    case.damage(whole.root)
    report = check(whole)

    assert case.named is not None
    assert told.kinds == {problem.kind for problem in report.problems}, report.problems
    assert whole.root / case.named in {problem.path for problem in report.problems}
    assert [] == report.notes
    assert_read(whole.root, told, case.named, before)

    first = files(whole.root)
    away = {str(path.relative_to(whole.quarantine)) for path in set_aside(whole, report.problems)}
    second, left = files(whole.root), check(whole).problems
    assert sorted(first.values()) == sorted(second.values())
    assert {name: data for name, data in first.items() if name not in away} == within(second)
    assert [] == set_aside(whole, left)
    assert set() == {problem.kind for problem in left} & {"foreign", "uncovered", "double"}

    if damage in DERIVABLE:
        rebuild(whole, TOPICS, TOPICS["market_data"], done=lambda _frames: None)
        assert rebuilt == within(files(whole.root))


def within(found: dict[str, bytes]) -> dict[str, bytes]:
    """Give the files that are not in quarantine."""
    return {name: data for name, data in found.items() if not name.startswith("quarantine/")}


@pytest.mark.parametrize("damage", JOURNAL)
def test_damage_to_the_journal_is_told_as_documented(
    journaled: Layout, tmp_path: Path, before: dict[str, Any], damage: str
) -> None:
    """A torn end is a note and no problem; nothing is ever moved from the journal."""
    case, told = JOURNAL[damage], TABLE[damage]
    layout = open_layout(shutil.copytree(journaled.root, tmp_path / "data"))
    for path in layout.segments("main"):
        if LAST in path.name:
            path.unlink()  # what names its predecessor would tell of a torn end, too
    segments = {name: read() for name, read in readers(layout.root).items()}
    case.damage(layout.root)
    report = check(layout)

    assert case.named is not None
    assert told.kinds - {"note"} == {problem.kind for problem in report.problems}, report.problems
    assert (layout.root / case.named in {problem.path for problem in report.problems}) == bool(report.problems)
    assert ("note" in told.kinds) == any(case.named.name in note for note in report.notes)
    assert [] == set_aside(layout, report.problems)
    assert_read(layout.root, told, case.named, segments)


@pytest.mark.parametrize("path", [TYPED, FRAMES], ids=["typed", "frames"])
def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path: Path, path: Path) -> None:
    """Anywhere in a part: what `verify` does not find are bytes that tell no reader anything."""
    whole = record(tmp_path / "data", sessions=1)
    content = (whole.root / path).read_bytes()
    unseen = 0
    names = ("frames",) if path is FRAMES else ("table",)
    before = {name: readers(whole.root)[name]() for name in names}
    for place in range(0, len(content), len(content) // 25):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        (whole.root / path).unlink()  # a new file, as a restored one would be
        (whole.root / path).write_bytes(damaged)
        if not check(whole).problems:
            unseen += 1
            assert [before[name] for name in names] == [readers(whole.root)[name]() for name in names], place

    assert unseen < 15


def test_frames_without_rows_are_no_problem_where_they_have_none(tmp_path: Path) -> None:
    """An empty list of orders is claimed, and rightly has no row."""
    layout = make_layout(tmp_path / "data", DayBoundary("00:00 UTC"))
    write_session(layout, [Given(NOON, started(None), "mark"), Given(NOON + 1, b'{"topic":"sor","args":[]}')])
    archive(layout)

    assert [] == check(layout).problems


@pytest.mark.parametrize(
    "change",
    [
        {"last": 8},
        {"digest": "0" * 64},
        {"kinds": {"in": 4, "mark": 1}},
        {"unclaimed": 1},
        {"ts_min": NOON},
        {"ts_max": NOON + DAY},
        {"latest": NOON},
        {"late": [[6, 6, NOON + 9_000]]},
        {"recorder": "other"},
        {"session": MIDDLE},
        {"date": "2026-11-21"},
        {"torn": 3},
    ],
    ids=str,
)
def test_every_figure_of_a_commit_is_checked(whole: Layout, change: dict[str, Any]) -> None:
    """Even if somebody edits it together with its checksum."""
    edit_commit(whole.root / FRAMES, lambda said: said.update(change), checked=True)

    assert whole.root / FRAMES in {problem.path for problem in check(whole).problems}


@pytest.mark.parametrize("change", [{"orders": {"DU1 1": 7}}, {"undecoded": {"orders": 1}}], ids=str)
def test_deriving_again_checks_what_decoding_leaves_in_a_commit(whole: Layout, change: dict[str, Any]) -> None:
    """The contracts of orders, and what could not be decoded."""
    edit_commit(whole.root / FRAMES, lambda said: said.update(change), checked=True)

    assert [] == check(whole).problems
    assert {("derived", whole.root / FRAMES)} <= {problem[:2] for problem in check(whole, rederive=True).problems}


def test_deriving_again_finds_rows_that_the_frames_do_not_have(whole: Layout) -> None:
    """Also where part and commit agree."""
    rewrite(whole.root / TYPED, other_bids)
    (held,) = [one for one in commits(whole) if (one.session, one.first) == (SESSION, 5)]
    from recorder.archive.digest import table_digest  # noqa: PLC0415

    digest = table_digest(pq.ParquetFile(whole.root / TYPED).read())
    key = str(TYPED.parent)
    edit_commit(
        whole.root / FRAMES,
        lambda said: said["partitions"].update({key: {"rows": held.partitions[key].rows, "digest": digest}}),
        checked=True,
    )

    assert [] == check(whole).problems
    (problem,) = check(whole, rederive=True).problems
    assert ("derived", whole.root / FRAMES) == problem[:2]
    assert f"market_data of contract {AAPL} is not what its frames decode to" in problem.what


def test_statistics_that_would_hide_rows_are_damage(whole: Layout) -> None:
    """Programs that filter skip what a footer says is elsewhere; no checksum covers that."""
    path = whole.root / TYPED
    low = int(pq.read_metadata(path).row_group(0).column(0).statistics.min_raw).to_bytes(8, "little")
    content = path.read_bytes()
    place = content.rindex(low)
    path.write_bytes(content[:place] + (NOON + DAY // 4).to_bytes(8, "little") + content[place + 8 :])
    (problem,) = check(whole).problems

    assert ("damaged", path) == problem[:2]
    assert "statistics of ts_recv" in problem.what


# ------------------------------------------------------------------ repair


def test_a_second_repair_overwrites_nothing(whole: Layout) -> None:
    """Two files of one path are both kept."""
    moved = []
    for content in (b"one", b"two"):
        to(whole.root / TYPED, content)
        moved += set_aside(whole, [Problem("damaged", whole.root / TYPED, "")])

    assert [b"one", b"two"] == [path.read_bytes() for path in moved]
    assert [TYPED.name, f"{TYPED.name}.2"] == [path.name for path in moved]


def test_a_file_that_is_put_back_makes_the_archive_whole(whole: Layout) -> None:
    """Under the path that the quarantine kept; typed parts come by a rebuild."""
    good = (whole.root / FRAMES).read_bytes()
    cut(whole.root / FRAMES, 100)
    set_aside(whole, check(whole).problems)
    to(whole.root / FRAMES, good)
    for topic in ("market_data", "orders"):
        rebuild(whole, TOPICS, TOPICS[topic], done=lambda _frames: None)

    assert [] == check(whole, rederive=True).problems


# ------------------------------------------------------------------ beside others


def test_verifying_beside_a_flush_finds_nothing(whole: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed between its steps is no stray."""
    from recorder.archive import strays  # noqa: PLC0415
    from recorder.archive import verify as module  # noqa: PLC0415

    write_session(whole, session(NOON + 3 * DAY, (LAST, 14)), session="20261123T120000dddd", rotations=(5, 10))
    steps: Iterator[Callable[[], object]] = iter([lambda: archive(whole)])
    find = strays.find_strays

    def late(*args: Any, **options: Any) -> Any:
        next(steps, lambda: None)()
        return find(*args, **options)

    monkeypatch.setattr(module, "find_strays", late)

    assert [] == check(whole).problems
    assert [] == whole.segments("main")


def test_a_part_that_is_merged_meanwhile_is_checked_as_it_is_then(
    whole: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction between the listing and the reading."""
    from recorder.archive import verify as module  # noqa: PLC0415
    from recorder.archive.compaction import compact  # noqa: PLC0415

    readable = module._readable
    merged: list[object] = []

    def listed(*args: Any) -> Any:
        parts = readable(*args)
        if not merged:
            merged.append(compact(whole, ["2026-11-20"], done=lambda _rows: None))
        return parts

    monkeypatch.setattr(module, "_readable", listed)
    report = check(whole)

    assert ([], 45, 7) == (report.problems, report.frames, report.commits)


def test_leftovers_of_an_archiver_that_was_killed_are_no_strays(whole: Layout) -> None:
    """As long as their segment is in the journal."""
    other = record(whole.root.parent / "other", archived=False)
    for path in other.segments("main")[:3]:
        shutil.copy(path, whole.journal("main"))
    for path in (whole.root / "frames" / DATE).glob("*.parquet"):
        path.unlink()

    assert [] == check(whole).problems
    assert 45 == len(frames_of(whole.root))


def test_a_topic_of_another_schema_is_passed_over(whole: Layout, topics: Topics) -> None:
    """Its rows are decoded from the frames; what its parts hold is checked by the recorder that wrote them."""
    market_data = topics["market_data"]
    narrower = msgspec.structs.replace(market_data, columns=market_data.columns[:-1])
    others = Topics([narrower, *(topic for topic in topics if topic is not market_data)])
    report = verify(whole, others, rederive=True, done=lambda _frames: None)

    assert ([], 6) == (report.problems, report.rows)


def test_a_commit_is_written_with_its_checksum(made: Layout) -> None:
    """Of its text, which anybody can compute."""
    (one, *_) = commits(made)
    text = encode_commit(one)

    assert msgspec.json.decode(text[KEY.decode()], type=Commit) == one
    assert hashlib.sha256(text[KEY.decode()].encode()).hexdigest() == text[CHECKSUM.decode()]
