"""House rules that no other checker holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "recorder").rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))

LONGEST_FUNCTION = 60  # lines, without its docstring
LONGEST_FILE = 350
VAGUE = {"base", "common", "helpers", "manager", "misc", "util", "utils"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
CATCHES_ALL: dict[str, str] = {}  # file: why its catching of every Exception is right


def name_of(path: Path) -> str:
    """Name a file from the top of the checkout."""
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give every function of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines from a function's `def` to its end, without its docstring."""
    first = function.body[0]
    doc = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return (function.end_lineno or 0) - function.lineno + 1 - doc


def catches_all(path: Path) -> bool:
    """Tell whether a file catches every Exception, or everything, and does not raise it again."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    handlers = [node for node in nodes if isinstance(node, ast.ExceptHandler)]
    broad = [one for one in handlers if one.type is None or ast.unparse(one.type) in ("Exception", "BaseException")]
    return any(ast.unparse(handler.body[-1]) != "raise" for handler in broad)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short_and_named_for_what_it_holds(path: Path) -> None:
    """A file that outgrows the limit holds two things."""
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_FILE
    assert path.stem not in VAGUE


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_a_function_is_short(path: Path) -> None:
    """One function does one thing."""
    assert {one.name: length(one) for one in functions(path) if length(one) > LONGEST_FUNCTION} == {}


def test_no_module_catches_everything_without_a_reason() -> None:
    """Catch, log and go on is how frames get lost."""
    assert {name_of(path) for path in SOURCES if catches_all(path)} == set(CATCHES_ALL)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_unfinished(path: Path) -> None:
    """What is not done is an issue, not a comment."""
    assert UNFINISHED.findall(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", [path for path in TESTS if path.stem.startswith("test_")], ids=name_of)
def test_a_test_says_what_it_shows(path: Path) -> None:
    """Each test file and each test has its sentence."""
    tests = [one for one in functions(path) if one.name.startswith("test_")]

    assert [one.name for one in tests if not ast.get_docstring(one)] == []
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
