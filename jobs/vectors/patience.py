"""What is said to Milvus once more when it failed, for how long, and what is not: decided here alone, for all requests.

Said again, for up to AWAY_SECONDS: idempotent calls (AGAIN) that failed because the server was away, was
starting, was too busy, or did not answer in time. A call that failed on its way back was done
nevertheless, so only these: reads, upserts and deletes by key, partitions made, loaded, released and
dropped. A server that is restarted takes calls again after 5 to 20 s.

Reads of what it had loaded fail for some 15 s longer, as "not loaded", and those of what was loaded a
moment ago: those who know that it is loaded, and they alone, wait for it (when_answering).

A run that is told to end, and one whose own server has died, wait for LAST_SECONDS at most (in_vain).

Fatal at once: whatever the server refuses (a wrong token, a wrong request, a name that it does not
know); the first connection of a command (connect), where the settings are as likely wrong as the
server away; `create_collection`, which a restarted server refuses to repeat: the whole step is begun
anew (routes.publish, collection.open_collection); and above all an import. Whether one was begun
cannot be known, and begun twice it would double rows: the generation is abandoned, the next load
begins another.
"""

import functools
import http.client
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import ErrorCode, MilvusException
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter, wait_fixed

AWAY_SECONDS = 90.0
ANSWER_SECONDS = 120.0
# So long at most where waiting is in vain (see `in_vain`).
LAST_SECONDS = 10.0
ANSWER_POLL_SECONDS = 0.2

Result = TypeVar("Result")

# Nothing was wrong with the request.
TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Milvus's own: service unavailable (pymilvus says so of a server that it cannot reach), request and rate limits.
# Not ready is 1, as everything that pymilvus itself does not like.
TRANSIENT_CODES = {2, 4, int(ErrorCode.RATE_LIMIT)}
NOT_READY = "service not ready"
TRANSIENT_HTTP = {408, 429, 502, 503, 504}

AGAIN = (
    "has_collection", "describe_collection", "list_collections", "list_partitions", "list_aliases",
    "list_indexes", "describe_index", "get_load_state", "get_server_version", "query", "search",
    "upsert", "delete",
    "create_partition", "load_partitions", "load_collection", "release_partitions", "drop_partition",
    "alter_alias", "drop_collection",
)  # fmt: skip


said_to_be_vain: list[Callable[[], bool]] = []


@contextmanager
def in_vain(says: Callable[[], bool]) -> Iterator[None]:
    """Within the block, in all threads of the process: no long waiting for a server where `says` says so."""
    said_to_be_vain.append(says)
    try:
        yield
    finally:
        said_to_be_vain.remove(says)


def is_vain() -> bool:
    return any(says() for says in said_to_be_vain)


def waited_enough(seconds: float) -> Callable[[RetryCallState], bool]:
    return lambda state: (state.seconds_since_start or 0.0) >= (min(seconds, LAST_SECONDS) if is_vain() else seconds)


def retrying() -> Retrying:
    """The one policy: `retrying()(call, *arguments)`. Idempotent calls only; the last error is raised as it is."""
    return Retrying(
        retry=retry_if_exception(is_transient),
        # By time, so that one call within another adds nothing.
        stop=waited_enough(AWAY_SECONDS),
        wait=wait_exponential_jitter(initial=0.5, max=8, jitter=1),
        reraise=True,
    )


def when_answering(read: Callable[[], Result]) -> Result:
    """What `read` gives of loaded partitions, as soon as the server that loaded them answers."""
    waking = Retrying(
        retry=retry_if_exception(is_waking),
        stop=waited_enough(ANSWER_SECONDS),
        wait=wait_fixed(ANSWER_POLL_SECONDS),
        reraise=True,
    )
    return waking(read)


def is_waking(error: BaseException) -> bool:
    """Whether what is loaded may answer in a moment: Milvus has many words for that it does not yet."""
    return is_transient(error) or (isinstance(error, MilvusException) and not statuses(error))


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment."""
    if found := statuses(error):
        # pymilvus says "unavailable" of a refused token as well.
        return found <= TRANSIENT
    return any(is_away(one) for one in causes(error))


def is_away(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in TRANSIENT_HTTP
    if isinstance(error, MilvusException):
        return error.code in TRANSIENT_CODES or NOT_READY in error.message
    return isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError | http.client.HTTPException)


def statuses(error: BaseException) -> set[grpc.StatusCode | None]:
    """What gRPC says, of the error and its causes."""
    found = (one for one in causes(error) if isinstance(one, grpc.RpcError))
    return {one.code() if isinstance(one, grpc.Call) else None for one in found}


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from; pymilvus raises some from themselves."""
    told: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in told:
        told.append(one)
        yield one
        one = one.__cause__


class PatientClient(MilvusClient):
    """A client that makes its idempotent calls (AGAIN) under the policy."""


def patient(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def method(*arguments: Any, **options: Any) -> Any:
        return retrying()(call, *arguments, **options)

    return method


for name in AGAIN:
    setattr(PatientClient, name, patient(getattr(MilvusClient, name)))
