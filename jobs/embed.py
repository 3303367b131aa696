"""`chunks` -> `vectors`, `embeddings`: embed each new text once, then merge what Milvus shall hold."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from ..udfs.embed import with_vectors
from ..udfs.model import Compute
from .errors import ConfigurationError
from .flow import Flow, turn
from .lake.changes import Keys, apply, delete_orphans, keys_of, last_changes, named, reconcile
from .lake.gpus import (
    GPUS_OF_TASK,
    asks_for_gpus,
    device_of_task,
    embedding_tasks,
    profile_of_tasks,
    tasks_per_gpu,
)
from .lake.known_texts import KnownTexts
from .lake.lake import Lake
from .lake.ranges import range_of
from .lake.session import materialised, workers_of_their_own
from .lake.stream import StreamEndedError, work_off
from .lake.tables import CHUNKS, EMBEDDINGS, VECTORS
from .progress import Progress
from .settings import Granularity, Settings

# The first piece of a run, per task: enough to measure a rate, small enough to fail early.
FIRST_PIECE = 32

# Less than the minute that Spark leaves idle Python workers.
REST_SECONDS = 40.0

# Pieces are cut by the first eight hex digits of the content hash.
HASH_RANGES = 16**8

# A VARCHAR of Milvus holds 65,535 bytes; so many code points always fit, whatever they are.
LONGEST_VARCHAR_BYTES = 65_535
CUT_CODE_POINTS = LONGEST_VARCHAR_BYTES // 4
VARCHARS = ("uri", "title", "heading_path", "text")

# No part of a vector is null: Delta's MERGE takes no array for one of another kind.
WITH_VECTORS = StructType([VECTORS.schema["content_hash"], VECTORS.schema["vector"]])


@dataclass
class Embedded:
    """What one run of this stage did.

    embedded: texts that went through the model; reused: embeddings written with a vector that was
    there already; deleted: embeddings deleted.
    """

    embedded: int = 0
    embeddings: int = 0
    reused: int = 0
    deleted: int = 0


def embed(lake: Lake, settings: Settings, progress: Progress, flow: Flow | None = None) -> Embedded:
    """Work off the change feed of `chunks`: what there is, or with `flow` until that stops."""
    done = Embedded()
    if flow:
        flow.outcomes["embed"] = done
    pieces = Pieces(settings.embed.piece_seconds, embedding_tasks(lake.tables.spark, settings.gpu.tasks))
    known = KnownTexts(lake.tables, lake.model.id)

    def handle(feed: DataFrame, known_until: int) -> None:
        with turn(flow, "embed"):
            work(feed, known_until)

    def work(feed: DataFrame, known_until: int) -> None:
        begun = flow.begun(flow.chunks) if flow else 0
        changed = materialised(last_changes(feed, "chunk_id", known_until))
        keys = keys_of(changed, "chunk_id", "content_hash", "deleted", "is_new")
        wanted = keys.without("deleted")
        embedded, made = embed_missing(lake, wanted, known, settings, progress, pieces, flow)
        vectors = made if made is not None else vectors_for(lake, wanted)
        if wanted.few is not None:
            vectors = F.broadcast(vectors)
        desired = embeddings_of(wanted.rows, vectors, lake.model.id, lake.granularity)
        present = keys.without("is_new").among(lake.tables.present(EMBEDDINGS), "chunk_id")
        merged = apply(lake.tables, EMBEDDINGS, reconcile(desired, present, EMBEDDINGS))
        written = merged["insert"] + merged["update"]
        done.embedded += embedded
        done.embeddings += written
        done.reused += max(written - embedded, 0)
        done.deleted += merged["delete"]
        if flow:
            flow.embedded_per_second = pieces.rate
            flow.done(flow.chunks, begun)
            if any(merged.values()):
                flow.got_on("embed")
            flow.hand_on("load", merged)
            flow.embeddings_changed.set()

    def begin_anew() -> None:
        done.deleted += delete_orphans(lake.tables, EMBEDDINGS, CHUNKS, "chunk_id")

    work_off(lake.tables, CHUNKS, lake.checkpoint("embed"), handle, begin_anew, flow and flow.until_at_feed)
    return done


@dataclass
class Pieces:
    """How large pieces are: the first are small, the others take about `seconds`. rate: texts a second."""

    seconds: float
    tasks: int
    rate: float | None = None

    @property
    def size(self) -> int:
        return max(FIRST_PIECE * self.tasks, int((self.rate or 0) * self.seconds))

    def took(self, texts: int, seconds: float) -> None:
        """Measure; a few texts tell of the commit's time, not of the model's."""
        rate = texts / seconds
        if self.rate is None or texts >= FIRST_PIECE * self.tasks or rate > self.rate:
            self.rate = rate


def embed_missing(
    lake: Lake,
    chunks: Keys,
    known: KnownTexts,
    settings: Settings,
    progress: Progress,
    pieces: Pieces,
    flow: Flow | None = None,
) -> tuple[int, DataFrame | None]:
    """Embed the texts that have no vector yet, piece by piece into `vectors`. Gives their number, and
    (content_hash, vector) where those are the vectors of all chunks and few.

    chunks: with content_hash among the keys. A piece is committed before the next begins, so that a
    crash keeps what was done. Raises StreamEndedError between two pieces when `flow` is stopping.
    """
    texts = chunks.rows.select("content_hash", F.concat("prefix", "text").alias("text"))
    texts = texts.dropDuplicates(["content_hash"])
    if chunks.few is None:
        known.add(None)
        wanted, is_all_missing = set(), False
        missing = materialised(texts.join(chunks.among(known.now, "content_hash"), "content_hash", "left_anti"))
        number = missing.count()
    else:
        hashes = {row["content_hash"] for row in chunks.few}
        wanted = hashes - known.among(chunks)
        missing = texts.where(named("content_hash", sorted(wanted)))
        number, is_all_missing = len(wanted), wanted == hashes
    to_vectors = embedding(lake, settings)
    made = None
    with progress.task("embed", "chunks", number) as advance:
        first = 0
        while number and first < HASH_RANGES:
            if first and flow and flow.stopping.is_set():
                raise StreamEndedError
            end = min(first + max(1, HASH_RANGES * pieces.size // number), HASH_RANGES)
            is_all = end - first == HASH_RANGES
            bounds = hash_at(first), hash_at(end)
            piece = missing.where(F.col("content_hash").between(*bounds))
            first = end
            embedded = number if is_all else piece.count()
            if not embedded:
                continue
            with model_workers(lake):
                vectors = to_vectors(piece.repartition(min(pieces.tasks, embedded))).select(
                    "content_hash", F.lit(lake.model.id).alias("model_id"), "vector"
                )
            with flow.model_in_use if flow else nullcontext():
                begun = time.monotonic()
                if is_all and is_all_missing:
                    # To find a few among all again takes longer than to keep them.
                    kept = materialised(vectors)
                    # What is not kept would be embedded again by whoever reads it.
                    if kept is not vectors:
                        vectors = kept.coalesce(1)
                        made = vectors.select("content_hash", "vector")
                lake.tables.append(VECTORS, vectors)
                pieces.took(embedded, time.monotonic() - begun)
            if flow:
                flow.got_on("embed")
            known.add({each for each in wanted if bounds[0] <= each <= bounds[1]})
            advance(embedded)
    return number, made


def model_workers(lake: Lake) -> AbstractContextManager[None]:
    return workers_of_their_own(lake.tables.spark, "model")


def keep_loaded(lake: Lake, settings: Settings, progress: Progress, flow: Flow) -> None:
    """Load the model before the first text comes, and keep it: Spark ends workers that rest for a minute."""
    tasks = embedding_tasks(lake.tables.spark, settings.gpu.tasks)
    to_vectors = embedding(lake, settings)
    while not flow.stopping.is_set():
        with model_workers(lake):
            texts = lake.tables.spark.range(0, tasks, 1, tasks).select(
                F.lit("").alias("content_hash"), F.lit(".").alias("text")
            )
            vectors = to_vectors(texts)
        # Two jobs at once would have twice as many workers started, each with a model of its own.
        if not flow.model_in_use.acquire(blocking=False):
            flow.rest(1.0)
            continue
        try:
            vectors.write.format("noop").mode("overwrite").save()
        # The stage meets it as well, and is begun again; so this must not end.
        except (PySparkException, Py4JError) as error:
            progress.log("model.not_loaded", reason=str(error).partition("\n")[0])
        finally:
            flow.model_in_use.release()
        flow.rest(REST_SECONDS)


def hash_at(place: int) -> str:
    """The bound below which `place` of HASH_RANGES equal ranges of all hashes lie.

    Hashes are evenly spread: a range of them is a fair sample of about a known size, and the same
    rows in whatever order a cluster hands them out. No hash equals a bound, which has fewer digits.
    """
    return f"{place:08x}" if place < HASH_RANGES else "g"


def embedding(lake: Lake, settings: Settings) -> Callable[[DataFrame], DataFrame]:
    """A transform from (content_hash, text) to (content_hash, vector); the model loads once per Python worker."""
    spark, model, compute = lake.tables.spark, lake.model, compute_of(lake, settings)
    profile = profile_of_tasks(spark, settings.gpu.tasks)
    share = compute.memory_fraction / tasks_per_gpu(spark, settings.gpu.tasks)

    def embedded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        device = device_of_task() or compute.device
        return with_vectors(batches, model, replace(compute, device=device, memory_fraction=share))

    def transform(texts: DataFrame) -> DataFrame:
        return texts.mapInArrow(embedded, WITH_VECTORS, profile=profile)

    return transform


def compute_of(lake: Lake, settings: Settings) -> Compute:
    """What the lake's vectors are computed on, and how. Raises ConfigurationError where GPUs are to compute int8."""
    if not lake.quantised:
        return settings.compute
    compute = replace(settings.compute, dtype=lake.quantised)
    if compute.device not in (None, "cpu") or asks_for_gpus(lake.tables.spark, settings.gpu.tasks):
        raise ConfigurationError(
            f"This lake's vectors are in {lake.quantised}, which is computed on CPUs, but this run asks for GPUs: "
            f"unset model.device, gpu.tasks and {GPUS_OF_TASK}."
        )
    return compute


