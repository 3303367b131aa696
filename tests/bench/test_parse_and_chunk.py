"""Parsing and splitting, as an executor's task does them, without Spark: files and megabytes a second by format,
against LangChain's loaders with its recursive splitter, in one process on the same files.

Each folder below LAKEVEC_BENCH_FOLDER (unset: one of the sample's files) is a format. The peer is measured twice: its
passages measured in the model's tokens, as lakevec's are, and in characters, which costs least. Both read every file
in full; a file that LangChain has no loader for is read as text by it, if it can. lakevec parses in a child process,
so that a crash costs one file, and keeps places, headings and dates; LangChain does not. Where LangChain reads fewer
than nine files of ten (its loaders of mails and slides ask for a model that they download), nothing is compared.
"""

import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .conftest import RESULTS
from .parsed import as_set, by_lakevec
from .passages import spread
from .peer import PEERS, environment, timed

ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))
MEASURES = ("tokens", "characters")
SECONDS_OF_PROFILE = 15

pytestmark = [pytest.mark.bench, pytest.mark.timeout(2 * 3600)]


def folder_of_formats(otherwise: Path) -> str:
    folder = os.environ.get("LAKEVEC_BENCH_FOLDER")
    if not folder:
        runpy.run_path("notebooks/sample.py")["write_sample"](otherwise / "sample" / "all")
    return folder or str(otherwise / "sample")


def test_parse_and_chunk(tmp_path, keep):
    model, chunking, limits = as_set()
    folder = folder_of_formats(tmp_path)
    groups = {
        group.name: sorted(file for file in group.rglob("*") if file.is_file())
        for group in sorted(Path(folder).iterdir())
        if group.is_dir()
    }
    python = environment("langchain")
    ours: dict[str, list[dict]] = {name: [] for name in groups}
    theirs: dict[str, dict[str, list[dict]]] = {measure: {name: [] for name in groups} for measure in MEASURES}
    for _ in range(ROUNDS):
        for name, files in groups.items():
            # The child's start and the tokenizer's are no part of a format.
            by_lakevec(files[:1], model, chunking, limits)
            ours[name].append(by_lakevec(files, model, chunking, limits))
        for measure in MEASURES:
            ran = timed([python, PEERS / "parse_with_langchain.py", folder, model.path, measure])
            for name in groups:
                theirs[measure][name].append(ran.answer[name])
    figures = {}
    for name, files in groups.items():
        size = sum(file.stat().st_size for file in files)
        figures[name] = {
            "files": len(files),
            "megabytes": round(size / 1e6, 2),
            "files_per_second": spread(len(files) / each["seconds"] for each in ours[name]),
            "megabytes_per_second": spread(size / 1e6 / each["seconds"] for each in ours[name]),
            "share_of_parsing": spread(each["parse_seconds"] / each["seconds"] for each in ours[name]),
            "passages": ours[name][0]["passages"],
            "failures": ours[name][0]["failures"],
        }
        for measure in MEASURES:
            first, pairs = theirs[measure][name][0], zip(theirs[measure][name], ours[name], strict=True)
            figures[name][f"langchain_in_{measure}"] = {
                # To fail is quick.
                "times_as_fast": spread(their["seconds"] / our["seconds"] for their, our in pairs)
                if first["failures"] < len(files) / 10
                else None,
                "passages": first["passages"],
                "failures": first["failures"],
            }
    keep({"formats": figures})


def test_where_time_goes_in_it(tmp_path, keep):
    """Samples of the stacks of both processes, a hundred a second, by format: their shares by the innermost function of
    Python (a library's compiled code is its caller's). A flame graph of each stands beside the figures."""
    py_spy = environment("py-spy").with_name("py-spy")
    RESULTS.mkdir(parents=True, exist_ok=True)
    figures = {}
    for group in sorted(each for each in Path(folder_of_formats(tmp_path)).iterdir() if each.is_dir()):
        stacks = tmp_path / f"{group.name}.txt"
        for kind, file in (("raw", stacks), ("flamegraph", RESULTS / f"{group.name}.svg")):
            said = ["record", "--subprocesses", "--function", "--format", kind, "--output", file]
            command = [py_spy, *said, "--", sys.executable, "-m", "tests.bench.parsed", group, SECONDS_OF_PROFILE]
            subprocess.run([str(word) for word in command], check=True, capture_output=True)
        samples: Counter[str] = Counter()
        for line in stacks.read_text().splitlines():
            stack, _, number = line.rpartition(" ")
            # The starts of both processes are no part of it.
            if "importlib." not in stack and ("by_lakevec (" in stack or "reply (udfs/parse/child.py" in stack):
                samples[re.sub(r":\d+\)$", ")", stack.rpartition(";")[2])] += int(number)
        total = samples.total()
        shares = {name: float(f"{number / total:.3f}") for name, number in samples.most_common(10)}
        figures[group.name] = {"samples": total, **shares}
    keep({"formats": figures})
