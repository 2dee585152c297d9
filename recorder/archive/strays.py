"""Strays: files in an archive that no commit and no journal answers for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from recorder.archive.catalog import frames_parts
from recorder.archive.commit import Commit
from recorder.archive.covered import Coverage, covers
from recorder.archive.layout import FRAMES, Layout, PartName, parse_part_name
from recorder.errors import Damaged
from recorder.protocol.segment import parse_segment_name


class Stray(NamedTuple):
    """A file that does not belong: `foreign` (no part of ours), `uncovered` (no commit has it) or `double`."""

    kind: str
    path: Path
    what: str


def find_strays(layout: Layout, *, damaged: Collection[Path]) -> list[Stray]:
    """List the files below the topics' folders that do not belong there.

    Nothing answers for typed parts whose frames part is one of the `damaged`. Files are listed first, then the journal,
    then the commits, so that what a flush commits meanwhile is no stray; what a compaction replaces meanwhile is gone.
    """
    files = {topic: _files(layout.root / topic) for topic in (FRAMES, *layout.topics())}
    pending = {parse_segment_name(path.name) for recorder in layout.recorders() for path in layout.segments(recorder)}
    answers = _Answers(layout, damaged)
    strays = [
        stray
        for topic, folders in files.items()
        for folder, paths in folders.items()
        for stray in _in_folder(topic, str(folder.relative_to(layout.root)), paths, pending, answers)
    ]
    return [stray for stray in strays if stray.path.exists()]


class _Answers:
    """Which parts are commits, and which typed parts they answer for."""

    def __init__(self, layout: Layout, damaged: Collection[Path]) -> None:
        self.damaged = damaged
        self.parts: set[Path] = set()
        self._commits: dict[str, list[Commit]] = {}
        commits = []
        for part in frames_parts(layout, ignoring=damaged):
            self.parts.add(part.path)
            with suppress(Damaged, FileNotFoundError):  # the first is told elsewhere; the second is another part now
                commits.append(part.commit())
        for commit in commits:
            for key in commit.partitions:
                self._commits.setdefault(key, []).append(commit)
        self._whole = Coverage(commits)

    def have(self, key: str, name: PartName) -> bool:
        """Say whether commits have all of a part's frames, and one of them rows in its partition."""
        return name in self._whole and any(covers(name, commit) for commit in self._commits.get(key, []))


def _in_folder(
    topic: str, key: str, paths: list[Path], pending: Collection[tuple[str, int] | None], answers: _Answers
) -> Iterator[Stray]:
    covered: list[PartName] = []
    for path in sorted(paths):
        name = parse_part_name(path.name)
        if name is None or str(name) != path.name or not _is_partition(key, topic):
            yield Stray("foreign", path, "it is no part of this archive")
        elif topic == FRAMES:
            if path not in answers.parts and path not in answers.damaged:
                yield Stray("double", path, "its frames are in another part of this folder too")
        elif (name.session, name.first) in pending:
            continue  # left by an archiver that was killed; the next one replaces it
        elif not answers.have(key, name):
            yield Stray("uncovered", path, "no commit answers for its rows")
        elif any(_overlap(name, other) for other in covered):
            yield Stray("double", path, "its frames are in another part of this folder too")
        else:
            covered.append(name)


def _is_partition(key: str, topic: str) -> bool:
    folders = key.split("/")[1:]
    expected = ("date=",) if topic == FRAMES else ("date=", "conid=")
    return len(folders) == len(expected) and all(
        name.startswith(start) for name, start in zip(folders, expected, strict=True)
    )


def _files(folder: Path) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for path in folder.rglob("*"):
        if not path.is_dir():
            found.setdefault(path.parent, []).append(path)
    return found


def _overlap(one: PartName, other: PartName) -> bool:
    return one.session == other.session and one.first <= other.last and other.first <= one.last
