"""The lake's tables: every column, its type and what it means, and how a table is read and changed.

Keys are hex digests (udfs/keys.py). Offsets count Unicode code points of the document's text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from delta.tables import DeltaTable
from py4j.protocol import Py4JError
from pyarrow import fs
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from ...udfs.keys import bytes_hash
from ..errors import LakevecError, cause_of
from .session import delta_state, expire_log
from .storage import storage

# A new version adds tables, and columns that may be null: migration.py.
SCHEMA_VERSION = "2"
OLDER_VERSIONS = ("1",)

# Delta's property that names the columns whose smallest and greatest values stand in the table's log.
STATISTICS = "delta.dataSkippingStatsColumns"

TEXT, INT, LONG, TIME = StringType(), IntegerType(), LongType(), TimestampType()


def column(name: str, kind: DataType, comment: str, required: bool = False) -> StructField:
    return StructField(name, kind, not required, {"comment": comment})


def text_literal(text: str) -> str:
    """Text between two single quotes of SQL, in which Spark would put ${spark.app.name} and the like in."""
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\u0024")


def struct(**fields: DataType) -> StructType:
    return StructType([StructField(name, kind) for name, kind in fields.items()])


HEADINGS = ArrayType(struct(start=INT, end=INT, level=INT, text=TEXT))
PAGES = ArrayType(struct(start=INT, end=INT, number=INT))
REASON = struct(stage=TEXT, error_class=TEXT, message=TEXT, attempts=INT, at=TIME)


@dataclass(frozen=True)
class Table:
    """One table's definition. `volatile` columns do not count when rows are compared. `sought`: columns beside
    the key that files are skipped by."""

    name: str
    comment: str
    key: tuple[str, ...]
    schema: StructType
    volatile: frozenset[str] = field(default_factory=frozenset)
    sought: tuple[str, ...] = ()

    @property
    def properties(self) -> dict[str, str]:
        """Delta's properties. Statistics of a few columns: those of a text would keep its beginning in the
        table's log, long after the text was erased."""
        return {
            "delta.enableChangeDataFeed": "true",
            "delta.enableDeletionVectors": "true",
            STATISTICS: ",".join([*self.key, *self.sought]),
        }


FILES = Table(
    "files",
    "One source file and what became of it",
    ("uri",),
    StructType(
        [
            column("uri", TEXT, "The file's path as the source lists it", required=True),
            column("size", LONG, "Bytes"),
            column("modified_at", TIME, "The file's modification time"),
            column("hash", TEXT, "Hash of the bytes"),
            column(
                "state", TEXT, "parsed, quarantined, forgotten, or gone: of a file that is, what `forgotten` says of it"
            ),
            column("reason", REASON, "Why it is quarantined: stage, error class, message, attempts, time"),
            column("documents", INT, "Documents that it holds"),
            column("seen_at", TIME, "When this version of it was read"),
            column("parsed_at", TIME, "When the version was parsed that its documents come from; null without any"),
            column("forgotten", ArrayType(TEXT), "doc_ids within it that `lakevec forget` erased and keeps away"),
            column(
                "arrived_at", TIME, "When this version came: its modification, not before the last listing without it"
            ),
        ]
    ),
)

DOCUMENTS = Table(
    "documents",
    "One text: a file, or a message or channel-day within one",
    ("doc_id",),
    StructType(
        [
            column("doc_id", TEXT, "Hash of uri and part", required=True),
            column("uri", TEXT, "The file that it comes from"),
            column("part", TEXT, "Message-ID or channel-day within the file; empty for a whole file"),
            column("title", TEXT, "Its own title, else the file's name"),
            column("titled", BooleanType(), "Whether the title stands in the document itself"),
            column("media_type", TEXT, "Media type of the file or of the part"),
            column("text", TEXT, "Clean, Markdown-like text, heading lines included"),
            column("headings", HEADINGS, "Heading lines as ranges of the text"),
            column("pages", PAGES, "Pages, slides or sheets as ranges of the text"),
            column("doc_timestamp", TIME, "The document's own time"),
            column("doc_timestamp_origin", TEXT, "Where that time was found"),
            column("changed_at", TIME, "When this row was last written"),
        ]
    ),
    frozenset({"changed_at"}),
    ("uri",),
)

