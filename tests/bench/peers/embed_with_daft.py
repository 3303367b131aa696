"""Daft: a folder's text files, split by tokens, embedded by its own function, to Parquet.

FOLDER MODEL TARGET, a folder of Parquet that is written over.
"""

import json
import sys

import daft
from daft import DataType, col
from daft.functions import embed_text
from langchain_text_splitters import RecursiveCharacterTextSplitter
from transformers import AutoTokenizer

folder, model, target = sys.argv[1:]
# What the model reads, with its two special tokens.
TOKENS, OVERLAP = 254, 32

splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
    AutoTokenizer.from_pretrained(model), chunk_size=TOKENS, chunk_overlap=OVERLAP
)


@daft.func(return_dtype=DataType.list(DataType.string()))
def split(content: bytes):
    return splitter.split_text(content.decode(errors="replace"))


passages = (
    daft.from_glob_path(f"{folder}/**")
    .with_column("text", split(col("path").download()))
    .explode("text")
    .where(col("text").not_null())
    .with_column("vector", embed_text(col("text"), provider="transformers", model=model))
)
passages.select("path", "text", "vector").write_parquet(target, write_mode="overwrite")
print(json.dumps({}))
