"""LangChain as its documentation has it: a folder's text files or PDFs, split by tokens, embedded, indexed in Milvus.

FOLDER MILVUS_URI COLLECTION MODEL RECORDS; says in JSON what it did.
"""

import json
import sys
from pathlib import Path

from langchain_classic.indexes import SQLRecordManager, index
from langchain_community.document_loaders import DirectoryLoader, PyPDFLoader, TextLoader
from langchain_huggingface import HuggingFaceEmbeddings
from langchain_milvus import Milvus
from passages_of import splitter_for

folder, uri, collection, model, records = sys.argv[1:]
if any(Path(folder).glob("*.pdf")):
    # One that cannot be read costs itself alone.
    files = DirectoryLoader(folder, glob="**/*.pdf", loader_cls=PyPDFLoader, silent_errors=True)
else:
    files = DirectoryLoader(folder, glob="**/*.*", loader_cls=TextLoader, loader_kwargs={"autodetect_encoding": True})
splitter = splitter_for(model)
read = files.load()
for each in read:
    # pypdf gives halves of surrogates, which no tokenizer takes.
    each.page_content = each.page_content.encode(errors="replace").decode()
passages = splitter.split_documents(read)
store = Milvus(
    embedding_function=HuggingFaceEmbeddings(model_name=model, encode_kwargs={"normalize_embeddings": True}),
    collection_name=collection,
    connection_args={"uri": uri},
    index_params={"index_type": "FLAT", "metric_type": "IP", "params": {}},
)
manager = SQLRecordManager(collection, db_url=f"sqlite:///{records}")
manager.create_schema()
done = index(passages, manager, store, cleanup="full", source_id_key="source")
print(json.dumps({"passages": len(passages), **done}))
