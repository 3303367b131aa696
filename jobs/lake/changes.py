"""Deciding what a table needs, and doing it: pure comparison first, one MERGE of the differences after."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from .session import materialised
from .tables import LakeTables, Table

INSERT, UPDATE, DELETE = "insert", "update", "delete"

# So many keys of 32 digits take some 50 MB on the driver and on each executor.
MOST_BROADCAST_KEYS = 500_000


def last_changes(feed: DataFrame, key: str) -> DataFrame:
    """The last state of each key in a change feed: its columns, and whether it is `deleted`.

    Several versions of a key come in one micro-batch, and RESTORE gives delete and insert of a key
    in one version; the insert is what holds then.
    """
    newest_first = Window.partitionBy(key).orderBy(
        F.desc("_commit_version"), F.when(F.col("_change_type") == "delete", 1).otherwise(0)
    )
    return (
        feed.where("_change_type <> 'update_preimage'")
        .withColumn("_newest", F.row_number().over(newest_first))
        .where("_newest = 1")
        .withColumn("deleted", F.col("_change_type") == "delete")
        .drop("_newest", "_change_type", "_commit_version", "_commit_timestamp")
    )


def reconcile(desired: DataFrame, present: DataFrame, table: Table) -> DataFrame:
    """What turns `present` into `desired`: the desired columns and `action` (insert, update, delete).

    Both hold the rows in question and no others. Equal rows give no action; `table.volatile`
    columns do not count.
    """
    others = [name for name in desired.columns if name not in table.key]
    compared = [name for name in others if name not in table.volatile]
    wanted = desired.select(*table.key, F.struct(*others).alias("_row"))
    had = present.select(*table.key, F.struct(*compared).alias("_had"), F.lit(True).alias("_is_there"))
    action = (
        F.when(F.col("_row").isNull(), DELETE)
        .when(F.col("_is_there").isNull(), INSERT)
        .when(
            ~F.struct(*[F.col("_row")[name].alias(name) for name in compared]).eqNullSafe(F.col("_had")),
            UPDATE,
        )
    )
    return (
        wanted.join(had, list(table.key), "full_outer")
        .withColumn("action", action)
        .where("action is not null")
        .select(*table.key, *[F.col("_row")[name].alias(name) for name in others], "action")
    )


def rows_with(present: DataFrame, keys: DataFrame, key: str, number: int) -> DataFrame:
    """The rows of a table whose key is among `keys`, of which there are `number`.

    A few keys go to the table, so that it is not shuffled for ten changed rows.
    """
    wanted = keys.select(key).distinct()
    return present.join(F.broadcast(wanted) if number <= MOST_BROADCAST_KEYS else wanted, key, "left_semi")


def counts(actions: DataFrame) -> dict[str, int]:
    """Number of actions of each kind."""
    found = {row["action"]: row["count"] for row in actions.groupBy("action").count().collect()}
    return {action: found.get(action, 0) for action in (INSERT, UPDATE, DELETE)}


def apply(lake: LakeTables, table: Table, actions: DataFrame) -> dict[str, int]:
    """Carry the actions out in one MERGE, none where there are none. Gives their numbers.

    Idempotent by key: an insert of a row that is there by now updates it.
    """
    actions = materialised(actions)
    done = counts(actions)
    if not any(done.values()):
        return done
    written: dict[str, str | Column] = {f"`{name}`": f"action.`{name}`" for name in actions.columns if name != "action"}
    condition = " AND ".join(f"present.{key} = action.{key}" for key in table.key)
    (
        lake.delta(table)
        .alias("present")
        .merge(actions.alias("action"), condition)
        .whenMatchedDelete(f"action.action = '{DELETE}'")
        .whenMatchedUpdate(f"action.action <> '{DELETE}'", written)
        .whenNotMatchedInsert(f"action.action <> '{DELETE}'", written)
        .execute()
    )
    return done


def without_parent(children: DataFrame, parents: DataFrame, key: str, table: Table) -> DataFrame:
    """Delete actions for the children whose parent is gone."""
    return children.join(parents.select(key), key, "left_anti").select(*table.key).withColumn("action", F.lit(DELETE))
