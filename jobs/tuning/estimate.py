"""How long an index takes to build: said before it is begun, and corrected by every build that is done.

What is counted is work, from the algorithms; what a unit of work takes was measured once (Milvus 2.3.5 on
two cores, 100,000 vectors of 384 numbers) and is measured again, type by type, while a sweep goes on.
"""

import statistics
from collections.abc import Mapping, Sequence

from .grid import Setting

# Until the server has planned a build and told that it is done; and for each segment (26 of them, on two cores).
SECONDS_BEFORE, SECONDS_PER_SEGMENT = 5.0, 0.6
# k-means: rounds, and vectors that each centroid is trained on at most.
ROUNDS, TRAINED_PER_LIST = 10, 256
CODES_TRAINED_ON, CODE_ROUNDS = 65_536, 25
SECONDS_PER_MULTIPLICATION = 8e-11
SECONDS_PER_CODE_DISTANCE = 1.3e-8
# For each number of each of the efConstruction neighbours that are looked at.
SECONDS_PER_NEIGHBOUR_NUMBER = 6.9e-9
# 16 codes for each pair of numbers.
SCANN_CODES, SCANN_NUMBERS = 16, 2
GPU_SPEED = 20
# A build that took no longer than any would tells nothing of its work.
LEAST_FACTOR = 0.1
# A search alone, one of eight at a time, and its part of those for 100 hits.
SECONDS_PER_QUERY = 0.008


class Estimate:
    """Seconds of a build over these segments. segments: rows of each."""

    def __init__(self, segments: Sequence[int], dimension: int):
        self.segments, self.dimension = segments, dimension
        self.factors: dict[str, float] = {}

    def of(self, build: Setting) -> float:
        known = self.factors.values()
        factor = self.factors.get(build.type) or (statistics.median(known) if known else 1.0)
        return self.before + factor * self.seconds_of_work(build)

    def learn(self, build: Setting, seconds: float) -> None:
        """What this build really took. FLAT is not built, and tells nothing of others."""
        if build.type != "FLAT":
            self.factors[build.type] = max((seconds - self.before) / self.seconds_of_work(build), LEAST_FACTOR)

    @property
    def before(self) -> float:
        """Seconds that a build takes whatever its work is."""
        return SECONDS_BEFORE + SECONDS_PER_SEGMENT * len(self.segments)

    def seconds_of_work(self, build: Setting) -> float:
        return sum(work(build.type, build.build, rows, self.dimension) for rows in self.segments)


def work(kind: str, build: Mapping[str, int], rows: int, dimension: int) -> float:
    seconds = 0.0
    if kind.startswith("GPU_CAGRA"):
        return rows * dimension * build["intermediate_graph_degree"] * SECONDS_PER_NEIGHBOUR_NUMBER / GPU_SPEED
    if "nlist" in build:
        trained = min(rows, TRAINED_PER_LIST * build["nlist"])
        seconds += (trained * ROUNDS + rows) * build["nlist"] * dimension * SECONDS_PER_MULTIPLICATION
    if "m" in build:
        seconds += code_seconds(rows, build["m"], 1 << build["nbits"])
    if kind == "SCANN":
        seconds += code_seconds(rows, dimension // SCANN_NUMBERS, SCANN_CODES)
    if "M" in build:
        neighbours = build["efConstruction"] * (build["M"] / 16) ** 0.5
        seconds += rows * neighbours * dimension * SECONDS_PER_NEIGHBOUR_NUMBER
    if kind == "DISKANN":
        seconds += 3 * rows * 200 * dimension * SECONDS_PER_NEIGHBOUR_NUMBER
    return seconds / GPU_SPEED if kind.startswith("GPU_") else seconds


def code_seconds(rows: int, parts: int, codes: int) -> float:
    trained = min(rows, CODES_TRAINED_ON)
    return parts * (trained * CODE_ROUNDS + rows) * codes * SECONDS_PER_CODE_DISTANCE


def search_seconds(searches: int, queries: int) -> float:
    """Seconds for so many search settings with so many queries each."""
    return searches * queries * SECONDS_PER_QUERY
