"""A lake with a fault: prepared and recovered in the tests' own Spark session, struck in a process of its own."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.run import RunReport
from lakevec.jobs.settings import load_settings
from lakevec.jobs.vectors import server
from lakevec.jobs.vectors.connection import MilvusAddress, connect, milvus_for
from lakevec.jobs.vectors.partitions import count_where
from lakevec.jobs.vectors.routes import read_routes
from lakevec.jobs.verify import verify
from pymilvus import MilvusException

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Outcome:
    """One line of the table at the end. lost, doubled: passages; seconds: of the run that mended it."""

    fault: str
    how: str
    lost: int
    doubled: int
    seconds: float


OUTCOMES: list[Outcome] = []


def pytest_terminal_summary(terminalreporter) -> None:
    if OUTCOMES:
        terminalreporter.section("what became of each fault")
        terminalreporter.write_line("| fault | how it was made | lost | doubled | seconds to recover |")
        terminalreporter.write_line("|---|---|---|---|---|")
        for each in OUTCOMES:
            terminalreporter.write_line(
                f"| {each.fault} | {each.how} | {each.lost} | {each.doubled} | {each.seconds:.0f} |"
            )


@dataclass
class Faulty:
    """A lakehouse whose files are pages of one sentence each, and what its index must hold: those sentences."""

    lakehouse: object
    overrides: list[str]
    folder: Path
    sentences: dict[str, str] = field(default_factory=dict)
    written: int = 1_700_000_000

    def page(self, name: str, text: str, year: int = 2024) -> Path:
        """Write a page, anew if it is there."""
        self.written += 1
        self.sentences[name] = f"The page {name} says {text}."
        content = f"---\ndate: {year}-05-01\n---\n# {name}\n\n{self.sentences[name]}\n"
        return self.lakehouse.write(f"{name}.md", content, modified=self.written)

    def remove(self, name: str) -> None:
        (self.lakehouse.source / f"{name}.md").unlink()
        del self.sentences[name]

    def prepare(self) -> None:
        """Four pages in two years, indexed; then one is edited, one goes, one comes, one moves to another year."""
        for number, year in enumerate((2023, 2023, 2024, 2024)):
            self.page(f"p{number}", "something", year)
        self.lakehouse.run()
        self.page("p0", "something else", 2023)
        self.remove("p1")
        self.page("p2", "something", 2025)
        self.page("p4", "something new", 2024)

    def set(self, *overrides: str) -> None:
        self.overrides += overrides
        self.lakehouse.settings = load_settings("local", self.overrides, {})

    def command(self, *arguments: str) -> list[str]:
        return [word for override in self.overrides for word in ("--set", override)] + ["--json", *arguments]

    def process(self, fault: str | None, *arguments: str, **environment: str) -> subprocess.Popen:
        """`lakevec` as a process, with or without a fault."""
        program = [str(HERE / "driver.py"), fault, str(self.folder / "struck")] if fault else ["-m", "lakevec.jobs.cli"]
        return subprocess.Popen(
            [sys.executable, *program, *self.command(*arguments)],
            stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr").open("w"),
            text=True,
            env={**os.environ, **environment},
        )

    def strike(self, fault: str, *arguments: str, status: int = -9, **environment: str) -> dict:
        """Let a command meet its fault, which must really strike, and end with `status`. Gives its answer."""
        answer = self.ended(self.process(fault, *arguments, **environment), status)
        assert (self.folder / "struck").exists(), f"{fault!r} did not strike: see FAULTS in driver.py"
        return answer

    def ended(self, process: subprocess.Popen, status: int) -> dict:
        out, _ = process.communicate()
        assert process.returncode == status, (self.folder / "stderr").read_text()[-6000:]
        return json.loads(out) if out else {}

    def recover(self, fault: str, how: str, seconds: float | None = None) -> RunReport:
        """`run --once`, and nothing is lost, doubled or left over. seconds: of the run that mended it, if another."""
        begun = time.monotonic()
        report = self.lakehouse.run()
        seconds = seconds or time.monotonic() - begun
        found = self.sentences_in_milvus()
        wanted = Counter(self.sentences.values())
        lost, surplus = wanted - found, found - wanted
        OUTCOMES.append(Outcome(fault, how, lost.total(), surplus.total(), seconds))
        assert (lost, surplus) == (Counter(), Counter())
        verified = verify(self.lakehouse.settings)
        assert (verified.current, verified.left_over) == (True, []), verified
        return report

    def sentences_in_milvus(self, uri: str | None = "") -> Counter:
        """What readers find, through the routes, and how many copies there are beside. Nothing where no server is."""
        settings = self.lakehouse.settings
        if uri is None:
            return Counter()
        with nullcontext(MilvusAddress(uri)) if uri else milvus_for(settings) as address:
            try:
                client = connect(address)
                routes = read_routes(client, settings.milvus.collection)
                rows, counted = [], 0
                for generation in routes.live if routes else ():
                    rows += client.query(
                        routes.collection,
                        "",
                        limit=1000,
                        output_fields=["text"],
                        partition_names=[generation.partition],
                        consistency_level="Strong",
                    )
                    # A query gives a key that was inserted twice once.
                    counted += count_where(client, routes.collection, generation.partition, "")
            except (MilvusError, MilvusException):
                return Counter()
        return Counter(row["text"].rpartition("\n")[2] for row in rows) + Counter(copies=counted - len(rows))


@pytest.fixture
def faulty(lakehouse, tmp_path) -> Faulty:
    settings = lakehouse.settings
    given = [
        f"source.path={settings.source.path}",
        f"lake.path={settings.lake.path}",
        f"milvus.uri={settings.milvus.uri}",
        f"milvus.collection=faults_{uuid.uuid4().hex[:8]}",
        "mlflow.experiment=",
    ]
    faulty = Faulty(lakehouse, given, tmp_path)
    faulty.set()
    return faulty


@pytest.fixture
def own_server(faulty, tmp_path) -> Iterator[Path]:
    """The folder of a server that this test alone uses, and may kill."""
    folder = tmp_path / "milvus"
    faulty.set(f"milvus.uri={server.start(folder).uri}")
    yield folder
    server.stop(folder)
