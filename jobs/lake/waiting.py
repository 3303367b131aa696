"""What waits between the stages: the keys that changed in a table since a stage last worked it off."""

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from .session import materialised
from .stream import LOST_PAST
from .tables import LakeTables, Table


def waiting_keys(tables: LakeTables, table: Table, version: int, child: Table) -> DataFrame | None:
    """The keys that changed in this version of a table or later; None where there is no such version.

    child: what the stage makes of the table, with the table's key in its rows. Of a change feed that is not there any
    more all rows wait, those of the child as well, which may have to go: the stage will begin anew.
    """
    newest = tables.version(table)
    if version > newest:
        return None
    keys = changed_keys(tables, table, max(version, 0), newest)
    if keys is None:
        return tables.read(table).select(*table.key).union(tables.read(child).select(*table.key)).distinct()
    return keys


def changed_keys(tables: LakeTables, table: Table, first: int, last: int) -> DataFrame | None:
    """The keys that changed in these versions; None where the change feed does not have them any more."""
    try:
        return materialised(tables.changes(table, first, last).select(*table.key).distinct())
    # What fails within a task comes out of localCheckpoint as py4j's error.
    except (PySparkException, Py4JJavaError) as error:
        if any(condition in str(error) for condition in LOST_PAST):
            return None
        raise
