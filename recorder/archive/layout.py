"""Layout: where everything in an archive's folder stands, and what it is called."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from recorder.disk import disk_errors, sync_folder
from recorder.errors import ArchiveError, NotAnArchive
from recorder.faults import point
from recorder.protocol.days import DayBoundary
from recorder.protocol.segment import SUFFIX, parse_segment_name

FORMAT: Final = 1
FRAMES: Final = "frames"
PARQUET: Final = ".parquet"
_SETTINGS: Final = "archive.toml"
_OWN: Final = ("journal", ".tmp", "quarantine")


class PartName(NamedTuple):
    """What a part's name says: one session's frames from `first` to `last`, both included."""

    session: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.session}-{self.first:012d}-{self.last:012d}{PARQUET}"


def parse_part_name(name: str) -> PartName | None:
    """Read a part's name; None if it is not one."""
    stem = name.removesuffix(PARQUET)
    pieces = stem.rsplit("-", 2)
    if stem == name or len(pieces) != 3 or not (pieces[1].isdecimal() and pieces[2].isdecimal()):  # noqa: PLR2004
        return None
    return PartName(pieces[0], int(pieces[1]), int(pieces[2]))


@dataclass(frozen=True, slots=True)
class Layout:
    """An archive's folder and its day boundary."""

    root: Path
    boundary: DayBoundary

    @property
    def quarantine(self) -> Path:
        """The folder for what could not be read."""
        return self.root / "quarantine"

    def journal(self, recorder: str) -> Path:
        """Give the folder of a recorder's segments and locks."""
        return self.root / "journal" / recorder

    def tmp(self, recorder: str) -> Path:
        """Give the folder for files that a recorder's archiver has not finished."""
        return self.root / ".tmp" / recorder

    def frames(self, date: str) -> Path:
        """Give the folder of a date's frames parts."""
        return self.root / FRAMES / f"date={date}"

    def partition(self, topic: str, date: str, conid: int) -> Path:
        """Give the folder of a topic's parts for a date and contract."""
        return self.root / topic / f"date={date}" / f"conid={conid}"

    def recorders(self) -> list[str]:
        """List the recorders that have a journal folder."""
        return sorted(path.name for path in _entries(self.root / "journal") if path.is_dir())

    def segments(self, recorder: str) -> list[Path]:
        """List a recorder's segments in the order of their frames."""
        return sorted(path for path in _entries(self.journal(recorder)) if is_segment(path))

    def topics(self) -> list[str]:
        """List the topics that have a folder, frames apart."""
        names = (path.name for path in _entries(self.root) if path.is_dir() and path.name not in (*_OWN, FRAMES))
        return sorted(name for name in names if not name.startswith("."))

    def dates(self, topic: str) -> list[str]:
        """List the dates for which a topic, or `frames`, has a folder."""
        return sorted(path.name.removeprefix("date=") for path in _entries(self.root / topic) if "date=" in path.name)

    def conids(self, topic: str, date: str) -> list[int]:
        """List the contracts for which a topic has a folder on a date."""
        names = (path.name for path in _entries(self.root / topic / f"date={date}"))
        return sorted(int(name.removeprefix("conid=")) for name in names if name.startswith("conid="))


def is_segment(path: Path) -> bool:
    """Say whether a path is named as a segment."""
    return path.name.endswith(SUFFIX) and parse_segment_name(path.name) is not None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def open_layout(root: Path) -> Layout:
    """Open an archive's folder; `NotAnArchive` if it is none."""
    settings = root / _SETTINGS
    try:
        said = tomllib.loads(settings.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = f"{root} is no archive: it has no {_SETTINGS}" if root.is_dir() else f"there is no folder {root}"
        raise NotAnArchive(what, hint="name the folder that `recorder capture` writes with --data DIR") from None
    except PermissionError as exc:
        raise ArchiveError(f"{settings} cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ArchiveError(
            f"{settings} cannot be read: {exc}", hint="restore it: format_version, day_boundary"
        ) from exc
    if said.get("format_version") != FORMAT:
        found = said.get("format_version")
        raise ArchiveError(
            f"{settings}: format_version is {found}, this recorder reads {FORMAT}", hint="upgrade the recorder"
        )
    return Layout(root, DayBoundary(str(said.get("day_boundary", "00:00 UTC"))))


def make_layout(root: Path, boundary: DayBoundary) -> Layout:
    """Open an archive's folder, or make one of an empty or missing folder.

    The boundary is used for a new archive only. `NotAnArchive` if the folder holds other things, `DiskError` if it
    cannot be written.
    """
    if (root / _SETTINGS).exists():
        layout = open_layout(root)
    else:
        with disk_errors(root):
            foreign = [path.name for path in _entries(root) if not path.name.startswith(".")]
        if foreign:
            raise NotAnArchive(
                f"{root} holds other things ({', '.join(sorted(foreign)[:3])}) and is no archive",
                hint="name an empty or a new folder with --data DIR",
            )
        layout = Layout(root, boundary)
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_settings(root, boundary)
    with disk_errors(root):
        (root / ".tmp").mkdir(exist_ok=True, mode=0o700)
    return layout


def _write_settings(root: Path, boundary: DayBoundary) -> None:
    tmp = root / f".{_SETTINGS}.tmp"
    with open(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f'format_version = {FORMAT}\nday_boundary = "{boundary}"\n')
        file.flush()
        os.fsync(file.fileno())
    point("layout.settings_written")
    tmp.replace(root / _SETTINGS)
    point("layout.settings_published")
    sync_folder(root)
