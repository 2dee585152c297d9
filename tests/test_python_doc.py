"""docs/python.md and the README's Python: every method has an example, and every example runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DAY, NOON, Given, archive, write_session

import recorder
from recorder.archive.layout import make_layout
from recorder.library import Archive
from recorder.protocol.days import DayBoundary
from recorder.replay.synthetic import SyntheticFeed

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python.md"
METHODS = [name for name in vars(Archive) if not name.startswith("_")]


def blocks(page: Path) -> list[str]:
    """Give the Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def day() -> Iterator[Given]:
    """Give some frames of a synthetic market with orders and an account, over two days."""
    feed = SyntheticFeed(seed=3, contracts=3, rate=20, order_every=1)
    streams = [f"smd+{conid}" for conid in feed.instruments]
    feed.want([*streams, "sor", "spl"])
    yield from (Given(NOON, data) for stream in streams if (data := feed.snapshot(stream, NOON)))
    for number in range(300):
        now = NOON + 100_000 * number
        later = now + DAY if number > 200 else now
        yield from (Given(later, update.data) for update in feed.advance(now).updates)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an archive that is called as in the docs; give the folder that it is in."""
    folder = tmp_path_factory.mktemp("python")
    layout = make_layout(folder / "demo-data", DayBoundary("00:00 UTC"))
    write_session(layout, list(day()))
    archive(layout)
    return folder


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_block_of_python_runs(page: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, as they stand."""
    monkeypatch.chdir(demo)
    names: dict[str, object] = {}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), names)  # noqa: S102  it is our own

    assert isinstance(names["archive"], Archive)


def test_the_examples_have_something_to_show(demo: Path) -> None:
    """An example that gives nothing shows nothing."""
    opened = recorder.open(demo / "demo-data")

    assert len(opened.quotes(265598)) > 10
    assert len(opened.ticks(265598)) > 10
    assert 3 == len(opened.state("market_data", at="2026-11-21"))
    assert len(opened.state("orders", at="2026-11-20T13:00")) > 1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_shown_at_work(name: str) -> None:
    """In the page, and with a docstring of its own."""
    assert f"archive.{name}(" in "\n".join(blocks(PAGE))
    assert getattr(Archive, name).__doc__
