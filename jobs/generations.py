"""What is written down about the generations: their history in `partitions`, and MLflow's runs."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from .lake.history import PartitionRow, corrections, known_rows, with_rows, write_rows
from .lake.lake import Lake
from .mirror import Mirror
from .tuning.build_run import Build
from .vectors.index import VectorIndex
from .vectors.partitions import Generation
from .vectors.routes import Routes


def repaired_history(lake: Lake, routes: Routes) -> list[PartitionRow]:
    """`partitions`, after what a crash kept from being written there was written."""
    known = known_rows(lake.tables, routes.collection)
    missing = corrections(known, routes.generations, [], routes.collection)
    write_rows(lake.tables, missing, known)
    return with_rows(known, missing)


def last_generations(there: Iterable[Generation], history: Iterable[PartitionRow]) -> dict[str, int]:
    """The highest generation of each range that ever was: a name is never used twice."""
    last: dict[str, int] = {}
    for each in [*there, *history]:
        last[each.range] = max(last.get(each.range, 0), each.generation)
    return last


def made_row(
    mirror: Mirror, index: VectorIndex, generation: Generation, tasks: list[int] | None, seconds: float
) -> PartitionRow:
    return PartitionRow(
        collection=mirror.collection,
        range=generation.range,
        generation=generation.generation,
        way="patch" if tasks is None else "build",
        rows=mirror.desired[generation.range],
        version=mirror.version,
        index_type=index.type,
        index_build=json.dumps(index.build, sort_keys=True),
        import_tasks=None if tasks is None else tuple(tasks),
        seconds=seconds,
        at=datetime.now(UTC),
    )


def builds(mirror: Mirror, index: VectorIndex, made: Iterable[PartitionRow]) -> list[Build]:
    """This load's builds as MLflow shall know them."""
    tables = mirror.lake.tables
    params = {
        "collection": mirror.collection,
        "index_type": index.type,
        **{f"index_{name}": value for name, value in index.build.items()},
        "model_id": mirror.lake.model.id,
        "quantised": mirror.lake.quantised or "no",
        "table": f"{tables.catalog_schema}.embeddings" if tables.catalog_schema else f"{tables.path}/embeddings",
        "version": mirror.version,
    }
    return [
        Build(row.range, row.generation, params, row.rows or 0, row.seconds or 0.0)
        for row in made
        if row.way == "build"
    ]
