from dataclasses import replace

import numpy as np
import pytest
from lakevec.jobs.embed import HASH_RANGES, Pieces, embed_missing, embeddings_of, hash_at
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.flow import Flow
from lakevec.jobs.lake.changes import keys_of
from lakevec.jobs.lake.known_texts import KnownTexts
from lakevec.jobs.lake.lake import open_lake
from lakevec.jobs.lake.tables import CHUNKS, EMBEDDINGS, VECTORS, LakeTables
from lakevec.jobs.progress import Progress
from lakevec.jobs.settings import Model, Pipeline
from lakevec.udfs.embed import Embedder
from lakevec.udfs.keys import content_hash
from lakevec.udfs.model import Compute
from pyspark.errors import PySparkException
from pyspark.sql import functions as F


def test_ranges_of_hashes_meet_without_a_gap():
    bounds = [hash_at(place) for place in (0, 1, HASH_RANGES // 2, HASH_RANGES - 1, HASH_RANGES)]

    assert bounds == ["00000000", "00000001", "80000000", "ffffffff", "g"]
    assert bounds == sorted(bounds)
    assert bounds[0] < "0" * 32 < "f" * 32 < bounds[-1]


def test_every_text_is_embedded_once_however_small_the_pieces_are(lakehouse, monkeypatch):
    lake = lakehouse.lake()
    settings = lakehouse.settings
    monkeypatch.setattr("lakevec.jobs.embed.FIRST_PIECE", 2)
    texts = [f"text {number % 12}" for number in range(20)]
    chunks = lakehouse.spark.createDataFrame(
        [(content_hash(text), "", text) for text in texts], "content_hash string, prefix string, text string"
    )

    known = KnownTexts(lake.tables, lake.model.id)

    def embed_all():
        keys = keys_of(chunks, "content_hash")
        return embed_missing(lake, keys, known, settings, Progress(terminal=False), Pieces(1e-9, tasks=2))[0]

    first, second = embed_all(), embed_all()

    assert (first, second) == (12, 0)
    assert lakehouse.rows(VECTORS, "content_hash") == sorted({(content_hash(text),) for text in texts})


def test_a_piece_that_was_embedded_is_known_where_the_micro_batch_is_begun_again(lakehouse, monkeypatch):
    lake, append = lakehouse.lake(), LakeTables.append
    monkeypatch.setattr("lakevec.jobs.embed.FIRST_PIECE", 2)
    # Not by the table, but by what is remembered.
    monkeypatch.setattr("lakevec.jobs.lake.known_texts.ASKED_BEFORE", 1)
    texts = [f"text {number}" for number in range(12)]
    chunks = lakehouse.spark.createDataFrame(
        [(content_hash(text), "", text) for text in texts], "content_hash string, prefix string, text string"
    )
    known, appended, flow = KnownTexts(lake.tables, lake.model.id), [], Flow(Pipeline())

    def dying(*arguments):
        appended.append(None)
        if len(appended) == 2:
            raise RuntimeError("Python worker failed to connect back")
        append(*arguments)

    def embed_all():
        keys = keys_of(chunks, "content_hash")
        embed_missing(lake, keys, known, lakehouse.settings, Progress(terminal=False), Pieces(1e-9, tasks=2), flow)

    monkeypatch.setattr(LakeTables, "append", dying)
    with pytest.raises(RuntimeError, match="connect back"):
        embed_all()
    # What is committed counts, however the micro-batch ends.
    assert flow.steps["embed"] == 1
    embed_all()

    assert lakehouse.rows(VECTORS, "content_hash") == sorted((content_hash(text),) for text in texts)


def test_vectors_that_cannot_be_kept_are_found_in_their_table_and_not_made_again(lakehouse, monkeypatch):
    lake, text = lakehouse.lake(), "Parents have twelve weeks of leave."
    chunks = lakehouse.spark.createDataFrame(
        [(content_hash(text), "", text)], "content_hash string, prefix string, text string"
    )
    # As on clusters that have no local checkpoints.
    monkeypatch.setattr("lakevec.jobs.embed.materialised", lambda frame: frame)

    known, pieces = KnownTexts(lake.tables, lake.model.id), Pieces(20, tasks=2)
    number, made = embed_missing(
        lake, keys_of(chunks, "content_hash"), known, lakehouse.settings, Progress(terminal=False), pieces
    )

    assert (number, made) == (1, None)
    assert lakehouse.rows(VECTORS, "content_hash") == [(content_hash(text),)]


def test_vectors_of_a_lake_in_int8_are_in_int8_whether_or_not_a_later_run_says_so(new_lakehouse, tmp_path, monkeypatch):
    lakehouse = new_lakehouse(tmp_path, "model.dtype=int8", f"lake.path={tmp_path}/made-in-int8")
    lakehouse.write("leave.md", "Parents have twelve weeks of leave.")
    lakehouse.run(("ingest", "chunk", "embed"))
    nobody_says = lakehouse.settings.model_copy(
        update={"model": Model(), "explicit": lakehouse.settings.explicit - {"model.dtype"}}  # pyright: ignore[reportCallIssue]
    )
    lakehouse = replace(lakehouse, settings=nobody_says)
    lakehouse.write("travel.md", "Trains are booked by the office.")
    lakehouse.run(("ingest", "chunk", "embed"))
    written = {text: np.array(vector) for text, vector in lakehouse.rows(EMBEDDINGS, "text", "vector")}
    assert len(written) == 2
    prefixed = {row.text: row.prefix + row.text for row in lakehouse.lake().tables.read(CHUNKS).collect()}
    exact, whole = (Embedder(lakehouse.lake().model.path, Compute("cpu", dtype)) for dtype in ("float32", "int8"))
    for text, vector in written.items():
        np.testing.assert_allclose(vector, whole.embed([prefixed[text]])[0], atol=1e-5)
        assert 0.98 < vector @ exact.embed([prefixed[text]])[0] < 0.9999
    with pytest.raises(ConfigurationError, match=r"model\.dtype is bfloat16, but this lake was made with int8"):
        open_lake(
            lakehouse.spark,
            lakehouse.settings.model_copy(
                update={"model": Model(dtype="bfloat16"), "explicit": nobody_says.explicit | {"model.dtype"}}  # pyright: ignore[reportCallIssue]
            ),
        )
    lakehouse.write("sickness.md", "A doctor's note is due on the third day.")
    on_gpu = nobody_says.model_copy(update={"model": Model(device="cuda")})  # pyright: ignore[reportCallIssue]
    refusal = r"int8, which is computed on CPUs, but this run asks for GPUs: unset model\.device, gpu\.tasks"
    with pytest.raises(ConfigurationError, match=refusal):
        replace(lakehouse, settings=on_gpu).run(("ingest", "chunk", "embed"))
    monkeypatch.setattr("lakevec.jobs.embed.asks_for_gpus", lambda spark, tasks: True)
    with pytest.raises(ConfigurationError, match=refusal):
        lakehouse.run(("ingest", "chunk", "embed"))
    # Before the stages that come first did their part.
    assert lakehouse.lake().tables.read(CHUNKS).count() == 2


def test_a_model_that_is_no_bert_makes_no_lake_in_int8(new_lakehouse, tmp_path, monkeypatch):
    lakehouse = new_lakehouse(tmp_path, "model.dtype=int8", f"lake.path={tmp_path}/made-in-int8")
    monkeypatch.setattr("lakevec.jobs.lake.lake.is_bert", lambda folder: False)
    with pytest.raises(ConfigurationError, match=r"only a BERT is computed in, and all-MiniLM-L6-v2 is none"):
        lakehouse.run(("ingest",))


def test_a_machine_without_an_x86_cpu_makes_no_lake_in_int8(new_lakehouse, tmp_path, monkeypatch):
    lakehouse = new_lakehouse(tmp_path, "model.dtype=int8", f"lake.path={tmp_path}/made-in-int8")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    with pytest.raises(ConfigurationError, match=r"int8, which needs x86 CPUs, and this machine is arm64"):
        lakehouse.run(("ingest",))


def test_a_chunk_without_a_vector_is_an_error_that_names_it(spark):
    chunks = spark.range(1).select(
        F.lit("chunk-7").alias("chunk_id"),
        F.lit("h").alias("content_hash"),
        F.current_timestamp().alias("doc_timestamp"),
        *[F.lit("").alias(name) for name in ("doc_id", "uri", "title", "heading_path", "text")],
        *[F.lit(0).alias(name) for name in ("page", "start", "end")],
    )
    vectors = spark.createDataFrame([], "content_hash string, vector array<float>")

    with pytest.raises(PySparkException, match="no vector for the chunk chunk-7"):
        embeddings_of(chunks, vectors, "model", "year").collect()
