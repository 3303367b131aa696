"""Where a benchmark's figures go."""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

RESULTS = Path(os.environ.get("LAKEVEC_BENCH_RESULTS", ".lakevec/bench"))


@pytest.fixture
def keep(request, capsys) -> Callable[[dict], None]:
    """Print figures, keep them as JSON in LAKEVEC_BENCH_RESULTS, and log them to the MLflow store beside that."""

    def kept(figures: dict) -> None:
        at = datetime.now(UTC)
        name = request.node.name
        text = json.dumps({"benchmark": name, "at": at.isoformat(timespec="seconds"), **machine(), **figures}, indent=2)
        RESULTS.mkdir(parents=True, exist_ok=True)
        file = RESULTS / f"{request.node.path.stem.removeprefix('test_')}-{at:%Y%m%dT%H%M%S}.json"
        file.write_text(text + "\n")
        client = MlflowClient(f"sqlite:///{(RESULTS / 'mlflow.db').absolute()}")
        found = client.get_experiment_by_name("bench")
        artifacts = (RESULTS / "artifacts").absolute().as_uri()
        experiment = found.experiment_id if found else client.create_experiment("bench", artifacts)
        run = client.create_run(experiment, run_name=name, tags=machine()).info.run_id
        for key, value, step in flat(figures):
            client.log_metric(run, key, value, step=step)
        client.log_artifact(run, str(file))
        client.set_terminated(run)
        with capsys.disabled():
            print("\n" + text)

    return kept


def machine() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    return {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {processor()}", "commit": commit}


def processor() -> str:
    told = Path("/proc/cpuinfo")
    names = [line for line in told.read_text().splitlines() if line.startswith("model name")] if told.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def flat(figures: dict, before: str = "", step: int = 0) -> list[tuple[str, float, int]]:
    """The numbers of nested figures, as MLflow's names allow them; a list's places are steps."""
    found = []
    for key, value in figures.items():
        name = before + "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in str(key))
        for place, each in enumerate(value) if isinstance(value, list) else [(step, value)]:
            if isinstance(each, dict):
                found += flat(each, f"{name}/", place)
            elif isinstance(each, int | float) and not isinstance(each, bool):
                found.append((name, float(each), place))
    return found
