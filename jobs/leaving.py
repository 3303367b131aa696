"""The passages that a range must not hold any more, in pieces that fit the driver's memory."""

from collections.abc import Iterator, Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F

from ..udfs.keys import KeySlice, key_slices
from .lake.feed import departures
from .lake.session import materialised
from .mirror import Mirror, snapshot
from .vectors import partitions
from .vectors.partitions import Generation
from .vectors.plan import RangeAction
from .vectors.routes import Routes

# So many keys meet on the driver at a time, some 50 MB.
KEYS_AT_A_TIME = 250_000


def leaving_keys(
    mirror: Mirror, routes: Routes, present: Mapping[str, int], actions: list[RangeAction]
) -> Iterator[tuple[str, list[str]]]:
    """Keys to delete from live generations: (range, some of its keys), several times for a range.

    present: rows that Milvus had. Where a range was written whole, these are the keys that the lake
    does not have.
    """
    for action in actions:
        if action.whole:
            # Both sides' keys, at the most.
            rows = mirror.desired[action.range] + present.get(action.range, 0)
            for keys in strays(mirror, Generation(action.range, routes.generations[action.range]), rows):
                yield action.range, keys
    partly = [action.range for action in actions if not action.whole and action.range in mirror.deletes]
    if not partly or not mirror.changes or mirror.changes.rows is None:
        return
    leaving = departures(mirror.changes.rows).where(F.col("range").isin(partly))
    for piece in key_slices(pieces(sum(mirror.deletes[name] for name in partly))):
        found: dict[str, list[str]] = {}
        for row in leaving.where(lies_in(piece)).collect():
            found.setdefault(row["range"], []).append(row["chunk_id"])
        yield from found.items()


def strays(mirror: Mirror, generation: Generation, rows: int) -> Iterator[list[str]]:
    """Keys in a live generation that the lake does not have in its range; rows: about how many are compared."""
    wanted = snapshot(mirror, [generation.range]).select("chunk_id")
    slices = key_slices(pieces(rows))
    if len(slices) > 1:
        wanted = materialised(wanted)
    for piece in slices:
        if present := partitions.keys(mirror.client, mirror.collection, generation, piece):
            kept = {row["chunk_id"] for row in wanted.where(lies_in(piece)).collect()}
            if gone := [key for key in present if key not in kept]:
                yield gone


def pieces(rows: int) -> int:
    return -(-rows // KEYS_AT_A_TIME)


def lies_in(piece: KeySlice) -> Column:
    """Whether a row's chunk_id lies in a slice."""
    key = F.col("chunk_id")
    since = F.lit(True) if piece.since is None else key >= piece.since
    return since if piece.until is None else since & (key < piece.until)
