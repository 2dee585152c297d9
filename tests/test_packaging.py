"""The wheel holds what the package needs, and the version is the changelog's."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {"recorder/py.typed", "recorder/capture/page.html", "recorder/research/quality.html"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel and give the names of its files."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_topic_file(wheel: set[str]) -> None:
    """Nothing that a checkout has is missing once installed."""
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "recorder").rglob("*.py")}
    topics = {f"recorder/schemas/{path.name}" for path in (ROOT / "schemas").glob("*.*")}

    assert {Path(name).suffix for name in topics} == {".toml", ".jsonl"}
    assert (modules | topics | PAGES) - wheel == set()


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    """No tests, no data, no caches."""
    strangers = {name for name in wheel if not re.match(r"recorder/|ibkr_recorder-[^/]+\.dist-info/", name)}

    assert strangers | {name for name in wheel if "__pycache__" in name} == set()


def test_the_license_is_in_the_wheel(wheel: set[str]) -> None:
    """As the license asks."""
    assert [name for name in wheel if name.endswith(".dist-info/licenses/LICENSE")] != []


def test_the_version_is_the_changelogs_newest() -> None:
    """A release without a changelog entry is not one."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert newest
    assert newest[1] == version
