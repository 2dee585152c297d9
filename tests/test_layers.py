"""The rooms: which may import which, and what the pure one stays away from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "recorder"
MODULES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"errors", "types"}
DISK = {"disk", "faults", "lock"}
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "disk": GROUND,
    "faults": set(),
    "pauses": set(),
    "lock": GROUND | {"disk"},
    "protocol": GROUND,
    "capture": GROUND | DISK | {"protocol"},
    "archive": GROUND | DISK | {"pauses", "protocol"},
    "replay": GROUND | {"protocol", "archive"},
    "research": GROUND | {"protocol", "archive"},
    # what puts rooms together: the Python interface, and a capture with its archiver,
    # and both looked at from outside
    "library": GROUND | {"protocol", "archive", "replay", "research"},
    "recording": GROUND | DISK | {"protocol", "capture", "archive"},
    "supervision": GROUND | DISK | {"protocol", "capture", "archive"},
    "__init__": GROUND | {"library"},
    "cli": GROUND
    | DISK
    | {"pauses", "protocol", "capture", "archive", "replay", "research", "library", "recording", "supervision"},
}

IMPURE_MODULES = {
    *("asyncio", "concurrent", "multiprocessing", "queue", "select", "signal", "subprocess", "threading"),
    *("aiohttp", "http", "socket", "ssl", "urllib", "websockets"),
    *("fcntl", "importlib", "io", "os", "pathlib", "shutil", "sys", "tempfile"),
    *("logging", "random", "secrets", "time", "uuid"),
}
IMPURE_CALLS = {"open", "print", "input", "now", "today", "utcnow", "read_text", "read_bytes", "write_text", "glob"}
ALLOWED_IMPURITY = {
    "protocol/topics.py": {"importlib", "pathlib", "read_text", "glob"},  # the broker's language stands in files
}


def room_of(path: Path) -> str:
    """Name the room of a module: its folder, or itself at the top of the package."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported(path: Path) -> Iterator[str]:
    """Give every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(path: Path) -> Iterator[str]:
    """Give the last name of everything that a file calls."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    """Arrows run one way; a new room gets a line in the table."""
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("recorder.")}

    assert rooms - {room_of(path)} - MAY_IMPORT[room_of(path)] == set()


def test_every_room_of_the_table_exists() -> None:
    """A line for a room that is gone permits what nobody checks."""
    assert {room_of(path) for path in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "protocol").rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_protocol_has_no_input_no_output_and_no_clock(path: Path) -> None:
    """Time, randomness and bytes come in as arguments."""
    modules = {name.split(".")[0] for name in imported(path)}
    found = (modules & IMPURE_MODULES) | (set(called(path)) & IMPURE_CALLS)

    assert found - ALLOWED_IMPURITY.get(str(path.relative_to(PACKAGE)), set()) == set()
