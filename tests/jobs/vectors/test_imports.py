import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.vectors.connection import MilvusAddress
from lakevec.jobs.vectors.imports import Imports


class NewServer:
    """As much of a client as tells the version of a server with REST jobs."""

    def get_server_version(self) -> str:
        return "v2.6.16"


@pytest.fixture
def rest():
    """A server that keeps what it is asked and takes every import; its port, and the list of requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Authorization"], body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"code": 0, "data": {"jobId": "7"}}).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


def test_a_password_and_a_database_in_the_address_reach_the_server_where_they_belong(rest):
    port, asked = rest
    imports = Imports(NewServer(), MilvusAddress(f"http://root:secret@127.0.0.1:{port}/shop"), "passages")

    assert imports.submit("a.parquet", "p2024_g1") == 7
    body = {"dbName": "shop", "collectionName": "passages", "partitionName": "p2024_g1", "files": [["a.parquet"]]}
    assert asked == [("/v2/vectordb/jobs/import/create", "Bearer root:secret", body)]


def test_a_password_in_the_address_is_in_no_message():
    imports = Imports(NewServer(), MilvusAddress("http://root:secret@127.0.0.1:1"), "passages")

    with pytest.raises(MilvusError, match=r"Milvus did not answer at http://127\.0\.0\.1:1/v2") as failure:
        imports.submit("a.parquet", "p2024_g1")
    assert "secret" not in str(failure.value)
