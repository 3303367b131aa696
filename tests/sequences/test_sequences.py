"""Whatever happens to source, lake and Milvus, wherever runs die: after one more, Milvus holds what it should."""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from lakevec.jobs.embed import WITH_VECTORS
from lakevec.jobs.vectors import partitions
from pyspark import cloudpickle

from . import written
from .kills import PLACES
from .machine import Sequence, Tally

BUILDS = ("load.build_rows=2", "load.build_share=0.4")


@pytest.fixture
def sequence(new_lakehouse, tmp_path, monkeypatch, capsys) -> type[Sequence]:
    """The machine, with real Delta tables and a real Milvus, and vectors that cost nothing."""
    cloudpickle.register_pickle_by_value(written)
    to_rows = rows_of(written.vector_of)
    monkeypatch.setattr(
        "lakevec.jobs.embed.embedding", lambda *_: lambda texts: texts.mapInPandas(to_rows, WITH_VECTORS)
    )
    # Nobody reads meanwhile.
    monkeypatch.setattr(partitions, "DRAIN_SECONDS", 0.0)

    def new(builds: bool):
        folder = tmp_path / uuid.uuid4().hex[:8]
        folder.mkdir()
        more = (f"load.staging={folder / 'staging'}", *BUILDS) if builds else ()
        return new_lakehouse(folder, "mlflow.experiment=", *more)

    def take_away(lakehouse) -> None:
        lakehouse.empty_milvus()
        shutil.rmtree(lakehouse.source.parent)

    def say(words: str) -> None:
        with capsys.disabled():
            print(words, flush=True)

    class SequenceHere(Sequence):
        new_lakehouse = staticmethod(new)
        dispose = staticmethod(take_away)
        show = staticmethod(say)
        tally = Tally()

    return SequenceHere


def rows_of(vector_of: Callable) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """From (content_hash, text) to (content_hash, vector), on executors that cannot import this module."""

    def to_rows(pieces):
        for piece in pieces:
            yield piece[["content_hash"]].assign(vector=[vector_of(text) for text in piece["text"]])

    return to_rows


def run(sequence: type[Sequence], number: int, steps: int, **more) -> None:
    run_state_machine_as_test(
        sequence,
        settings=settings(
            max_examples=number,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )


def test_after_a_few_random_sequences_milvus_holds_what_it_should(sequence):
    run(sequence, 3, 6, derandomize=True, phases=[Phase.generate])


@pytest.mark.parametrize(
    ("builds", "place", "after", "loss"),
    [
        (True, ("move of an alias", 1), False, "rows"),
        pytest.param(False, ("merge into Delta", 4), True, "partition", marks=pytest.mark.slow),
    ],
)
def test_a_filled_index_follows_changes_of_every_kind_though_a_run_dies(sequence, builds, place, after, loss):
    state = sequence()
    try:
        state.begin(builds=builds, files=[1, 22, 43, 64])
        state.run(allow_deletes=False)
        state.edit(file=0, number=5)
        state.redate(file=1, number=27)
        state.delete(file=3)
        state.rename(file=2, place=3)
        state.add(place=6, number=86)
        state.run_killed_at(place=place, after=after)
        state.touch(file=1, years=2)
        state.restore(file=0)
        state.spoil(file=0, number=0)
        state.lose_checkpoint(stage="embed", what="last commit")
        state.lose_milvus(what=loss, number=1)
    finally:
        state.teardown()
    assert sequence.tally.killed.total() == 1


@pytest.mark.sequences
@pytest.mark.timeout(0)
def test_after_many_random_sequences_milvus_holds_what_it_should(sequence):
    """SEQUENCES: how many. STEPS: of each, at most. SHRINK=no: a failure is shown as it was found."""
    phases = [Phase.generate] if os.environ.get("SHRINK") == "no" else [Phase.generate, Phase.shrink]
    try:
        run(sequence, int(os.environ.get("SEQUENCES", "200")), int(os.environ.get("STEPS", "12")), phases=phases)
    finally:
        sequence.show(f"\n{sequence.tally}")


@pytest.mark.sequences
@pytest.mark.timeout(0)
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("builds", [True, False])
def test_wherever_a_run_dies_the_next_one_mends_it(sequence, builds, is_first):
    """At every place that the run comes to, before and after it: chance alone leaves out those deep in load."""
    try:
        for _, places in groupby(PLACES, itemgetter(0)):
            for place in places:
                before = sequence.tally.killed.total()
                for after in (False, True):
                    run_that_dies(sequence(), builds, is_first, place, after)
                if sequence.tally.killed.total() == before:
                    # It does not come so often.
                    break
    finally:
        sequence.show(f"\n{sequence.tally}")


def run_that_dies(state: Sequence, builds: bool, is_first: bool, place: tuple[str, int], after: bool) -> None:
    try:
        state.begin(builds=builds, files=[1, 22, 43, 64])
        if not is_first:
            state.run(allow_deletes=False)
            state.edit(file=0, number=5)
            state.redate(file=1, number=27)
            state.delete(file=2)
            state.add(place=5, number=86)
        state.run_killed_at(place=place, after=after)
    finally:
        state.teardown()


@pytest.mark.sequences
@pytest.mark.timeout(0)
@pytest.mark.parametrize("file", os.environ.get("REPLAY", "").split())
def test_a_sequence_that_failed_is_replayed(sequence, file):
    """REPLAY: files with the lines "state.add(...)" as a failure prints them."""
    state = sequence()
    try:
        for line in Path(file).read_text().splitlines():
            call = re.search(r"state\.(?!teardown)\w+\(.*\)", line)
            if call:
                exec(call[0], {"state": state})
    finally:
        state.teardown()
