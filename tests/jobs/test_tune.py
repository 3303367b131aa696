import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from lakevec.jobs.apply import apply, prove
from lakevec.jobs.cli import app
from lakevec.jobs.errors import ConfigurationError, LakeBusyError
from lakevec.jobs.in_words import print_tuned
from lakevec.jobs.lake.lock import locked
from lakevec.jobs.lake.tables import EMBEDDINGS, TRUTH
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.settings import load_settings
from lakevec.jobs.tune import TuneReport, applied, tune
from lakevec.jobs.tuning.choice import Candidate, Choice, Promise
from lakevec.jobs.tuning.conclusion import ChampionReport
from lakevec.jobs.tuning.grid import Setting
from lakevec.jobs.tuning.measures import Interval
from lakevec.jobs.tuning.query_sets import asked, digest_of, sampled
from lakevec.jobs.tuning.store import StoreError
from lakevec.jobs.tuning.subject import Subject
from lakevec.jobs.tuning.tracking import Sweep
from lakevec.jobs.vectors.collection import Owner, aliased
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.index import VectorIndex
from lakevec.jobs.vectors.routes import publish, read_routes
from lakevec.jobs.vectors.search import search as search_vectors
from lakevec.jobs.vectors.shadow import left_over, shadow_name
from lakevec.udfs.keys import digest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

# One range is large enough for an index in Milvus, the other is not.
ROWS_OF = {"2023": 1500, "2024": 200}
QUERIES = 60
COARSE = Candidate(Setting("IVF_FLAT", {"nlist": 16}, {"nprobe": 1}), Interval(1, 1, 1), 1, 1, 1)
FINE = Candidate(Setting("IVF_SQ8", {"nlist": 16}, {"nprobe": 16}), Interval(1, 1, 1), 1, 1, 1)
WORDS = ["snow", "violin", "copper", "glacier", "pension", "theorem", "orchard", "ferry", "comet", "tariff", "vaccine"]
GRID = "{FLAT: {}, IVF_SQ8: {nlist: [16], nprobe: [1, 16, 32]}, GPU_IVF_FLAT: {}}"


def clustered(rows: int, dimension: int) -> np.ndarray:
    """Unit vectors around twenty centres, as embeddings lie."""
    random = np.random.default_rng(7)
    vectors = random.normal(size=(20, dimension))[random.integers(20, size=rows)]
    vectors = vectors + 2.5 * random.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def passages(dimension: int) -> list[tuple]:
    """Rows of EMBEDDINGS; passage 17 is there twice."""
    years = [year for year, rows in ROWS_OF.items() for _ in range(rows)]
    vectors = clustered(len(years), dimension)
    vectors[18] = vectors[17]
    return [
        tuple(
            {
                "chunk_id": digest(str(number)),
                "model_id": "m",
                "doc_id": "d",
                "partition": year,
                "doc_timestamp": datetime(int(year), 3, 1, tzinfo=UTC),
                "uri": f"{number}.md",
                "title": f"Letter {number}",
                "heading_path": "",
                "start": 0,
                "end": 40,
                "text": f"The shipment with number {number} has left.",
                "content_hash": digest(str(number)),
                "vector": vector.tolist(),
            }.get(name)
            for name in EMBEDDINGS.schema.names
        )
        for number, (year, vector) in enumerate(zip(years, vectors, strict=True))
    ]


@pytest.fixture
def embedded(new_lakehouse, tmp_path, monkeypatch):
    """A lake with embeddings, and nothing in Milvus yet."""
    monkeypatch.setattr("lakevec.jobs.tuning.measure.LEAST_TIMED", QUERIES)
    found = new_lakehouse(
        tmp_path, f"tune.queries={QUERIES}", f"load.staging={tmp_path / 'staging'}", f"tune.grid={GRID}"
    )
    lake = found.lake()
    lake.tables.append(EMBEDDINGS, found.spark.createDataFrame(passages(lake.model.dimension), EMBEDDINGS.schema))
    return found


