"""The whole pipeline on a cluster of two executors, in a process of its own: a process has one session."""

import json
import subprocess
import sys

from lakevec.jobs.search import search
from lakevec.jobs.settings import load_settings


def lakevec(*arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "lakevec.jobs.cli", "--json", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def page(number: int, year: int) -> str:
    return f"---\ndate: {year}-05-01\n---\n# Page {number}\n\nText {number}.\n"


def test_two_executors_do_all_of_it(milvus, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(8):
        (source / f"{number}.md").write_text(page(number, 2020 + number % 3))
    settings = [
        f"source.path={source}",
        f"lake.path={tmp_path / 'lake'}",
        f"milvus.uri={milvus.uri}",
        "milvus.collection=test_local_cluster",
        "spark.master=local-cluster[2,1,2048]",
        "spark.conf.spark.executor.memory=2g",
        # As the driver of the local profile: what runs for a minute is not worth the second compiler.
        "spark.conf.spark.executor.extraJavaOptions=-XX:TieredStopAtLevel=1",
        # A build, so that the import files are written by the executors.
        "load.build_rows=1",
        "load.build_share=0",
    ]
    options = [word for setting in settings for word in ("--set", setting)]

    run = lakevec(*options, "run", "--once")

    assert (run["documents"], run["chunks"], run["embedded"], run["loaded"]) == (8, 8, 8, 8)
    found = search(load_settings("local", settings, {}), "Page 4", k=1)
    assert found.hits[0].uri == f"{source}/4.md"
    assert found.partitions_searched == ["2020", "2021", "2022"]
