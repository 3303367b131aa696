"""`lakevec forget`: a document, or all of a file, out of every table, out of Milvus, and off the disks of both."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .errors import ConfigurationError, LakevecError
from .lake.changes import DELETE, UPDATE, apply
from .lake.lake import Lake, lake_path, open_lake
from .lake.lock import STAGES, TUNE, locked
from .lake.purge import limit_statistics, purge
from .lake.session import spark_session
from .lake.source import source_root, uri_prefix
from .lake.tables import CHUNKS, DOCUMENTS, EMBEDDINGS, FILES, REASON, VECTORS
from .progress import Progress
from .run import run_once, staging_for
from .settings import Settings
from .vectors import erasure
from .vectors.build import staging_for as staging_of
from .vectors.collection import Owner
from .vectors.connection import STANDALONE, MilvusAddress, connect, milvus_for
from .vectors.failures import failures_told
from .vectors.left_over import drop_left_over
from .vectors.routes import Routes, read_routes
from .vectors.server import server_folder
from .vectors.server_log import discard_log

# All tables that hold a document's words, its vectors or its name.
HOLDING = (FILES, DOCUMENTS, CHUNKS, VECTORS, EMBEDDINGS)
SHOWN_COPIES = 10


@dataclass(frozen=True)
class Target:
    """What is to be forgotten of one file: these documents; all of it where `whole`."""

    uri: str
    doc_ids: tuple[str, ...]
    whole: bool


@dataclass
class ForgetReport:
    """rows: deleted, by table. milvus_rows: that readers could see before, and cannot now.
    files_rewritten, files_removed: data files of the lake. copies: files in which some of the same
    passages stand and stay. pending: what is not off the disks yet, and what must happen for it."""

    uri: str
    documents: int
    rows: dict[str, int] = field(default_factory=dict)
    milvus_rows: int = 0
    files_rewritten: int = 0
    files_removed: int = 0
    verified: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    seconds: float = 0.0


def forget(settings: Settings, name: str, progress: Progress) -> ForgetReport:
    """Erase what `name` names: a file's uri or path, or a doc_id. Again after a crash, it goes on.

    Raises ConfigurationError where the lake knows no such file or document, LakeBusyError where
    another command writes, LakevecError where something is left that should be gone.
    """
    begun = time.monotonic()
    # Nor may a sweep go on, which has passages in a collection of its own.
    with locked(settings, "forget", (*STAGES, TUNE)):
        lake = open_lake(spark_session(settings.spark), settings, held=STAGES)
        report = forget_locked(lake, settings, found(lake, settings, name), progress)
    report.seconds = round(time.monotonic() - begun, 3)
    return report


def forget_locked(lake: Lake, settings: Settings, target: Target, progress: Progress) -> ForgetReport:
    report = ForgetReport(target.uri, len(target.doc_ids))
    ids = id_rows(lake, target)
    report.rows = {table.name: count(lake, table, ids) for table in (DOCUMENTS, CHUNKS, EMBEDDINGS)}
    report.copies = copies(lake, target, ids)
    with ExitStack() as stack:
        address = stack.enter_context(milvus_for(settings))
        stack.enter_context(failures_told(address))
        # A sweep that was killed left a copy of all passages.
        client, alias = connect(address), settings.milvus.collection
        owner = Owner(lake.lake_id, lake.model.id, lake.chunking.id, lake.model.dimension)
        drop_left_over(client, alias, owner, settings.load.staging or staging_for(settings))
        report.milvus_rows = visible(settings, address, target)
        progress.log("forget.found", uri=target.uri, **report.rows)

        # First `files`: whatever happens then, nothing of it is read again.
        apply(lake.tables, FILES, remembered(lake, target).withColumn("action", F.lit(UPDATE)))
        apply(lake.tables, DOCUMENTS, ids.withColumn("action", F.lit(DELETE)))
        if address.is_lite:
            # It never rewrites what it wrote: the next load fills it anew.
            erasure.drop(connect(address), settings.milvus.collection)
        # The stages work their change feeds off before these are removed.
        run_once(settings, ("chunk", "embed", "load"), progress=progress, is_locked=True)
        report.rows[VECTORS.name] = delete_unused_vectors(lake)
        for table in HOLDING:
            if not limit_statistics(lake.tables, table):
                report.pending.append(
                    f"the log of `{table.name}`, which an older lakevec made: it may hold the first 32 characters of a "
                    "text until it expires (delta.logRetentionDuration, 30 days by default)"
                )
            purged = purge(lake.tables, table)
            report.files_rewritten += purged.rewritten
            report.files_removed += purged.removed
            if purged.left_over:
                report.pending.append(f"{purged.left_over} data files of `{table.name}`, which a VACUUM removes")
        progress.log("forget.purged", rewritten=report.files_rewritten, removed=report.files_removed)
        check_gone(lake, settings, address, target, ids)
        report.verified.append("no table has a row of it")
        if not any("data files of" in line for line in report.pending):
            report.verified.append("no data file of a table is of an older version")
        erase_from_disks(settings, address, report)
    if settings.milvus.uri == STANDALONE:
        discard_server_log(settings, report)
    return report


def found(lake: Lake, settings: Settings, name: str) -> Target:
    """What a name means: it is looked for among files, then among documents, forgotten ones included."""
    names = {name}
    if "://" not in name:
        names.add(str(Path(name).absolute()))
    if settings.source.path:
        names.add(f"{uri_prefix(source_root(settings.source.path))}/{name}")
    files = lake.tables.read(FILES)
    named = files.where(F.col("uri").isin(sorted(names))).select("uri", "forgotten").orderBy("uri").collect()
    if len(named) > 1:
        raise ConfigurationError(
            f"{name} may mean {' or '.join(row['uri'] for row in named)}; nothing was done. Give the whole uri."
        )
    for row in named:
        ids = {*(row["forgotten"] or ()), *doc_ids(lake, F.col("uri") == row["uri"])}
        return Target(row["uri"], tuple(sorted(ids)), whole=True)
    if row := lake.tables.read(DOCUMENTS).where(F.col("doc_id") == name).select("uri", "part").first():
        if files.where(F.col("uri") == row["uri"]).isEmpty():
            raise ConfigurationError(
                f"An ingest that was cut off wrote the document {name}, but not its file {row['uri']}; nothing was "
                "done. Run `lakevec ingest --once`, then forget it."
            )
        return Target(row["uri"], (name,), whole=not row["part"])
    if row := files.where(F.array_contains("forgotten", name)).select("uri", "state").first():
        return Target(row["uri"], (name,), whole=row["state"] == "forgotten")
    raise ConfigurationError(
        f"The lake knows no file and no document {name}; nothing was done. Give a file's uri as `lakevec search` "
        "shows it (or its path within source.path), or a doc_id of the table `documents`. What was never read need "
        "not be forgotten: source.exclude keeps it out."
    )


def doc_ids(lake: Lake, which) -> set[str]:
    """Documents that some table still has: after a crash the later ones know more than `documents`."""
    tables = (DOCUMENTS, CHUNKS, EMBEDDINGS)
    return {row[0] for t in tables for row in lake.tables.read(t).where(which).select("doc_id").distinct().collect()}


def id_rows(lake: Lake, target: Target) -> DataFrame:
    return lake.tables.spark.createDataFrame([(doc,) for doc in target.doc_ids], "doc_id string")


def count(lake: Lake, table, ids: DataFrame) -> int:
    return lake.tables.read(table).join(F.broadcast(ids), "doc_id", "left_semi").count()


def copies(lake: Lake, target: Target, ids: DataFrame) -> list[str]:
    """Some other files that hold passages of it word for word; these stay."""
    chunks = lake.tables.read(CHUNKS)
    hashes = chunks.join(F.broadcast(ids), "doc_id", "left_semi").select("content_hash").distinct()
    others = chunks.where(F.col("uri") != target.uri).join(F.broadcast(hashes), "content_hash", "left_semi")
    return [row["uri"] for row in others.select("uri").distinct().orderBy("uri").limit(SHOWN_COPIES).collect()]


def remembered(lake: Lake, target: Target) -> DataFrame:
    """The row of `files` that keeps it away.

    The bytes of a whole file are remembered by their hash, unless another file has the same and stays.
    """
    files = lake.tables.read(FILES)
    row = files.where(F.col("uri") == target.uri)
    ids = F.array_union(F.coalesce("forgotten", F.lit([]).cast("array<string>")), F.lit(list(target.doc_ids)))
    if not target.doc_ids:
        ids = F.col("forgotten")
    row = row.withColumn("forgotten", ids)
    if not target.whole:
        # Counted, not subtracted: this may be the second time.
        stay = (F.col("uri") == target.uri) & ~F.col("doc_id").isin(list(target.doc_ids))
        return row.withColumn("documents", F.lit(lake.tables.read(DOCUMENTS).where(stay).count()))
    others = files.where((F.col("uri") != target.uri) & (F.col("state") == "parsed")).select("hash").distinct()
    return (
        row.join(others.withColumn("is_elsewhere", F.lit(True)), "hash", "left")
        .withColumn("hash", F.when(F.col("is_elsewhere").isNull(), F.col("hash")))
        .drop("is_elsewhere")
        .withColumn("state", F.lit("forgotten"))
        .withColumn("reason", F.lit(None).cast(REASON))
        .withColumn("documents", F.lit(0))
        .withColumn("parsed_at", F.lit(None).cast("timestamp"))
        .select(*FILES.schema.names)
    )


def delete_unused_vectors(lake: Lake) -> int:
    """Delete the vectors that no chunk uses: this document's, those of its earlier versions, and of others'."""
    used = lake.tables.read(CHUNKS).select("content_hash").distinct()
    unused = lake.tables.read(VECTORS).join(used, "content_hash", "left_anti").select(*VECTORS.key).distinct()
    return apply(lake.tables, VECTORS, unused.withColumn("action", F.lit(DELETE)))["delete"]


def visible(settings: Settings, address: MilvusAddress, target: Target) -> int:
    """Passages of it that readers of Milvus see."""
    client = connect(address)
    routes: Routes | None = read_routes(client, settings.milvus.collection)
    return erasure.rows_of(client, routes, target.doc_ids) if routes else 0


def check_gone(lake: Lake, settings: Settings, address: MilvusAddress, target: Target, ids: DataFrame) -> None:
    left = {table.name: count(lake, table, ids) for table in (DOCUMENTS, CHUNKS, EMBEDDINGS)}
    left["Milvus"] = visible(settings, address, target)
    if any(left.values()):
        raise LakevecError(
            f"Of {target.uri} there are rows left: {', '.join(f'{n:,} in {name}' for name, n in left.items() if n)}. "
            "Run forget again; if it stays so, `lakevec verify` tells what differs."
        )


def erase_from_disks(settings: Settings, address: MilvusAddress, report: ForgetReport) -> None:
    """Let Milvus rewrite what holds deleted rows, and remove import files that a crash may have left."""
    client, name = connect(address), settings.milvus.collection
    routes = read_routes(client, name)
    if routes is None:
        return
    report.verified.append("Milvus shows no passage of it")
    if address.is_lite:
        report.verified.append("Milvus Lite's files were made anew")
        return
    if root := settings.load.staging or staging_for(settings):
        staging_of(str(root), routes.collection).clear()
    if not erasure.compacted(client, routes):
        report.pending.append("segments of Milvus that hold deleted rows, until a compaction: run forget again")
        return
    report.verified.append("no live segment of Milvus holds a deleted row")
    if settings.milvus.uri != STANDALONE:
        report.pending.append(
            f"Milvus at {address}: files of segments that were replaced, until its garbage collection "
            "(dataCoord.gc.dropTolerance), and its message queue, for as long as that keeps messages"
        )
    elif erasure.collected(client, server_folder(lake_path(settings)) / "data" / "storage"):
        report.verified.append("the Milvus server's files of replaced and dropped segments are gone")
    else:
        report.pending.append("files of segments that were replaced, until the Milvus server collects them")


def discard_server_log(settings: Settings, report: ForgetReport) -> None:
    """The packaged server's write-ahead log keeps every row that was ever sent."""
    if discard_log(server_folder(lake_path(settings))):
        report.verified.append("the Milvus server's write-ahead log was made anew")
    else:
        report.pending.append(
            "the Milvus server's write-ahead log, since another command uses the server: run forget again when none "
            "does"
        )