CHUNKS = Table(
    "chunks",
    "One passage of a document: text is document.text[start:end]",
    ("chunk_id",),
    StructType(
        [
            column("chunk_id", TEXT, "Hash of doc_id, chunking, content_hash and occurrence", required=True),
            column("doc_id", TEXT, "The document that it is part of"),
            column("ordinal", INT, "Its place among the document's chunks, from 0"),
            column("start", INT, "First code point in the document's text"),
            column("end", INT, "One past the last code point"),
            column("text", TEXT, "The passage"),
            column("prefix", TEXT, "Title and heading path that are embedded before the text"),
            column("content_hash", TEXT, "Hash of prefix and text: what is embedded"),
            column("tokens", INT, "Tokens of prefix and text, counted by the model's tokenizer"),
            column("heading_path", TEXT, "Headings above it, outermost first, joined by ' > '"),
            column("page", INT, "Page on which it begins"),
            column("last_page", INT, "Page on which it ends"),
            column("uri", TEXT, "The document's file"),
            column("title", TEXT, "The document's title"),
            column("doc_timestamp", TIME, "The document's own time"),
        ]
    ),
    sought=("doc_id",),
)

VECTORS = Table(
    "vectors",
    "One embedded text; written once and never paid for again",
    ("content_hash", "model_id"),
    StructType(
        [
            column("content_hash", TEXT, "Hash of what was embedded", required=True),
            column("model_id", TEXT, "Model, hash of its weights, pooling and normalisation", required=True),
            column("vector", ArrayType(FloatType(), False), "Unit vector"),
        ]
    ),
)

EMBEDDINGS = Table(
    "embeddings",
    "One passage as Milvus shall hold it; Milvus mirrors this table and nothing else",
    ("chunk_id",),
    StructType(
        [
            column("chunk_id", TEXT, "The passage", required=True),
            column("model_id", TEXT, "Model of the vector"),
            column("doc_id", TEXT, "The document that it is part of"),
            column("partition", TEXT, "Time range of the Milvus partition, such as 2024 or 2024_05"),
            column("doc_timestamp", TIME, "The document's own time"),
            column("uri", TEXT, "The document's file"),
            column("title", TEXT, "The document's title"),
            column("heading_path", TEXT, "Headings above the passage"),
            column("page", INT, "Page on which it begins"),
            column("start", INT, "First code point in the document's text"),
            column("end", INT, "One past the last code point"),
            column("text", TEXT, "The passage"),
            column("cut", ArrayType(TEXT), "Which of its strings were cut to the 65,535 bytes that Milvus holds"),
            column("content_hash", TEXT, "Hash of what was embedded"),
            column("vector", ArrayType(FloatType(), False), "Unit vector"),
        ]
    ),
    frozenset({"vector"}),
    ("partition",),
)

PARTITIONS = Table(
    "partitions",
    "One generation of one time range in Milvus: how it came to be. What is live, Milvus itself says",
    ("collection", "range", "generation"),
    StructType(
        [
            column("collection", TEXT, "Milvus collection", required=True),
            column("range", TEXT, "Time range, such as 2024 or 2024_05", required=True),
            column("generation", INT, "Counts the builds of this range, from 1", required=True),
            column("way", TEXT, "build or patch"),
            column("state", TEXT, "live or retired"),
            column("rows", LONG, "Rows when it became live"),
            column("version", LONG, "Version of `embeddings` that it held then"),
            column("index_type", TEXT, "Vector index"),
            column("index_build", TEXT, "Its build parameters, as JSON"),
            column("import_tasks", ArrayType(LongType()), "Milvus's import tasks"),
            column("seconds", DoubleType(), "From the first file written to live"),
            column("at", TIME, "When it became live"),
        ]
    ),
)

# Not part of the lake's content: made where locks cannot be files (lease.py).
LOCKS = Table(
    "locks",
    "Who works on a stage of this lake, and until when",
    ("stage",),
    StructType(
        [
            column("stage", TEXT, "Stage whose tables it writes", required=True),
            column("owner", TEXT, "The holder, different each time"),
            column("command", TEXT, "Command, without options"),
            column("host", TEXT, "Machine"),
            column("pid", LONG, "Process"),
            column("since", TIME, "When it was taken"),
            column("until", TIME, "When it may be taken over, unless it is renewed"),
        ]
    ),
)

