"""Which texts have a vector already."""

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .changes import Keys, named
from .tables import VECTORS, LakeTables

# The table is asked so often before its hashes are remembered: a run of one micro-batch need not read them all.
ASKED_BEFORE = 2
# 8 bytes each.
MOST_REMEMBERED = 5_000_000
# Hexadecimal digits that a number of 64 bits with a sign holds.
DIGITS = 15


class KnownTexts:
    """Which texts have a vector of a model, for a process that alone writes `vectors`.

    To look for thirty new texts in the table takes as long as to embed them. So the beginnings of all hashes are
    remembered: where none is alike the text is new, and only the others are looked for.
    """

    def __init__(self, tables: LakeTables, model_id: str):
        self.tables, self.model_id = tables, model_id
        self.asked = 0
        self.remembered: np.ndarray | None = None
        self.written: set[str] = set()

    @property
    def now(self) -> DataFrame:
        """(content_hash) of all of them, as the table is now."""
        return self.tables.present(VECTORS).where(F.col("model_id") == self.model_id).select("content_hash")

    def among(self, chunks: Keys) -> set[str]:
        """Those of few chunks, with content_hash among their keys."""
        hashes = {row["content_hash"] for row in chunks.few or ()}
        written, unsure = hashes & self.written, hashes - self.written
        if self.remembered is not None:
            unsure = {each for each in unsure if self.may_have(each)}
        if not unsure:
            return written
        self.asked += 1
        if self.asked == ASKED_BEFORE:
            self.remember()
        found = self.now.where(named("content_hash", sorted(unsure))).collect()
        return written | {row["content_hash"] for row in found}

    def add(self, hashes: set[str] | None) -> None:
        """These have been written; None: more than are told one by one are about to be."""
        if hashes is None:
            self.asked, self.remembered = 0, None
        else:
            self.written |= hashes
        if len(self.written) > MOST_REMEMBERED // 100:
            self.asked, self.remembered, self.written = 0, None, set()

    def remember(self) -> None:
        begins = F.conv(F.substring("content_hash", 1, DIGITS), 16, 10).cast("long").alias("begins")
        found = self.now.select(begins).limit(MOST_REMEMBERED + 1).toArrow()["begins"].to_numpy()
        if len(found) <= MOST_REMEMBERED:
            self.remembered = np.sort(found)

    def may_have(self, content_hash: str) -> bool:
        assert self.remembered is not None
        begins = int(content_hash[:DIGITS], 16)
        place = np.searchsorted(self.remembered, begins)
        return bool(place < len(self.remembered) and self.remembered[place] == begins)
