"""What an index of so many chunks asks for: computed from measured rates, by formulas that stand here alone."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .errors import ConfigurationError
from .vectors.index import BUILD, default_build
from .vectors.plan import partition_limit
from .vectors.weight import ID, computed_bytes

NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMbB]?)")
FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
# Indexes that are always told, beside the one that was asked for.
COMPARED = ("FLAT", "HNSW", "IVF_SQ8", "IVF_PQ")
# Six numbers and keys of 64 hexadecimal digits, and what a path and headings are long.
OTHER_FIELD_BYTES = 6 * ID + 2 * 64 + 200
# Rows of one time range: a range is built, and rebuilt, as a whole.
ROWS_PER_PARTITION = 1_000_000
# A current server: it has the fewest partitions.
SERVER = (2, 6, 0)
# A token of English, and of what is like it.
BYTES_PER_TOKEN = 4
CORES_PER_EXECUTOR = 8
# A server that builds, compacts and answers needs room beside what it has loaded: a guess, which was not measured.
HEADROOM = 1.3


@dataclass(frozen=True)
class Rates:
    """What was measured, on one core or one GPU, and where."""

    # tests/bench/test_parse_and_chunk.py, one core of a server processor: mails 2.3 MB/s, PEPs 6.8, PDFs 7.7, HTML 14.
    parse_megabytes: float = 5.0
    # PEPs, one such core, words met for the first time.
    chunk_passages: float = 5_000.0
    # tests/bench/test_kernel.py: all-MiniLM-L6-v2, float32, half of what two cores do.
    embed_tokens_per_core: float = 3_200.0
    # The same on one H100, bfloat16, texts of 149 tokens, one process.
    embed_tokens_per_gpu: float = 50_000.0 * 149
    # tests/bench/test_load.py: 100,000 rows of 384 numbers in four ranges, Milvus and its index beside it on two cores.
    load_rows: float = 690.0


@dataclass(frozen=True)
class Demand:
    """What is to be indexed. tokens: of a chunk; kilobytes: of a document's file."""

    chunks: int
    dimension: int = 384
    index: str = "IVF_SQ8"
    tokens: int = 149
    chunks_per_document: float = 10.0
    kilobytes: float = 100.0
    hours: float = 24.0


@dataclass(frozen=True)
class Sizing:
    """What it takes. core_hours: of each stage, embed on the CPU; gpu_hours: embed on GPUs instead. Within the hours:
    executors, for all stages but embed, and gpus for embed, or cpu_executors for all of
    them. memory_bytes: of Milvus, by index, fields and headroom included."""

    documents: int
    core_hours: Mapping[str, float]
    gpu_hours: float
    executors: int
    gpus: int
    cpu_executors: int
    partitions: int
    memory_bytes: Mapping[str, int]
    hours: float
    cores_per_executor: int = CORES_PER_EXECUTOR


def size(demand: Demand, rates: Rates | None = None) -> Sizing:
    """Raises ConfigurationError for an index type that there is none of."""
    rates = rates or Rates()
    documents = math.ceil(demand.chunks / demand.chunks_per_document)
    seconds = {
        "ingest": documents * demand.kilobytes / 1000 / rates.parse_megabytes,
        "chunk": demand.chunks / rates.chunk_passages,
        "embed": demand.chunks * demand.tokens / rates.embed_tokens_per_core,
        "load": demand.chunks / rates.load_rows,
    }
    on_gpu = demand.chunks * demand.tokens / rates.embed_tokens_per_gpu
    within = demand.hours * 3600
    without_embed = sum(seconds.values()) - seconds["embed"]
    # `_default`, and one for a generation that is being built.
    partitions = min(math.ceil(demand.chunks / ROWS_PER_PARTITION), partition_limit(SERVER) - 2)
    return Sizing(
        documents,
        {stage: each / 3600 for stage, each in seconds.items()},
        on_gpu / 3600,
        math.ceil(without_embed / within / CORES_PER_EXECUTOR),
        math.ceil(on_gpu / within),
        math.ceil(sum(seconds.values()) / within / CORES_PER_EXECUTOR),
        partitions,
        {
            kind: memory_bytes(replace(demand, index=kind), partitions)
            for kind in dict.fromkeys((demand.index, *COMPARED))
        },
        demand.hours,
    )


def memory_bytes(demand: Demand, partitions: int) -> int:
    """Of Milvus: the index of each partition, and all fields but the vectors, which the index stands for; times
    HEADROOM."""
    kind = index_type(demand.index)
    rows = math.ceil(demand.chunks / partitions)
    build = default_build(kind, demand.dimension, rows)
    index = partitions * computed_bytes(kind, build, rows, demand.dimension)
    fields = demand.chunks * (demand.tokens * BYTES_PER_TOKEN + OTHER_FIELD_BYTES)
    return round((index + fields) * HEADROOM)


def index_type(name: str) -> str:
    """Raises ConfigurationError for one that there is none of."""
    if name.upper() not in BUILD:
        raise ConfigurationError(f"--index {name}: there is no such type. Known: {', '.join(BUILD)}.")
    return name.upper()


def whole_number(text: str, option: str) -> int:
    """150M, 1.5B, 20k or 1000000. Raises ConfigurationError for anything else, and for nothing at all."""
    found = NUMBER.fullmatch(text.replace(",", "").replace("_", "").strip())
    number = round(float(found[1]) * FACTORS[found[2].lower()]) if found else 0
    if number < 1:
        raise ConfigurationError(f"{option} {text}: expected a number such as 150M, 1B, 20k or 1000000.")
    return number
