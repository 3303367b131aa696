"""Where Milvus is, and the way in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import grpc
from pymilvus import MilvusClient, connections
from pymilvus.exceptions import MilvusException
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from ..errors import MilvusError
from ..settings import Settings
from .server import server_folder, serving

CONNECT_SECONDS = 10.0
STANDALONE = "standalone"
# Worth another try: nothing was wrong with the request.
TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED}

Result = TypeVar("Result")


@dataclass(frozen=True)
class MilvusAddress:
    """A server's address, or the path of a Milvus Lite file, which ends in .db."""

    uri: str
    token: str | None = field(default=None, repr=False)

    @property
    def is_lite(self) -> bool:
        return self.uri.endswith(".db")


@contextmanager
def milvus_for(settings: Settings, lake_path: str) -> Iterator[MilvusAddress]:
    """The address that `milvus.uri` means, good for as long as the block lasts.

    With `standalone` that is the packaged server of this lake: the one that runs, or one that is
    started here and stopped at the end.
    """
    if settings.milvus.uri == STANDALONE:
        with serving(server_folder(lake_path)) as server:
            yield MilvusAddress(str(server.uri))
    else:
        token = settings.milvus.token
        yield MilvusAddress(settings.milvus.uri, token.get_secret_value() if token else None)


def connect(address: MilvusAddress) -> MilvusClient:
    """A client of the server (or of the Lite file, whose folder is made if it is missing).

    Clients of one address in one process share a channel. Raises MilvusError that names the address
    and the cause, after about CONNECT_SECONDS at most.
    """
    if address.is_lite:
        Path(address.uri).absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        return MilvusClient(address.uri, token=address.token or "", timeout=CONNECT_SECONDS)
    except Exception as error:
        raise connection_error(address, error) from error


def orm_alias(address: MilvusAddress) -> str:
    """The alias under which pymilvus's ORM half (`utility`, `Collection`) reaches the same server.

    It connects at the first call in a process; the later ones only return the alias.
    """
    alias = "lakevec-" + sha256(f"{address.uri} {address.token}".encode()).hexdigest()[:12]
    if not connections.has_connection(alias):
        try:
            connections.connect(alias, uri=address.uri, token=address.token or "", timeout=CONNECT_SECONDS)
        except Exception as error:
            raise connection_error(address, error) from error
    return alias


def server_version(client: MilvusClient) -> tuple[int, int, int]:
    """Such as (2, 3, 5)."""
    text = str(client.get_server_version()).removeprefix("v").partition("-")[0]
    major, minor, patch, *_ = [*(int(part) for part in text.split(".")), 0, 0]
    return major, minor, patch


def retrying() -> Retrying:
    """The one retry policy for calls to Milvus: `retrying()(client.upsert, name, rows)`.

    It repeats only what failed on the way (server away for a moment, too busy), five times within
    about 15 s; the last error is raised as it is. For idempotent calls only: a call that failed on
    its way back was done nevertheless.
    """
    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(5),
        wait=wait_exponential_jitter(initial=0.5, max=8, jitter=1),
        reraise=True,
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment."""
    return any(isinstance(one, grpc.RpcError) and status_of(one) in TRANSIENT for one in causes(error))


def status_of(error: grpc.RpcError) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def connection_error(address: MilvusAddress, error: Exception) -> MilvusError:
    """What can be done about it. pymilvus says the same of a wrong token, a wrong host and a stopped server."""
    cause = " <- ".join(cause_in_words(one) for one in causes(error))
    if address.token:
        for secret in {address.token, address.token.partition(":")[2]} - {""}:
            cause = cause.replace(secret, "***")
    if address.is_lite:
        advice = (
            "Another process has it open, most likely: Milvus Lite serves one process at a time. End that one, "
            "or set milvus.uri to a server's address."
        )
    elif "UNAUTHENTICATED" in cause or "auth check failure" in cause:
        advice = "The server refuses the token: see milvus.token."
    else:
        advice = "Is it running, and are milvus.uri and milvus.token right?"
    return MilvusError(f"No connection to Milvus at {address.uri}. {advice} Cause: {cause}")


def cause_in_words(error: BaseException) -> str:
    if isinstance(error, MilvusException):
        return error.message
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
