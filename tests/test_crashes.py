"""The crash matrix: processes of the recorder killed at every step that touches the disk, and started again.

1. The rows of the matrix are the table in docs/durability.md; a step of the source without a row fails, and so does a
   row without a step. Every row is run, and fails unless a process really dies there.
2. After a kill, before any restart: readers get every frame that is in journal and parts.
3. After the restart: every one of these frames is in the archive once, byte for byte; tables, as any other program
   reads them, and the archive digest are those of a clean run over the same frames; `verify` finds nothing, rows
   derived again included; no temporary file is left.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import (
    AAPL,
    DAY,
    IBM,
    NOON,
    QUICK,
    ROOT,
    Ended,
    Given,
    archive,
    command,
    cut,
    end,
    environment,
    eventually,
    in_loop,
    order,
    quotes,
    write_session,
)
from forge import Forge, forging
from kills import (
    Clean,
    Frames,
    Sender,
    archivers,
    assert_readable,
    assert_sound,
    clean_run,
    digest_of,
    gone,
    kill,
    on_disk,
    settings,
    strays,
)
from power import mixed, scattered, survivors

from recorder.archive import replacement
from recorder.archive.archiver import Archiver
from recorder.archive.layout import make_layout, open_layout
from recorder.archive.verify import verify
from recorder.errors import Damaged
from recorder.library import Archive
from recorder.lock import MAINTENANCE, RecorderLock
from recorder.protocol.days import DayBoundary
from recorder.protocol.segment import Header, Scan, code_of, encode_batch, encode_end, encode_header
from recorder.protocol.topics import Topics, load_topics
from recorder.recording import compact_finished, flush, rebuild_topic, verify_archive
from recorder.replay.gateway import Gateway, serve

POINT = re.compile(r'\bpoint\("([^"]+)"\)')
ROW = re.compile(r"^\| `([a-z_.]+)` \| (capture|archiver|compact|rebuild|compact, rebuild|repair) \|", re.MULTILINE)
MATRIX = ROW.findall((ROOT / "docs" / "durability.md").read_text("utf-8"))


def steps(process: str) -> list[str]:
    """List the steps of a process that the matrix has, in its order."""
    return [step for step, processes in MATRIX if process in processes.split(", ")]


def test_every_step_of_the_source_is_a_row_of_the_matrix_and_the_other_way_round() -> None:
    """One row each; the rows are the cases of the tests below."""
    found = [POINT.findall(path.read_text("utf-8")) for path in (ROOT / "recorder").rglob("*.py")]

    assert sorted({name for names in found for name in names}) == sorted(step for step, _ in MATRIX)


def test_every_guarantee_of_the_readme_names_a_test_that_exists() -> None:
    """Each row of its table links to one at least."""
    table = (ROOT / "README.md").read_text("utf-8").partition("| proved by |\n|---|---|---|\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"\]\((tests/\w+\.py)#(test_\w+)\)", row) for row in table.splitlines()]

    assert 4 == len(rows)
    for linked in rows:
        assert linked
        for path, name in linked:
            assert f"def {name}(" in (ROOT / path).read_text("utf-8"), name


# ------------------------------------------------------------------ what is killed


FIRST, SECOND, THIRD = "20261120T120000aaaa", "20261120T130000bbbb", "20261121T120000cccc"
EMPTY = "20261121T130000dddd"


def session(start: int, predecessor: tuple[str, int] | None = None) -> list[Given]:
    """Make a session's frames: some of everything, its second half on the same contracts as its first."""
    said = "null" if predecessor is None else f'{{"session":"{predecessor[0]}","last_seq":{predecessor[1]}}}'
    return [
        Given(start, b'{"event":"session_started","predecessor":%s}' % said.encode(), "mark"),
        Given(start + 1, b"smd+265598+{}", "out"),
        *quotes(5, start=start + 2),
        Given(
            start + 5001, b'GET /iserver/account/orders\n{"orders":[{"acct":"DU1","orderId":1,"conid":8314}]}', "rest"
        ),
        *quotes(2, start=start + 6000, conid=IBM),
        Given(start + 9000, order(1, status="Submitted")),
        Given(start + 9001, order(2, conid=AAPL, status="Inactive"), "in", "binary"),
        Given(start + 9002, b"not JSON \xff"),
        Given(start + 9003, b""),
        Given(start + 9004, b'{"topic":"spl","args":{"DU1.Core":{"dpl":1.5},"DU2":{"nl":2}}}'),
        *quotes(4, first=5, start=start + 9006),
        Given(start + 20000, order(1, status="Filled")),
        *quotes(2, first=9, start=start + 30000),
    ]


