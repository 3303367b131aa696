"""LangChain's loaders and its recursive splitter, file by file, in one process.

FOLDER MODEL MEASURE, which is "tokens" (of the model, 254 a passage) or "characters" (1,000, as its documentation
begins with); says in JSON, for each folder below FOLDER, files, failures, passages and seconds.
"""

import json
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

from langchain_community.document_loaders import (
    BSHTMLLoader,
    Docx2txtLoader,
    PyPDFLoader,
    TextLoader,
    UnstructuredEmailLoader,
    UnstructuredExcelLoader,
    UnstructuredPowerPointLoader,
)
from langchain_text_splitters import RecursiveCharacterTextSplitter
from passages_of import splitter_for

warnings.simplefilter("ignore")
folder, model, measure = sys.argv[1:]
LOADERS = {
    ".pdf": PyPDFLoader,
    ".docx": Docx2txtLoader,
    ".html": BSHTMLLoader,
    ".htm": BSHTMLLoader,
    ".eml": UnstructuredEmailLoader,
    ".xlsx": UnstructuredExcelLoader,
    ".pptx": UnstructuredPowerPointLoader,
}


def load(file: Path) -> list:
    if file.suffix in LOADERS:
        return LOADERS[file.suffix](str(file)).load()
    return TextLoader(str(file), autodetect_encoding=True).load()


if measure == "tokens":
    splitter = splitter_for(model)
else:
    splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=125)
found = {}
for group in sorted(Path(folder).iterdir()):
    files = sorted(file for file in group.rglob("*") if file.is_file())
    # Imports are not what is measured.
    for file in files[:1]:
        with suppress(Exception):
            load(file)
    begun, failures, passages = time.monotonic(), [], 0
    for file in files:
        try:
            passages += len(splitter.split_documents(load(file)))
        except Exception as error:
            failures.append(f"{file.name}: {type(error).__name__}")
    found[group.name] = {
        "files": len(files), "failures": len(failures), "passages": passages, "seconds": time.monotonic() - begun,
    }  # fmt: skip
print(json.dumps(found))
