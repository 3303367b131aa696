"""Parsing and splitting, as an executor's task does them, without Spark: files and megabytes a second by format,
against LangChain's loaders with its recursive splitter, in one process on the same files.

Each folder below LAKEVEC_BENCH_FOLDER (unset: one of the sample's files) is a format. The peer is measured twice: its
passages measured in the model's tokens, as lakevec's are, and in characters, which costs least. Both read every file
in full; a file that LangChain has no loader for is read as text by it, if it can. lakevec parses in a child process,
so that a crash costs one file, and keeps places, headings and dates; LangChain does not. Where LangChain reads fewer
than nine files of ten (its loaders of mails and slides ask for a model that they download), nothing is compared.
"""

import os
import runpy
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from lakevec.jobs.settings import load_settings
from lakevec.udfs.chunk import Chunking, chunks_of
from lakevec.udfs.documents import Limits, documents_of
from lakevec.udfs.model import Model, find_model

from .passages import spread
from .peer import PEERS, environment, timed

ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))
MEASURES = ("tokens", "characters")

pytestmark = [pytest.mark.bench, pytest.mark.timeout(2 * 3600)]


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


def test_parse_and_chunk(tmp_path, keep):
    settings = load_settings("local", [], {})
    model = find_model(settings.model.name)
    chunking, limits = Chunking("heading", 256, 32), Limits(settings.parse.timeout_seconds, settings.parse.memory_mb)
    folder = os.environ.get("LAKEVEC_BENCH_FOLDER")
    if not folder:
        runpy.run_path("notebooks/sample.py")["write_sample"](tmp_path / "sample" / "all")
        folder = str(tmp_path / "sample")
    groups = {
        group.name: sorted(file for file in group.rglob("*") if file.is_file())
        for group in sorted(Path(folder).iterdir())
        if group.is_dir()
    }
    python = environment("langchain")
    ours: dict[str, list[dict]] = {name: [] for name in groups}
    theirs: dict[str, dict[str, list[dict]]] = {measure: {name: [] for name in groups} for measure in MEASURES}
    for _ in range(ROUNDS):
        for name, files in groups.items():
            # The child's start and the tokenizer's are no part of a format.
            by_lakevec(files[:1], model, chunking, limits)
            ours[name].append(by_lakevec(files, model, chunking, limits))
        for measure in MEASURES:
            ran = timed([python, PEERS / "parse_with_langchain.py", folder, model.path, measure])
            for name in groups:
                theirs[measure][name].append(ran.answer[name])
    figures = {}
    for name, files in groups.items():
        size = sum(file.stat().st_size for file in files)
        figures[name] = {
            "files": len(files),
            "megabytes": round(size / 1e6, 2),
            "files_per_second": spread(len(files) / each["seconds"] for each in ours[name]),
            "megabytes_per_second": spread(size / 1e6 / each["seconds"] for each in ours[name]),
            "share_of_parsing": spread(each["parse_seconds"] / each["seconds"] for each in ours[name]),
            "passages": ours[name][0]["passages"],
            "failures": ours[name][0]["failures"],
        }
        for measure in MEASURES:
            first, pairs = theirs[measure][name][0], zip(theirs[measure][name], ours[name], strict=True)
            figures[name][f"langchain_in_{measure}"] = {
                # To fail is quick.
                "times_as_fast": spread(their["seconds"] / our["seconds"] for their, our in pairs)
                if first["failures"] < len(files) / 10
                else None,
                "passages": first["passages"],
                "failures": first["failures"],
            }
    keep({"formats": figures})
