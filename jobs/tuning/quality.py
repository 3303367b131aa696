"""How good the answers to judged questions are, for readers of the whole table: what is searched lacks some of it."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from ..lake.lake import Lake
from .documents import Documents
from .grid import K
from .measures import Neighbours
from .query_sets import QuerySet
from .truth import exact


@dataclass(frozen=True)
class Quality:
    """truth: of each judged question, the exact answers of the whole table. held_out: passages of it that what is
    searched does not have."""

    documents: Documents
    truth: Sequence[Neighbours] = field(repr=False)
    held_out: Set[str] = field(repr=False)

    def of_exact(self) -> Mapping[str, Mapping[str, float]]:
        """Measures of each question for exact search."""
        return self.documents.quality([each.keys[:K] for each in self.truth])

    def of(self, answers: Sequence[Sequence[str]]) -> Mapping[str, Mapping[str, float]]:
        """Measures of each question for what an index found."""
        return self.documents.quality(
            [with_held_out(keys, nearest, self.held_out)[:K] for keys, nearest in zip(answers, self.truth, strict=True)]
        )


def quality_of(lake: Lake, version: int, asked: QuerySet, judged: QuerySet, held_out: Sequence[str]) -> Quality:
    """asked: the set as it was read. judged: those of its questions that are measured."""
    truth = dict(zip(asked.ids, exact(lake, version, asked).neighbours, strict=True))
    return Quality(Documents(lake, version, judged), [truth[key] for key in judged.ids], frozenset(held_out))


def with_held_out(keys: Sequence[str], nearest: Neighbours, held_out: Set[str]) -> list[str]:
    """What was found, best first, and the held-out passages among the nearest: each behind as many of the others as are
    nearer by exact scores. Those of an index may be on another scale, as codes give them."""
    places = {key: place for place, key in enumerate(nearest.keys)}
    found = [places.get(key, math.inf) for key in keys]
    merged = list(keys)
    for number, key in enumerate(key for key in nearest.keys if key in held_out):
        merged.insert(number + sum(place < places[key] for place in found), key)
    return merged
