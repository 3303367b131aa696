"""Deciding what a table needs, and doing it: pure comparison first, the differences written after."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from .session import materialised
from .tables import LakeTables, Table, text_literal

INSERT, UPDATE, DELETE = "insert", "update", "delete"

# So many keys of 32 digits take some 50 MB on the driver and on each executor.
MOST_BROADCAST_KEYS = 500_000
# So few keys are named in the query itself, so that files and pages without them are not read
# (spark.sql.parquet.pushdown.inFilterThreshold in conf/base.yml is as high).
MOST_NAMED_KEYS = 1_000
# Spark has Parquet compare with them one by one, in expressions that are nested as deep as there are keys in one IN,
# and that a task writes out recursively: of 1,000 its stack overflows, which ends the JVM.
KEYS_TOGETHER = 100


def last_changes(feed: DataFrame, key: str, known_until: int) -> DataFrame:
    """The last state of each key in a change feed: its columns, whether it is `deleted`, and whether it `is_new`.

    Several versions of a key come in one micro-batch, and RESTORE gives delete and insert of a key
    in one version; the insert is what holds then. New is a key that was first inserted after the version
    `known_until` (stream.work_off): nothing that was made of it can be there.
    """
    of_key, version, kind = Window.partitionBy(key), F.col("_commit_version"), F.col("_change_type")
    newest_first = of_key.orderBy(F.desc(version), F.when(kind == "delete", 1).otherwise(0))
    first = F.min(F.struct(version.alias("version"), (kind == "insert").alias("is_insert"))).over(of_key)
    return (
        feed.where("_change_type <> 'update_preimage'")
        .withColumns({"_newest": F.row_number().over(newest_first), "_first": first})
        .where("_newest = 1")
        .withColumns(
            {
                "deleted": kind == "delete",
                "is_new": F.col("_first.is_insert") & (F.col("_first.version") > known_until),
            }
        )
        .drop("_newest", "_first", "_change_type", "_commit_version", "_commit_timestamp")
    )


def reconcile(desired: DataFrame, present: DataFrame, table: Table) -> DataFrame:
    """What turns `present` into `desired`: the desired columns and `action` (insert, update, delete).

    Both hold the rows in question and no others. Equal rows give no action; `table.volatile`
    columns do not count.
    """
    others = [name for name in desired.columns if name not in table.key]
    compared = [name for name in others if name not in table.volatile]
    wanted = desired.select(*table.key, *others, F.lit(True).alias("_is_wanted"))
    had = present.selectExpr(*table.key, *[f"`{name}` AS `_had_{name}`" for name in compared], "true AS _is_there")
    # Column by column, and in words: of structs Spark takes a second to plan this.
    is_same = " AND ".join(f"`{name}` <=> `_had_{name}`" for name in compared) or "true"
    action = (
        f"CASE WHEN _is_wanted IS NULL THEN '{DELETE}' WHEN _is_there IS NULL THEN '{INSERT}' "
        f"WHEN NOT ({is_same}) THEN '{UPDATE}' END"
    )
    return (
        wanted.join(had, list(table.key), "full_outer")
        .withColumn("action", F.expr(action))
        .where("action is not null")
        .select(*table.key, *others, "action")
    )


@dataclass(frozen=True)
class Keys:
    """Rows whose keys choose rows of tables. few: the rows themselves, where they are few enough to be named."""

    rows: DataFrame
    number: int
    few: list[Row] | None

    def among(self, present: DataFrame, key: str) -> DataFrame:
        """The rows of a table whose `key` is among these.

        A few keys go to the table, so that it is neither shuffled nor wholly read for ten changed rows.
        """
        if self.few is not None:
            return present.where(named(f"`{key}`", sorted({row[key] for row in self.few})))
        wanted = self.rows.select(key).distinct()
        return present.join(F.broadcast(wanted) if self.number <= MOST_BROADCAST_KEYS else wanted, key, "left_semi")

    def without(self, flag: str) -> "Keys":
        """Those of the rows whose boolean column `flag` is false; it is one of the columns of `few`."""
        few = None if self.few is None else [row for row in self.few if not row[flag]]
        return Keys(self.rows.where(f"not {flag}"), self.number if few is None else len(few), few)


def keys_of(rows: DataFrame, *columns: str) -> Keys:
    """The keys of materialised rows."""
    few = rows.select(*columns).limit(MOST_NAMED_KEYS + 1).collect()
    if len(few) <= MOST_NAMED_KEYS:
        return Keys(rows, len(few), few)
    return Keys(rows, rows.count(), None)


def keys_named(spark: SparkSession, column: str, keys: Collection[str]) -> Keys:
    """Keys that the driver knows."""
    rows = spark.createDataFrame([(key,) for key in keys], f"{column} string")
    return Keys(rows, len(keys), [Row(**{column: key}) for key in keys] if len(keys) <= MOST_NAMED_KEYS else None)


def children_of(present: DataFrame, table: Table, parent: str, parents: Keys) -> DataFrame:
    """`among` for a column that the table is not sorted by: two narrow columns are read to find the keys."""
    (key,) = table.key
    if parents.few is None:
        return parents.among(present, parent)
    found = keys_of(parents.among(present.select(key, parent), parent), key)
    return found.among(present, key) if found.few is not None else parents.among(present, parent)


def counts(actions: DataFrame) -> dict[str, int]:
    """Number of actions of each kind."""
    return of_each_kind({row["action"]: row["count"] for row in actions.groupBy("action").count().collect()})


def of_each_kind(found: Mapping[str, int]) -> dict[str, int]:
    return {action: found.get(action, 0) for action in (INSERT, UPDATE, DELETE)}


def apply(
    lake: LakeTables, table: Table, actions: DataFrame, announce: Callable[[int], None] = lambda _: None
) -> dict[str, int]:
    """Carry the actions out in one commit, none where there are none. Gives their numbers.

    announce: told how many there are, before they are committed.

    Actions come from a comparison with the table as it is, and one process at a time writes it
    (lock.py): so inserts alone are appended, which costs a fraction of a MERGE.
    """
    actions = materialised(actions)
    keys = keys_of(actions, table.key[0], "action")
    done = counts(actions) if keys.few is None else of_each_kind(Counter(row["action"] for row in keys.few))
    if not any(done.values()):
        return done
    announce(sum(done.values()))
    if keys.few is not None:
        # One file for a small commit: each is read again and again until files are put together.
        actions = actions.coalesce(1)
    if not done[UPDATE] and not done[DELETE]:
        lake.append(table, actions.drop("action"))
        return done
    # Deletions alone as well: a DELETE takes a third of the time, but leaves its change feed in a deletion vector,
    # which Spark reads when a stream begins again behind it, and which VACUUM may have removed.
    written: dict[str, str | Column] = {f"`{name}`": f"action.`{name}`" for name in actions.columns if name != "action"}
    condition = " AND ".join(f"present.{key} = action.{key}" for key in table.key)
    if keys.few is not None:
        condition += f" AND {named(f'present.{table.key[0]}', sorted({row[0] for row in keys.few}))}"
    (
        lake.delta(table)
        .alias("present")
        .merge(actions.alias("action"), condition)
        .whenMatchedDelete(f"action.action = '{DELETE}'")
        .whenMatchedUpdate(f"action.action <> '{DELETE}'", written)
        .whenNotMatchedInsert(f"action.action <> '{DELETE}'", written)
        .execute()
    )
    lake.tidy(table)
    return done


def named(column: str, keys: Sequence[str]) -> str:
    """The condition that a column is one of these strings; text, as a thousand literals take long one by one."""
    quoted = [f"'{text_literal(key)}'" for key in keys]
    groups = [quoted[first : first + KEYS_TOGETHER] for first in range(0, len(quoted), KEYS_TOGETHER)]
    each = [f"{column} IN ({', '.join(group)})" for group in groups]
    return f"({' OR '.join(each)})" if each else "false"


def with_action(table: Table) -> StructType:
    """The schema of rows for `apply` that the driver makes."""
    return StructType([*table.schema.fields, StructField("action", StringType())])


def delete_orphans(lake: LakeTables, table: Table, parents: Table, key: str) -> int:
    """Delete the rows whose parent is gone. Gives their number."""
    if lake.is_unwritten(table):
        return 0
    return apply(lake, table, without_parent(lake.read(table), lake.read(parents), key, table))[DELETE]


def without_parent(children: DataFrame, parents: DataFrame, key: str, table: Table) -> DataFrame:
    """Delete actions for the children whose parent is gone."""
    lost = children.join(parents.select(key), key, "left_anti").select(*table.key)
    # A doubled row is one action, too: of two a MERGE would not know which.
    return lost.dropDuplicates(list(table.key)).withColumn("action", F.lit(DELETE))
