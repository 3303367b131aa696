"""The passages that a range must not hold any more."""

from pyspark.sql import functions as F

from .lake.feed import departures
from .mirror import Mirror, snapshot
from .vectors import partitions
from .vectors.partitions import Generation
from .vectors.plan import RangeAction
from .vectors.routes import Routes


def leaving_keys(mirror: Mirror, routes: Routes, actions: list[RangeAction]) -> dict[str, list[str]]:
    """Keys to delete from live generations, by range.

    Where a range was written whole, these are the keys that the lake does not have.
    """
    leaving: dict[str, list[str]] = {}
    for action in actions:
        if action.whole:
            generation = Generation(action.range, routes.generations[action.range])
            wanted = {row["chunk_id"] for row in snapshot(mirror, [action.range]).select("chunk_id").collect()}
            present = partitions.keys(mirror.client, mirror.collection, generation)
            leaving[action.range] = [key for key in present if key not in wanted]
    partly = [action.range for action in actions if not action.whole and action.range in mirror.deletes]
    if partly and mirror.changes and mirror.changes.rows is not None:
        for row in departures(mirror.changes.rows).where(F.col("range").isin(partly)).collect():
            leaving.setdefault(row["range"], []).append(row["chunk_id"])
    return {name: keys for name, keys in leaving.items() if keys}
