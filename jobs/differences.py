"""What differs between a listing of the source and `files`, and which of it is taken in next."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ..udfs.documents import Forgotten
from .lake.source import FileTooLarge, NameNotUtf8

# So few differing files are sorted on the driver.
FEW = 1_000

# Errors of reading that do not pass while size and time stay the same.
LASTING = [FileTooLarge.__name__, NameNotUtf8.__name__]


def differences(listing: DataFrame, files: DataFrame, patience: bool = False) -> DataFrame:
    """Files that differ: change is new, changed, gone, or unread, where reading failed the last time.

    known_hash: of the bytes that were parsed; last_hash: of the bytes that were read; known_seen_at: when. A forgotten
    file never differs; one whose known time is null is read again (`lakevec retry`).
    patience: an unread file waits for as many minutes as there were attempts, an hour at most.
    """
    is_unread = (F.col("reason.stage") == "read") & ~F.col("reason.error_class").isin(LASTING)
    if patience:
        minutes = F.least(F.col("reason.attempts"), F.lit(60))
        # What lies ahead was written down before the clock was set back.
        is_unread &= ~F.current_timestamp().between(
            F.col("reason.at"), F.col("reason.at") + F.make_interval(mins=minutes)
        )
    known = files.select(
        "uri",
        F.col("size").alias("known_size"),
        F.col("hash").alias("last_hash"),
        is_unread.alias("was_unread"),
        F.col("modified_at").alias("known_modified_at"),
        F.when(F.col("state") == "parsed", F.col("hash")).alias("known_hash"),
        F.col("reason.attempts").alias("attempts"),
        F.col("documents").alias("known_documents"),
        F.col("parsed_at").alias("known_parsed_at"),
        F.col("seen_at").alias("known_seen_at"),
        (F.col("state") == "forgotten").alias("is_forgotten"),
        (F.col("state") == "gone").alias("is_known_gone"),
        "forgotten",
        F.lit(True).alias("is_known"),
    )
    is_same = F.col("size").eqNullSafe(F.col("known_size")) & (
        F.col("modified_at").eqNullSafe(F.col("known_modified_at"))
    )
    return (
        listing.select("uri", "size", "modified_at")
        .withColumn("is_listed", F.lit(True))
        .join(known, "uri", "full_outer")
        .withColumn(
            "change",
            F.when(F.col("is_forgotten") | (F.col("is_known_gone") & F.col("is_listed").isNull()), None)
            .when(F.col("is_listed").isNull(), "gone")
            .when(F.col("is_known").isNull(), "new")
            .when(~is_same, "changed")
            # Its bytes could not be had: that may pass.
            .when(F.col("was_unread"), "unread"),
        )
        .where("change is not null")
        .drop("is_listed", "is_known", "was_unread", "known_modified_at", "is_forgotten", "is_known_gone")
    )


@dataclass(frozen=True)
class Differing:
    """Rows of `differences`. number: of each change; few: the rows themselves, where they are few."""

    rows: DataFrame
    number: Mapping[str, int]
    few: list[dict[str, Any]] | None = None

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
        if self.few is None:
            return newest(self.rows, number, after)
        waiting = sorted((row for row in self.few if row["change"] != "gone"), key=place)
        return [row for row in waiting if after is None or place(row) > place(after)][:number]


def place(row: Mapping[str, Any]) -> tuple[float, str]:
    """The newest first, those of one moment by their uris."""
    return -row["modified_at"].timestamp(), row["uri"]


def forgotten_bytes(files: DataFrame) -> dict[str, tuple[Forgotten, ...]]:
    """What must not come back under another name, by the hash of the file's bytes; several files may have had them."""
    is_whole = F.col("state") == "forgotten"
    rows = files.where(F.col("hash").isNotNull() & (is_whole | (F.size("forgotten") > 0)))
    found: dict[str, tuple[Forgotten, ...]] = {}
    for row in rows.select("hash", "uri", "state", "forgotten").collect():
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