# Not part of the lake's content: made by the first `lakevec tune`, computed again where it is lost.
TRUTH = Table(
    "truth",
    "The exact answers to one query, that indexes are measured against",
    ("version", "model_id", "queries", "k", "query_id"),
    StructType(
        [
            column("version", LONG, "Version of `embeddings`", required=True),
            column("model_id", TEXT, "Model of the vectors", required=True),
            column("queries", TEXT, "Digest of the queries, and of the passages held out", required=True),
            column("k", INT, "Neighbours that were asked for", required=True),
            column("query_id", TEXT, "The query: a passage's chunk_id, or a question's id", required=True),
            column("chunk_ids", ArrayType(TEXT, False), "The k nearest passages and those that tie with the last"),
            column("scores", ArrayType(FloatType(), False), "Their inner products, descending"),
        ]
    ),
)

METRICS = Table(
    "metrics",
    "One load that made documents searchable: seconds from their files' modification until then",
    ("run", "at"),
    StructType(
        [
            column("run", TEXT, "The run that it was part of", required=True),
            column("at", TIME, "When they could be found", required=True),
            column("documents", LONG, "Documents with new or changed passages"),
            column("p50", DoubleType(), "Seconds that half of them did not exceed"),
            column("p95", DoubleType(), "Seconds that 95 of 100 did not exceed"),
            column("p99", DoubleType(), "Seconds that 99 of 100 did not exceed"),
            column("slowest", DoubleType(), "Seconds of the slowest"),
            column(
                "seconds", ArrayType(DoubleType(), False), "All of them, ascending; of many, evenly spaced quantiles"
            ),
        ]
    ),
)

# A micro-batch leaves some small files in each table, and up to four in its log.
COMMITS_APART = 50
# A checkpoint of a table's log takes one to two seconds on two cores, every ten commits by default; a look at the table
# takes as long with forty commits behind the checkpoint as with four. A micro-batch commits to each table: so that not
# all write one at the same time, nor when they are put together, each table has one commit more to its checkpoint than
# the one before.
COMMITS_TO_CHECKPOINT = 51
# What no version of the last week needs is removed once in so many commits.
COMMITS_TO_VACUUM = 1_000
# A log of more commits is cut to fewer: all of it is listed at every look, and a file that comes every five seconds
# makes 17,000 commits a day. With these a look takes half a second; with a day's, three or four.
MOST_COMMITS, KEPT_COMMITS = 1_500, 1_000

# Of a commit's log, enough to hold what is said of the commit itself.
COMMIT_BYTES = 8_192

TABLES = (FILES, DOCUMENTS, CHUNKS, VECTORS, EMBEDDINGS, PARTITIONS, METRICS)


@contextmanager
def upkeep(table: Table) -> Iterator[None]:
    """What was committed does not depend on it: a failure is logged, and leaves the work for the next time."""
    try:
        yield
    except (PySparkException, Py4JError, OSError, LakevecError) as error:
        structlog.get_logger().warning("table.not_tidied", table=table.name, reason=cause_of(str(error)))


