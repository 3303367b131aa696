"""The notebooks, executed in kernels of their own against the test run's Milvus server."""

import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from lakevec.jobs.tuning.grid import Setting
from lakevec.jobs.tuning.tracking import Store
from lakevec.jobs.tuning.tracking import sweep as tracked
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

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
    shown = results(executed(copy / "lakevec_tour.ipynb", copy))
    answer = next(text for source, text in shown.items() if source.endswith('hits("why did the brake levers snap")'))
    assert "reports/alke-investigation-2023.pdf" in answer
    quarantined = next(text for source, text in shown.items() if "'quarantined'" in source)
    assert all(name in quarantined for name in ("locked-contract.pdf", "torn-scan.pdf", "torque-logger.bin"))
    assert next(text for source, text in shown.items() if source.startswith("again")) == "(67, 0, 0, 0)"


def test_the_choice_of_an_index_is_explained_from_mlflow_alone(tmp_path, monkeypatch):
    """Sweeps as they are logged, none, one and two; what was measured is made up."""
    monkeypatch.setenv("LAKEVEC__MLFLOW__TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    # Nothing else is there to be read.
    monkeypatch.setenv("LAKEVEC__LAKE__PATH", str(tmp_path / "nowhere"))
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "lakevec-tune", f"file://{tmp_path}/artifacts")
    with pytest.raises(CellExecutionError, match=r"No sweep is logged in sqlite:.*Run lakevec tune"):
        executed(NOTEBOOKS / "tuning.ipynb", NOTEBOOKS)
    measured = {"HNSW": (0.97, 700), "IVF_FLAT": (0.96, 900), "IVF_SQ8": (0.91, 1200)}

    def logged(name: str, lake: str, settings: dict[str, tuple[float, int]], champion: str) -> None:
        params = {"target_recall": 0.94, "max_memory": None, "queries_sampled": 1000, "collection": "mail"}
        with tracked(store, name, params, {"lake": lake}) as run:
            for kind, (recall, speed) in settings.items():
                metrics = {
                    "recall_at_10": recall,
                    "recall_at_10_low": recall - 0.01,
                    "recall_at_10_high": recall + 0.01,
                }
                metrics |= {"latency_p99_ms": 5, "qps_8_clients": speed, "memory_bytes": 1000}
                run.child(Setting(kind), metrics, {}, None)
            run.log(run.run_id, {"champion": champion}, {})

    for seed in (0, 1):
        logged("another lake", "b", {"FLAT": (1.0, 100)}, "FLAT")
        faster = {kind: (recall, speed + seed) for kind, (recall, speed) in measured.items()}
        logged(f"mail seed {seed}", "a", faster, "IVF_FLAT")
        notebook = executed(NOTEBOOKS / "tuning.ipynb", NOTEBOOKS)
        is_alone = "There is no sweep before this one" in "".join(each.get("text", "") for each in outputs_of(notebook))
        assert is_alone == (seed == 0)

    shown = results(notebook)
    sweeps = next(text for source, text in shown.items() if source.startswith("import io"))
    assert "mail seed 1" in sweeps
    assert "mail seed 0" in sweeps
    reasons = next(text for source, text in shown.items() if source.startswith("choice ="))
    assert "recall may be as low as 0.9000" in reasons
    assert "it is slower: 701 searches/s" in reasons
    outputs = outputs_of(notebook)
    assert any(each.get("text", "").startswith("IVF_FLAT: the fastest of 2 settings") for each in outputs)
    assert sum("image/png" in each.get("data", {}) for each in outputs) == 2
    # Line by line with the one before it of the same lake.
    compared = next(text for source, text in shown.items() if source.startswith("def half"))
    assert all(kind in compared for kind in measured)


def outputs_of(notebook) -> list:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def executed(path: Path, folder: Path):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=540, kernel_manager_class=ThisPython, resources=resources).execute()
    return notebook


def test_notebooks_are_kept_without_outputs():
    cells = [cell for path in NOTEBOOKS.glob("*.ipynb") for cell in json.loads(path.read_text())["cells"]]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
    assert {cell["execution_count"] for cell in cells if cell["cell_type"] == "code"} == {None}
