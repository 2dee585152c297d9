"""Replacing folders: a topic's date is replaced whole, so that no plain reader sees a row twice or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from recorder.archive.layout import Layout
from recorder.archive.names import names_lock
from recorder.disk import make_folder, sync_folder
from recorder.faults import point

_AT_FDCWD: Final = -100
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2)
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def replace_date(layout: Layout, new: Path, old: Path, *, consumed: Collection[Path]) -> None:
    """Put the finished folder `new` in the place of `old`; both are a topic's folder of one date.

    `consumed` are the files of `old` that `new` replaces. All others, such as those that came since, are taken along as
    they are. Every file in `new` is synced already; folders are synced here.
    """
    with names_lock(layout):
        for path in sorted(old.rglob("*")):
            if path not in consumed and not path.is_dir():
                target = new / path.relative_to(old)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.link(path, target, follow_symlinks=False)
                point("replace.linked")
        for folder in (*(path for path in new.rglob("*") if path.is_dir()), new):
            sync_folder(folder)
        _swap(new, old, root=layout.root)
    if new.exists():
        shutil.rmtree(new)
    point("replace.removed")


def _swap(new: Path, old: Path, *, root: Path) -> None:
    """Exchange two folders.

    On Linux it is one step. Where the system cannot do that, files of `new` are renamed into `old` before the files
    that they replace are removed: a plain reader may see rows twice for a moment, but never misses one.
    """
    point("replace.before")
    if not old.exists():
        make_folder(old.parent, below=root)
        point("replace.folder_made")
        new.rename(old)
    elif not _exchange(new, old):
        _replace_files(new, old)
    point("replace.swapped")
    sync_folder(old.parent)
    point("replace.synced")


def _exchange(new: Path, old: Path) -> bool:
    if _renameat2 is None:
        return False
    result = _renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _EXCHANGE)
    return bool(result == 0)  # a file system that cannot exchange says so, and files are replaced one by one


def _replace_files(new: Path, old: Path) -> None:
    kept = {path.relative_to(new) for path in new.rglob("*") if not path.is_dir()}
    for name in sorted(kept):
        (old / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (new / name).replace(old / name)
        point("replace.file_moved")
    for path in sorted(old.rglob("*")):
        if not path.is_dir() and path.relative_to(old) not in kept:
            path.unlink()
            point("replace.file_removed")
    for folder in (*(path for path in old.rglob("*") if path.is_dir()), old):
        sync_folder(folder)
