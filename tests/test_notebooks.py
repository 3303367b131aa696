"""The notebook, executed in a kernel of its own against the test run's Milvus server."""

import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


class ThisPython(AsyncKernelManager):
    """A kernel of the interpreter that runs the tests, whatever kernels the machine knows."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def results(notebook) -> dict[str, str]:
    """What each cell's last line gave, as text, by the cell's source."""
    return {
        cell.source: output.data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    }


@pytest.mark.timeout(600)
def test_the_tour_runs_from_the_sample_to_an_answer(milvus, tmp_path, monkeypatch):
    copy = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    monkeypatch.setenv("LAKEVEC__MILVUS__URI", milvus.uri)
    monkeypatch.setenv("LAKEVEC__MILVUS__COLLECTION", "notebook_tour")
    monkeypatch.setenv("LAKEVEC__SPARK__MASTER", "local[2]")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    notebook = nbformat.read(copy / "lakevec_tour.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=540, kernel_manager_class=ThisPython, resources={"metadata": {"path": str(copy)}}
    )
    client.execute()
    shown = results(notebook)
    answer = next(text for source, text in shown.items() if source.endswith('hits("why did the brake levers snap")'))
    assert "reports/alke-investigation-2023.pdf" in answer
    quarantined = next(text for source, text in shown.items() if "'quarantined'" in source)
    assert all(name in quarantined for name in ("locked-contract.pdf", "torn-scan.pdf", "torque-logger.bin"))
    assert next(text for source, text in shown.items() if source.startswith("again")) == "(67, 0, 0, 0)"


def test_notebooks_are_kept_without_outputs():
    cells = [cell for path in NOTEBOOKS.glob("*.ipynb") for cell in json.loads(path.read_text())["cells"]]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
    assert {cell["execution_count"] for cell in cells if cell["cell_type"] == "code"} == {None}
