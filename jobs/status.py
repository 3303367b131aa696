"""How things stand: the tables, the index against the lake, what is quarantined, how far each stage is behind."""

import time
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from .differences import differences
from .errors import SourceError
from .guard import guard_of, known_files, noted_held_back
from .lake.freshness import Freshness, last_run
from .lake.lake import Lake, open_lake
from .lake.listing import list_now
from .lake.session import materialised, spark_session
from .lake.source import source_root
from .lake.stream import next_version
from .lake.tables import CHUNKS, DOCUMENTS, EMBEDDINGS, FILES, TABLES, Table
from .settings import Settings
from .vectors.connection import connect, milvus_for
from .vectors.routes import read_routes
from .vectors.search import partition_counts

# Delta's commits that change no row.
UPKEEP = ("OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "ADD COLUMNS", "REORG")


@dataclass(frozen=True)
class StatusReport:
    """tables: name -> rows, version. partitions: range -> milvus_rows, lake_rows, state ("equal",
    "behind" where `embeddings` has changes that Milvus has not seen, "different"). quarantined: uri, reason,
    attempts, since (when it was tried last), documents (that an older version of it still answers with) and
    answers_from (when that version was read; None where none is). lag_seconds: by stage, how long its
    oldest waiting change has waited; 0 where nothing waits, None where unknown. freshness: of the last run
    that made documents searchable. held_back: why deletions are not believed."""

    tables: dict[str, dict[str, int]]
    collection: str
    partitions: dict[str, dict[str, Any]]
    quarantined: list[dict[str, Any]]
    lag_seconds: dict[str, float | None]
    freshness: Freshness
    held_back: str | None


def status(settings: Settings) -> StatusReport:
    """Look at lake and Milvus. Changes nothing."""
    lake = open_lake(spark_session(settings.spark), settings)
    versions = {table.name: lake.tables.version(table) for table in TABLES}
    name = settings.milvus.collection
    with milvus_for(settings) as address:
        client = connect(address)
        routes = read_routes(client, name)
        in_milvus = partition_counts(client, name) if routes else {}
    loaded_version = routes.version if routes else -1
    ingest_lag, held_back = against_source(lake, settings)
    return StatusReport(
        {table.name: {"rows": lake.tables.read(table).count(), "version": versions[table.name]} for table in TABLES},
        name,
        partitions(lake, in_milvus, loaded_version < versions[EMBEDDINGS.name]),
        [
            {
                "uri": row["uri"],
                "reason": f"{row['error_class']}: {row['message']}",
                "attempts": row["attempts"],
                "since": row["at"].astimezone(UTC),
                "documents": row["documents"],
                "answers_from": row["parsed_at"] and row["parsed_at"].astimezone(UTC),
            }
            for row in lake.tables.quarantine().orderBy("uri").collect()
        ],
        {
            "ingest": ingest_lag,
            "chunk": stage_lag(lake, "chunk", DOCUMENTS),
            "embed": stage_lag(lake, "embed", CHUNKS),
            "load": waiting_since(lake, EMBEDDINGS, loaded_version + 1),
        },
        last_run(lake.tables),
        held_back,
    )


def partitions(lake: Lake, in_milvus: dict[str, int], is_behind: bool) -> dict[str, dict[str, Any]]:
    """Each range's rows on both sides."""
    rows = lake.tables.read(EMBEDDINGS).groupBy("partition").count().collect()
    in_lake = {row["partition"]: row["count"] for row in rows}
    return {
        name: {
            "milvus_rows": in_milvus.get(name, 0),
            "lake_rows": in_lake.get(name, 0),
            "state": "equal"
            if in_milvus.get(name, 0) == in_lake.get(name, 0)
            else ("behind" if is_behind else "different"),
        }
        for name in sorted(in_milvus.keys() | in_lake.keys())
    }


def against_source(lake: Lake, settings: Settings) -> tuple[float | None, str | None]:
    """Seconds since the oldest change of a file that `files` does not show yet (None where that cannot be
    seen), and what the guard says of deletions."""
    if not settings.source.path:
        return None, None
    root = source_root(settings.source.path)
    try:
        listing = list_now(root, settings.source.include, settings.source.exclude)
    except SourceError:
        return None, None
    files = lake.tables.read(FILES)
    rows = materialised(differences(lake.tables.spark.createDataFrame(listing), files))
    found = rows.agg(F.min("modified_at"), F.count("*"), F.count_if(F.col("change") == "gone")).first()
    if not found or not found[1]:
        return 0.0, None
    oldest, _, gone = found
    lag = round(time.time() - oldest.timestamp(), 1) if oldest else None
    if not gone:
        return lag, None
    noted = noted_held_back(lake.tables.path)
    return lag, noted or guard_of(settings).implausible_loss(rows, gone, known_files(files).count())


def stage_lag(lake: Lake, stage: str, source: Table) -> float | None:
    """Seconds that the oldest change of `source` has waited for this stage."""
    return waiting_since(lake, source, next_version(lake.tables, source, lake.checkpoint(stage)))


def waiting_since(lake: Lake, table: Table, version: int) -> float | None:
    """Seconds since this version of the table was written; 0 where there is none yet, None where the log has it no
    more."""
    first = max(version, 0)
    history = lake.tables.delta(table).history()
    waiting = (F.col("version") >= first) & ~F.col("operation").isin(*UPKEEP)
    try:
        row = history.agg(F.min("version"), F.min(F.when(waiting, F.col("timestamp")))).first()
    except PySparkException:
        return None
    made_and_no_more = version <= 0 and lake.tables.read(table).isEmpty()
    if not row or made_and_no_more:
        return 0.0
    oldest, written_at = row
    if oldest is not None and oldest > first:
        return None
    return 0.0 if written_at is None else round(max(time.time() - written_at.timestamp(), 0.0), 1)
