"""A simulated power loss: of a folder, what had been synced before a process died, and nothing else.

The tracked process notes each sync of a file (how long the file was) and of a folder (which names it had). What was
there when it began counts as synced. Afterwards the folder is made anew from the notes: a name appears where its
folder was last synced with it, so a rename or a removal that no sync of its folder followed is undone, and a file has
the bytes of its last sync, or none. That is the worst that a file system may do with names which keeps what it has
synced; the best is a kill that loses nothing.

The worst that it may do with bytes is another thing: every rename and removal is on the disk, but of what no sync had
made safe each sector was written or not, in any order, and reads as zeros if it was not (`mixed`).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from recorder import disk

NOTES = "notes"
SECTOR = 512
"""Bytes that a disk writes at once. The kernel writes pages of eight sectors or more, which is a special case."""


class _Notes:
    """Notes syncs; files are kept in `shadow` by hard links."""

    def __init__(self, shadow: Path) -> None:
        shadow.mkdir(parents=True)
        self._shadow = shadow
        self._log = os.open(shadow / NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def folder(self, path: Path) -> None:
        """Note the names in a folder."""
        names = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)}
        self._write("folder", path.stat().st_ino, names)

    def file(self, path: Path) -> None:
        """Note how long a file is."""
        found = path.stat()
        if not (self._shadow / str(found.st_ino)).exists():
            os.link(path, self._shadow / str(found.st_ino))
        self._write("file", found.st_ino, found.st_size)

    def _write(self, kind: str, inode: int, value: object) -> None:
        os.write(self._log, json.dumps([kind, inode, value]).encode() + b"\n")


def track(root: Path, shadow: Path) -> None:
    """Note every sync that this process makes, by a recorder that was imported already, of what is below `root`."""
    notes = _Notes(shadow)
    notes.folder(root)
    for path in root.rglob("*"):
        (notes.folder if path.is_dir() else notes.file)(path)

    def after(sync: Callable[[Path], None], note: Callable[[Path], None]) -> Callable[[Path], None]:
        def synced(path: Path) -> None:
            sync(path)
            note(path)

        return synced

    tracked = {"sync_path": after(disk.sync_path, notes.file), "sync_folder": after(disk.sync_folder, notes.folder)}
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "recorder"]:
        vars(module).update({name: sync for name, sync in tracked.items() if name in vars(module)})


def mixed(content: bytes, synced: int, chance: random.Random) -> bytes:
    """Give what may be left of a file: what was synced; of the rest, some sectors, others zeros, up to some length."""
    left = bytearray(content[: chance.randint(synced, len(content))])
    for begin in range(synced - synced % SECTOR, len(left), SECTOR):
        if chance.random() < 0.3:
            place = slice(max(begin, synced), min(begin + SECTOR, len(left)))
            left[place] = bytes(place.stop - place.start)
    return bytes(left)


def scattered(root: Path, shadow: Path, target: Path, chance: random.Random) -> Path:
    """Make what is left if all names were written, and of what was not synced some sectors in any order."""
    files, _ = _notes(shadow)
    shutil.copytree(root, target)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        synced = min(files.get(path.stat().st_ino, 0), len(content))
        (target / path.relative_to(root)).write_bytes(mixed(content, synced, chance))
    return target


def _notes(shadow: Path) -> tuple[dict[int, int], dict[int, dict[str, tuple[int, bool]]]]:
    """Read what was noted: the length of each file, and the names of each folder, when they were last synced."""
    files: dict[int, int] = {}
    folders: dict[int, dict[str, tuple[int, bool]]] = {}
    for line in (shadow / NOTES).read_text("utf-8").splitlines():
        kind, inode, value = json.loads(line)
        if kind == "folder":
            folders[inode] = value
        else:
            files[inode] = value
    return files, folders


def survivors(root: Path, shadow: Path, target: Path) -> Path:
    """Make what survives a power loss; `root` is the folder that was tracked, `target` takes its place."""
    files, folders = _notes(shadow)

    def make(inode: int, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        for name, (child, is_folder) in folders.get(inode, {}).items():
            if is_folder:
                make(child, folder / name)
            else:
                size = files.get(child, 0)
                (folder / name).write_bytes((shadow / str(child)).read_bytes()[:size] if size else b"")

    make(root.stat().st_ino, target)
    return target
