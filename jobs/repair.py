"""Mending what verify found, from Delta alone: nothing is parsed and nothing embedded again."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from pymilvus import MilvusClient
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .comparison import DIFFERENT, DOUBLED, EXTRA, MISSING, Comparison
from .lake.changes import keys_of
from .lake.lake import Lake
from .lake.session import materialised
from .lake.stream import begun_again
from .lake.tables import EMBEDDINGS
from .load import load
from .mend_lake import mend_lake
from .progress import Progress
from .run import staging_for
from .settings import Settings
from .transfer import upsert_rows
from .vectors.census import STRAY
from .vectors.connection import MilvusAddress
from .vectors.patch import KEYS_PER_DELETE, delete
from .vectors.routes import Routes

if TYPE_CHECKING:
    from .verify import Finding


@dataclass
class Mended:
    """What one repair did. rows: by what was done. advice: what to run for what Delta alone cannot mend."""

    rows: Counter[str] = field(default_factory=Counter)
    advice: list[str] = field(default_factory=list)


def mend(
    lake: Lake, settings: Settings, client: MilvusClient, address: MilvusAddress, progress: Progress, found: "Finding"
) -> Mended:
    """One step: the lake first; then Milvus, range by range where that is needed, else key by key."""
    mended = Mended()
    if found.lake:
        mended.rows, mended.advice = mend_lake(lake, found.faults, found.lake)
    has_moved = lake.tables.version(EMBEDDINGS) != found.version
    has_work = found.comparison.numbers or "load" in found.behind
    if has_moved or found.left_over or (has_work and found.needs_load):
        loaded = begun_again(load, lake, settings, address, progress, staging_for(settings))
        mended.rows.update(milvus_ranges_written=len(loaded.built) + len(loaded.patched), milvus_loads=1)
    elif found.comparison.numbers and found.routes:
        mended.rows.update(mend_keys(lake, client, address, found.routes, found.version, found.comparison))
    return mended


def mend_keys(
    lake: Lake, client: MilvusClient, address: MilvusAddress, routes: Routes, version: int, comparison: Comparison
) -> Counter[str]:
    """Delete what should not be there, and write anew what is missing, different or doubled.

    An upsert replaces every copy of its key, so that a doubled one is never away for a reader.
    """
    embeddings = lake.tables.read(EMBEDDINGS, version)
    home = F.col("partition").alias("home")
    suspects = comparison.wrong.where(F.col("kind").isin(EXTRA, DOUBLED)).select("range", "chunk_id")
    own = keys_of(suspects, "chunk_id").among(embeddings, "chunk_id").select("chunk_id", home)
    leaving = suspects.join(own, "chunk_id", "left").where("home is null or home <> range").select("range", "chunk_id")
    deleted = 0
    for name in [row["range"] for row in leaving.select("range").distinct().collect()]:
        partition = routes.partition(name) if name in routes.generations else name.removeprefix(STRAY)
        for keys in batches(leaving.where(F.col("range") == name).select("chunk_id")):
            delete(client, routes.collection, partition, keys)
            deleted += len(keys)

    wrong = comparison.wrong.where(F.col("kind").isin(MISSING, DIFFERENT, DOUBLED)).select("chunk_id").distinct()
    rows = materialised(keys_of(wrong, "chunk_id").among(embeddings, "chunk_id"))
    rows_of = {row["partition"]: row["count"] for row in rows.groupBy("partition").count().collect()}
    if rows_of:
        upsert_rows(
            rows,
            rows_of,
            {name: routes.partition(name) for name in rows_of},
            client,
            address,
            routes.collection,
            lake.model.dimension,
        )
    done = {"milvus_rows_deleted": deleted, "milvus_rows_written": sum(rows_of.values())}
    return Counter({name: number for name, number in done.items() if number})


def batches(keys: DataFrame) -> Iterator[list[str]]:
    """The keys in lists that one delete can carry; never all of them at once."""
    found = (key for (key,) in keys.toLocalIterator())
    while batch := list(islice(found, KEYS_PER_DELETE)):
        yield batch
