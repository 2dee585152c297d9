"""A damaged journal, through the archiver: what is whole is archived, what is not is kept, and nothing is silent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import END_RECORD, NOON, ROOT, SESSION, Given, archive, commits, cut, frames_of, quotes, write_session

from recorder.archive.journal_repair import repair_journal
from recorder.archive.layout import Layout, make_layout, open_layout
from recorder.archive.pieces import frame_batches, list_pieces
from recorder.archive.verify import verify
from recorder.errors import Damaged
from recorder.protocol.days import DayBoundary
from recorder.protocol.segment import MAGIC, Header, encode_batch, encode_end, encode_header
from recorder.protocol.topics import load_topics

GIVEN = [Given(NOON + number, b"%d" % number) for number in range(5)]
TOPICS = load_topics()
RECORDS = [[0, 1], [2], [3, 4]]
"""The frames of each record of the segment that `batches` writes."""
Damage = Callable[[Path], object]


def batches(path: Path) -> list[int]:
    """Write the frames as a segment of three records of frames; give where records begin, and the end."""
    header = encode_header(Header(recorder="main", session=SESSION, first_seq=0, date="2026-11-20"))
    parts = [header]
    for numbers in RECORDS:
        first, rows = numbers[0], [GIVEN[number] for number in numbers]
        stamps, codes = [row.ts for row in rows], [0] * len(rows)
        parts.append(encode_batch(first, stamps, codes, codes, [row.data for row in rows]))
    parts.append(encode_end(4))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts))
    edges = [sum(map(len, parts[:count])) for count in range(1, len(parts) + 1)]
    return [len(MAGIC), *edges]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Make an archive without anything in it, to be copied."""
    return make_layout(tmp_path_factory.mktemp("empty") / "data", DayBoundary("00:00 UTC"))


def broken(empty: Layout, root: Path) -> Iterator[tuple[Layout, Path, bytes, list[int]]]:
    """Give archives without end, each with the same segment, to be damaged."""
    number = 0
    while True:
        number += 1
        layout = open_layout(shutil.copytree(empty.root, root / f"{number}"))
        path = layout.journal("main") / f"{SESSION}-{0:012d}.seg"
        edges = batches(path)
        yield layout, path, path.read_bytes(), edges
        shutil.rmtree(layout.root)


def problems(layout: Layout) -> list[str]:
    """Give what verification finds."""
    return [problem.what for problem in verify(layout, TOPICS, done=lambda _frames: None).problems]


def test_a_segment_may_end_at_any_byte(empty: Layout, tmp_path: Path) -> None:
    """The archive is a prefix, the rest is in quarantine, verification passes: with a note before, whole afterwards."""
    archives = broken(empty, tmp_path)
    sizes = range(len(next(archives)[2]))
    survivors = []
    for size in sizes:
        layout, path, content, edges = next(archives)
        path.write_bytes(content[:size])
        report = verify(layout, TOPICS, done=lambda _frames: None)
        before = [frame.data for frame in frames_of(layout.root)]
        archive(layout)
        found = [frame.data for frame in frames_of(layout.root)]
        aside = b"".join(path.read_bytes() for path in layout.quarantine.glob("*"))
        whole = max([0, *(edge for edge in edges if edge <= size)])

        assert ([], 1) == (report.problems, len(report.notes)), size
        assert before == found == [given.data for given in GIVEN[: len(found)]], size
        assert content[whole:size] == aside or not found, size
        assert [] == layout.segments("main")
        assert [] == problems(layout), size
        survivors.append(len(found))

    assert {0, 2, 3, 5} == set(survivors)
    assert survivors == sorted(survivors)