def test_a_sweep_measures_logs_and_chooses_and_leaves_nothing_behind(embedded, tmp_path, monkeypatch):
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"query": "shipment number 5", "relevant": {"5": 1, "nowhere": 1}}))
    client, alias = connect(MilvusAddress(embedded.settings.milvus.uri)), embedded.settings.milvus.collection
    # What a sweep that was killed leaves.
    owner = owner_of(embedded.lake())
    dead = shadow_name(alias, owner, "deaddead")
    client.create_collection(dead, dimension=4)
    files = tmp_path / "staging" / dead
    files.mkdir(parents=True)
    (files / "2024-0.parquet").write_text("passages")
    words = [*embedded.options, "--set", f"tune.queries={QUERIES}", "--set", f"load.staging={tmp_path / 'staging'}"]

    done = CliRunner().invoke(
        app, ["--json", *words, "--set", f"tune.grid={GRID}", "tune", "--apply", "--questions", str(questions)]
    )

    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert left_over(client, alias, owner) == []
    assert not files.exists()
    mlflow = MlflowClient(f"sqlite:///{tmp_path}/lake-mlflow.db")
    parent = mlflow.get_run(report["parent_run_id"])
    runs = mlflow.search_runs(
        [report["experiment_id"]], f"tags.mlflow.parentRunId = '{report['parent_run_id']}' and status = 'FINISHED'"
    )
    by_name = {run.info.run_name: run for run in runs}
    assert report["runs"] == len(runs) == 3
    exact, few, all_lists = (
        by_name[name].data for name in ("FLAT", "IVF_SQ8 nlist=16 nprobe=1", "IVF_SQ8 nlist=16 nprobe=16")
    )
    assert few.params == {"index_type": "IVF_SQ8", "nlist": "16", "nprobe": "1"}
    assert exact.metrics["recall_at_10"] == exact.metrics["recall_at_100"] == 1.0
    assert few.metrics["recall_at_10"] < all_lists.metrics["recall_at_10"] < 1.0
    assert few.metrics["recall_at_10_low"] < few.metrics["recall_at_10"] < few.metrics["recall_at_10_high"]
    version = embedded.lake().tables.version(EMBEDDINGS)
    queries = sampled(embedded.lake(), version, QUERIES, 0)
    rows = passages(embedded.lake().model.dimension)
    held_out = [row for row in rows if row[0] in queries.ids]
    # Those of the other range, too few for an index.
    assert few.metrics["rows_without_index"] == ROWS_OF["2024"] - sum("2024" in row for row in held_out)
    assert {
        "recall_at_1", "ndcg_at_10", "mrr_at_10", "hit_at_10", "questions_recall_at_10", "latency_p50_ms",
        "latency_p95_ms", "latency_p99_ms", "qps_1_clients", "qps_8_clients", "build_seconds", "index_bytes",
        "memory_bytes",
    } <= few.metrics.keys()  # fmt: skip
    assert min(run.data.metrics["index_bytes"] for run in runs) > 0
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= parent.data.metrics.keys()
    # What the live collection will take, which has the passages that were held out.
    all_rows = sum(ROWS_OF.values())
    assert few.tags["memory_by"].endswith(f"; scaled from {all_rows - QUERIES:,} rows to {all_rows:,}")

    inputs = {data.dataset.name: json.loads(data.dataset.source) for data in parent.inputs.dataset_inputs}
    assert inputs[f"embeddings@v{version}"]["delta_table_version"] == version
    assert len(inputs) == 3
    [source] = [each for name, each in inputs.items() if name.startswith("questions ")]
    assert source == {"uri": str(questions)}
    assert {"milvus", "model_id", "quantised", "seed", "hardware", "git_commit"} <= parent.data.tags.keys()
    assert {file.path for file in mlflow.list_artifacts(parent.info.run_id)} == {
        "choice.yaml", "recall-memory.png", "recall-qps.png", "results.parquet", "skipped.json",
    }  # fmt: skip
    assert pq.read_table(mlflow.download_artifacts(parent.info.run_id, "results.parquet")).num_rows == 3
    per_query = json.loads(Path(mlflow.download_artifacts(by_name["FLAT"].info.run_id, "queries.json")).read_text())
    assert len(per_query["data"]) == QUERIES + 1
    assert per_query["data"][-1][per_query["columns"].index("ndcg_at_10")] == exact.metrics["ndcg_at_10"]
    least, most = (int(parent.data.params[f"{end}_segment_rows"]) for end in ("least", "most"))
    assert 0 < least < most < all_rows

    champion = report["champion"]
    assert champion["ci_low"] >= 0.95
    assert champion["promise_kept"]
    assert mlflow.get_model_version_by_alias(champion["registered"], "champion").version == champion["version"]
    choice = yaml.safe_load(Path(mlflow.download_artifacts(parent.info.run_id, "choice.yaml")).read_text())
    assert choice["index"] == {
        key: champion[name] for key, name in (("type", "index_type"), ("build", "build"), ("search", "search"))
    }
    assert set(report["ndcg_at_10"]) == {"exact", "champion"}
    reasons = {each["index_type"]: each["reason"] for each in report["skipped"]}
    assert reasons["IVF_SQ8"] == "nprobe 32 is more than nlist 16"
    assert "without GPUs" in reasons["GPU_IVF_FLAT"]

    # For the shadow, which has none of the sampled passages, and for the live collection, which has them all.
    truth = embedded.lake().tables.read(TRUTH)
    assert truth.count() == 2 * (QUERIES + 1)
    assert_exact(truth.where(truth["queries"] == queries.digest).collect(), rows, without=[])
    key = digest_of([queries.digest, *queries.ids])
    assert_exact(truth.where(truth["queries"] == key).collect(), rows, without=queries.ids)

    assert report["applied"]["applied"]
    # Both are computed, but for how rows that are held out share segments and lists.
    assert report["applied"]["memory_bytes"] == pytest.approx(champion["memory_bytes"], rel=0.05)
    routes = read_routes(client, alias)
    assert routes.index == VectorIndex(champion["index_type"], champion["build"], champion["search"])
    assert aliased(client, alias) == routes.collection == report["applied"]["collection"]
    assert collections(client, alias) == [routes.collection]
    assert embedded.assert_mirrored() == sum(ROWS_OF.values())
    # What loads do later keeps the index and how it is searched.
    load_now(embedded)
    assert read_routes(client, alias) == routes

    def interrupted(*_):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("lakevec.jobs.tune.fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(embedded.settings, progress=Progress(False))
    assert left_over(client, alias, owner) == []
    [last, *_] = mlflow.search_runs([report["experiment_id"]], order_by=["attributes.start_time DESC"])
    assert last.info.status == "KILLED"
    # The exact answers were there already.
    assert last.data.metrics["truth_seconds_sampled"] == 0


@pytest.mark.slow
def test_another_seed_gives_judged_questions_the_same_exact_quality_and_the_former_champion_stays_as_previous(
    embedded, tmp_path
):
    """What is held out, a tenth of the rows, is not taken from the quality that readers of the whole table have."""
    lake, version = embedded.lake(), embedded.lake().tables.version(EMBEDDINGS)
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(json.dumps({"query": word}) for word in WORDS))
    rows = passages(lake.model.dimension)
    vectors = np.array([row[EMBEDDINGS.schema.names.index("vector")] for row in rows], np.float32)
    nearest = np.argsort(-(asked(lake, embedded.settings, str(questions)).vectors @ vectors.T), axis=1)
    # Relevant: the second of the exact answers, the fifth, and one that is none of the ten.
    relevant = [{str(row[place]): 1 for place in (1, 4, 40)} for row in nearest]
    questions.write_text(
        "\n".join(json.dumps({"query": word, "relevant": each}) for word, each in zip(WORDS, relevant, strict=True))
    )
    tuning = {"queries": sum(ROWS_OF.values()) // 10, "grid": {"FLAT": {}}}
    settings = embedded.settings.model_copy(update={"tune": embedded.settings.tune.model_copy(update=tuning)})

    first, second = (tune(settings, str(questions), seed=seed, progress=Progress(False)) for seed in (1, 2))

    # By places of the relevant ones, in the ideal order 1, 2 and 3.
    gains = 1 / np.log2(np.arange(2, 12))
    by_hand = (gains[1] + gains[4]) / gains[:3].sum()
    assert first.ndcg_at_10 == second.ndcg_at_10
    assert first.ndcg_at_10["exact"] == first.ndcg_at_10["champion"] == pytest.approx(by_hand)
    mlflow = MlflowClient(f"sqlite:///{tmp_path}/lake-mlflow.db")
    [flat, _] = mlflow.search_runs([first.experiment_id], "params.index_type = 'FLAT'")
    assert flat.data.metrics["questions_recall_at_10"] == 1.0
    good = {rows[number][0] for number in nearest[:, [1, 4]].ravel()}
    assert all(good & set(sampled(lake, version, tuning["queries"], seed).ids) for seed in (1, 2))

    version_behind = {
        alias: mlflow.get_model_version_by_alias(first.champion.registered, alias).version
        for alias in ("champion", "previous")
    }
    assert version_behind == {"champion": second.champion.version, "previous": first.champion.version}
    assert first.champion.version != second.champion.version


@pytest.mark.slow
def test_a_promise_that_is_missed_brings_the_old_index_back_and_a_lost_one_is_made_as_it_was_applied(embedded):
    client, alias = connect(MilvusAddress(embedded.settings.milvus.uri)), embedded.settings.milvus.collection
    load_now(embedded)
    before = read_routes(client, alias)
    settings = embedded.settings

    missed = apply_now(embedded, COARSE, recall=0.999)
    # As the sweep had it, a byte was enough.
    large = apply_now(embedded, COARSE, memory=500_000)

    assert not missed.applied
    assert "it misses recall@10 of at least 0.999" in missed.why
    assert not large.applied
    assert large.memory_bytes > sum(ROWS_OF.values()) * embedded.lake().model.dimension * 4
    assert f"{large.memory_bytes:,} bytes" in large.why
    assert read_routes(client, alias) == before
    assert embedded.assert_mirrored() == sum(ROWS_OF.values())

    done = tune(settings, applying=True, progress=Progress(False))
    assert done.applied.applied
    applied = VectorIndex(done.champion.index_type, dict(done.champion.build), dict(done.champion.search))
    client.drop_collection(read_routes(client, alias).collection)
    load_now(embedded)
    assert read_routes(client, alias).index == applied
    assert embedded.assert_mirrored() == sum(ROWS_OF.values())
    drop_all(client, alias)
    load_now(embedded)
    assert read_routes(client, alias).index == applied


@pytest.mark.slow
def test_readers_are_answered_all_the_time_while_an_index_is_applied_or_taken_back(embedded):
    client, alias = connect(MilvusAddress(embedded.settings.milvus.uri)), embedded.settings.milvus.collection
    load_now(embedded)
    before = read_routes(client, alias).collection
    vector = passages(embedded.lake().model.dimension)[5][EMBEDDINGS.schema.names.index("vector")]

    with reading(embedded.settings, vector) as answers:
        done = apply_now(embedded, COARSE)
        applied, until_applied = read_routes(client, alias).collection, len(answers)
        missed = apply_now(embedded, FINE, recall=1.0, memory=1)

    assert done.applied, done.why
    assert not missed.applied
    assert read_routes(client, alias).collection == applied != before
    assert 10 < until_applied < len(answers) - 10
    assert set(answers) == {10}


@contextmanager
def reading(settings, vector: list[float]) -> Iterator[list]:
    """A reader's searches meanwhile, one after the other: how many hits each had, or its error."""
    answers, ended = [], threading.Event()
    reader = connect(MilvusAddress(settings.milvus.uri))

    def read():
        while not ended.is_set():
            try:
                answers.append(len(search_vectors(reader, settings.milvus.collection, vector, 10).hits))
            except Exception as error:
                answers.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
def test_what_is_not_proved_is_taken_back_at_once_or_by_the_next_load(embedded, monkeypatch):
    client, alias = connect(MilvusAddress(embedded.settings.milvus.uri)), embedded.settings.milvus.collection
    load_now(embedded)
    before = read_routes(client, alias)
    before = replace(before, index=replace(before.index, search={"ef": 77}))
    publish(client, alias, before)

    def killed(*_):
        assert read_routes(client, alias).index.type == "IVF_FLAT"
        raise KeyboardInterrupt

    monkeypatch.setattr("lakevec.jobs.apply.prove", killed)
    with pytest.raises(KeyboardInterrupt):
        apply_now(embedded, COARSE)
    assert read_routes(client, alias) == before
    assert collections(client, alias) == [before.collection]

    # As kill -9 leaves it.
    monkeypatch.setattr("lakevec.jobs.apply.take_back", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        apply_now(embedded, COARSE)
    assert read_routes(client, alias).collection != before.collection == aliased(client, alias)
    load_now(embedded)
    assert read_routes(client, alias) == before
    assert collections(client, alias) == [before.collection]
    assert embedded.assert_mirrored() == sum(ROWS_OF.values())


@pytest.mark.slow
def test_other_search_parameters_are_applied_in_place_and_what_is_upserted_is_indexed_before_readers_come(
    embedded, monkeypatch
):
    """The live collection has a row that was deleted, and rows that were upserted and are not flushed."""
    client, alias = connect(MilvusAddress(embedded.settings.milvus.uri)), embedded.settings.milvus.collection
    load_now(embedded)
    tables = embedded.lake().tables
    embedded.spark.sql(f"DELETE FROM delta.`{tables.path}/{EMBEDDINGS.name}` WHERE uri = '7.md'")
    embedded.spark.sql(f"UPDATE delta.`{tables.path}/{EMBEDDINGS.name}` SET title = 'New' WHERE uri = '8.md'")
    load_now(embedded)
    before = read_routes(client, alias)
    wide = Candidate(Setting(before.index.type, before.index.build, {"ef": 123}), Interval(1, 1, 1), 1, 1, 1)

    def proved_before_readers_have_them(*arguments):
        assert read_routes(client, alias) == before
        return prove(*arguments)

    monkeypatch.setattr("lakevec.jobs.apply.prove", proved_before_readers_have_them)
    done = apply_now(embedded, wide, recall=0.5)

    assert done.applied, done.why
    assert read_routes(client, alias) == replace(before, index=replace(before.index, search={"ef": 123}))
    assert collections(client, alias) == [before.collection]
    monkeypatch.undo()

    embedded.settings = embedded.settings.model_copy(
        update={"load": embedded.settings.load.model_copy(update={"staging": None})}
    )
    done = apply_now(embedded, COARSE, recall=0.0)

    assert done.applied, done.why
    [live] = collections(client, alias)
    assert live == read_routes(client, alias).collection != before.collection
    # What still grows would be found whole.
    assert done.recall_at_10 < 0.9
    assert embedded.assert_mirrored() == sum(ROWS_OF.values()) - 1


def test_an_index_that_somebody_set_is_not_to_be_chosen(tmp_path):
    settings = load_settings("local", [f"lake.path={tmp_path}", "index.type=FLAT"], {})
    with pytest.raises(ConfigurationError, match=r"index\.type is set"):
        tune(settings, applying=True)


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_or_loses_its_store_leaves_nothing_behind_and_keeps_what_was_measured(
    embedded, tmp_path, monkeypatch
):
    client, alias = connect(MilvusAddress(embedded.settings.milvus.uri)), embedded.settings.milvus.collection
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lakevec.jobs.tuning.sweep.measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(embedded.settings, progress=Progress(False))
    assert left_over(client, alias, owner_of(embedded.lake())) == []
    mlflow = MlflowClient(f"sqlite:///{tmp_path}/lake-mlflow.db")
    experiment = mlflow.get_experiment_by_name("lakevec-tune").experiment_id
    assert [run.info.status for run in mlflow.search_runs([experiment])] == ["KILLED"]

    logged = Sweep.child

    def child(run: Sweep, setting: Setting, *words, **named):
        if setting.type != "FLAT":
            raise StoreError("MLflow's store cannot be used.")
        return logged(run, setting, *words, **named)

    monkeypatch.setattr(Sweep, "child", child)
    with pytest.raises(StoreError, match=r"What was measured of 2 settings is kept in (\S+)\.$") as told:
        tune(embedded.settings, progress=Progress(False))
    assert left_over(client, alias, owner_of(embedded.lake())) == []
    kept = pq.read_table(str(told.value).rpartition("kept in ")[2].removesuffix(".")).to_pylist()
    assert [row["index_type"] for row in kept] == ["FLAT", "IVF_SQ8"]
    assert all(row["recall_at_10"] > 0 for row in kept)
    assert mlflow.search_runs([experiment], "status = 'RUNNING'") == []


def owner_of(lake) -> Owner:
    return Owner(lake.lake_id, lake.model.id, lake.chunking.id, lake.model.dimension)


def test_apply_tells_of_a_load_that_goes_on_before_the_sweep_and_not_after_it(tmp_path):
    (tmp_path / "lake").mkdir()
    settings = load_settings("local", [f"lake.path={tmp_path / 'lake'}"], {})
    with locked(settings, "run --continuous", ["load"]), pytest.raises(LakeBusyError, match="run --continuous"):
        tune(settings, applying=True)


@pytest.mark.parametrize("kept", [True, False])
def test_where_nothing_was_applied_no_figures_are_called_live(tmp_path, capsys, kept):
    """A load that began meanwhile prevents it, and the sweep's report stays; or no setting keeps the promise."""
    (tmp_path / "lake").mkdir()
    settings = load_settings("local", [f"lake.path={tmp_path / 'lake'}"], {})
    subject = Subject(None, 1, settings, MilvusAddress("http://nowhere"), None)
    metrics = {}
    run = SimpleNamespace(run_id="r", log=lambda _, params, values: metrics.update(values))
    choice, swept = Choice(COARSE, kept, "No setting keeps it."), SimpleNamespace(champion=None)
    with locked(settings, "load", ["load"]):
        done = applied(subject, choice, swept, [], run, 0, Progress(False))

    assert not done.applied
    assert ("Another command works on the stage load" if kept else "No setting keeps it.") in done.why
    assert (done.recall_at_10, done.ci_low, done.ci_high, done.p99_ms, done.qps, metrics) == (*[None] * 5, {})
    champion = ChampionReport("IVF_FLAT", {}, {}, 1, 1, 1, 1, 1, 1, kept, "", "docs", "1")
    print_tuned(TuneReport("e", "r", "sqlite:///there", 1, [], champion, None, [COARSE], done))
    words = capsys.readouterr().out
    assert "NOT APPLIED: " in words
    assert "live:" not in words


def apply_now(lakehouse, chosen: Candidate, recall: float = 0.5, memory: int | None = None):
    lake, settings = lakehouse.lake(), lakehouse.settings
    queries = [sampled(lake, lake.tables.version(EMBEDDINGS), QUERIES, 0)]
    address = MilvusAddress(settings.milvus.uri)
    return apply(lake, settings, address, chosen, Promise(recall, memory=memory), queries, 0, None, Progress(False))


def collections(client, alias: str) -> list[str]:
    """Those that hold passages."""
    return [name for name in client.list_collections() if name.startswith(f"{alias}_") and "_routes_" not in name]


def drop_all(client, alias: str) -> None:
    for name in client.list_collections():
        if name.startswith(alias):
            for known in client.list_aliases(name)["aliases"]:
                client.drop_alias(known)
            client.drop_collection(name)


def load_now(lakehouse) -> None:
    load(lakehouse.lake(), lakehouse.settings, MilvusAddress(lakehouse.settings.milvus.uri), Progress(False))


def assert_exact(truth: list, rows: list[tuple], without: Sequence[str]) -> None:
    """Against all scores of some queries, sorted. without: passages that are nobody's answer."""
    truth = {row["query_id"]: row for row in truth}
    assert len(truth) == QUERIES
    names = EMBEDDINGS.schema.names
    keys = [row[names.index("chunk_id")] for row in rows]
    vectors = np.array([row[names.index("vector")] for row in rows], np.float64)
    for number in [number for number, key in enumerate(keys) if key in truth][:20]:
        scores = vectors @ vectors[number]
        scores[[number, *(keys.index(key) for key in without)]] = -1
        best = [keys[other] for other in np.argsort(-scores)[:100]]
        assert set(truth[keys[number]]["chunk_ids"][:100]) == set(best)


def test_milvus_lite_is_refused_because_it_searches_every_index_exactly(tmp_path):
    settings = load_settings("local", [f"lake.path={tmp_path}", f"milvus.uri={tmp_path}/lite.db"], {})
    with pytest.raises(ConfigurationError, match="searches all of them exactly"):
        tune(settings)
