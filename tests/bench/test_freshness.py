"""How soon a new file can be found while `lakevec run --continuous` works, with a backlog and without one.

Ten-page PDFs come every few seconds. What is measured is what a reader sees: the first moment at which
the file's passages answer through the routes. Without a backlog first, then while 1,000 files are worked
off. Memory of all the run's processes is sampled meanwhile; freshness.png, beside the figures, draws it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fpdf import FPDF
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.routes import read_routes
from pymilvus import MilvusException

from .conftest import RESULTS

BACKLOG = int(os.environ.get("LAKEVEC_BENCH_BACKLOG", "1000"))
NEW_FILES = int(os.environ.get("LAKEVEC_BENCH_NEW_FILES", "40"))
SECONDS_APART = 5.0
PAGES, WORDS_PER_PAGE = 10, 250
WORDS = [
    *("harbour", "leave", "brake", "order", "system", "decision", "metal", "train", "ship", "invoice", "meeting"),
    *("winter", "report", "engine", "bridge", "water", "window", "contract", "market", "supply", "signal", "office"),
]

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def pdf(number: int) -> bytes:
    """Ten pages of words, different for each number."""
    chance = random.Random(number)
    document = FPDF()
    document.set_font("helvetica", size=11)
    for page in range(PAGES):
        document.add_page()
        document.multi_cell(0, 6, f"Report {number}, part {page}. " + " ".join(chance.choices(WORDS, k=WORDS_PER_PAGE)))
    return bytes(document.output())


def resident_megabytes(root: int) -> dict[str, float]:
    """Of a process and all that it started, in MB (shared pages counted once for each): itself, the JVM, the others."""
    children: dict[int, list[int]] = {}
    resident: dict[int, tuple[str, float]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, _, fields = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        parent, pages = fields.split()[1], fields.split()[21]
        children.setdefault(int(parent), []).append(int(folder.name))
        resident[int(folder.name)] = name, int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
    found = {"driver": 0.0, "jvm": 0.0, "workers": 0.0}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        name, megabytes = resident.get(one, ("", 0.0))
        found["driver" if one == root else "jvm" if name == "java" else "workers"] += megabytes
        waiting += children.get(one, [])
    return found


class Reader:
    """Asks Milvus, as a reader would, which of the files that it waits for can be found."""

    def __init__(self, address: MilvusAddress, alias: str):
        self.client, self.alias = connect(address), alias
        self.waiting: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def look(self) -> None:
        routes = read_routes(self.client, self.alias) if self.waiting else None
        if routes is None or not routes.live:
            return
        names = ", ".join(json.dumps(uri) for uri in self.waiting)
        try:
            found = self.client.query(
                routes.collection,
                filter=f"uri in [{names}]",
                output_fields=["uri"],
                partition_names=[routes.partition(each.range) for each in routes.live],
                consistency_level="Bounded",
            )
        except MilvusException:
            return
        for uri in {row["uri"] for row in found}:
            self.seconds[uri] = time.time() - self.waiting.pop(uri)


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{part}": round(float(np.percentile(seconds, part)), 1) for part in (50, 95, 99)} | {"n": len(seconds)}


def median(memory: list[tuple[float, dict[str, float]]], name: str) -> int:
    return round(float(np.median([found[name] for _, found in memory])))


def test_a_new_file_is_soon_found(lakehouse, milvus, tmp_path, keep):
    # Made before anything is measured: to write a thousand PDFs takes minutes.
    backlog = tmp_path / "backlog"
    backlog.mkdir()
    for number in range(BACKLOG):
        (backlog / f"old-{number}.pdf").write_bytes(pdf(1_000_000 + number))
    command = [sys.executable, "-m", "lakevec.jobs.cli", *lakehouse.options, "--json", "run", "--continuous"]
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    reader = Reader(milvus, lakehouse.settings.milvus.collection)
    memory: list[tuple[float, dict[str, float]]] = []
    ended = threading.Event()

    def sample():
        while not ended.wait(5):
            memory.append((time.time(), resident_megabytes(run.pid)))

    sampler = threading.Thread(target=sample)
    sampler.start()
    numbers = iter(range(1_000_000))

    def write() -> str:
        number = next(numbers)
        return str(lakehouse.write(f"{number}.pdf", pdf(number)))

    def stream_in(count: int) -> list[tuple[float, float]]:
        """New files, one by one: (when it was written, seconds until it was found) of each."""
        written: dict[str, float] = {}
        due = time.time()
        while len(written) < count or any(uri in reader.waiting for uri in written):
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            if len(written) < count and time.time() >= due:
                uri = write()
                written[uri] = reader.waiting[uri] = os.stat(uri).st_mtime
                due += SECONDS_APART
            reader.look()
            time.sleep(0.25)
        return [(at, reader.seconds[uri]) for uri, at in written.items()]

    try:
        stream_in(3)  # starts everything: the model, the workers, the JVM's compiled code
        without = stream_in(NEW_FILES)
        for file in backlog.iterdir():
            file.rename(lakehouse.source / file.name)
        began = time.time()
        with_backlog = stream_in(NEW_FILES)
        run.send_signal(signal.SIGTERM)
        answer, _ = run.communicate(timeout=120)
    finally:
        ended.set()
        sampler.join()
        run.kill()
    report = json.loads(answer)
    third = len(memory) // 3
    figures = {
        "new_file_pages": PAGES,
        "seconds_apart": SECONDS_APART,
        "without_backlog_seconds": percentiles([seconds for _, seconds in without]),
        "with_backlog_seconds": percentiles([seconds for _, seconds in with_backlog]),
        "backlog_files": BACKLOG,
        "chunks_embedded": report["embedded"],
        "backlog_measured_for_seconds": round(time.time() - began),
        "seconds": round(memory[-1][0] - memory[0][0]),
        "resident_mb_median": {
            name: {
                part: median(memory[number * third : (number + 1) * third], name)
                for number, part in enumerate(("first_third", "second_third", "last_third"))
            }
            for name in memory[0][1]
        },
        "cores": os.cpu_count(),
    }
    keep(figures)
    draw(without, with_backlog, memory, RESULTS / "freshness.png")
    assert len(with_backlog) == NEW_FILES


def draw(without, with_backlog, memory, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(9, 6), sharex=True, layout="constrained")
    start = without[0][0]
    for points, label in ((without, "no backlog"), (with_backlog, f"{BACKLOG:,} files of backlog")):
        upper.plot([at - start for at, _ in points], [seconds for _, seconds in points], "o", markersize=4, label=label)
    upper.set_ylabel("s until found")
    upper.set_ylim(0)
    upper.legend()
    upper.set_title(f"A new {PAGES}-page PDF every {SECONDS_APART:.0f} s, {os.cpu_count()} cores")
    names = list(memory[0][1])
    layers = [[found[name] / 1024 for _, found in memory] for name in names]
    lower.stackplot([at - start for at, _ in memory], layers, labels=names)
    lower.legend(loc="lower right")
    lower.set_ylabel("resident GiB")
    lower.set_ylim(0)
    lower.set_xlabel("s")
    figure.savefig(file, dpi=110)
