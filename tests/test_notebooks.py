"""The notebooks: each runs from its first cell to its last, with and without an order to show, and is kept bare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, command, environment, quotes, write_session

from recorder.archive.layout import Layout

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# In a process of its own: Jupyter's libraries warn of their own affairs, which this suite would take for errors.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """Read the code cells of a notebook."""
    cells: list[dict[str, Any]] = json.loads(notebook.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def execute(notebook: Path, data: Path, folder: Path) -> list[dict[str, Any]]:
    """Run a notebook on an archive, away from the user's own Jupyter settings; give its code cells with outputs."""
    done = folder / f"{notebook.stem}-on-{data.name}.ipynb"
    places = {f"JUPYTER_{what}_DIR": str(folder / "jupyter") for what in ("CONFIG", "DATA", "RUNTIME")}
    ran = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(notebook), str(done)],
        cwd=folder,
        env=environment() | places | {"IPYTHONDIR": str(folder / "ipython"), "RECORDER_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return code_cells(done)


def assert_drawn_without_complaint(cells: list[dict[str, Any]]) -> None:
    """Each cell that draws gave a picture, and no cell an error or a warning."""
    charts = [cell for cell in cells if "plt.subplots(" in "".join(cell["source"])]
    bare = [cell["id"] for cell in charts if not any("image/png" in out.get("data", {}) for out in cell["outputs"])]
    outputs = [output for cell in cells for output in cell["outputs"]]

    assert charts
    assert bare == []
    assert [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"] == []


def test_there_are_notebooks() -> None:
    """Without them, the tests below would show nothing."""
    assert ["01_explore", "02_orders_and_pnl", "03_backtest"] == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(notebook: Path) -> None:
    """Outputs bloat diffs, go stale, and may show somebody's account."""
    assert [cell["id"] for cell in code_cells(notebook) if cell["outputs"] or cell["execution_count"]] == []


@pytest.fixture(scope="module")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the demo once for all notebooks."""
    folder = tmp_path_factory.mktemp("demo")
    demo = command("demo", "--data", "demo-data", "--for", "6s")
    ran = subprocess.run(demo, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return folder / "demo-data"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_what_the_demo_recorded(notebook: Path, demo_data: Path, tmp_path: Path) -> None:
    """As its first lines promise: `recorder demo`, then the notebook."""
    assert_drawn_without_complaint(execute(notebook, demo_data, tmp_path))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_where_nothing_but_quotes_was_recorded(notebook: Path, layout: Layout, tmp_path: Path) -> None:
    """Many a night has no order, and a capture that is still running has no Parquet yet."""
    write_session(layout, quotes(20))

    assert_drawn_without_complaint(execute(notebook, layout.root, tmp_path))
