"""Milvus's bulk import: submitted, waited for. What differs by server version stands here alone.

Servers up to 2.3 are asked through pymilvus's ORM half, newer ones through their REST jobs (its
wrapper in pymilvus.bulk_writer wants the clients of three object stores for two requests).
"""

import json
import time
import urllib.request
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymilvus import MilvusClient, utility

from ..errors import MilvusError
from .connection import MilvusAddress, orm_alias, server_version
from .patience import retrying

REST_SINCE = (2, 4, 0)
POLL_SECONDS = 0.2
REQUEST_SECONDS = 30
DONE, FAILED = "Completed", "Failed"
# An import that has not gone on for so long hangs: a server that was killed leaves such tasks behind.
STALLED_SECONDS = 600.0


@dataclass(frozen=True)
class ImportState:
    """state: DONE, FAILED, or on its way; reason: why it failed; progress: something that changes meanwhile."""

    state: str
    reason: str
    progress: str


class Imports:
    """The imports into one collection."""

    def __init__(self, client: MilvusClient, address: MilvusAddress, collection: str):
        self.address, self.collection = address, collection
        self.by_rest = server_version(client) >= REST_SINCE

    def submit(self, file: str, partition: str) -> int:
        """Begin the import of one Parquet file, named as the server finds it. Gives the task's number."""
        if self.by_rest:
            body = {"collectionName": self.collection, "partitionName": partition, "files": [[file]]}
            return int(self.request("create", body)["jobId"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # pymilvus would repeat it: 0 forbids that.
            return utility.do_bulk_insert(
                self.collection, [file], partition_name=partition, using=orm_alias(self.address), retry_times=0
            )

    def state(self, task: int) -> ImportState:
        if self.by_rest:
            found = retrying()(self.request, "describe", {"jobId": str(task)})
            return ImportState(found["state"], found.get("reason", ""), str(found.get("progress")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = retrying()(utility.get_bulk_insert_state, task, using=orm_alias(self.address))
        return ImportState(found.state_name, found.failed_reason, f"{found.state_name} {found.progress}")

    def request(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.address.base}/v2/vectordb/jobs/import/{action}"
        headers = {"Content-Type": "application/json"}
        if self.address.credentials:
            headers["Authorization"] = f"Bearer {self.address.credentials}"
        if self.address.database:
            body = {"dbName": self.address.database, **body}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                found = json.load(answer)
        except OSError as error:
            raise MilvusError(f"Milvus did not answer at {url}: {error}.") from error
        if found.get("code"):
            raise MilvusError(f"Milvus refused an import ({url}): {found.get('message')}.")
        return found["data"]


def wait_for_imports(imports: Imports, tasks: Mapping[int, str]) -> None:
    """Return when all tasks are done.

    tasks: number -> what it imports, in words. Raises MilvusError with the reason where one failed
    or none has gone on for STALLED_SECONDS.
    """
    waiting = dict(tasks)
    seen: dict[int, str] = {}
    moved_at = time.monotonic()
    while waiting:
        for task, what in list(waiting.items()):
            state = imports.state(task)
            if state.state == FAILED:
                raise MilvusError(
                    f"Milvus could not import {what} (task {task}): {state.reason or 'it gave no reason'}. "
                    "Nothing that is live was touched; run again when the cause is mended. The server must be "
                    "able to read load.staging."
                )
            if state.state == DONE:
                del waiting[task]
            if seen.get(task) != state.progress:
                seen[task] = state.progress
                moved_at = time.monotonic()
        if waiting and time.monotonic() - moved_at > STALLED_SECONDS:
            raise MilvusError(
                f"Milvus has not gone on with the import of {', '.join(waiting.values())} for "
                f"{STALLED_SECONDS:,.0f} s. Nothing that is live was touched; see the server's log, then run again."
            )
        if waiting:
            time.sleep(POLL_SECONDS)
