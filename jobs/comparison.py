"""`embeddings` against what Milvus holds, range by range and key by key, and a sample of rows field by field.

Tasks on the executors fetch the keys and the rows; joins compare them. Neither the driver nor a task
ever holds all keys of one side.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pymilvus import MilvusClient
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from .errors import MilvusError
from .lake.changes import keys_of
from .lake.lake import Lake
from .lake.session import materialised, parallel_tasks
from .lake.tables import EMBEDDINGS
from .transfer import collection_rows
from .vectors import partitions
from .vectors.census import CENSUS_SCHEMA, SLICE_SCHEMA, STRAY, census, census_in_task, slices_of, stray_rows
from .vectors.census import readable as readable_generations
from .vectors.connection import MilvusAddress
from .vectors.contents import CONTENTS_SCHEMA, ROWS_PER_QUERY, contents, contents_in_task
from .vectors.partitions import Generation
from .vectors.patch import RANGE
from .vectors.routes import Routes

MISSING, EXTRA, DOUBLED, DIFFERENT = KINDS = ("missing", "extra", "doubled", "different")
WRONG_SCHEMA = "range string, chunk_id string, kind string, rows bigint"


@dataclass(frozen=True)
class Mirrored:
    """Milvus as readers reach it. readable: the live generations that answer; rows: of these and of strays.

    left_over: partitions that no route names, and no reader is led to; a load drops them.
    """

    client: MilvusClient
    address: MilvusAddress
    collection: str
    readable: Mapping[str, Generation]
    rows: Mapping[str, int]
    left_over: Sequence[str]

    def partition(self, name: str) -> str:
        return self.readable[name].partition if name in self.readable else name.removeprefix(STRAY)


@dataclass(frozen=True)
class Comparison:
    """wrong: rows of WRONG_SCHEMA. Of a doubled key, `rows` are those beyond its first; 0 where it is one
    of very many that may be doubled. lake_rows, milvus_rows: by range. sampled: rows compared whole.
    changed: keys that were left out since they changed meanwhile. is_partial: some were left out, so that the counts
    need not agree."""

    wrong: DataFrame
    lake_rows: Mapping[str, int]
    milvus_rows: Mapping[str, int]
    sampled: int
    numbers: Mapping[tuple[str, str], int]
    changed: int
    is_partial: bool

    @property
    def has_equal_counts(self) -> bool:
        return self.is_partial or all(
            self.lake_rows.get(name, 0) == self.milvus_rows.get(name, 0)
            for name in {*self.lake_rows, *self.milvus_rows}
        )


def mirrored(client: MilvusClient, address: MilvusAddress, routes: Routes | None) -> Mirrored | None:
    """What the routes name, counted; None where there is nothing to ask."""
    if routes is None or not client.has_collection(routes.collection):
        return None
    collection = routes.collection
    if partitions.is_lite(client):
        partitions.load(client, collection, routes.live)
    readable = readable_generations(client, collection, routes.live)
    rows = {each.range: rows for each, rows in partitions.counts_when_answering(client, collection, readable).items()}
    return Mirrored(
        client,
        address,
        collection,
        {each.range: each for each in readable},
        rows | stray_rows(client, collection),
        [each.partition for each in partitions.present_generations(client, collection) if each not in routes.live],
    )


def compare(
    lake: Lake,
    version: int,
    milvus: Mirrored | None,
    sample: int,
    waiting: DataFrame | None,
    changed: Callable[[], DataFrame | None],
) -> Comparison:
    """`embeddings` at this version against Milvus. sample: rows to compare whole. waiting: (chunk_id) of rows that are
    yet to be loaded, of which nothing is said, and changed: of those that have changed since, asked in the end: a load
    may have brought them meanwhile. Raises MilvusError."""
    spark = lake.tables.spark
    embeddings = lake.tables.read(EMBEDDINGS, version)
    in_lake = embeddings.select(F.col("partition").alias("range"), "chunk_id").distinct()
    lake_rows = {
        row["range"]: row["count"] for row in embeddings.groupBy("partition").count().toDF("range", "count").collect()
    }
    found = keys_in(spark, milvus) if milvus else spark.createDataFrame([], CENSUS_SCHEMA)
    wrong = misplaced(in_lake, found).union(doubled_within(found))
    if waiting is not None:
        wrong = wrong.join(waiting, "chunk_id", "left_anti").select(*wrong.columns)
        embeddings = embeddings.join(waiting, "chunk_id", "left_anti")
    wrong = materialised(wrong)
    sampled = 0
    if milvus and sample and lake_rows:
        seed = random.getrandbits(31)
        rows = sample_of(embeddings.where(F.col("partition").isin(list(milvus.readable))), wrong, sample, seed)
        compared = contents_of(spark, milvus, rows, min(sample, sum(lake_rows.values())))
        sampled = compared.count()
        differ = compared.where("differing <> ''")
        wrong = wrong.union(differ.select("range", "chunk_id", F.lit(DIFFERENT), F.lit(1).cast("long")))
    since = changed()
    if since is not None:
        wrong = wrong.join(since, "chunk_id", "left_anti").select(*wrong.columns)
    numbers = {
        (row["range"], row["kind"]): row["sum"]
        for row in wrong.groupBy("range", "kind").agg(F.sum("rows").alias("sum")).collect()
    }
    left_out = since.count() if since is not None else 0
    is_partial = left_out > 0 or (waiting is not None and not waiting.isEmpty())
    return Comparison(wrong, lake_rows, milvus.rows if milvus else {}, sampled, numbers, left_out, is_partial)


def keys_in(spark: SparkSession, milvus: Mirrored) -> DataFrame:
    """Rows of CENSUS_SCHEMA, of all that is there; computed once."""
    slices = [piece for name, rows in milvus.rows.items() for piece in slices_of(name, milvus.partition(name), rows)]
    if milvus.address.is_lite:
        # One process at a time may open it: this one.
        found = frame_of(spark, census(milvus.client, milvus.collection, slices), CENSUS_SCHEMA)
    elif not slices:
        return spark.createDataFrame([], CENSUS_SCHEMA)
    else:
        rows = [(each.range, each.partition, each.lower, each.upper, each.rows) for each in slices]
        tasks = min(len(rows), parallel_tasks(spark))
        ask = partial(census_in_task, milvus.address, milvus.collection)
        found = spark.createDataFrame(rows, SLICE_SCHEMA).repartition(tasks).mapInArrow(ask, CENSUS_SCHEMA)
    return without_problems(materialised(found))


def misplaced(in_lake: DataFrame, found: DataFrame) -> DataFrame:
    """Rows of WRONG_SCHEMA: keys that stand on one side only.

    A key that stands in its own range and in another as well is doubled there; one that the lake does
    not have, or that stands in another range only, is extra.
    """
    there = found.select("range", "chunk_id", F.lit(True).alias("_there"))
    joined = materialised(
        in_lake.withColumn("_wanted", F.lit(True))
        .join(there, ["range", "chunk_id"], "full_outer")
        .where("_there is null or _wanted is null")
    )
    missing = joined.where("_there is null").select("range", "chunk_id")
    surplus = joined.where("_wanted is null").select("range", "chunk_id")
    at_home = (
        in_lake.join(surplus.select("chunk_id").distinct(), "chunk_id", "left_semi")
        .join(missing, ["range", "chunk_id"], "left_anti")
        .select("chunk_id", F.lit(True).alias("_home"))
    )
    kind = F.when(F.col("_home").isNull(), EXTRA).otherwise(DOUBLED)
    return wrong_rows(missing, F.lit(MISSING)).union(wrong_rows(surplus.join(at_home, "chunk_id", "left"), kind))


def doubled_within(found: DataFrame) -> DataFrame:
    """Rows of WRONG_SCHEMA: keys that one partition holds more than once, or may hold."""
    rows = F.greatest("surplus", F.lit(0))
    return found.where("surplus <> 0").select("range", "chunk_id", F.lit(DOUBLED).alias("kind"), rows.alias("rows"))


def wrong_rows(rows: DataFrame, kind) -> DataFrame:
    return rows.select("range", "chunk_id", kind.alias("kind"), F.lit(1).cast("long").alias("rows"))


def sample_of(embeddings: DataFrame, wrong: DataFrame, number: int, seed: int) -> DataFrame:
    """So many rows of EMBEDDINGS over all ranges, the same for the same seed, without those that are wrong anyway."""
    order = F.xxhash64("chunk_id", F.lit(seed))
    chosen = materialised(
        embeddings.select("chunk_id")
        .join(wrong.select("chunk_id").distinct(), "chunk_id", "left_anti")
        .distinct()
        .orderBy(order, "chunk_id")
        .limit(number)
    )
    return keys_of(chosen, "chunk_id").among(embeddings, "chunk_id").dropDuplicates(["chunk_id"])


def contents_of(spark: SparkSession, milvus: Mirrored, embeddings: DataFrame, number: int) -> DataFrame:
    """Rows of CONTENTS_SCHEMA for rows of EMBEDDINGS, of which there are `number` at most."""
    rows = collection_rows(embeddings)
    names = {name: generation.partition for name, generation in milvus.readable.items()}
    if milvus.address.is_lite:
        batches = rows.toArrow().to_batches(ROWS_PER_QUERY)
        compared = (part for each in batches for part in contents(milvus.client, milvus.collection, names, each))
        return without_problems(frame_of(spark, compared, CONTENTS_SCHEMA))
    tasks = min(parallel_tasks(spark), -(-number // ROWS_PER_QUERY))
    ask = partial(contents_in_task, milvus.address, milvus.collection, names)
    return without_problems(materialised(rows.repartition(tasks, RANGE).mapInArrow(ask, CONTENTS_SCHEMA)))


def frame_of(spark: SparkSession, batches: Iterator[pa.RecordBatch], schema: str) -> DataFrame:
    found = list(batches)
    return spark.createDataFrame(pa.Table.from_batches(found), schema) if found else spark.createDataFrame([], schema)


def without_problems(outcomes: DataFrame) -> DataFrame:
    """The outcomes of tasks without their `problem`. Raises MilvusError if one has any."""
    for row in outcomes.where("problem is not null").select("problem").take(1):
        raise MilvusError(f"Milvus did not answer: {row['problem']}")
    return outcomes.drop("problem")
