"""Rows of unequal length, laid one after another in one array."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """values: shape (lengths.sum(),), int32; lengths: of each row, int64."""

    values: np.ndarray
    lengths: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each row begins, and the end of the last: shape (rows + 1,)."""
        return np.append(0, np.cumsum(self.lengths))

    @staticmethod
    def of(rows: Sequence[Sequence[int]]) -> "Ragged":
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        values = [np.asarray(row, np.int32) for row in rows]
        return Ragged(np.concatenate(values) if values else np.empty(0, np.int32), lengths)

    def take(self, rows: np.ndarray) -> "Ragged":
        """These rows, in this order."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        # Half the memory to pass through, wherever it holds the places.
        kind = np.int32 if max(total, len(self.values)) < 2**31 else np.int64
        places = np.repeat((self.starts[rows] - (ends - lengths)).astype(kind), lengths)
        places += np.arange(total, dtype=kind)
        return Ragged(self.values[places], lengths)

    def slice(self, first: int, end: int) -> "Ragged":
        """Neighbouring rows, without a copy."""
        return Ragged(self.values[self.starts[first] : self.starts[end]], self.lengths[first:end])

    def replaced(self, rows: Sequence[int], others: Sequence[Sequence[int]]) -> "Ragged":
        """The same with other values in some rows."""
        parts: list[np.ndarray] = np.split(self.values, self.starts[1:-1])
        for row, other in zip(rows, others, strict=True):
            parts[row] = np.asarray(other, np.int32)
        return Ragged(np.concatenate(parts), np.fromiter(map(len, parts), np.int64, len(parts)))


def places_within(lengths: np.ndarray) -> np.ndarray:
    """0, 1, 2 … within each row: shape (lengths.sum(),)."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
