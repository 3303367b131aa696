"""What Milvus refuses in the middle of something, in lakevec's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from pymilvus import MilvusException
from pymilvus.client.types import Status

from ..errors import MilvusError
from .connection import MilvusAddress, cause_in_words, connection_error


@contextmanager
def failures_told(address: MilvusAddress) -> Iterator[None]:
    """Errors of pymilvus and gRPC come out as MilvusError, with the cause kept."""
    try:
        yield
    # A call that outlives its time comes as gRPC's own error.
    except (MilvusException, grpc.RpcError) as error:
        # pymilvus keeps a client, and connects it anew within a call.
        if isinstance(error, MilvusException) and error.code == Status.CONNECT_FAILED:
            raise connection_error(address, error) from error
        raise MilvusError(
            f"Milvus at {address} failed: {cause_in_words(error)}. Run again: a load goes on where it was."
        ) from error
