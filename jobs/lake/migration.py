"""Tables of an older lakevec are brought to this one's definitions, or refused: never guessed.

The properties of every table name the version of the definitions that it follows. All versions up to
SCHEMA_VERSION differ from the newest in missing tables and in missing columns that may be null, and
in nothing else, so one way leads from any of them: create, add, then write the version down,
`embeddings` last. It can be cut off anywhere and begun again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog
from pyspark.sql.types import StructField

from ..errors import LakevecError
from ..settings import Settings
from .lock import STAGES, locked
from .tables import EMBEDDINGS, METRICS, OLDER_VERSIONS, PARTITIONS, SCHEMA_VERSION, TABLES, LakeTables, Table

VERSION = "lakevec.schema_version"
IS_GONE = "it is gone, and with an empty one in its place all others would be taken for what must go, or be made anew"
# Tables that an older lakevec may not have made; without their rows nothing else is lost.
HISTORIES = frozenset({PARTITIONS.name, METRICS.name})


@dataclass(frozen=True)
class TableState:
    """What is there. columns: name -> type, in Spark's words."""

    version: str | None
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """What one table needs: to be made, or these columns, and then this version's number."""

    table: Table
    is_missing: bool = False
    columns: tuple[StructField, ...] = ()


def bring_up_to_date(tables: LakeTables, settings: Settings, held: Collection[str]) -> None:
    """Mend what an older lakevec made; nothing where this one did.

    held: the stages whose locks the caller has; those of all others are taken meanwhile.
    Raises LakevecError for a lake that needs it where none is held (it is only read), and for what
    cannot be mended.
    """
    if not needed(states(tables)):
        return
    if not held:
        raise LakevecError(
            f"The tables at {tables.path} were made by an older lakevec, or one of them is gone. `lakevec run --once`, "
            f"or any one of its stages, brings them to schema version {SCHEMA_VERSION}; an older lakevec cannot use "
            "them then."
        )
    with locked(settings, "migration", [stage for stage in STAGES if stage not in held]):
        # Once more, now that nobody else may be at it.
        migrate(tables, needed(states(tables)))


def check_is_new(tables: LakeTables) -> None:
    """Raises LakevecError where `embeddings` is missing in a lake that has been used: it knows model and chunking.

    Where a lake was being made, and that was cut off, the other tables are there and empty.
    """
    others = [table for table in TABLES if table.name != EMBEDDINGS.name and tables.exists(table)]
    if any(not tables.read(table).isEmpty() for table in others):
        raise refusal(EMBEDDINGS, IS_GONE)


def states(tables: LakeTables) -> dict[Table, TableState | None]:
    """Every table as it is; None where it is missing."""
    return {table: state(tables, table) if tables.exists(table) else None for table in TABLES}


def state(tables: LakeTables, table: Table) -> TableState:
    schema = tables.read(table).schema
    return TableState(
        tables.properties(table).get(VERSION), {field.name: field.dataType.simpleString() for field in schema}
    )


def needed(present: Mapping[Table, TableState | None]) -> list[Step]:
    """What must be done, `embeddings` last. Raises LakevecError where a table is not of any version known."""
    steps = []
    for table, state in sorted(present.items(), key=lambda item: item[0].name == EMBEDDINGS.name):
        if state is None:
            if table.name not in HISTORIES:
                raise refusal(table, IS_GONE)
            steps.append(Step(table, is_missing=True))
            continue
        check_version(table, state.version)
        missing = tuple(field for field in table.schema if field.name not in state.columns)
        for field in table.schema:
            check_column(table, field, state.columns.get(field.name))
        if missing or state.version != SCHEMA_VERSION:
            steps.append(Step(table, columns=missing))
    return steps


def check_version(table: Table, version: str | None) -> None:
    if version is None:
        raise refusal(table, f"it has no property {VERSION}, so it is not lakevec's, or a copy that lost it")
    if version == SCHEMA_VERSION or version in OLDER_VERSIONS:
        return
    if version.isdigit() and int(version) > int(SCHEMA_VERSION):
        raise refusal(
            table, f"a newer lakevec made it (schema version {version}, this one knows {SCHEMA_VERSION}): update"
        )
    raise refusal(table, f"its property {VERSION} is {version!r}, which no lakevec wrote")


def check_column(table: Table, field: StructField, kind: str | None) -> None:
    if kind is None and not field.nullable:
        raise refusal(table, f"its key column {field.name} is missing")
    wanted = field.dataType.simpleString()
    if kind is not None and kind != wanted:
        raise refusal(table, f"its column {field.name} is {kind} and not {wanted}")


def refusal(table: Table, why: str) -> LakevecError:
    return LakevecError(
        f"The table `{table.name}` of this lake cannot be used: {why}. Nothing was changed. Use the lakevec that made "
        "the lake, bring the table back (from a backup, or an earlier version by RESTORE TABLE ... TO VERSION AS OF "
        "...), or give a new lake.path."
    )


def migrate(tables: LakeTables, steps: list[Step]) -> None:
    for step in steps:
        if step.is_missing:
            tables.create(step.table, {})
        else:
            if step.columns:
                tables.add_columns(step.table, step.columns)
            tables.set_property(step.table, VERSION, SCHEMA_VERSION)
        added = " ".join(field.name for field in step.columns)
        structlog.get_logger().info("lake.migrated", table=step.table.name, created=step.is_missing, added=added)
