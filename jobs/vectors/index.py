"""The vector index by setting: what may be asked for, what is taken where nothing is, how it is searched."""

import math
from dataclasses import dataclass, field

from ..errors import ConfigurationError
from ..settings import Index

METRIC = "IP"

# Allowed values of each parameter, by index type.
BUILD = {
    "FLAT": {},
    "HNSW": {"M": (2, 2048), "efConstruction": (1, 65_535)},
    "IVF_FLAT": {"nlist": (1, 65_536)},
    "IVF_SQ8": {"nlist": (1, 65_536)},
    "IVF_PQ": {"nlist": (1, 65_536), "m": (1, 65_536), "nbits": (1, 16)},
    "SCANN": {"nlist": (1, 65_536), "with_raw_data": (0, 1)},
    "DISKANN": {},
    "GPU_IVF_FLAT": {"nlist": (1, 65_536)},
    "GPU_IVF_PQ": {"nlist": (1, 65_536), "m": (1, 65_536), "nbits": (4, 8)},
    "GPU_CAGRA": {"intermediate_graph_degree": (1, 1024), "graph_degree": (1, 512)},
    "HNSW_SQ": {"M": (2, 2048), "efConstruction": (1, 65_535), "refine": (0, 1)},
    "IVF_RABITQ": {"nlist": (1, 65_536), "refine": (0, 1)},
}
SEARCH = {
    "FLAT": {},
    "HNSW": {"ef": (1, 32_768)},
    "IVF_FLAT": {"nprobe": (1, 65_536)},
    "IVF_SQ8": {"nprobe": (1, 65_536)},
    "IVF_PQ": {"nprobe": (1, 65_536)},
    "SCANN": {"nprobe": (1, 65_536), "reorder_k": (1, 16_384)},
    "DISKANN": {"search_list": (1, 65_535)},
    "GPU_IVF_FLAT": {"nprobe": (1, 65_536)},
    "GPU_IVF_PQ": {"nprobe": (1, 65_536)},
    "GPU_CAGRA": {"itopk_size": (1, 1024), "search_width": (1, 1024)},
    "HNSW_SQ": {"ef": (1, 32_768), "refine_k": (1, 64)},
    "IVF_RABITQ": {"nprobe": (1, 65_536), "refine_k": (1, 64)},
}
# What the server takes as true or false.
FLAGS = ("with_raw_data", "refine")
# Words that go with a type's numbers: vectors in 8 bits each number, or in one; refined from more of them.
FIXED = {
    "HNSW_SQ": {"sq_type": "SQ8", "refine_type": "FP16"},
    "IVF_RABITQ": {"refine_type": "SQ8"},
}
# Parameters that may not be below the number of hits.
AT_LEAST_K = ("ef", "reorder_k", "search_list", "itopk_size")


@dataclass(frozen=True)
class VectorIndex:
    """One index, complete: its type, what it is built with, what it is searched with."""

    type: str
    build: dict[str, int] = field(default_factory=dict)
    search: dict[str, int] = field(default_factory=dict)


def vector_index(settings: Index, dimension: int, rows: int) -> VectorIndex:
    """The index that `settings` ask for, with defaults for `rows` vectors (of one partition).

    Raises ConfigurationError for a parameter that this type does not know or cannot take.
    """
    check("index.build", settings.type, settings.build, BUILD[settings.type])
    check("index.search", settings.type, settings.search, SEARCH[settings.type])
    build = {**default_build(settings.type, dimension, rows), **settings.build}
    search = {**default_search(settings.type, build), **settings.search}
    if "m" in build and dimension % build["m"]:
        raise ConfigurationError(
            f"index.build.m is {build['m']}, but {settings.type} cuts a vector into m equal parts and the model's have "
            f"{dimension} dimensions. Give an m that divides {dimension}."
        )
    if settings.type == "SCANN" and dimension % 2:
        raise ConfigurationError(f"index.type SCANN needs an even number of dimensions; the model has {dimension}.")
    if "nprobe" in search and search["nprobe"] > build["nlist"]:
        raise ConfigurationError(
            f"index.search.nprobe is {search['nprobe']}, but there are only index.build.nlist = {build['nlist']} lists."
        )
    return VectorIndex(settings.type, build, search)


def check(setting: str, kind: str, given: dict[str, int], known: dict[str, tuple[int, int]]) -> None:
    for name, value in given.items():
        if name not in known:
            takes = f"It takes {', '.join(known)}." if known else "It takes none."
            raise ConfigurationError(f"{setting}.{name}: an index of type {kind} has no such parameter. {takes}")
        least, most = known[name]
        if not least <= value <= most:
            raise ConfigurationError(f"{setting}.{name} is {value}; {kind} takes {least:,} to {most:,}.")


def default_build(kind: str, dimension: int, rows: int) -> dict[str, int]:
    if kind in ("FLAT", "DISKANN"):
        return {}
    if kind in ("HNSW", "HNSW_SQ"):
        return {"M": 16, "efConstruction": 200} | ({"refine": 1} if kind == "HNSW_SQ" else {})
    if kind == "GPU_CAGRA":
        return {"intermediate_graph_degree": 64, "graph_degree": 32}
    # The usual rule for lists: four times the square root of the rows.
    lists = {"nlist": min(65_536, max(16, round(4 * math.sqrt(rows))))}
    if kind == "IVF_RABITQ":
        return {**lists, "refine": 1}
    if "m" in BUILD[kind]:
        return {**lists, "m": largest_divisor(dimension, dimension // 8), "nbits": 8}
    return lists


def default_search(kind: str, build: dict[str, int]) -> dict[str, int]:
    if kind == "FLAT":
        return {}
    if kind in ("HNSW", "HNSW_SQ"):
        return {"ef": 64}
    if kind == "DISKANN":
        return {"search_list": 64}
    if kind == "GPU_CAGRA":
        return {"itopk_size": 64}
    return {"nprobe": max(1, min(build["nlist"], max(8, build["nlist"] // 20)))}


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`, at least 1."""
    return next(divisor for divisor in range(max(1, most), 0, -1) if number % divisor == 0)


def widened(search: dict[str, int], k: int) -> dict[str, int]:
    """Search parameters under which k hits can come: those of AT_LEAST_K are."""
    return {name: max(value, k) if name in AT_LEAST_K else value for name, value in search.items()}
