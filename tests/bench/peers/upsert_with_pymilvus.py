"""Rows of Parquet, upserted into a collection 1,000 at a time: a sub-folder for each partition.

URI COLLECTION FOLDER; says in JSON how long that took, without Python's start.
"""

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from pymilvus import MilvusClient

uri, collection, folder = sys.argv[1:]
BATCH_ROWS = 1000

begun = time.monotonic()
client, rows = MilvusClient(uri), 0
for part in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
    for file in sorted(part.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
            client.upsert(collection, batch.to_pylist(), partition_name=part.name)
            rows += batch.num_rows
print(json.dumps({"seconds": time.monotonic() - begun, "rows": rows}))
