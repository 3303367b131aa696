from lakevec.jobs.lake.changes import last_changes, reconcile, without_parent
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
        ],
        "id string, text string, _change_type string, _commit_version long",
    )

    assert rows(last_changes(feed, "id")) == [
        ("a", "second", False),
        ("b", "first", True),
        ("c", "restored", False),
    ]


def test_children_without_parent_are_deleted(spark):
    children = spark.createDataFrame([("a", "p1", ""), ("b", "p2", "")], NOTES.schema)
    parents = spark.createDataFrame([("p1",)], "text string")

    assert rows(without_parent(children, parents, "text", NOTES)) == [("b", "delete")]
