"""Repair: what is damaged or does not belong, moved to `quarantine/`; nothing is ever deleted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from recorder.archive.layout import Layout
from recorder.archive.names import names_lock
from recorder.archive.verify import Problem
from recorder.disk import make_folder, sync_folder
from recorder.faults import point

_MOVED: Final = frozenset({"damaged", "foreign", "uncovered", "double"})


def set_aside(layout: Layout, problems: Iterable[Problem]) -> list[Path]:
    """Move the files of problems that lie in a file itself; give where they are now, below `quarantine/`.

    Their paths are kept, so that what was moved can be told, and put back. Damaged segments are not its business, nor
    is what is missing. The caller keeps compactions and rebuilds away.
    """
    moved = []
    with names_lock(layout):
        for path in sorted({problem.path for problem in problems if problem.kind in _MOVED}):
            if path.is_dir() or not path.is_relative_to(layout.root) or not os.path.lexists(path):
                continue
            target = free_name(layout.quarantine / path.relative_to(layout.root))
            make_folder(target.parent, below=layout.root)
            path.rename(target)
            point("repair.moved")
            sync_folder(target.parent)
            sync_folder(path.parent)
            moved.append(target)
    return moved


def free_name(path: Path) -> Path:
    """Give the path, or one beside it that no earlier repair has taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
