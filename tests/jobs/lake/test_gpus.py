"""GPUs of a standalone cluster of real processes; their addresses come from a discovery script that makes them up."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyspark
import pytest
from lakevec.jobs.lake.gpus import embedding_tasks, tasks_per_gpu
from lakevec.jobs.lake.session import parallel_tasks

WORK = Path(__file__).with_name("gpu_work.py")
SPARK_HOME = Path(pyspark.__file__).parent
ADDRESSES = ["3", "7"]


@pytest.fixture
def discovery(tmp_path) -> Path:
    script = tmp_path / "gpus"
    script.write_text(f"#!/bin/sh\necho '{json.dumps({'name': 'gpu', 'addresses': ADDRESSES})}'\n")
    script.chmod(0o755)
    return script


@pytest.fixture
def master(tmp_path, discovery):
    """The address of a master with one worker of eight cores and two GPUs."""
    resources = tmp_path / "worker.conf"
    resources.write_text(f"spark.worker.resource.gpu.amount 2\nspark.worker.resource.gpu.discoveryScript {discovery}\n")
    started = []

    def start(kind: str, *arguments: str) -> Path:
        log = tmp_path / f"{kind}.log"
        command = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{kind.lower()}.{kind}", *arguments]
        environment = os.environ | {"SPARK_WORKER_DIR": str(tmp_path / "work"), "SPARK_NO_DAEMONIZE": "1"}
        with log.open("w") as out:
            started.append(subprocess.Popen(command, stdout=out, stderr=out, env=environment))
        return log

    def said(log: Path, pattern: str) -> str:
        until = time.monotonic() + 60
        while not (found := re.search(pattern, log.read_text())):
            assert time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.2)
        return found[0]

    here = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    try:
        address = said(start("Master", *here), r"spark://127\.0\.0\.1:\d+")
        worker = start("Worker", *here, "-c", "8", "-m", "3g", "--properties-file", str(resources), address)
        said(worker, "Successfully registered with master")
        yield address
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


def test_tasks_of_one_machine_share_its_gpu(spark):
    assert tasks_per_gpu(spark, None) == embedding_tasks(spark, None) == parallel_tasks(spark) == 2
    assert tasks_per_gpu(spark, 1) == embedding_tasks(spark, 1) == 1
    assert embedding_tasks(spark, 9) == 2


@pytest.mark.parametrize(
    ("conf", "tasks"),
    [
        ({"spark.master": "yarn"}, 1),
        ({"spark.master": "yarn", "spark.executor.cores": "8"}, 8),
        ({"spark.master": "yarn", "spark.executor.cores": "8", "spark.task.cpus": "2"}, 4),
        # Executors there have all cores of their machines, unless told.
        ({"spark.master": "local-cluster[2,3,1024]"}, 6),
        ({"spark.master": "spark://there:7077", "spark.executor.cores": "4"}, 4),
    ],
)
def test_tasks_of_an_executor_share_a_gpu_that_spark_does_not_schedule(conf, tasks):
    spark: Any = SimpleNamespace(conf=conf)

    assert tasks_per_gpu(spark, None) == tasks


@pytest.mark.slow
def test_embedding_tasks_share_gpus_and_other_tasks_have_every_core(master, discovery):
    done = subprocess.run(
        [sys.executable, str(WORK), master, str(discovery)],
        capture_output=True, text=True, timeout=200, env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    # Two tasks on each of two GPUs at once, and no third one.
    assert {task["device"] for task in seen["embedding"]} == {f"cuda:{address}" for address in ADDRESSES}
    assert max(at_once(seen["embedding"], f"cuda:{address}") for address in ADDRESSES) == 2
    assert {task["memory_fraction"] for task in seen["embedding"]} == {0.4}
    assert at_once(seen["parsing"]) == 8


def at_once(tasks: list[dict], device: str | None = None) -> int:
    """Most tasks, on a device or on any, that ran at the same time."""
    mine = [task for task in tasks if device in (None, task["device"])]
    return max(sum(other["begin"] <= task["begin"] < other["end"] for other in mine) for task in mine)
