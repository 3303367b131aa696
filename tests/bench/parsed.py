"""Files parsed and split in this process and the child that parses for it.

By itself, `python -m tests.bench.parsed FOLDER SECONDS`, it does so again and again, for a profiler to look at.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from lakevec.jobs.settings import load_settings
from lakevec.udfs.chunk import Chunking, chunks_of
from lakevec.udfs.documents import Limits, documents_of
from lakevec.udfs.model import Model, find_model


def rows_of(files: list[Path]) -> Iterator[pa.RecordBatch]:
    kinds = {
        "uri": pa.string(),
        "size": pa.int64(),
        "modified_at": pa.timestamp("us", tz="UTC"),
        "known_hash": pa.string(),
        "forgotten": pa.list_(pa.string()),
    }
    found = [(file, file.stat()) for file in files]
    rows = [{"uri": str(file), "size": each.st_size, "modified_at": int(each.st_mtime * 1e6)} for file, each in found]
    yield pa.RecordBatch.from_pylist(rows, schema=pa.schema(kinds))


def by_lakevec(files: list[Path], model: Model, chunking: Chunking, limits: Limits) -> dict[str, float]:
    begun = time.monotonic()
    parsed = list(documents_of(rows_of(files), lambda uri: Path(uri).read_bytes(), limits, {}))
    middle = time.monotonic()
    documents = pa.Table.from_batches(parsed)
    texts = documents.filter(pa.compute.is_valid(documents["doc_id"]))
    passages = sum(batch.num_rows for batch in chunks_of(iter(texts.to_batches()), model, chunking))
    failures = pa.compute.sum(pa.compute.equal(documents["state"], "quarantined")).as_py() or 0
    return {
        "seconds": time.monotonic() - begun,
        "parse_seconds": middle - begun,
        "passages": passages,
        "failures": failures,
    }


def as_set() -> tuple[Model, Chunking, Limits]:
    """The defaults' model, chunking and limits."""
    settings = load_settings("local", [], {})
    chunking = Chunking(settings.chunk.strategy, settings.chunk.tokens, settings.chunk.overlap)
    return find_model(settings.model.name), chunking, Limits(settings.parse.timeout_seconds, settings.parse.memory_mb)


if __name__ == "__main__":
    found = sorted(file for file in Path(sys.argv[1]).rglob("*") if file.is_file())
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        by_lakevec(found, *as_set())