def vectors_for(lake: Lake, keys: Keys) -> DataFrame:
    """(content_hash, vector) for the texts of these chunks."""
    vectors = lake.tables.read(VECTORS).where(F.col("model_id") == lake.model.id)
    return (
        keys.among(vectors, "content_hash")
        .select("content_hash", "vector")
        # A replayed append may have left a text twice.
        .dropDuplicates(["content_hash"])
    )


def embeddings_of(chunks: DataFrame, vectors: DataFrame, model_id: str, granularity: Granularity) -> DataFrame:
    """Rows of EMBEDDINGS for these chunks. vectors: (content_hash, vector)."""
    # No passage may drop out in silence.
    missing = F.raise_error(F.concat(F.lit("`vectors` has no vector for the chunk "), "chunk_id"))
    return (
        fields_of(chunks, model_id, granularity)
        .join(vectors, "content_hash", "left")
        .withColumn("vector", F.coalesce("vector", missing))
        .select(*EMBEDDINGS.schema.names)
    )


def fields_of(chunks: DataFrame, model_id: str, granularity: Granularity) -> DataFrame:
    """Rows of EMBEDDINGS for these chunks but for the vector, strings cut to what Milvus holds."""
    too_long = [F.when(F.octet_length(name) > LONGEST_VARCHAR_BYTES, F.lit(name)) for name in VARCHARS]
    complete = (
        chunks.withColumn("model_id", F.lit(model_id))
        .withColumn("partition", range_of(F.col("doc_timestamp"), granularity))
        .withColumn("cut", F.array_compact(F.array(*too_long)))
    )
    for name in VARCHARS:
        complete = complete.withColumn(
            name,
            F.when(F.octet_length(name) > LONGEST_VARCHAR_BYTES, F.left(name, F.lit(CUT_CODE_POINTS))).otherwise(
                F.col(name)
            ),
        )
    return complete.select(*[name for name in EMBEDDINGS.schema.names if name != "vector"])
