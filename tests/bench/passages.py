"""Passages of real files, as lakevec cuts them, and how figures of several rounds are told."""

import os
import runpy
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from lakevec.udfs.chunk import Chunking, Splitter


def passages_of(model_path: str, otherwise: Path) -> list[str]:
    """Of the text files in LAKEVEC_BENCH_FOLDER (unset: of the sample, written to the folder `otherwise`), shuffled."""
    folder = os.environ.get("LAKEVEC_BENCH_FOLDER")
    if not folder:
        runpy.run_path("notebooks/sample.py")["write_sample"](otherwise)
    splitter, found = Splitter(model_path, Chunking("heading", 256, 32)), []
    for file in sorted(Path(folder or otherwise).rglob("*")):
        if file.suffix in (".txt", ".md", ".rst"):
            text = file.read_text(encoding="utf8", errors="replace")
            found += [chunk.prefix + chunk.text for chunk in splitter.split(file.name, text, [], [], "")]
    return np.random.default_rng(0).permutation(np.array(found, object)).tolist()


def deciles_of_tokens(lengths: Iterable[int]) -> list[int]:
    """Tokens of the shortest text, of those that a tenth, two tenths, ... of all do not exceed, and of the longest."""
    return np.percentile(np.fromiter(lengths, int), range(0, 101, 10)).astype(int).tolist()


def spread(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
    return {key: float(f"{value:.4g}") for key, value in figures.items()}