COUNT = len(session(0))
CUTS = (6, 13, 17)


class Prepared(NamedTuple):
    """An archive to copy and break, and what is to be in it in the end."""

    root: Path
    clean: Clean

    def copy(self, folder: Path) -> Path:
        """Copy it into a folder that a test may change."""
        return Path(shutil.copytree(self.root, folder / "data"))


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Give a forge of processes."""
    with forging(tmp_path_factory.mktemp("forge") / "log") as made:
        yield made


@pytest.fixture(scope="session")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare what dead captures and a dead archiver leave: each state that an archiver must mend.

    The first segment is committed and not removed; typed parts of the second are leftovers; the third is torn; of a
    later session only the name of a segment was made. An unfinished file lies in `.tmp/`.
    """
    folder = tmp_path_factory.mktemp("dead")
    layout = make_layout(folder / "data", DayBoundary("00:00 UTC"))
    paths = write_session(layout, session(NOON), session=FIRST, rotations=CUTS)
    done = open_layout(shutil.copytree(layout.root, folder / "done"))
    archive(done)
    for part in done.root.rglob("*.parquet"):
        if "-000000000000-" in part.name or ("-000000000006-" in part.name and "frames" not in part.parts):
            target = layout.root / part.relative_to(done.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part, target)
    cut(paths[-1], 25)  # its end record and a bit of its last batch
    (layout.journal("main") / f"{EMPTY}-000000000000.seg").touch()
    layout.tmp("main").mkdir(parents=True)
    (layout.tmp("main") / "old-frames.parquet").write_bytes(b"half")
    return Prepared(layout.root, clean_run(on_disk(layout.root), folder / "clean"))


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare finished dates: one with two sessions of several parts, and one with one part of each."""
    folder = tmp_path_factory.mktemp("parts")
    layout = make_layout(folder / "data", DayBoundary("00:00 UTC"))
    write_session(layout, session(NOON), session=FIRST, rotations=CUTS)
    write_session(layout, session(NOON + DAY // 24, (FIRST, COUNT - 1)), session=SECOND, rotations=(9,))
    write_session(layout, session(NOON + DAY, (SECOND, COUNT - 1)), session=THIRD)
    archive(layout)
    return Prepared(layout.root, clean_run(on_disk(layout.root), folder / "clean"))


@pytest.fixture(scope="session")
def underived(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare a topic to rebuild: one date has its rows, one has none yet, and of a segment there are leftovers."""
    folder = tmp_path_factory.mktemp("underived")
    layout = make_layout(folder / "data", DayBoundary("00:00 UTC"))
    write_session(layout, session(NOON), session=FIRST, rotations=CUTS)
    archive(layout)
    write_session(layout, session(NOON + DAY, (FIRST, COUNT - 1)), session=THIRD)
    archiver = Archiver(layout, load_topics(), "main", tell=lambda _news: None)
    archiver._derived = [topic for topic in archiver._derived if topic.name != "market_data"]
    archiver.archive_dead(live=None)
    write_session(layout, session(NOON + DAY // 2 - 1_000_000, (THIRD, COUNT - 1)), session=EMPTY)
    done = open_layout(shutil.copytree(layout.root, folder / "done"))
    archive(done)
    for part in (done.root / "market_data").rglob(f"{EMPTY}-*.parquet"):
        shutil.copy(part, layout.root / part.relative_to(done.root))
    return Prepared(layout.root, clean_run(on_disk(layout.root), folder / "clean"))


# ------------------------------------------------------------------ the archiver, alone and with its capture gone


LATER: dict[str, dict[str, Sequence[int]]] = {
    "archiver": {"publish.synced": (5,), "publish.folder_made": (5,), "build.committed": (2,)},
    "compact": {
        "replace.swapped": (3,),
        "replace.synced": (3,),
        "replace.file_moved": (9,),
        "replace.file_removed": (13,),
    },
    "rebuild": {"replace.swapped": (2, 3), "rebuild.commits": (2,), "replace.file_moved": (5, 12)},
}
"""Which later passes of a step are killed too: there the step belongs to another file, the frames part say."""


def passes(process: str) -> list[str]:
    """Name all passes of a process's steps at which to die."""
    later = LATER[process]
    return [at for step in steps(process) for at in (step, *(f"{step}:{number}" for number in later.get(step, ())))]


@pytest.mark.parametrize("kill_at", passes("archiver"))
def test_an_archiver_is_killed_and_the_next_mends_everything(
    tmp_path: Path, forge: Forge, dead: Prepared, upgrade: Upgrade, kill_at: str
) -> None:
    """A flush that mends after a flush that died, nobody else being alive; or one of the next version.

    Also when the power fails at that moment, with everything that no sync had made safe gone, renames and removals
    undone, or with names kept and bytes written in any order.
    """
    data, shadow = dead.copy(tmp_path), tmp_path / "shadow"

    assert -signal.SIGKILL == forge.run("flush", data, kill_at=kill_at, shadow=str(shadow)), kill_at
    for name, left in left_over(data, shadow, tmp_path, kill_at).items():
        case = f"{kill_at}, {name}"
        assert dead.clean.frames == on_disk(left), case
        assert_readable(left, dead.clean.frames, case)
        if name == "killed":
            upgrade.check(Path(shutil.copytree(left, tmp_path / "next")), case)
        flush(open_layout(left), tell=lambda _news: None)
        assert_sound(left, dead.clean, case)


def left_over(data: Path, shadow: Path, folder: Path, kill_at: str) -> dict[str, Path]:
    """Give what may be left when a process that was tracked was killed: as it is, or when the power failed as well."""
    chance = random.Random(kill_at)
    return {
        "power lost": survivors(data, shadow, folder / "lost"),
        "power lost, sectors scattered": scattered(data, shadow, folder / "scattered", chance),
        "killed": data,
    }


# ------------------------------------------------------------------ compaction and rebuilding


@contextmanager
def exchanging(*, exchange: bool) -> Iterator[None]:
    """Let this process exchange folders, or do without."""
    with pytest.MonkeyPatch.context() as patch:
        if not exchange:
            patch.setattr(replacement, "_renameat2", None)
        yield


@pytest.mark.parametrize("kill_at", passes("compact"))
def test_a_compaction_is_killed_and_the_next_goes_on(
    tmp_path: Path, forge: Forge, parts: Prepared, kill_at: str
) -> None:
    """Also where the file system cannot exchange folders, and names are replaced one by one; and when power fails."""
    data, shadow, exchange = parts.copy(tmp_path), tmp_path / "shadow", not kill_at.startswith("replace.file")
    if kill_at == "compaction.superseded":
        forge.run("compact", data, kill_at="replace.file_moved", exchange=False)

    died = forge.run("compact", data, kill_at=kill_at, exchange=exchange, shadow=str(shadow))
    assert -signal.SIGKILL == died, kill_at
    for name, left in left_over(data, shadow, tmp_path, kill_at).items():
        case = f"{kill_at}, {name}"
        assert_readable(left, parts.clean.frames, case)
        with exchanging(exchange=exchange):
            compact_finished(open_layout(left), before="2100-01-01", done=lambda _rows: None)
        assert_sound(left, parts.clean, case)
        assert 3 == len(list((left / "frames").rglob("*.parquet"))), case


@pytest.mark.parametrize("kill_at", passes("rebuild"))
def test_a_rebuild_is_killed_and_the_next_goes_on(
    tmp_path: Path, forge: Forge, underived: Prepared, topics: Topics, kill_at: str
) -> None:
    """Readers get the rows all the time; what was waiting in the journal is archived afterwards as ever."""
    data, exchange = underived.copy(tmp_path), not kill_at.startswith("replace.file")

    assert -signal.SIGKILL == forge.run("rebuild", data, kill_at=kill_at, topic="market_data", exchange=exchange)
    assert_readable(data, underived.clean.frames, kill_at)
    with exchanging(exchange=exchange):
        rebuild_topic(open_layout(data), topics, topics["market_data"], done=lambda _frames: None)
    flush(open_layout(data), tell=lambda _news: None)
    assert_sound(data, underived.clean, kill_at)


def test_the_next_archiver_clears_what_a_killed_compaction_left(tmp_path: Path, forge: Forge, parts: Prepared) -> None:
    """Nothing temporary stays behind a restart; what a compaction that runs is at is let alone."""
    data = parts.copy(tmp_path)
    assert -signal.SIGKILL == forge.run("compact", data, kill_at="compaction.part")
    assert [] != strays(data)
    lock = RecorderLock(data / "journal", MAINTENANCE, root=data)
    lock.acquire()
    flush(open_layout(data), tell=lambda _news: None)
    beside = strays(data)
    lock.release()
    flush(open_layout(data), tell=lambda _news: None)

    assert [] != beside
    assert [] == strays(data)
    assert_sound(data, parts.clean, "cleared")


# ------------------------------------------------------------------ a repair


@pytest.fixture(scope="session")
def wounded(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare a dead session with damage of each kind: amid a segment, a whole segment, a part; and one behind it."""
    folder = tmp_path_factory.mktemp("wounded")
    layout = make_layout(folder / "data", DayBoundary("00:00 UTC"))
    frames = session(NOON)
    write_session(layout, frames, session=FIRST, rotations=(4,))
    archive(layout)
    later = session(NOON + DAY // 24, (FIRST, COUNT - 1))
    paths = write_session(layout, later, session=SECOND, rotations=CUTS)
    write_session(layout, session(NOON + DAY, (SECOND, COUNT - 1)), session=THIRD)
    lost = {(FIRST, seq) for seq in range(4)} | {(SECOND, seq) for seq in (2, 3, *range(6, 13))}
    whole = on_disk(layout.root)
    cut(min(layout.frames("2026-11-20").iterdir()), 100)
    header = encode_header(Header(recorder="main", session=SECOND, first_seq=0, date="2026-11-20"))
    records = [encode_batch(n, [f.ts], [0], [code_of(f.kind, f.op)], [f.data]) for n, f in enumerate(later[:6])]
    records[2] = records[2][:-1] + b"~"
    records[3] = bytes(len(records[3]))
    paths[0].write_bytes(b"".join([header, *records, encode_end(5)]))
    paths[1].write_bytes(bytes(paths[1].stat().st_size))
    return Prepared(layout.root, Clean({key: frame for key, frame in whole.items() if key not in lost}, {}, ""))


@pytest.mark.parametrize("kill_at", [*steps("repair"), "repair.moved:2", "repair.published:2", "repair.kept:2"])
def test_a_repair_is_killed_and_the_next_does_the_rest(
    tmp_path: Path, forge: Forge, wounded: Prepared, topics: Topics, kill_at: str
) -> None:
    """Every frame that is whole gets into the archive once; what is lost is a known hole, and nothing else is.

    Also when the power fails: the next repair does it again, and what was noted before anything changed is known.
    """
    data, shadow = wounded.copy(tmp_path), tmp_path / "shadow"
    before = {path.read_bytes() for path in data.rglob("*") if path.is_file() and path.suffix in (".seg", ".parquet")}

    assert -signal.SIGKILL == forge.run("repair", data, kill_at=kill_at, shadow=str(shadow)), kill_at
    for name, left in left_over(data, shadow, tmp_path, kill_at).items():
        case, layout = f"{kill_at}, {name}", open_layout(left)
        verify_archive(layout, topics, rederive=False, repair=True, done=lambda _frames: None)
        assert_readable(left, wounded.clean.frames, case)
        kept = {path.read_bytes() for path in left.rglob("*") if path.is_file()}
        assert before <= kept, case
        flush(layout, tell=lambda _news: None)
        report = verify(layout, topics, rederive=True, done=lambda _frames: None)
        assert wounded.clean.frames == on_disk(left), case
        assert_readable(left, wounded.clean.frames, case)
        assert [] == report.problems, case
        lost = {(one.session, seq) for one in report.holes for seq in range(one.first, one.last + 1)}
        assert {(FIRST, 0), (SECOND, 2)} < lost, case
        assert not lost & wounded.clean.frames.keys(), case
        assert 3 * COUNT == len(lost) + len(wounded.clean.frames), case
        assert [] == strays(left), case


# ------------------------------------------------------------------ a capture that runs


SOON = {"journal.begin": 2, "journal.created": 2, "journal.begun": 2, "journal.write": 25, "journal.written": 25}
"""Passes after some seconds' worth of frames; of other steps the second."""


def chains(steps: Sequence[str], count: int) -> list[list[str]]:
    """Deal steps out to chains: in each, every capture is the restart of the one before."""
    return [list(steps[first::count]) for first in range(count)]


@asynccontextmanager
async def sending() -> AsyncIterator[tuple[Sender, Gateway]]:
    """Serve quotes."""
    sender = Sender(rate=500)
    async with serve(sender, rules=QUICK) as gateway:
        yield sender, gateway


async def stopped(forge: Forge, data: Path, sender: Sender, gateway: Gateway) -> None:
    """Let a capture record a little and stop it, so that everything is archived."""
    capture = forge.start("capture", data, **settings(gateway))
    lock = data / "journal" / "main" / "lock"  # the streams of a killed capture may be wanted a moment longer
    await eventually(lambda: lock.exists() and f'"pid":{capture},' in lock.read_text())
    await asyncio.sleep(0.2)
    await eventually(lambda: sender.wanted)
    await asyncio.sleep(0.1)
    os.kill(capture, signal.SIGTERM)
    assert 0 == await forge.ended(capture), forge.printed()


def check_left(data: Path, before: Frames, folder: Path, case: str) -> Clean:
    """Check what a kill left: readable as it is, whole once it is archived. A copy is archived; the kill's stays."""
    frames = on_disk(data)
    assert before.items() <= frames.items(), case
    assert_readable(data, frames, case)
    clean = clean_run(frames, folder / f"clean-{case}")
    copy = Path(shutil.copytree(data, folder / f"copy-{case}"))
    flush(open_layout(copy), tell=lambda _news: None)
    assert_sound(copy, clean, case)
    return clean


@pytest.mark.parametrize("both", [False, True], ids=["alone", "with its archiver"])
@pytest.mark.parametrize("chain", chains([step for step in steps("capture") if not step.startswith("layout.")], 3))
def test_a_capture_is_killed_and_the_next_goes_on(
    tmp_path: Path, forge: Forge, chain: list[str], *, both: bool
) -> None:
    """Alone, when its archiver ends by itself, at the first pass; or both at once, at a later one."""

    @in_loop
    async def check() -> None:
        data, frames = tmp_path / "data", Frames()
        async with sending() as (sender, gateway):
            for step in chain:
                later = both and not step.startswith("record.")
                kill_at = f"{step}:{SOON.get(step, 2)}" if later else step
                capture = forge.start("capture", data, kill_at=kill_at, **settings(gateway))
                assert -signal.SIGKILL == await forge.ended(capture), (kill_at, forge.printed())
                for archiver in archivers(data) if both else ():
                    kill(archiver)
                await gone(data)
                frames = check_left(data, frames, tmp_path, kill_at).frames
            await stopped(forge, data, sender, gateway)
        found = on_disk(data)
        assert frames.items() <= found.items()
        assert_sound(data, clean_run(found, tmp_path / "clean"), chain)

    check()


@pytest.mark.parametrize("step", [step for step in steps("capture") if step.startswith("layout.")])
def test_a_capture_is_killed_while_it_makes_the_archive(tmp_path: Path, forge: Forge, step: str) -> None:
    """The next one makes it."""
    data = tmp_path / "data"

    @in_loop
    async def check() -> None:
        async with sending() as (sender, gateway):
            capture = forge.start("capture", data, kill_at=step, **settings(gateway))
            assert -signal.SIGKILL == await forge.ended(capture), forge.printed()
            await stopped(forge, data, sender, gateway)

    check()
    assert_sound(data, clean_run(on_disk(data), tmp_path / "clean"), step)


@pytest.mark.parametrize("half", [0, 1])
def test_an_archiver_is_killed_at_every_step_and_the_capture_goes_on(
    tmp_path: Path, forge: Forge, dead: Prepared, half: int
) -> None:
    """Started again each time by the capture that lives; it dies at the next step, and comes through in the end."""
    data, once, chosen = dead.copy(tmp_path), tmp_path / "once", steps("archiver")[half::2]
    once.mkdir()

    @in_loop
    async def check() -> None:
        async with sending() as (sender, gateway):
            capture = forge.start("capture", data, kill_at=",".join(chosen), once=once, **settings(gateway))
            await eventually(lambda: sorted(chosen) == sorted(path.name for path in once.iterdir()))
            os.kill(capture, signal.SIGTERM)
            assert 0 == await forge.ended(capture), forge.printed()
            sent.append(sender.numbers)

    sent: list[int] = []
    check()
    found = on_disk(data)
    quoted = [frame for frame in found.values() if frame.session > EMPTY and frame.data.startswith(b'{"topic": "smd+')]
    assert sent == [len(quoted)]
    assert dead.clean.frames.items() <= found.items()
    assert_sound(data, clean_run(found, tmp_path / "clean"), chosen)


BEFORE = {
    "archiver.remove": "build.committed",
    "archiver.unlinked": "build.committed",
    "archiver.removed": "build.committed",
    "archiver.tmp_cleared": "build.frames_written",
    "build.leftover_removed": "build.typed_published",
}
"""Where an archiver dies first, so that the next one comes to a step."""


@pytest.mark.parametrize("chain", chains(steps("archiver"), 4))
def test_an_archiver_and_its_capture_are_killed_and_the_next_go_on(
    tmp_path: Path, forge: Forge, dead: Prepared, chain: list[str]
) -> None:
    """The capture is killed the moment the archiver has died at its step, and the next capture's goes on."""
    data, frames = dead.copy(tmp_path), dead.clean.frames

    @in_loop
    async def check() -> None:
        nonlocal frames
        async with sending() as (sender, gateway):
            for step in chain:
                once = tmp_path / f"once-{step}"
                once.mkdir()
                kill_at = ",".join(filter(None, (BEFORE.get(step), step)))
                capture = forge.start("capture", data, kill_at=kill_at, once=once, **settings(gateway))
                await eventually((once / step).exists)
                for process in (capture, *archivers(data)):
                    kill(process)
                await forge.ended(capture)
                await gone(data)
                found = on_disk(data)
                assert frames.items() <= found.items(), step
                assert_readable(data, found, step)
                frames = found
            await stopped(forge, data, sender, gateway)

    check()
    assert_sound(data, clean_run(on_disk(data), tmp_path / "clean"), chain)


# ------------------------------------------------------------------ a power loss


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, forge: Forge) -> Prepared:
    """Record, and kill the capture and its archiver: one segment of many batches is left."""
    folder = tmp_path_factory.mktemp("recorded")
    data = folder / "data"

    @in_loop
    async def check() -> None:
        async with sending() as (sender, gateway):
            capture = forge.start("capture", data, **settings(gateway, flush_every=60))
            await eventually(lambda: sender.numbers > 150)
            kill(capture)
            await forge.ended(capture)
            await gone(data)

    check()
    return Prepared(data, Clean(on_disk(data), {}, ""))


@pytest.mark.parametrize("tail", [b"", bytes(4096)], ids=["cut off", "zeros"])
@pytest.mark.parametrize("part", [0, 1])
def test_a_power_loss_takes_the_end_of_the_last_segment(
    tmp_path: Path, recorded: Prepared, tail: bytes, part: int
) -> None:
    """What was not synced is gone, or zeros stand in its place; what stands before it is archived."""
    (segment,) = recorded.root.rglob("*.seg")
    content = segment.read_bytes()
    ends = ends_of_records(content)
    assert len(ends) > 10
    offsets = [0, 5, ends[0] - 1, ends[0], ends[1] - 3, ends[1], ends[5], ends[5] + 6, ends[-2] + 20, ends[-1] - 1]
    kept: list[int] = []
    for offset in offsets[part::2]:
        data = recorded.copy(tmp_path / str(offset))
        next(data.rglob("*.seg")).write_bytes(content[:offset] + tail)
        clean = check_left(data, Frames(), tmp_path, f"{offset}-{len(tail)}")
        kept.append(len(clean.frames))
        assert clean.frames.items() <= recorded.clean.frames.items()

    assert sorted(kept) == kept
    assert 0 == kept[0] < kept[-1] < len(recorded.clean.frames)


def test_a_power_loss_may_leave_any_sectors_of_what_was_not_synced(
    tmp_path: Path, recorded: Prepared, topics: Topics
) -> None:
    """What stands before the first bytes that are no record is kept; whole records behind them wait for a repair.

    Until then that is damage, and told: nothing passes for the end of a recording that is not.
    """
    (segment,) = recorded.root.rglob("*.seg")
    content = segment.read_bytes()
    ends = ends_of_records(content)
    frames = [recorded.clean.frames[key] for key in sorted(recorded.clean.frames)]
    waited = []
    for seed in range(6):
        chance = random.Random(seed)
        left = mixed(content, chance.randrange(ends[len(ends) // 2]), chance)
        layout = open_layout(recorded.copy(tmp_path / str(seed)))
        next(layout.root.rglob("*.seg")).write_bytes(left)
        begins = [0, *ends]
        intact = [left[begin:end] == content[begin:end] for begin, end in pairwise(begins)]
        numbers = numbers_of_records(content)
        expected = [frames[seq] for whole, own in zip(intact[1:], numbers, strict=True) if whole for seq in own]
        first_bad = intact.index(False) if False in intact else len(intact)
        prefix = [frames[seq] for own in numbers[: max(0, first_bad - 1)] for seq in own]

        assert (prefix if intact[0] else []) == sorted(on_disk(layout.root).values()), seed
        waited.append(prefix != expected)
        if waited[-1]:
            with pytest.raises(Damaged):
                flush(layout, tell=lambda _news: None)
            assert verify(layout, topics, done=lambda _frames: None).problems, seed
            verify_archive(layout, topics, rederive=False, repair=True, done=lambda _frames: None)
        flush(layout, tell=lambda _news: None)
        report = verify(layout, topics, rederive=True, done=lambda _frames: None)
        lost = [seq for hole in report.holes for seq in range(hole.first, hole.last + 1)]
        assert expected == list(Archive(layout.root).frames()), seed
        assert [] == report.problems, seed
        assert sorted([*lost, *(frame.seq for frame in expected)]) == list(range(len(lost) + len(expected))), seed
        assert [] == strays(layout.root), seed

    assert any(waited)


def numbers_of_records(segment: bytes) -> list[list[int]]:
    """Give the numbers of the frames of each record of frames."""
    return [list(range(batch.first_seq, batch.last_seq + 1)) for batch in Scan(segment)]


def ends_of_records(segment: bytes) -> list[int]:
    """Give the offsets at which a segment's records end, its header first."""
    scan, ends = Scan(segment), list[int]()
    ends.extend(scan.end for _ in scan)
    first = Scan(segment[: ends[0] - 1])
    assert not list(first)
    return [first.end, *ends]


# ------------------------------------------------------------------ another schema


COLUMN = '    { name = "of_tomorrow", key = "9999", parser = "price", doc = "A column of the next version." },\n'


def next_version(folder: Path) -> tuple[dict[str, str], Topics]:
    """Copy the recorder, its market data with one more column; give its processes' environment, and its topics."""
    for name in ("recorder", "schemas"):
        shutil.copytree(ROOT / name, folder / name)  # what is compiled too: its processes need not do it again
    path = folder / "schemas" / "market_data.toml"
    text = path.read_text("utf-8")
    path.write_text(text.replace("column = [\n", f"column = [\n{COLUMN}", 1), "utf-8")
    return environment() | {"PYTHONPATH": str(folder)}, load_topics(folder / "schemas")


class Upgrade:
    """The next version's archiver, in this process, over what is left of frames whose clean run is known."""

    def __init__(self, frames: Frames, folder: Path) -> None:
        variables, self.topics = next_version(folder)
        self._clean = clean_run(frames, folder / "clean", topics=self.topics)
        assert variables["PYTHONPATH"] == str(folder)

    def check(self, data: Path, case: str) -> None:
        """Archive the rest, then rebuild: no part holds rows of two schemas, and readers have all rows in between."""
        layout, topics = open_layout(data), self.topics
        archiver = Archiver(layout, topics, "main", tell=lambda _news: None)
        archiver.archive_dead(live=None)
        assert ["market_data"] == list(archiver.underived), case
        assert_readable(data, self._clean.frames, case)
        assert self._clean.digest == digest_of(data, topics), case
        rebuild_topic(layout, topics, topics["market_data"], done=lambda _frames: None)
        assert_sound(data, self._clean, case, topics=topics)
        name = f"market_data/date=2026-11-20/conid={AAPL}"
        assert "of_tomorrow" in self._clean.typed[name].column_names


@pytest.fixture(scope="session")
def upgrade(tmp_path_factory: pytest.TempPathFactory, dead: Prepared) -> Upgrade:
    """Prepare the next version."""
    return Upgrade(dead.clean.frames, tmp_path_factory.mktemp("next"))


@pytest.mark.parametrize("step", ["build.typed_published"])
def test_a_killed_archiver_is_followed_by_one_with_another_schema(
    tmp_path: Path, forge: Forge, dead: Prepared, step: str
) -> None:
    """Frames are archived, readers decode the rows, that is said; a rebuild makes the tables of the new schema.

    Real processes here; every step of the archiver is followed so in `Upgrade`.
    """
    data = dead.copy(tmp_path)
    assert -signal.SIGKILL == forge.run("flush", data, kill_at=step)
    variables, topics = next_version(tmp_path / "next")
    ended: list[Ended] = []

    @in_loop
    async def check() -> None:
        async with sending() as (sender, gateway):
            capture = await asyncio.create_subprocess_exec(
                *command("capture", "--gateway", gateway.base_url, "--conid", str(AAPL), "--field", "bid_price,9999"),
                *("--data", str(data)),
                cwd=tmp_path,
                env=variables,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            await eventually(lambda: sender.numbers > 20)
            capture.terminate()
            ended.append(await end(capture))

    check()
    found = on_disk(data)
    clean = clean_run(found, tmp_path / "clean", topics=topics)
    assert (0, True) == (ended[0].code, "has another schema" in ended[0].err), ended
    assert dead.clean.frames.items() < found.items()
    assert_readable(data, found, step)
    assert clean.digest == digest_of(data, topics)
    assert [] == verify(open_layout(data), topics, rederive=True, done=lambda _frames: None).problems
    rebuild = command("rebuild", "--topic", "market_data", "--data", str(data))
    subprocess.run(rebuild, cwd=tmp_path, env=variables, check=True)
    assert_sound(data, clean, step, topics=topics)
    assert "of_tomorrow" in clean.typed[f"market_data/date=2026-11-20/conid={AAPL}"].column_names
