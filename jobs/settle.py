"""After the writing: every patched range must show the rows that it should."""

from dataclasses import replace

from .carry_out import Work, carry_out
from .errors import MilvusError
from .mirror import Mirror, lake_rows
from .progress import Progress
from .vectors import partitions
from .vectors.partitions import Generation
from .vectors.plan import RangeAction

# How long upserts and deletes may take to be seen.
SEEN_SECONDS = 10.0


def settle(mirror: Mirror, work: Work, actions: list[RangeAction], progress: Progress) -> Mirror:
    """Wait until the patched ranges show the rows that they should; write those anew that do not.

    Gives the two sides as they were found.
    """
    differing = unsettled(mirror, work, [action.range for action in actions if action.way == "patch"])
    if not differing:
        return mirror
    # Milvus did not hold what its routes promised; or the table not what they said of it.
    mirror = replace(mirror, desired=lake_rows(mirror.lake, mirror.version))
    progress.log("load.repaired", **{name: f"{rows} rows" for name, rows in differing.items()})
    counted = work.done.loaded, [*work.done.patched]
    carry_out(mirror, work, [RangeAction(name, "patch", whole=True) for name in differing], lambda _: None)
    # The rows and ranges are counted already.
    work.done.loaded, work.done.patched = counted
    differing = unsettled(mirror, work, list(differing))
    for name, rows in differing.items():
        raise MilvusError(
            f"Time range {name} of {mirror.collection} shows {rows:,} rows in Milvus, but `embeddings` has "
            f"{mirror.desired.get(name, 0):,}, after all were written anew. See the server's log; dropping the "
            "collection makes the next load fill it from nothing, unless `lakevec verify` finds rows doubled in "
            "`embeddings` itself: `lakevec verify --repair` mends those."
        )
    return mirror


def unsettled(mirror: Mirror, work: Work, ranges: list[str]) -> dict[str, int]:
    expected = {Generation(name, work.routes.generations[name]): mirror.desired.get(name, 0) for name in ranges}
    found = partitions.wait_for_rows(mirror.client, mirror.collection, expected, SEEN_SECONDS)
    return {generation.range: rows for generation, rows in found.items()}
