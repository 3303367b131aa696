import inspect

import grpc
import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.vectors import patience
from lakevec.jobs.vectors.partitions import Generation, counts_when_answering, keys
from lakevec.jobs.vectors.patience import AGAIN, PatientClient, retrying
from pymilvus import MilvusClient, MilvusException
from tenacity import wait_none

# As pymilvus and Milvus 2.3.5 say it while a server is killed and comes back.
GONE = MilvusException(2, "Fail connecting to server on 127.0.0.1:19530, illegal connection params or unavailable")
LOADING = MilvusException(101, "failed to query: collection not loaded[collection=470696818159910940]")


class RpcFailure(grpc.RpcError, grpc.Call):
    """What gRPC raises, with a status code of our choice."""

    def __init__(self, code: grpc.StatusCode):
        self.code = lambda: code
        self.details = lambda: "as told"

    add_callback = cancel = initial_metadata = is_active = time_remaining = trailing_metadata = None


def rpc_failure(code: grpc.StatusCode) -> MilvusException:
    error = MilvusException(message="failed")
    error.__cause__ = RpcFailure(code)
    return error


def failing_call(errors: list[Exception]):
    """A call that fails with each error in turn and then answers with the number of calls."""
    calls = []

    def call() -> int:
        calls.append(None)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return len(calls)

    return call


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(patience, "wait_exponential_jitter", lambda **_: wait_none())
    monkeypatch.setattr(patience, "wait_fixed", lambda _: wait_none())


def test_a_server_that_is_away_or_slow_for_a_moment_is_asked_again():
    late = RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED)
    assert retrying()(failing_call([GONE, rpc_failure(grpc.StatusCode.UNAVAILABLE), late, ConnectionResetError()])) == 5


def test_what_stays_away_is_told_in_the_end(monkeypatch):
    monkeypatch.setattr(patience, "AWAY_SECONDS", 0.01)
    with pytest.raises(MilvusException, match="Fail connecting"):
        retrying()(failing_call([GONE] * 1_000_000))


def test_where_waiting_is_in_vain_it_is_short(monkeypatch):
    monkeypatch.setattr(patience, "LAST_SECONDS", 0.01)
    asked = []

    def says():
        asked.append(1)
        return len(asked) > 3

    with patience.in_vain(says), pytest.raises(MilvusException, match="Fail connecting"):
        retrying()(failing_call([GONE] * 1_000_000))
    assert len(asked) > 3
    assert not patience.is_vain()


@pytest.mark.parametrize(
    "error",
    [
        rpc_failure(grpc.StatusCode.UNAUTHENTICATED),
        MilvusException(65535, "create duplicate collection with different parameters"),
        # Whoever has not loaded it may wait for ever.
        LOADING,
        MilvusError("Rows may not go to Milvus."),
    ],
)
def test_what_is_refused_is_not_asked_again(error):
    refused = failing_call([error])
    with pytest.raises(type(error)):
        retrying()(refused)
    assert refused() == 2


def test_a_refused_token_is_refused_though_pymilvus_calls_the_server_unavailable():
    error = MilvusException(2, "server unavailable")
    error.__cause__ = RpcFailure(grpc.StatusCode.UNAUTHENTICATED)
    with pytest.raises(MilvusException):
        retrying()(failing_call([error]))


class WakingClient:
    """A server that was restarted a moment ago: its first reads fail in each of the ways that were seen."""

    def __init__(self):
        self.answer = failing_call([GONE, LOADING, RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED)])

    def get_server_version(self):
        return "v2.3.5"

    def query(self, *_, **__):
        self.answer()
        return [{"count(*)": 7}]

    def query_iterator(self, *_, **__):
        self.answer()
        return self

    def next(self):
        return [{"chunk_id": "a"}] if self.answer() == 5 else []

    def close(self):
        pass


def test_counts_and_keys_outlast_a_restart_of_the_server():
    generation = Generation("2024", 1)
    assert counts_when_answering(WakingClient(), "c", [generation]) == {generation: 7}
    assert keys(WakingClient(), "c", generation) == ["a"]


def test_the_client_repeats_what_may_be_repeated_and_no_import_or_insert(monkeypatch):
    monkeypatch.setattr(patience, "retrying", lambda: lambda call, *_, **__: f"patient {call.__name__}")
    client = PatientClient.__new__(PatientClient)
    assert {name for name in AGAIN if getattr(client, name)() != f"patient {name}"} == set()
    assert PatientClient.insert is MilvusClient.insert
    assert PatientClient.create_collection is MilvusClient.create_collection
    assert inspect.signature(PatientClient.upsert) == inspect.signature(MilvusClient.upsert)
