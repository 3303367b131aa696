from dataclasses import replace

import numpy as np
import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.progress import Progress
from lakevec.jobs.tuning import sweep
from lakevec.jobs.tuning.budget import Turns
from lakevec.jobs.tuning.choice import Promise
from lakevec.jobs.tuning.estimate import Estimate
from lakevec.jobs.tuning.grid import Ground, grid
from lakevec.jobs.tuning.measure import CLIENTS, Answers, Judged, Measurement
from lakevec.jobs.tuning.measures import Interval, Neighbours
from lakevec.jobs.tuning.query_sets import QuerySet
from lakevec.jobs.vectors.partitions import Generation
from lakevec.jobs.vectors.segments import Segment
from lakevec.jobs.vectors.shadow import BuildFailed, BuildStalled
from lakevec.jobs.vectors.weight import Scales
from pymilvus import MilvusException

GRID = {"FLAT": {}, "IVF_FLAT": {"nlist": [8], "nprobe": [1, 2, 4]}, "HNSW": {"M": [16], "ef": [64]}}
QUERIES = QuerySet("sampled", ["a"], np.eye(1, 8), [None], "d", "here")


class Server:
    answers = True

    def get_server_version(self):
        if not self.answers:
            raise MilvusException(message="away")
        return "2.3.5"


class Run:
    def child(self, *_, **__):
        return "run"


@pytest.fixture
def sweeping(monkeypatch):
    """A sweep over a shadow that is built and loaded in no time; every search finds all."""
    for module, name in (
        (sweep.shadow, "change_index"),
        (sweep.shadow, "wait_until_built"),
        (sweep.partitions, "load"),
    ):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(sweep, "wait_until_seen", lambda *_: None)
    monkeypatch.setattr(sweep.segments, "wait_until_indexed", lambda *_, **__: ([Segment(5000, True)], None))
    found = Interval(1.0, 1.0, 1.0)
    answers = Answers([["b"]], {10: np.ones(1)}, {1: found, 10: found}, 1.0)
    monkeypatch.setattr(
        sweep,
        "measure",
        lambda *_: Measurement({"sampled": answers}, np.ones(1), {1: 1.0, CLIENTS: 2.0}, (1.0, 2.0)),
    )
    tried = grid(GRID, Ground(8, 5000, 5000, (2, 3, 5)))
    return sweep.Sweeping(
        Server(), "shadow", {Generation("2024", 1): 5000}, [Judged(QUERIES, [Neighbours(["b"], [1.0])])], tried,
        Turns(tried.builds, lambda _: 1.0), Estimate([5000], 8), Promise(0.9), Scales(None, "shadow", 8, None), Run(),
        Progress(False), 0,
    )  # fmt: skip


def refusing(error, kind, nprobe=None):
    """Raises for a type, or for one of its searches, in place of what is patched."""

    def call(*words):
        index = words[-1] if nprobe is None else words[1]
        if index.type == kind and (nprobe is None or index.search["nprobe"] == nprobe):
            raise error

    return call


@pytest.mark.parametrize(
    "error", [MilvusException(message="out of memory"), MilvusError("out of memory"), BuildFailed("out of memory")]
)
def test_an_index_that_cannot_be_built_or_loaded_costs_nothing_but_itself(sweeping, monkeypatch, error):
    monkeypatch.setattr(sweep.shadow, "change_index", refusing(error, "IVF_FLAT"))
    sweeping.all()
    assert [each.setting.type for each in sweeping.candidates] == ["FLAT", "HNSW"]
    assert [(each.index_type, each.search, each.reason) for each in sweeping.skipped] == [
        ("IVF_FLAT", {}, "out of memory")
    ]


def test_a_search_that_fails_costs_nothing_but_itself(sweeping, monkeypatch):
    measured, refuse = sweep.measure, refusing(MilvusException(message="timeout"), "IVF_FLAT", nprobe=2)
    monkeypatch.setattr(sweep, "measure", lambda *words: refuse(*words) or measured(*words))
    sweeping.all()
    assert [each.setting.search for each in sweeping.candidates] == [{}, {"nprobe": 1}, {"nprobe": 4}, {"ef": 64}]
    assert [(each.search, each.reason) for each in sweeping.skipped] == [({"nprobe": 2}, "timeout")]


def test_a_server_that_does_not_answer_ends_the_sweep(sweeping, monkeypatch):
    monkeypatch.setattr(sweep.shadow, "change_index", refusing(MilvusException(message="gone"), "IVF_FLAT"))
    sweeping.client.answers = False
    with pytest.raises(MilvusException, match="gone"):
        sweeping.all()


def test_nothing_is_measured_beside_a_build_that_does_not_come_to_an_end(sweeping, monkeypatch):
    monkeypatch.setattr(sweep.shadow, "change_index", refusing(BuildStalled("nothing more"), "IVF_FLAT"))
    sweeping.all()
    assert [each.setting.type for each in sweeping.candidates] == ["FLAT"]
    reasons = {each.index_type: each.reason for each in sweeping.skipped}
    assert reasons["IVF_FLAT"] == "nothing more"
    assert reasons["HNSW"].startswith("not tried: the server is at IVF_FLAT nlist=8 still")


def test_memory_is_that_of_the_whole_table(sweeping):
    """Limits are kept by the live collection, which has what is held out."""
    sweeping.held_out = 500
    sweeping.all()
    flat = next(each for each in sweeping.candidates if each.setting.type == "FLAT")
    assert flat.memory == 5500 * 8 * 4


def test_each_query_of_each_set_has_its_row():
    questions = replace(QUERIES, name="questions", ids=["q", "r"], judged={"q": {"d": 1}})
    sets = [Judged(QUERIES, []), Judged(questions, [])]
    recall = {"sampled": {1: np.ones(1), 10: np.array([0.9])}, "questions": {1: np.zeros(2), 10: np.array([0.5, 0.6])}}
    answers = {name: Answers([], each, {}, 1.0) for name, each in recall.items()}
    assert sweep.per_query(
        sets, Measurement(answers, np.array([1.5, 2.5]), {}, (0, 0)), {"q": {"ndcg_at_10": 0.7}}
    ) == {
        "query_set": ["sampled", "questions", "questions"],
        "query_id": ["a", "q", "r"],
        "milliseconds": [1.5, None, None],
        "recall_at_1": [1.0, 0.0, 0.0],
        "recall_at_10": [0.9, 0.5, 0.6],
        "ndcg_at_10": [None, 0.7, None],
    }
