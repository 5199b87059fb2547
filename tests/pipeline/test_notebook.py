from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.helpers import ENVIRONMENT, ROOT


def read() -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.reads(
        (ROOT / "walkthrough.ipynb").read_text(encoding="utf-8"), as_version=4
    )  # type: ignore[no-untyped-call]
    return notebook


def test_it_is_committed_without_outputs() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_it_runs_and_draws(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", ENVIRONMENT["PATH"])
    folder = {"metadata": {"path": str(pipeline)}}
    notebook = nbclient.NotebookClient(read(), timeout=120, resources=folder).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 6
