from lakevec.jobs.lake import changes
from lakevec.jobs.lake.changes import (
    MOST_NAMED_KEYS,
    keys_named,
    keys_of,
    last_changes,
    named,
    reconcile,
    without_parent,
)
from lakevec.jobs.lake.tables import TEXT, Table, column
from pyspark.sql.types import StructType

NOTES = Table(
    "notes",
    "for these tests",
    ("id",),
    StructType([column("id", TEXT, ""), column("text", TEXT, ""), column("at", TEXT, "")]),
    frozenset({"at"}),
)


def rows(frame):
    return sorted(tuple(row) for row in frame.collect())


def test_only_differences_become_actions(spark):
    desired = spark.createDataFrame([("a", "same", "now"), ("b", "new text", "now"), ("c", "new", "now")], NOTES.schema)
    present = spark.createDataFrame([("a", "same", "then"), ("b", "old", "then"), ("d", "gone", "then")], NOTES.schema)

    actions = reconcile(desired, present, NOTES)

    assert rows(actions.select("id", "text", "action").na.fill("-")) == [
        ("b", "new text", "update"),
        ("c", "new", "insert"),
        ("d", "-", "delete"),
    ]


def test_null_equals_null(spark):
    both = spark.createDataFrame([("a", None, "now")], NOTES.schema)

    assert reconcile(both, both, NOTES).count() == 0


def test_the_last_change_of_a_key_holds(spark):
    feed = spark.createDataFrame(
        [
            ("a", "first", "insert", 1),
            ("a", "first", "update_preimage", 2),
            ("a", "second", "update_postimage", 2),
            ("b", "first", "insert", 1),
            ("b", "first", "delete", 3),
            # RESTORE: delete and insert of one key in one version.
            ("c", "old", "delete", 4),
            ("c", "restored", "insert", 4),
            ("d", "old", "delete", 5),
            ("d", "old", "insert", 6),
            ("e", "first", "insert", 4),
            ("e", "second", "update_postimage", 5),
            ("f", "second", "update_postimage", 5),
        ],
        "id string, text string, _change_type string, _commit_version long",
    )

    # Whether it is deleted, and whether it was first inserted after version 3.
    assert rows(last_changes(feed, "id", known_until=3)) == [
        ("a", "second", False, False),
        ("b", "first", True, False),
        ("c", "restored", False, False),
        ("d", "old", False, False),
        ("e", "second", False, True),
        ("f", "second", False, False),
    ]


def test_keys_are_those_whose_flag_is_not_set_few_or_many(spark, monkeypatch):
    notes = spark.createDataFrame([("a", False), ("b", True), ("c", False)], "id string, is_new boolean")
    present = spark.createDataFrame([("a",), ("b",), ("d",)], "id string")

    def among():
        return rows(keys_of(notes, "id", "is_new").without("is_new").among(present, "id"))

    assert among() == [("a",)]
    monkeypatch.setattr(changes, "MOST_NAMED_KEYS", 2)
    assert keys_of(notes, "id", "is_new").few is None
    assert among() == [("a",)]


def test_keys_are_what_they_say_whatever_stands_in_them(spark):
    odd = ["a-${spark.app.name}.md", "it's.md", "back\\slash", "\\u0024", "plain.md"]
    present = spark.createDataFrame([(key,) for key in [*odd, "a-lakevec.md"]], "uri string")

    assert rows(keys_named(spark, "uri", odd).among(present, "uri")) == sorted((key,) for key in odd)


def test_a_thousand_keys_are_named_in_conditions_that_are_not_nested_as_deep(spark):
    keys = [f"key {number}" for number in range(MOST_NAMED_KEYS)]
    present = spark.createDataFrame([(key,) for key in [*keys, "another", "key 1000"]], "uri string")

    condition = named("uri", keys)

    assert present.where(f"{condition} AND uri <> 'key 7'").count() == MOST_NAMED_KEYS - 1
    # Parquet compares with the keys of one IN within one another, and with one IN within the other.
    groups = condition.split(" OR ")
    assert max(len(groups), *(group.count("'") // 2 for group in groups)) <= 100


def test_children_without_parent_are_deleted(spark):
    children = spark.createDataFrame([("a", "p1", ""), ("b", "p2", "")], NOTES.schema)
    parents = spark.createDataFrame([("p1",)], "text string")

    assert rows(without_parent(children, parents, "text", NOTES)) == [("b", "delete")]
