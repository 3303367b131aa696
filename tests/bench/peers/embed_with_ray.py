"""Ray Data: a folder's files, split by tokens, embedded by an actor with sentence-transformers, to Parquet.

FOLDER MODEL TARGET, a folder of Parquet that is written over.
"""

import json
import os
import shutil
import sys

import ray
from passages_of import splitter_for, text_of

folder, model, target = sys.argv[1:]


def split(files):
    # A batch is all that a task reads.
    splitter = splitter_for(model)
    found = {"path": [], "text": []}
    for path, content in zip(files["path"], files["bytes"], strict=True):
        passages = splitter.split_text(text_of(path, content))
        found["path"] += [path] * len(passages)
        found["text"] += passages
    return found


class Embed:
    def __init__(self):
        import torch
        from sentence_transformers import SentenceTransformer

        # Ray leaves an actor one.
        torch.set_num_threads(os.cpu_count() or 1)
        self.model = SentenceTransformer(model)

    def __call__(self, batch):
        batch["vector"] = self.model.encode(list(batch["text"]))
        return batch


ray.init(logging_level="error", log_to_driver=False)
shutil.rmtree(target, ignore_errors=True)
files = ray.data.read_binary_files(folder, include_paths=True)
passages = files.map_batches(split, batch_size=None)
passages.map_batches(Embed, concurrency=1, batch_size=256).write_parquet(target)
print(json.dumps({}))