@dataclass(frozen=True)
class LakeTables:
    """Where the tables lie: `path/<table>`, or in a catalogue schema."""

    spark: SparkSession
    path: str
    catalog_schema: str | None = None

    def identifier(self, table: Table) -> str:
        """The table's name for SQL."""
        if self.catalog_schema:
            return f"{self.catalog_schema}.{table.name}"
        return f"delta.`{self.path}/{table.name}`"

    def delta(self, table: Table) -> DeltaTable:
        if self.catalog_schema:
            return DeltaTable.forName(self.spark, f"{self.catalog_schema}.{table.name}")
        return DeltaTable.forPath(self.spark, f"{self.path}/{table.name}")

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        reader = self.spark.read if version is None else self.spark.read.option("versionAsOf", version)
        if self.catalog_schema:
            return reader.table(f"{self.catalog_schema}.{table.name}")
        return reader.format("delta").load(f"{self.path}/{table.name}")

    def present(self, table: Table) -> DataFrame:
        """The rows that are there now, to be asked for before anything is written.

        Of a table that nobody wrote to, it is known without a query that there are none: in a first run, whose
        JVM is cold, each question costs a second.
        """
        rows = self.read(table)
        return rows.limit(0) if self.is_unwritten(table) else rows

    def changes(self, table: Table, first: int, last: int) -> DataFrame:
        """The change feed of the versions first..last, both included."""
        reader = (
            self.spark.read.option("readChangeFeed", "true")
            .option("startingVersion", first)
            .option("endingVersion", last)
        )
        if self.catalog_schema:
            return reader.table(f"{self.catalog_schema}.{table.name}")
        return reader.format("delta").load(f"{self.path}/{table.name}")

    def feed(self, table: Table) -> DataFrame:
        """The change feed as a stream; it begins with a snapshot of what is."""
        reader = self.spark.readStream.option("readChangeFeed", "true")
        if self.catalog_schema:
            return reader.table(f"{self.catalog_schema}.{table.name}")
        return reader.format("delta").load(f"{self.path}/{table.name}")

    def append(self, table: Table, rows: DataFrame) -> None:
        """Add these rows, sorted by key: what looks for a few keys then reads a few pages."""
        writer = rows.select(*table.schema.names).sortWithinPartitions(*table.key).write.format("delta").mode("append")
        if self.catalog_schema:
            writer.saveAsTable(f"{self.catalog_schema}.{table.name}")
        else:
            writer.save(f"{self.path}/{table.name}")
        self.tidy(table)

    def tidy(self, table: Table) -> None:
        """Once in COMMITS_APART commits: put the small files together that they left, shorten the log where it is long,
        and remove what only versions older than a week need (delta.deletedFileRetentionDuration).

        Delta's auto compaction looks for small files after every commit, which takes longer than a small commit itself.
        In a catalogue that, and its own upkeep, must do, as there the version is as dear.
        """
        if self.catalog_schema:
            return
        with upkeep(table):
            version = self.version(table)
            # A micro-batch commits to each: not all at the same one, which would take five times as long.
            place = TABLES.index(table) if table in TABLES else 0
            commits = version + place * COMMITS_APART // len(TABLES)
            if commits % COMMITS_APART == 0:
                self.delta(table).optimize().executeCompaction()
                # A load reads the version that it began with, however long it takes; it does this itself.
                if table != EMBEDDINGS and self.has_long_log(table, version):
                    self.shorten_log(table, version)
            if commits % COMMITS_TO_VACUUM == 0:
                self.delta(table).vacuum()

    def has_long_log(self, table: Table, version: int) -> bool:
        """Whether the log has many commits before this version, and can be shortened; not in a catalogue."""
        is_long = not self.catalog_schema and self.commit_time(table, version - MOST_COMMITS) is not None
        return is_long and delta_state(self.spark, f"{self.path}/{table.name}") is not None

    def shorten_log(self, table: Table, version: int) -> None:
        """Remove what the log tells of commits before this version, but for KEPT_COMMITS.

        Delta removes it by the day (delta.logRetentionDuration, 30 by default). A stage that stood still for longer
        than the log goes back begins with a look at the whole table.
        """
        if kept_since := self.commit_time(table, version - KEPT_COMMITS):
            expire_log(self.spark, f"{self.path}/{table.name}", datetime.now(UTC) - kept_since)

    def commit_time(self, table: Table, version: int) -> datetime | None:
        """When the log of a commit was written; None where it is not there."""
        system, path = storage(f"{self.path}/{table.name}/_delta_log/{version:020}.json")
        return system.get_file_info(path).mtime

    def replace(self, table: Table, condition: str, rows: DataFrame) -> None:
        """Put these rows in the place of all that fulfil a condition, as they do, in one commit."""
        writer = rows.select(*table.schema.names).write.format("delta").mode("overwrite")
        writer = writer.option("replaceWhere", condition)
        if self.catalog_schema:
            writer.saveAsTable(f"{self.catalog_schema}.{table.name}")
        else:
            writer.save(f"{self.path}/{table.name}")

    def exists(self, table: Table) -> bool:
        if self.catalog_schema:
            return self.spark.catalog.tableExists(f"{self.catalog_schema}.{table.name}")
        return DeltaTable.isDeltaTable(self.spark, f"{self.path}/{table.name}")

    def create(self, table: Table, properties: Mapping[str, str]) -> None:
        """Create the table where it is missing."""
        builder = DeltaTable.createIfNotExists(self.spark).addColumns(table.schema).comment(table.comment)
        if self.catalog_schema:
            builder = builder.tableName(f"{self.catalog_schema}.{table.name}")
        else:
            builder = builder.location(f"{self.path}/{table.name}")
        fixed = {**table.properties, "lakevec.schema_version": SCHEMA_VERSION}
        if self.catalog_schema:
            fixed["delta.autoOptimize.autoCompact"] = "true"
        elif table in TABLES:
            fixed["delta.checkpointInterval"] = str(COMMITS_TO_CHECKPOINT + TABLES.index(table))
        for key, value in {**fixed, **properties}.items():
            builder = builder.property(key, value)
        builder.execute()

    def properties(self, table: Table) -> dict[str, str]:
        # Not from detail(), which reads the whole log's state first.
        rows = self.spark.sql(f"SHOW TBLPROPERTIES {self.identifier(table)}").collect()
        return {row["key"]: row["value"] for row in rows}

    def set_property(self, table: Table, key: str, value: str) -> None:
        self.spark.sql(f"ALTER TABLE {self.identifier(table)} SET TBLPROPERTIES ('{key}' = '{value}')")

    def add_columns(self, table: Table, columns: Iterable[StructField]) -> None:
        """Columns that may be null, with their comments; rows that are there have null in them."""
        added = ", ".join(
            f"`{field.name}` {field.dataType.simpleString()} COMMENT '{text_literal(field.metadata['comment'])}'"
            for field in columns
        )
        self.spark.sql(f"ALTER TABLE {self.identifier(table)} ADD COLUMNS ({added})")

    def state(self, table: Table) -> tuple[str, int] | None:
        """The table's id and newest version, as its log tells them at once; None where it cannot be asked."""
        return None if self.catalog_schema else delta_state(self.spark, f"{self.path}/{table.name}")

    def version(self, table: Table) -> int:
        """The newest version of the table."""
        if state := self.state(table):
            return state[1]
        return self.delta(table).history(1).select("version").first()[0]  # pyright: ignore[reportOptionalSubscript]

    def is_unwritten(self, table: Table) -> bool:
        """Whether the table was made and no more, as its log tells at once; False where that cannot be asked."""
        state = self.state(table)
        log = self.log(table, 0) if state and state[1] == 0 else None
        return log is not None and not any("add" in json.loads(line) for line in log.splitlines() if line)

    def commit(self, table: Table, version: int) -> str | None:
        """A hash of this commit, which tells it from another of the same number.

        A table whose folder was restored from a backup writes the numbers of what it lost anew. None in a
        catalogue, which keeps its folders to itself, and for a commit whose log was cleaned up.
        """
        log = self.log(table, version, COMMIT_BYTES)
        # Delta's first line is the commit's own: when, by what, under which id.
        return None if log is None else bytes_hash(log)

    def changed_files(self, table: Table, version: int) -> int | None:
        """How many files the change feed of this commit is read from; None where its log cannot be had."""
        log = self.log(table, version)
        if log is None:
            return None
        actions = [json.loads(line) for line in log.splitlines() if line]
        of_rows = [each.get("add") or each.get("remove") for each in actions]
        return sum("cdc" in each for each in actions) or sum(bool(each and each["dataChange"]) for each in of_rows)

    def log(self, table: Table, version: int, most: int | None = None) -> bytes | None:
        """What Delta wrote down of a commit, so many bytes at most; None in a catalogue, or where it was cleaned up."""
        if self.catalog_schema:
            return None
        system, path = storage(self.path)
        path = f"{path}/{table.name}/_delta_log/{version:020}.json"
        if system.get_file_info(path).type != fs.FileType.File:
            return None
        with system.open_input_stream(path) as log:
            return log.read(most)

    def quarantine(self) -> DataFrame:
        """Files that could not be turned into documents, and why: (uri, stage, error_class, ...).

        documents, parsed_at: what an older version still answers with, and when that was parsed.
        """
        return (
            self.read(FILES)
            .where(F.col("state") == "quarantined")
            .select("uri", "modified_at", "documents", "parsed_at", "reason.*")
        )
