"""The notebooks run, from the first cell to the last, each in a kernel of its own."""

import os
from pathlib import Path

import pytest

WHY = "the extra `notebooks` is not installed"
jupytext = pytest.importorskip("jupytext", reason=WHY)
nbclient = pytest.importorskip("nbclient", reason=WHY)
pytest.importorskip("ipykernel", reason=WHY)

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_there_are_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, 10)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """matplotlib's folder, with its list of fonts: made once for all notebooks."""
    return tmp_path_factory.mktemp("matplotlib")


@pytest.mark.notebook
@pytest.mark.filterwarnings("default")  # those of Jupyter's own packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("MPLCONFIGDIR", str(settings))
    notebook = jupytext.read(path)
    nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    shown = [kind for cell in code for each in cell.outputs for kind in each.get("data", {})]
    assert "image/png" in shown or path.stem.startswith("05")