def test_a_flipped_bit_anywhere_costs_one_record_at_most(empty: Layout, tmp_path: Path) -> None:
    """In the only segment of a dead session: an error until it is repaired, and then a known hole of that record."""
    archives = broken(empty, tmp_path)
    size = len(next(archives)[2])
    for place in range(0, size, 4):
        layout, path, content, edges = next(archives)
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        if place < edges[-2]:  # its end is whole, so it was finished
            with pytest.raises(Damaged, match=path.name):
                frames_of(layout.root)
            assert any(path.name in what for what in problems(layout)), place
            with pytest.raises(Damaged, match=path.name):
                archive(layout)
        if place == len(MAGIC) - 1:
            assert ([], []) == repair_journal(layout)  # a journal of another version is not ours to repair
            continue
        noted = repair_journal(layout).holes
        archive(layout)
        ranges = zip(RECORDS, pairwise(edges[1:]), strict=False)  # the last is the end record's
        lost = next((rows for rows, (begin, end) in ranges if begin <= place < end), [])
        found = [frame.data for frame in frames_of(layout.root)]

        assert [given.data for number, given in enumerate(GIVEN) if number not in lost] == found, place
        assert ([[lost[0], lost[-1]]] if lost else []) == [[one.first, one.last] for one in noted], place
        assert [] == layout.segments("main")
        assert [] == problems(layout)
        if place < edges[-2]:
            assert damaged == (layout.quarantine / "journal" / "main" / path.name).read_bytes()


def rewritten(change: Callable[[bytes], bytes]) -> Damage:
    """Give the damage that writes other content."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def zeroed(content: bytes, begin: int, end: int) -> bytes:
    """Put zeros in the place of some bytes, as a file system may after a power loss."""
    return content[:begin] + bytes(len(content[begin:end])) + content[end:]


def torn(content: bytes) -> bytes:
    """Take the end record off."""
    return content[:-END_RECORD]


LAST = {
    "no end record": (rewritten(torn), 5, 0),
    "half a record of frames": (rewritten(lambda content: torn(content)[:-9]), 3, None),
    "a page of zeros behind the end": (rewritten(lambda content: torn(content) + bytes(4096)), 5, 4096),
    "zeros from the middle on": (rewritten(lambda content: zeroed(content, 180, len(content))), 2, None),
    "nothing but zeros": (rewritten(lambda content: bytes(len(content))), 0, None),
    "an empty file": (rewritten(lambda _content: b""), 0, 0),
    "a length that reaches beyond the end": (
        rewritten(lambda content: torn(content) + b"\xff\xff\xff\x7f" + bytes(60)),
        5,
        64,
    ),
    "a length of zero": (rewritten(lambda content: torn(content) + bytes(8)), 5, 8),
}
"""Damage to a dead session's last segment: how, frames that survive, bytes in quarantine (None: the rest)."""


@pytest.mark.parametrize("name", LAST)
def test_the_last_segment_of_a_dead_session_keeps_what_is_whole(empty: Layout, tmp_path: Path, name: str) -> None:
    """The rest is set aside and the commit says so; an archive is as whole after a power loss as before it."""
    damage, survive, rest = LAST[name]
    layout, path, _, _ = next(broken(empty, tmp_path))
    damage(path)
    content = path.read_bytes()
    report = verify(layout, TOPICS, done=lambda _frames: None)
    made = archive(layout)
    aside = b"".join(path.read_bytes() for path in layout.quarantine.glob("*"))

    assert ([], 1) == (report.problems, len(report.notes))
    assert [given.data for given in GIVEN[:survive]] == [frame.data for frame in frames_of(layout.root)]
    assert content.endswith(aside)
    assert rest is None or rest == len(aside)
    assert all(commit.torn for commit in made)
    assert [] == problems(layout)


EARLIER = {
    "no end record": lambda path: cut(path, END_RECORD),
    "half a record": lambda path: cut(path, 30),
    "zeros in the middle": rewritten(lambda content: zeroed(content, 150, 190)),
    "an empty file": rewritten(lambda _content: b""),
    "a flipped bit": rewritten(lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:]),
    "another format": rewritten(lambda content: content[:7] + b"\x02" + content[8:]),
    "no magic": rewritten(lambda content: b"somethin" + content[8:]),
}


