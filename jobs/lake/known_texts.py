"""Which texts have a vector already."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .changes import Keys
from .tables import VECTORS, LakeTables

# Of more than so many that were written since, the table is asked.
MOST_WRITTEN = 20_000


class KnownTexts:
    """Which texts have a vector of a model, for a process that alone writes `vectors`.

    The first read of a table after each commit takes twice as long as the next, since Delta puts its state
    together anew. So few texts are looked for in the table as it was, and among those written since.
    """

    def __init__(self, tables: LakeTables, model_id: str):
        self.tables, self.model_id = tables, model_id
        self.seen: DataFrame | None = None
        self.written: set[str] = set()

    @property
    def now(self) -> DataFrame:
        """(content_hash) of all of them, as the table is now."""
        return self.tables.read(VECTORS).where(F.col("model_id") == self.model_id).select("content_hash")

    def among(self, chunks: Keys) -> set[str]:
        """Those of few chunks, with content_hash among their keys."""
        hashes = {row["content_hash"] for row in chunks.few or ()}
        if not hashes:
            return hashes
        if self.seen is None or len(self.written) > MOST_WRITTEN:
            self.seen, self.written = self.now, set()
        found = {row["content_hash"] for row in chunks.among(self.seen, "content_hash").collect()}
        return found | self.written & hashes

    def add(self, hashes: set[str] | None) -> None:
        """These have been written; None: more than are told one by one."""
        if hashes is None:
            self.seen = None
        else:
            self.written |= hashes
