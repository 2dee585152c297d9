"""Strays: files in an archive that no commit and no journal answers for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from recorder.archive.commit import Commit
from recorder.archive.covered import Coverage
from recorder.archive.layout import FRAMES, Layout, PartName, parse_part_name
from recorder.protocol.segment import parse_segment_name


class Stray(NamedTuple):
    """A file that does not belong: `foreign` (no part of ours), `uncovered` (no commit has it) or `double`."""

    kind: str
    path: Path
    what: str


def find_strays(layout: Layout, commits: Sequence[Commit]) -> Iterator[Stray]:
    """Give the files below the topics' folders that do not belong there."""
    coverage = Coverage(commits)
    pending = {parse_segment_name(path.name) for recorder in layout.recorders() for path in layout.segments(recorder)}
    for topic in (FRAMES, *layout.topics()):
        for folder, paths in _files(layout.root / topic).items():
            covered: list[PartName] = []
            for path in sorted(paths):
                name = parse_part_name(path.name)
                if name is None:
                    yield Stray("foreign", path, "it is no part of this archive")
                elif topic != FRAMES and (name.session, name.first) in pending:
                    continue  # left by an archiver that was killed; the next one replaces it
                elif topic != FRAMES and name not in coverage:
                    yield Stray("uncovered", path, "no commit answers for its rows")
                elif any(_overlap(name, other) for other in covered):
                    yield Stray("double", path, f"its frames are in another part of {folder} too")
                else:
                    covered.append(name)


def _files(folder: Path) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for path in folder.rglob("*"):
        if not path.is_dir():
            found.setdefault(path.parent, []).append(path)
    return found


def _overlap(one: PartName, other: PartName) -> bool:
    return one.session == other.session and one.first <= other.last and other.first <= one.last