@pytest.mark.parametrize("name", EARLIER)
def test_an_earlier_segment_has_to_be_whole(layout: Layout, name: str) -> None:
    """Or nothing behind it is archived: the error names path and offset, verification says so, readers raise."""
    paths = write_session(layout, [*GIVEN, *quotes(10, start=NOON + 9000)], rotations=(5, 10))
    EARLIER[name](paths[1])
    content = paths[1].read_bytes()
    with pytest.raises(Damaged, match=paths[1].name) as caught:
        archive(layout)
    report = verify(layout, TOPICS, done=lambda _frames: None)

    assert (paths[1], True) == (caught.value.path, 0 <= caught.value.offset <= len(content))
    assert [(0, 4)] == [(commit.first, commit.last) for commit in commits(layout)]
    assert (content, paths[1:]) == (paths[1].read_bytes(), layout.segments("main"))
    assert [("journal", paths[1])] == [problem[:2] for problem in report.problems]
    assert [] == report.notes
    with pytest.raises(Damaged, match=paths[1].name):
        frames_of(layout.root)


def test_a_hole_between_records_is_damage(empty: Layout, tmp_path: Path) -> None:
    """Records that are whole, but do not follow one another, are never taken as if they did."""
    layout, path, content, edges = next(broken(empty, tmp_path))
    path.write_bytes(content[: edges[2]] + content[edges[3] :])
    with pytest.raises(Damaged, match="frame 3 stands where frame 2 belongs"):
        archive(layout)

    assert [("journal", path)] == [
        problem[:2] for problem in verify(layout, TOPICS, done=lambda _frames: None).problems
    ]


def test_a_segment_that_is_finished_while_it_is_read_is_no_damage(layout: Layout) -> None:
    """A reader that met half a record reads on when there is more."""
    path = layout.journal("main") / f"{SESSION}-{0:012d}.seg"
    edges = batches(path)
    content = path.read_bytes()
    path.write_bytes(content[: edges[-2] - 5])
    ((piece,),) = list_pieces(layout).values()
    reading = frame_batches(piece)
    first = next(reading)
    path.write_bytes(content)

    assert [0, 1, 2] == list(range(first.first_seq, first.last_seq + 1))
    assert [(3, 4)] == [(batch.first_seq, batch.last_seq) for batch in reading]


def test_the_documented_table_has_a_row_for_every_case() -> None:
    """And no other."""
    page = (ROOT / "docs" / "durability.md").read_text("utf-8").partition("<!-- journal -->\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in page.splitlines()[2:]]
    last = {row[0] for row in rows if row[1] == "last segment"}
    earlier = {row[0] for row in rows if row[1] in ("earlier segment", "any segment")}

    assert {*LAST, "cut off at any byte", "a flipped bit", "no magic"} == last
    assert set(EARLIER) == earlier


@pytest.mark.parametrize("name", EARLIER)
def test_an_earlier_segment_is_repaired_as_documented(layout: Layout, name: str) -> None:
    """What is whole is archived; one of another format waits for the recorder that wrote it."""
    paths = write_session(layout, [*GIVEN, *quotes(10, start=NOON + 9000)], rotations=(5, 10))
    EARLIER[name](paths[1])
    holes = repair_journal(layout).holes
    if name == "another format":
        assert ([], paths) == (holes, layout.segments("main"))
        with pytest.raises(Damaged, match="a journal of format"):
            archive(layout)
        return
    archive(layout)
    found = [frame.seq for frame in frames_of(layout.root)]
    lost = [seq for hole in holes for seq in range(hole.first, hole.last + 1)]

    assert sorted([*found, *lost]) == list(range(15))
    assert set(lost) == (set() if name in ("no end record", "no magic") else set(range(5, 10)))
    assert [] == problems(layout)
