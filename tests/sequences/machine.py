"""The sequences: what may happen to a source, to a lake and to Milvus, in any order, with a run at the end."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.partitions import count_where, present_generations
from lakevec.jobs.vectors.routes import read_routes
from pymilvus import MilvusClient

from . import losses
from .expected import Expected, File, differences
from .kills import BATCH, EFFECTS, PLACES, STREAM, Kill, killing
from .written import Passage, Unreadable, edited, in_words, new_content, redated, vector_of

# 2023-11-14; every write comes a second later, so that size and time tell it from every other.
FIRST_WRITE = 1_700_000_000
YEAR = 31_556_952
FILES = ("a.md", "b ${x}.md", "ö ß/c.md", "2018 plan.md", "d.txt", "2022-05 e.txt", "f.mbox", "g.mbox")
# A third of control characters is no text in any encoding.
BROKEN = (bytes(range(1, 9)) * 3 + b" nothing that is read", b"", b" \n")
MOST_RUNS = 4
STAGES = ("ingest", "chunk", "embed", "load")
FIELDS = (
    "chunk_id",
    "doc_id",
    "uri",
    "title",
    "heading_path",
    "text",
    "start",
    "end",
    "doc_timestamp",
    "page",
    "vector",
)
MOST_ROWS = 10_000

numbers = st.integers(0, 99)


@dataclass
class Tally:
    """What the sequences of this process did. killed: by effect, armed ones that came so far."""

    sequences: int = 0
    steps: int = 0
    checks: int = 0
    armed: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        killed = ", ".join(f"{name} {number}" for name, number in self.killed.most_common())
        stages = ", ".join(f"{stage} {seconds:,.0f}" for stage, seconds in self.stages.items())
        spared = ", ".join(sorted({*EFFECTS, BATCH, STREAM}.difference(self.killed))) or "none"
        return (
            f"{self.sequences} sequences, {self.steps} steps, {self.checks} comparisons with Milvus, "
            f"{self.killed.total()} of {self.armed} kills happened ({killed}; never at: {spared}), "
            f"{self.seconds:,.0f} s, of which {stages}"
        )


class Sequence(RuleBasedStateMachine):
    """One lake's life. What stands without a value here comes from the fixtures, in a subclass."""

    new_lakehouse: Callable[[bool], Any]
    dispose: Callable[[Any], None]
    show: Callable[[str], None]
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.expected = Expected()
        self.clock = FIRST_WRITE
        self.before: dict[str, File] = {}
        self.words: list[str] = []
        self.begun = time.monotonic()
        self.lakehouse: Any = None
        # Whole and partial runs so far, and whether anything happened since the last whole one.
        self.runs, self.happened = 0, False

    @initialize(builds=st.booleans(), files=st.lists(numbers, max_size=4))
    def begin(self, builds: bool, files: list[int]) -> None:
        self.lakehouse = self.new_lakehouse(builds)
        self.words = [f"an empty lake, ranges are {'built from 3 changed rows on' if builds else 'patched'}"]
        for place, number in enumerate(files):
            self.put(FILES[place], new_content(Path(FILES[place]).suffix, number), "comes")

    # What happens to the source.

    @rule(place=st.integers(0, len(FILES) - 1), number=numbers)
    def add(self, place: int, number: int) -> None:
        name = FILES[place]
        self.put(name, new_content(Path(name).suffix, number), "is written anew" if self.has(name) else "comes")

    @precondition(lambda self: self.expected.files)
    @rule(file=numbers, number=numbers)
    def edit(self, file: int, number: int) -> None:
        name, present = self.picked(file)
        self.put(name, edited(present.content, number), "is edited")

    @precondition(lambda self: self.expected.files)
    @rule(file=numbers, number=numbers)
    def redate(self, file: int, number: int) -> None:
        name, present = self.picked(file)
        self.put(name, redated(present.content, number), "gets another date")

    @precondition(lambda self: self.expected.files)
    @rule(file=numbers, years=st.integers(0, 4))
    def touch(self, file: int, years: int) -> None:
        """Another time of modification, of this year or of an earlier one."""
        name, present = self.picked(file)
        self.put(name, present.content, f"is touched, {years} years back,", years)

    @precondition(lambda self: self.expected.files)
    @rule(file=numbers, place=st.integers(0, len(FILES) - 1))
    def rename(self, file: int, place: int) -> None:
        """To another name of its kind, over what is there."""
        name, present = self.picked(file)
        kind = Path(name).suffix
        new = next(each for each in [*FILES[place:], *FILES] if Path(each).suffix == kind and each != name)
        self.say(f"{name} becomes {new}")
        self.path(new).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).rename(self.path(new))
        self.before[name] = self.expected.files.pop(self.uri(name))
        if self.has(new):
            self.before[new] = self.expected.files[self.uri(new)]
        self.expected.files[self.uri(new)] = present

    @precondition(lambda self: self.expected.files)
    @rule(file=numbers)
    def delete(self, file: int) -> None:
        name, _ = self.picked(file)
        self.say(f"{name} goes")
        self.path(name).unlink()
        self.before[name] = self.expected.files.pop(self.uri(name))

    @precondition(lambda self: self.expected.files)
    @rule()
    def delete_all(self) -> None:
        self.say("all files go")
        for name in self.names():
            self.path(name).unlink()
            self.before[name] = self.expected.files.pop(self.uri(name))

    @precondition(lambda self: self.expected.files)
    @rule(file=numbers, number=st.integers(0, len(BROKEN) - 1))
    def spoil(self, file: int, number: int) -> None:
        name, _ = self.picked(file)
        self.put(name, Unreadable(BROKEN[number]), "becomes unreadable")

    @precondition(lambda self: self.before)
    @rule(file=numbers)
    def restore(self, file: int) -> None:
        """The version before, with its time, as from a backup."""
        names = sorted(self.before)
        name = names[file % len(names)]
        old = self.before[name]
        self.say(f"{name} is restored as it was before")
        self.write(name, old)

    # What happens to the lake and to Milvus.

    @rule(what=st.sampled_from(sorted(losses.MILVUS_LOSSES)), number=numbers)
    def lose_milvus(self, what: str, number: int) -> None:
        self.say(losses.MILVUS_LOSSES[what](self.client, self.alias, number))

    @rule(stage=st.sampled_from(losses.STAGES), what=st.sampled_from(["all", "whole", "last commit"]))
    def lose_checkpoint(self, stage: str, what: str) -> None:
        lake = Path(self.lakehouse.settings.lake.path)
        match what:
            case "all":
                self.say(losses.lose_checkpoints(lake))
            case "whole":
                self.say(losses.lose_checkpoint(lake, stage))
            case _:
                self.say(losses.lose_last_commit(lake, stage))

    @property
    def may_run(self) -> bool:
        """Runs take nearly all the time: few, and something must have happened since the last one."""
        return self.runs < MOST_RUNS and self.happened

    @precondition(lambda self: self.may_run)
    @rule(allow_deletes=st.booleans())
    def run(self, allow_deletes: bool) -> None:
        self.whole_run("a run", allow_deletes)

    @precondition(lambda self: self.may_run)
    @rule(stages=st.lists(st.sampled_from(STAGES), min_size=1, max_size=3))
    def run_stages(self, stages: list[str]) -> None:
        self.say(f"only {', '.join(stages)}")
        self.runs += 1
        for stage in stages:
            self.lakehouse.run((stage,), allow_deletes=self.expected.is_emptied)
            if stage == "ingest":
                self.expected.ingested()

    @precondition(lambda self: self.may_run)
    @rule(call=st.integers(1, 6), after=st.booleans())
    def run_killed_early(self, call: int, after: bool) -> None:
        self.run_killed(Kill(call, after))

    @precondition(lambda self: self.may_run and self.expected.files)
    @rule(place=st.sampled_from(PLACES), after=st.booleans())
    def run_killed_at(self, place: tuple[str, int], after: bool) -> None:
        at, call = place
        self.run_killed(Kill(call, after, at))

    def run_killed(self, kill: Kill) -> None:
        self.tally.armed += 1
        with killing(kill):
            self.whole_run(f"a run that dies {kill}, if it comes so far", False)
        if kill.happened:
            self.say(f"it died at a {kill.effect}")
            self.tally.killed[kill.effect] += 1
            self.expected.ingested_perhaps()

    def whole_run(self, words: str, allow_deletes: bool) -> None:
        self.say(words)
        self.runs += 1
        report = self.lakehouse.run(allow_deletes=allow_deletes or self.expected.is_emptied)
        self.tally.stages.update({stage: numbers["seconds"] for stage, numbers in report.stages.items()})
        self.expected.ingested()
        self.compare()
        self.happened = False

    def teardown(self) -> None:
        failed = sys.exc_info()[0] is not None
        try:
            if not failed and self.happened:
                self.whole_run("the last run", True)
            if self.runs and not failed:
                self.tally.sequences += 1
                self.show(f"{self.tally.sequences}. {'; '.join(self.words)}.")
        except Exception:
            failed = True
            raise
        finally:
            if failed and self.words:
                self.show(f"FAILED (or given up by Hypothesis): {'; '.join(self.words)}.")
            self.tally.seconds += time.monotonic() - self.begun
            if self.lakehouse:
                self.dispose(self.lakehouse)

    # Comparing.

    def compare(self) -> None:
        self.tally.checks += 1
        wrong = differences(self.expected, self.in_milvus())
        if wrong:
            raise AssertionError("\n".join(["Milvus does not hold what it should:", *wrong, "after:", *self.words]))

    def in_milvus(self) -> list[Passage]:
        """All rows that readers can reach; and there is nothing else."""
        routes = read_routes(self.client, self.alias)
        assert routes is not None
        assert present_generations(self.client, routes.collection) == routes.live
        found = []
        for generation in routes.live:
            rows = self.client.query(
                routes.collection,
                "",
                limit=MOST_ROWS,
                output_fields=list(FIELDS),
                partition_names=[generation.partition],
                consistency_level="Strong",
            )
            found += [self.passage(generation.range, row) for row in rows]
            # A query gives a key that was inserted twice once.
            assert count_where(self.client, routes.collection, generation.partition, "") == len(rows)
        return found

    def passage(self, range_name: str, row: dict[str, Any]) -> Passage:
        """A row of Milvus. Its vector tells what was embedded; where it is another's, that is said in its place."""
        expected = next(
            (
                each
                for versions in self.expected.versions().values()
                for version in versions
                for each in version
                if each.chunk_id == row["chunk_id"]
            ),
            None,
        )
        is_its_own = expected is not None and abs(vector_of(expected.embedded) - row["vector"]).max() < 1e-6
        assert row["page"] == 0
        return Passage(
            range_name,
            *(row[name] for name in ("chunk_id", "doc_id", "uri", "title", "heading_path", "text", "start", "end")),
            at=row["doc_timestamp"],
            embedded=expected.embedded if expected and is_its_own else "another vector",
        )

    # The source.

    @property
    def client(self) -> MilvusClient:
        return connect(MilvusAddress(self.lakehouse.settings.milvus.uri))

    @property
    def alias(self) -> str:
        return self.lakehouse.settings.milvus.collection

    def path(self, name: str) -> Path:
        return self.lakehouse.source / name

    def uri(self, name: str) -> str:
        return str(self.path(name))

    def has(self, name: str) -> bool:
        return self.uri(name) in self.expected.files

    def names(self) -> list[str]:
        return [name for name in FILES if self.has(name)]

    def picked(self, number: int) -> tuple[str, File]:
        names = self.names()
        name = names[number % len(names)]
        return name, self.expected.files[self.uri(name)]

    def put(self, name: str, content: Any, what: str, years: int = 0) -> None:
        self.clock += 1
        if self.has(name):
            self.before[name] = self.expected.files[self.uri(name)]
        self.say(f"{name} {what}: {in_words(content)}")
        self.write(name, File(content, self.clock - years * YEAR))

    def write(self, name: str, file: File) -> None:
        self.lakehouse.write(name, file.content.data, file.modified)
        os.utime(self.path(name), (file.modified, file.modified))
        self.expected.files[self.uri(name)] = file

    def say(self, words: str) -> None:
        self.words.append(words)
        self.tally.steps += 1
        self.happened = True
