"""The rows of the lake in a shadow collection, in the partitions that the live one has."""

from collections.abc import Sequence
from pathlib import Path

from pymilvus import MilvusClient
from pyspark.sql import functions as F

from ..errors import MilvusError
from ..lake.lake import Lake
from ..mirror import rows_by
from ..progress import Progress
from ..transfer import upsert_rows, write_import_files
from ..vectors import partitions
from ..vectors.build import import_files, staging_for
from ..vectors.connection import MilvusAddress
from ..vectors.partitions import Generation
from ..vectors.plan import waves
from .query_sets import rows_without

SEEN_SECONDS = 120.0


def fill(
    lake: Lake,
    version: int,
    held_out: Sequence[str],
    client: MilvusClient,
    address: MilvusAddress,
    name: str,
    staging: Path | str | None,
    wave_rows: int,
    progress: Progress,
) -> dict[Generation, int]:
    """Import `embeddings` at a version into an empty shadow, and load it. Gives its partitions and their rows.

    held_out: passages that it shall not hold. staging: where the server reads import files; without such a
    place the rows are upserted.
    Raises MilvusError where not all of them are seen.
    """
    embeddings = rows_without(lake, version, held_out)
    rows_of = rows_by(embeddings, F.col("partition"))
    generations = {range_name: Generation(range_name, 1) for range_name in rows_of}
    with progress.task("shadow", "rows", sum(rows_of.values())) as advance:
        for wave in waves(rows_of, (), len(rows_of), wave_rows):
            rows = embeddings.where(F.col("partition").isin(wave))
            some = {range_name: rows_of[range_name] for range_name in wave}
            if staging is None:
                partitions.create(client, name, [generations[each] for each in wave])
                named = {each: generations[each].partition for each in wave}
                upsert_rows(rows, some, named, client, address, name, lake.model.dimension)
            else:
                folder = staging_for(str(staging), name)
                try:
                    files = write_import_files(rows, some, folder, lake.model.dimension)
                    import_files(client, address, name, {each: generations[each] for each in wave}, files, folder)
                finally:
                    folder.clear()
            advance(sum(some.values()))
    if staging is None:
        # What still grows has no index.
        client.flush(name)
    partitions.load(client, name, generations.values())
    expected = {generations[range_name]: rows for range_name, rows in rows_of.items()}
    wait_until_seen(client, name, expected)
    return expected


def wait_until_seen(client: MilvusClient, name: str, expected: dict[Generation, int]) -> None:
    """Raises MilvusError where a partition does not show its rows."""
    for generation, rows in partitions.wait_for_rows(client, name, expected, SEEN_SECONDS).items():
        raise MilvusError(
            f"The partition {generation.partition} of the shadow {name} shows {rows:,} rows, but "
            f"{expected[generation]:,} were written. Nothing that is live was touched; see the server's log."
        )
