"""What a number format costs in quality: nDCG@10 of exact search over judged collections, with vectors of
LAKEVEC_BENCH_DTYPE (unset: int8) and of float32.

LAKEVEC_BENCH_JUDGED names folders in BEIR's layout, each with a corpus.jsonl, between spaces. A document is its title
and text, as much of them as the model reads. `low` and `high` bound the difference's mean with 95% confidence. It fails
where the mean falls by more than 0.005.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from lakevec.jobs.tuning.measures import answer_quality, interval
from lakevec.jobs.tuning.questions import read_questions
from lakevec.udfs.embed import Embedder
from lakevec.udfs.model import Compute, find_model

FOLDERS = [Path(folder) for folder in os.environ.get("LAKEVEC_BENCH_JUDGED", "").split()]
DTYPE = os.environ.get("LAKEVEC_BENCH_DTYPE", "int8")
MODEL = find_model("all-MiniLM-L6-v2")
DEPTH = 10
MOST_LOST = 0.005

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_quality(folder, keep):
    questions = read_questions(str(folder))
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    ids = np.array([document["_id"] for document in documents])
    texts = [f"{document.get('title', '')}\n{document['text']}".strip() for document in documents]
    asked = [question.text for question in questions]
    exact, other = Embedder(MODEL.path, Compute()), Embedder(MODEL.path, Compute(dtype=DTYPE))
    vectors = {"float32": exact.embed(texts), DTYPE: other.embed(texts)}
    queries = {"float32": exact.embed(asked), DTYPE: other.embed(asked)}

    def ndcg(of_documents: str, of_queries: str) -> np.ndarray:
        nearest = np.argsort(-(queries[of_queries] @ vectors[of_documents].T), axis=1)[:, :DEPTH]
        ranked = {question.id: ids[places].tolist() for question, places in zip(questions, nearest, strict=True)}
        quality = answer_quality(ranked, {question.id: question.relevant for question in questions})
        return np.array([quality[question.id]["ndcg_at_10"] for question in questions])

    before, cosines = ndcg("float32", "float32"), (vectors["float32"] * vectors[DTYPE]).sum(axis=1)
    report = {
        "documents": len(documents),
        "questions": len(questions),
        "cosine": {"lowest": float(cosines.min()), "mean": float(cosines.mean())},
        "ndcg_at_10": {"float32": float(before.mean())},
    }
    for name, of_queries in ((DTYPE, DTYPE), (f"{DTYPE}, queries in float32", "float32")):
        after = ndcg(DTYPE, of_queries)
        bounds = interval(after - before, seed=0)
        report["ndcg_at_10"][name] = {
            "mean": float(after.mean()),
            "difference": float((after - before).mean()),
            "low": bounds.low,
            "high": bounds.high,
        }
    keep(report)
    assert report["ndcg_at_10"][DTYPE]["difference"] >= -MOST_LOST
