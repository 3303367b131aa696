"""The deletion guard: a source that lost too many of its files at once is not believed."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
from pyarrow import fs
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ..udfs.keys import bytes_hash
from .lake.source import read_file, source_root, uri_prefix
from .lake.storage import storage
from .settings import Settings, required

# Up to so many files a source may lose any share of them, but not all.
SMALL_SOURCE = 20
# Listings follow each other closely: what is lost within this time is lost at once.
AT_ONCE_SECONDS = 3600.0
# In the lake's folder.
HELD_BACK = "_deletions_held_back"


class Guard:
    """Judges the losses of one source.

    most_fraction: of the files that were known within the last hour, how many may be gone.
    allow_deletes: somebody said that a loss is meant.
    """

    def __init__(self, root: str, most_fraction: float, allow_deletes: bool = False):
        self.root, self.most_fraction, self.allow_deletes = root, most_fraction, allow_deletes
        self.known: deque[tuple[float, int]] = deque()

    def believe(self) -> None:
        """What was lost so far was meant."""
        self.known.clear()

    def implausible_loss(self, rows: DataFrame, gone: int, known: int) -> str | None:
        """What to say of a source that lost too many of its files to be believed; None where it did not.

        rows: of `differences`. A file that only moved is not lost: among the new files of the right size,
        those with the hash of a gone one do not count.
        """
        now = time.monotonic()
        self.known.append((now, known))
        while now - self.known[0][0] > AT_ONCE_SECONDS:
            self.known.popleft()
        most_known = max(number for _, number in self.known)
        lost = most_known - known + gone
        most = self.most_fraction * most_known
        is_emptied = gone == known and self.most_fraction < 1
        if not is_emptied and (most_known <= SMALL_SOURCE or lost <= most):
            return None
        moved = moved_files(rows, self.root)
        if lost - moved <= (0 if is_emptied else most):
            return None
        return (
            f"{lost - moved:,} of {most_known:,} known files are gone from {uri_prefix(self.root)}: "
            + (
                "all of them. "
                if is_emptied
                else f"more than source.max_delete_fraction = {self.most_fraction:g} allows. "
            )
            + "Nothing was deleted. If the source is only away for now, bring it back and run again; if the files are "
            "meant to be gone, run again with --allow-deletes."
        )


def guard_of(settings: Settings, allow_deletes: bool = False) -> Guard:
    root = source_root(required(settings.source.path, "source.path"))
    return Guard(root, settings.source.max_delete_fraction, allow_deletes)


def note_held_back(lake_path: str, problem: str | None) -> None:
    """Write down for `lakevec status` what is not believed; None: all is. Only a run knows what was lost before."""
    system, path = storage(lake_path)
    path = f"{path}/{HELD_BACK}"
    if problem is None:
        if system.get_file_info(path).type == fs.FileType.File:
            system.delete_file(path)
        return
    with system.open_output_stream(path) as file:
        file.write(problem.encode())


def noted_held_back(lake_path: str) -> str | None:
    system, path = storage(lake_path)
    path = f"{path}/{HELD_BACK}"
    if system.get_file_info(path).type != fs.FileType.File:
        return None
    with system.open_input_stream(path) as file:
        return file.read().decode()


def known_files(files: DataFrame) -> DataFrame:
    """Rows of FILES of which a listing should tell: not those that only remember what was forgotten."""
    return files.where("state is null or state not in ('forgotten', 'gone')")


def moved_files(rows: DataFrame, root: str) -> int:
    """How many of the gone files are there under other names."""
    lost = rows.where("change = 'gone'").select("uri", F.col("known_size").alias("size"), "last_hash")
    candidates = rows.where("change = 'new'").join(lost.select("size").distinct(), "size", "left_semi")
    hashes = candidates.select("uri").mapInArrow(partial(hashed, partial(read_file, root)), "hash string")
    lost_number = lost.groupBy(F.col("last_hash").alias("hash")).agg(F.count("*").alias("lost"))
    found_number = hashes.groupBy("hash").agg(F.count("*").alias("found"))
    pairs = lost_number.join(found_number, "hash").select(F.least("lost", "found").alias("moved"))
    return pairs.agg(F.coalesce(F.sum("moved"), F.lit(0))).collect()[0][0]


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
