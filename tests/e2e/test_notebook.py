"""The notebook runs from top to bottom, and shows what it promises."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")  # those of Jupyter's own packages
def test_the_notebook_runs_from_top_to_bottom() -> None:
    notebook = nbformat.read(FOLDER / "federation.ipynb", as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), (
        "it is kept without outputs"
    )

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs
    )
    assert "DigitsNet: 11 pass, 0 warn, 0 fail" in shown
    assert "'personal': '" in shown
    assert any("image/png" in output.get("data", {}) for output in outputs), "the picture is a picture"
    assert "compressed" in shown
