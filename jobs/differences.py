"""What differs between a listing of the source and `files`, and which of it is taken in next."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ..udfs.documents import Forgotten
from .lake.source import FileTooLarge, NameNotUtf8

# So few differing files are sorted on the driver.
FEW = 1_000

# What `differences` tells of a file as it was.
KNOWN = (
    *("known_size", "known_hash", "last_hash", "attempts"),
    *("known_documents", "known_parsed_at", "known_seen_at", "forgotten"),
)

# Errors of reading that do not pass while size and time stay the same.
LASTING = [FileTooLarge.__name__, NameNotUtf8.__name__]


def differences(listing: DataFrame, files: DataFrame, patience: bool = False) -> DataFrame:
    """Files that differ: change is new, changed, gone, or unread, where reading failed the last time.

    known_hash: of the bytes that were parsed; last_hash: of the bytes that were read; known_seen_at: when. A forgotten
    file never differs; one whose known time is null is read again (`lakevec retry`).
    patience: an unread file waits for as many minutes as there were attempts, an hour at most.
    """
    # Its bytes could not be had: that may pass.
    is_unread = f"reason.stage = 'read' AND reason.error_class NOT IN ({', '.join(map(repr, LASTING))})"
    if patience:
        # What lies ahead was written down before the clock was set back.
        until = "reason.at + make_interval(0, 0, 0, 0, 0, least(reason.attempts, 60))"
        is_unread += f" AND NOT current_timestamp() BETWEEN reason.at AND {until}"
    # In words: each column that is put together in Python is a few calls of the JVM, and this is asked every second.
    known = files.selectExpr(
        "uri",
        "size AS known_size",
        "hash AS last_hash",
        f"{is_unread} AS was_unread",
        "modified_at AS known_modified_at",
        "CASE WHEN state = 'parsed' THEN hash END AS known_hash",
        "reason.attempts",
        "documents AS known_documents",
        "parsed_at AS known_parsed_at",
        "seen_at AS known_seen_at",
        "coalesce(state, 'parsed') AS known_state",
        "forgotten",
    )
    change = """
        CASE
            WHEN known_state = 'forgotten' OR (known_state = 'gone' AND is_listed IS NULL) THEN null
            WHEN is_listed IS NULL THEN 'gone'
            WHEN known_state IS NULL THEN 'new'
            WHEN NOT (size <=> known_size AND modified_at <=> known_modified_at) THEN 'changed'
            WHEN was_unread THEN 'unread'
        END AS change
    """
    return (
        listing.selectExpr("uri", "size", "modified_at", "true AS is_listed")
        .join(known, "uri", "full_outer")
        .selectExpr("*", change)
        .where("change IS NOT NULL")
        .drop("is_listed", "was_unread", "known_modified_at", "known_state")
    )


@dataclass(frozen=True)
class Differing:
    """Rows of `differences`. number: of each change; few: the rows themselves, where they are few.

    rows: None where all are new.
    """

    rows: DataFrame | None
    number: Mapping[str, int]
    few: list[dict[str, Any]] | None = None

    @classmethod
    def of_new(cls, listing: pa.Table) -> "Differing":
        """Of a few files of which nothing is known."""
        few = [{**dict.fromkeys(KNOWN), **file, "change": "new"} for file in listing.to_pylist()]
        return cls(None, Counter(new=len(few)), few)

    @classmethod
    def of_few(cls, spark: SparkSession, rows: DataFrame) -> "Differing":
        """Of rows that are computed now, and known to be few."""
        few = rows.toArrow()
        return cls(spark.createDataFrame(few), Counter(few["change"].to_pylist()), few.to_pylist())

    @classmethod
    def of(cls, rows: DataFrame) -> "Differing":
        """Of materialised rows."""
        few = rows.limit(FEW + 1).toArrow().to_pylist()
        if len(few) <= FEW:
            return cls(rows, Counter(row["change"] for row in few), few)
        return cls(rows, {row["change"]: row["count"] for row in rows.groupBy("change").count().collect()})

    @property
    def gone(self) -> int:
        return self.number.get("gone", 0)

    @property
    def waiting(self) -> int:
        """Files to take in."""
        return sum(self.number.values()) - self.gone

    def newest(self, number: int, after: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """So many of the files to take in, the newest first, from behind the file `after` on."""
        if self.few is None and self.rows is not None:
            return newest(self.rows, number, after)
        waiting = sorted((row for row in self.few or () if row["change"] != "gone"), key=place)
        return [row for row in waiting if after is None or place(row) > place(after)][:number]


def unlike(listing: pa.Table, other: pa.Table) -> set[str]:
    """The uris of files that only one of two listings has, or that are not the same in both."""
    if listing.equals(other):
        return set()
    columns = listing.schema.names
    return {
        uri
        for a, b in ((listing, other), (other, listing))
        for uri in a.join(b, columns, join_type="left anti")["uri"].to_pylist()
    }


def place(row: Mapping[str, Any]) -> tuple[float, str]:
    """The newest first, those of one moment by their uris."""
    return -row["modified_at"].timestamp(), row["uri"]


def forgotten_files(files: DataFrame) -> list[Row]:
    """(hash, uri, state, forgotten) of the files that were forgotten, or of which some documents were."""
    rows = files.where("state = 'forgotten' OR size(forgotten) > 0")
    return rows.select("hash", "uri", "state", "forgotten").collect()


def forgotten_bytes(files: Iterable[Row]) -> dict[str, tuple[Forgotten, ...]]:
    """What must not come back under another name, by the hash of the file's bytes; several files may have had them.

    files: forgotten_files; one whose hash is not known has no bytes to tell by.
    """
    found: dict[str, tuple[Forgotten, ...]] = {}
    for row in files:
        if row["hash"] is not None:
            each = Forgotten(row["uri"], None if row["state"] == "forgotten" else tuple(row["forgotten"]))
            found[row["hash"]] = (*found.get(row["hash"], ()), each)
    return found


def newest(rows: DataFrame, number: int, after: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """So many of the files to take in, the newest first, from behind the file `after` on."""
    waiting = rows.where("change <> 'gone'")
    if after:
        modified_at, uri = F.lit(after["modified_at"]), F.lit(after["uri"])
        is_behind = (F.col("modified_at") < modified_at) | (
            (F.col("modified_at") == modified_at) & (F.col("uri") > uri)
        )
        waiting = waiting.where(is_behind)
    return waiting.orderBy(F.desc("modified_at"), "uri").limit(number).toArrow().to_pylist()
