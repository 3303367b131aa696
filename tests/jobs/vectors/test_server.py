import lzma
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lakevec.jobs.errors import ConfigurationError, MilvusError
from lakevec.jobs.vectors import server, server_package
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.server import ServerState, server_folder, serving, start, status, stop
from pymilvus import DataType, MilvusClient

# Enters the block, says so, and waits to be killed in it.
COMMAND_THAT_HANGS = """
import sys
from pathlib import Path
from lakevec.jobs.vectors.server import serving
with serving(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    """A server's folder; what a failed test left running in it is stopped."""
    yield tmp_path
    stop(tmp_path)


def test_the_servers_folder_lies_beside_the_lake():
    assert server_folder("/data/lake/") == Path("/data/lake-milvus")
    assert server_folder("file:///data/lake") == Path("/data/lake-milvus")


def test_a_lake_that_is_no_local_folder_has_no_packaged_server():
    with pytest.raises(ConfigurationError, match="s3://bucket/lake is no local folder"):
        server_folder("s3://bucket/lake")


def test_without_the_package_the_error_names_the_setting(monkeypatch):
    monkeypatch.setattr(server_package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"Set milvus\.uri to a server's address"):
        server_package.unpacked_server()


def test_what_a_broken_off_unpacking_left_is_replaced(tmp_path):
    packed, partial = tmp_path / "packed", tmp_path / "unpacked.partial"
    packed.mkdir()
    partial.mkdir()
    (packed / "milvus.lzma").write_bytes(lzma.compress(b"the server"))
    (partial / "half").touch()

    server_package.unpack(packed, tmp_path / "unpacked")

    assert {file.name: file.read_bytes() for file in (tmp_path / "unpacked").iterdir()} == {"milvus": b"the server"}
    assert os.access(tmp_path / "unpacked" / "milvus", os.X_OK)


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ""), (socket.AF_INET, "127.0.0.1")] + [(socket.AF_INET6, "::1")] * socket.has_dualstack_ipv6(),
)
def test_ports_of_the_last_run_are_taken_again_where_they_are_free(family, address):
    last = server_package.free_ports()
    with socket.create_server((address, last["proxy"]), family=family):
        now = server_package.free_ports(last)
    assert now.pop("proxy") != last.pop("proxy")
    assert now == last


def test_nothing_runs_where_nothing_was_started(tmp_path):
    folder = tmp_path / "none"
    assert status(folder) == stop(folder) == ServerState("stopped", None, str(folder), None)
    assert not folder.exists()


def test_a_process_that_came_to_have_the_servers_number_is_left_alone(folder):
    with subprocess.Popen(["sleep", "600"]) as stranger:
        record = server.Record(stranger.pid, server_package.free_ports(), stays=True, ready=True)
        server.write_record(folder, record)
        (folder / "server.lock").touch()

        assert status(folder).state == "stopped"
        assert stop(folder).state == "stopped"
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_that_dies_at_its_start_is_reported_with_its_last_words(folder):
    (folder / "data").mkdir()
    (folder / "data" / "etcd").write_text("no folder")
    with pytest.raises(MilvusError, match=r"ended at its start(.|\n)*data/etcd"), serving(folder):
        pass
    assert status(folder).state == "stopped"


def test_a_started_server_is_one_server_and_stays_until_it_is_stopped(folder, milvus):
    with ThreadPoolExecutor() as two:
        started = list(two.map(start, [folder, folder]))
    with serving(folder) as used:
        pass

    assert started == [used, used] == [status(folder)] * 2
    # Side by side with the server that all other tests use.
    assert used.uri != milvus.uri
    assert connect(MilvusAddress(used.uri)).list_collections() == []

    assert stop(folder) == ServerState("stopped", None, str(folder), None)
    with socket.socket() as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(("127.0.0.1", int(used.uri.rpartition(":")[2])))


@pytest.mark.slow
def test_a_killed_server_comes_back_with_its_data(folder):
    first = start(folder)
    client = connect(MilvusAddress(first.uri))
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.VARCHAR, max_length=8, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="IP")
    client.create_collection("kept", schema=schema, index_params=index)
    client.create_partition("kept", "p2024_g1")
    client.load_partitions("kept", ["p2024_g1"])
    client.upsert("kept", [{"id": str(n), "vector": [n, 1]} for n in range(3)], partition_name="p2024_g1")
    client.close()

    os.kill(first.pid, signal.SIGKILL)
    os.waitpid(first.pid, 0)
    assert status(folder).state == "stopped"

    second = start(folder)
    counted = connect(MilvusAddress(second.uri)).query(
        "kept", filter="", output_fields=["count(*)"], partition_names=["p2024_g1"], consistency_level="Strong"
    )
    assert (second.uri, counted[0]["count(*)"]) == (first.uri, 3)


def test_more_collections_than_the_servers_own_default_of_64_have_room(milvus):
    client = connect(milvus)
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    names = {f"one_of_many_{number}" for number in range(70)}
    for name in names:
        client.create_collection(name, schema=schema)
    assert names <= set(client.list_collections())
    for name in names:
        client.drop_collection(name)


def used_until_interrupted(folder: Path) -> ServerState:
    try:
        with serving(folder) as used:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return used


def test_a_server_left_over_by_a_killed_command_is_taken_over(folder):
    command = [sys.executable, "-c", COMMAND_THAT_HANGS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hanging:
        assert hanging.stdout is not None
        pid = int(hanging.stdout.readline())
        hanging.kill()
    assert (status(folder).state, status(folder).pid) == ("running", pid)

    assert used_until_interrupted(folder).pid == pid
    assert status(folder).state == "stopped"


def test_the_last_attempt_asks_for_no_port_that_was_tried_before(folder, monkeypatch):
    asked = []

    def spawn(folder, preferred):
        asked.append(preferred)
        server.write_record(folder, record := server.Record(0, {"proxy": len(asked)}))
        return record

    def taken(*_):
        raise server.PortTakenError("a port was taken")

    monkeypatch.setattr(server, "spawn", spawn)
    monkeypatch.setattr(server, "wait_until_healthy", taken)
    with pytest.raises(MilvusError, match="a port was taken"):
        start(folder)

    assert asked == [None, {"proxy": 1}, None]


def test_a_server_whose_port_was_taken_finds_another_and_lives_as_long_as_its_last_user(folder, monkeypatch):
    attempts = []

    def free_ports(preferred):
        ports = server_package.free_ports(preferred)
        attempts.append(ports | ({} if attempts else {"proxy": occupied}))
        return attempts[-1]

    monkeypatch.setattr(server, "free_ports", free_ports)
    with socket.socket() as somebody:
        somebody.bind(("", 0))
        somebody.listen()
        occupied = somebody.getsockname()[1]
        with serving(folder) as first:
            with serving(folder) as second:
                pass
            assert first == second == status(folder)
            assert first.uri == f"http://127.0.0.1:{attempts[1]['proxy']}"
    assert (len(attempts), status(folder).state) == (2, "stopped")
