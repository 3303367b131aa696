"""Daft: a folder's files, split by tokens, embedded by its own function, to Parquet.

FOLDER MODEL TARGET, a folder of Parquet that is written over.
"""

import json
import sys

import daft
from daft import DataType, col
from daft.functions import embed_text
from passages_of import splitter_for, text_of

folder, model, target = sys.argv[1:]
splitter = splitter_for(model)


@daft.func(return_dtype=DataType.list(DataType.string()))
def split(path: str, content: bytes):
    return splitter.split_text(text_of(path, content))


passages = (
    daft.from_glob_path(f"{folder}/**")
    .with_column("text", split(col("path"), col("path").download()))
    .explode("text")
    .where(col("text").not_null())
    .with_column("vector", embed_text(col("text"), provider="transformers", model=model))
)
passages.select("path", "text", "vector").write_parquet(target, write_mode="overwrite")
print(json.dumps({}))
