"""The deletion guard: a source that lost too many of its files at once is not believed."""

from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ..udfs.keys import bytes_hash
from .lake.source import read_file

# Below this many files a source may lose any share of them.
SMALL_SOURCE = 20


def implausible_loss(rows: DataFrame, gone: int, known: int, root: str, most_fraction: float) -> str | None:
    """What to say of a source that lost too many of its files to be believed; None where it did not.

    A file that only moved is not lost: among the new files of the right size, those with the hash of
    a gone one do not count.
    """
    most = most_fraction * known
    if known <= SMALL_SOURCE or gone <= most:
        return None
    lost = rows.where("change = 'gone'").select("uri", F.col("known_size").alias("size"), "last_hash")
    candidates = rows.where("change = 'new'").join(lost.select("size").distinct(), "size", "left_semi")
    hashes = candidates.select("uri").mapInArrow(partial(hashed, partial(read_file, root)), "hash string")
    lost_number = lost.groupBy(F.col("last_hash").alias("hash")).agg(F.count("*").alias("lost"))
    found_number = hashes.groupBy("hash").agg(F.count("*").alias("found"))
    pairs = lost_number.join(found_number, "hash").select(F.least("lost", "found").alias("moved"))
    moved = pairs.agg(F.coalesce(F.sum("moved"), F.lit(0))).collect()[0][0]
    if gone - moved <= most:
        return None
    return (
        f"{gone - moved:,} of {known:,} known files are gone from {root}: more than "
        f"source.max_delete_fraction = {most_fraction:g} allows. Nothing was deleted. "
        "If the source is only away for now, bring it back and run again; if the files are meant to be gone, "
        "run again with --allow-deletes."
    )


def hashed(read: Callable[[str], bytes], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The hashes of the files that can be read."""
    for batch in batches:
        hashes = []
        for uri in batch.column("uri").to_pylist():
            try:
                hashes.append(bytes_hash(read(uri)))
            except OSError:
                # It counts as a file that did not move; reading it in earnest says why.
                continue
        yield pa.RecordBatch.from_arrays([pa.array(hashes, pa.string())], ["hash"])
