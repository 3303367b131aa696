"""When a Milvus server that was just started can be relied on."""

import time
import urllib.error
import urllib.request

import grpc
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.exceptions import MilvusException

from ..errors import MilvusError

POLL_SECONDS = 0.5

# A local server is never behind the proxy that the environment may name.
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def healthy(url: str) -> bool:
    """Whether the server says so itself; it may still be loading what was loaded before."""
    try:
        with direct.open(url, timeout=5) as answer:
            return answer.read() == b"OK"
    except OSError:
        return False


def wait_until_answering(uri: str, deadline: float) -> None:
    """Return when every collection that was loaded before the start counts its rows again.

    A server is healthy long before that; meanwhile its loaded partitions are Loading, and reads fail.
    deadline: on the clock of time.monotonic(). Raises MilvusError when it has passed.
    """
    while True:
        try:
            count_loaded(uri)
            return
        # A read that outlives its time comes as gRPC's own error.
        except (MilvusException, grpc.RpcError) as error:
            if time.monotonic() > deadline:
                reason = error.message if isinstance(error, MilvusException) else str(error)
                raise MilvusError(
                    f"Milvus at {uri} runs, but what was loaded does not answer yet: {reason}. "
                    "Try again; if it stays so, see the server's log."
                ) from error
        time.sleep(POLL_SECONDS)


def count_loaded(uri: str) -> None:
    """Count the rows of every loaded collection. Raises MilvusException or grpc.RpcError if one cannot answer."""
    client = MilvusClient(uri, timeout=10)
    try:
        for name in client.list_collections():  # pyright: ignore[reportGeneralTypeIssues]
            if client.get_load_state(name)["state"] != LoadState.NotLoad:
                client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=10)
    finally:
        client.close()
