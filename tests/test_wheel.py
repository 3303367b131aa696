"""The wheel in an environment of its own, away from this folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def called(*command: object, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_runs_in_a_clean_environment(tmp_path):
    # The virtual environment of the tests has no uv; the Python that it was made from may.
    uv = ["uv"] if shutil.which("uv") else [sys._base_executable, "-m", "uv"]
    called(*uv, "build", "--wheel", "--quiet", "--out-dir", tmp_path / "dist")
    (wheel,) = (tmp_path / "dist").glob("lakevec-*.whl")
    called(*uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    python, lakevec = tmp_path / "venv/bin/python", tmp_path / "venv/bin/lakevec"
    constraints = ["--constraint", ROOT / "requirements.lock"]
    called(*uv, "pip", "install", "--quiet", "--python", python, *constraints, wheel)
    source = tmp_path / "source"
    source.mkdir()
    (source / "rules.md").write_text("# Rules\n\nThe harbour opens at six.\n")
    settings = ["--set", f"source.path={source}", "--set", f"lake.path={tmp_path / 'lake'}"]

    assert "always-current Milvus index" in called(lakevec, "--help", cwd=tmp_path)
    run = json.loads(called(lakevec, *settings, "--json", "run", "--once", cwd=tmp_path))
    found = json.loads(called(lakevec, *settings, "--json", "search", "When does it open?", cwd=tmp_path))

    assert (run["documents"], run["loaded"]) == (1, 1)
    assert [hit["uri"] for hit in found["hits"]] == [str(source / "rules.md")]
    assert not list(tmp_path.glob("venv/**/site-packages/jobs"))
