"""Rows of Parquet into Milvus, as pymilvus's documentation has it: a partition for each sub-folder, index and load.

WAY URI COLLECTION FOLDER STAGING INDEX: `insert` sends 1,000 rows at a time, `bulk` writes files with LocalBulkWriter
and has them imported; INDEX is JSON of type and parameters. Says in JSON how long that took, without Python's start.
"""

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pymilvus import DataType, MilvusClient, connections, utility
from pymilvus.bulk_writer import BulkFileType, LocalBulkWriter

way, uri, collection, folder, staging, index = sys.argv[1:]
BATCH_ROWS, POLL_SECONDS, LONGEST_STRING = 1000, 0.2, 65_535


def batches(part: Path):
    for file in sorted(part.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
            yield batch.to_pylist()


def insert(client: MilvusClient, part: Path) -> None:
    for rows in batches(part):
        client.insert(collection, rows, partition_name=part.name)


def bulk(fields, part: Path) -> list[int]:
    with LocalBulkWriter(fields, f"{staging}/{part.name}", file_type=BulkFileType.PARQUET) as writer:
        for rows in batches(part):
            for row in rows:
                writer.append_row(row)
        writer.commit()
        return [utility.do_bulk_insert(collection, files, part.name) for files in writer.batch_files]


def schema(columns: pa.Schema):
    fields = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for column in columns:
        if column.name == "vector":
            fields.add_field(column.name, DataType.FLOAT_VECTOR, dim=json.loads(index)["dimension"])
        elif pa.types.is_integer(column.type):
            fields.add_field(column.name, DataType.INT64)
        else:
            key = column.name == "chunk_id"
            fields.add_field(column.name, DataType.VARCHAR, max_length=64 if key else LONGEST_STRING, is_primary=key)
    return fields


parts = sorted(path for path in Path(folder).iterdir() if path.is_dir())
Path(staging).mkdir(parents=True, exist_ok=True)
begun = time.monotonic()
client = MilvusClient(uri)
connections.connect(uri=uri)
fields = schema(pq.read_schema(next(parts[0].glob("*.parquet"))))
wanted = json.loads(index)
params = client.prepare_index_params()
params.add_index("vector", index_type=wanted["type"], metric_type=wanted["metric"], params=wanted["build"])
client.create_collection(collection, schema=fields)
client.create_index(collection, params, sync=False)
tasks = []
for part in parts:
    client.create_partition(collection, part.name)
    if way == "insert":
        insert(client, part)
    else:
        tasks += bulk(fields, part)
client.flush(collection)
for task in tasks:
    while (state := utility.get_bulk_insert_state(task)).state_name != "Completed":
        assert "ailed" not in state.state_name, state
        time.sleep(POLL_SECONDS)
while True:
    found = client.describe_index(collection, "vector")
    if found["total_rows"] and found["indexed_rows"] == found["total_rows"] and not found["pending_index_rows"]:
        break
    time.sleep(POLL_SECONDS)
client.load_collection(collection)
seconds = time.monotonic() - begun
(count,) = client.query(collection, "", output_fields=["count(*)"], consistency_level="Strong")
client.drop_collection(collection)
print(json.dumps({"seconds": seconds, "rows": count["count(*)"]}))
