import subprocess
import sys
import time
from importlib import metadata

import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.settings import load_settings
from lakevec.jobs.vectors.connection import (
    MilvusAddress,
    connect,
    milvus_for,
    orm_alias,
    server_version,
)
from lakevec.jobs.vectors.server import server_folder, status
from pymilvus import utility

NOBODY_LISTENS = "127.0.0.1:1"


def test_both_halves_of_pymilvus_reach_the_server(milvus):
    client = connect(milvus)
    assert server_version(client) == tuple(int(part) for part in metadata.version("milvus").split("."))
    assert orm_alias(milvus) == orm_alias(milvus)
    assert sorted(utility.list_collections(using=orm_alias(milvus))) == sorted(client.list_collections())


@pytest.mark.parametrize("way_in", [connect, orm_alias])
def test_an_address_where_nobody_listens_is_named_with_the_cause_and_without_secrets(way_in):
    began = time.monotonic()
    with pytest.raises(MilvusError) as failure:
        way_in(MilvusAddress(f"http://reader:hidden@{NOBODY_LISTENS}", "root:secret"))
    assert f"No connection to Milvus at http://{NOBODY_LISTENS}." in str(failure.value)
    assert "UNAVAILABLE" in str(failure.value)
    assert "hidden" not in str(failure.value)
    assert "secret" not in str(failure.value)
    assert time.monotonic() - began < 30


def test_an_address_shows_no_secrets():
    address = MilvusAddress("https://reader:hidden@milvus.example:19530", "root:secret")
    assert repr(address) == "MilvusAddress('https://milvus.example:19530')"
    assert str(MilvusAddress("http://reader:hid/den@milvus.example?token=hidden")) == "http://milvus.example?token=***"


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (MilvusAddress("http://root:p%40ss@host:19530/shop"), ("http://host:19530", "shop", "root:p@ss")),
        (MilvusAddress("http://root:p/w@host:19530/shop"), ("http://host:19530", "shop", "root:p/w")),
        (MilvusAddress("https://key@host/"), ("https://host", None, "key")),
        (MilvusAddress("https://host/", "key"), ("https://host", None, "key")),
        (MilvusAddress("http://root:one@host:1", "root:two"), ("http://host:1", None, "root:two")),
        (MilvusAddress("/data/index.db"), ("/data/index.db", None, None)),
    ],
)
def test_an_address_is_taken_apart(address, parts):
    assert (address.base, address.database, address.credentials) == parts


def test_a_lite_file_is_made_with_its_folder_and_serves_one_process(tmp_path):
    address = MilvusAddress(str(tmp_path / "new" / "index.db"))
    client = connect(address)
    assert (address.is_lite, client.list_collections()) == (True, [])
    with pytest.raises(MilvusError, match=r"its version is 'milvus_lite"):
        server_version(client)

    code = f"""
from lakevec.jobs.vectors.connection import MilvusAddress, connect
connect(MilvusAddress({address.uri!r}))
"""
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert second.returncode == 1
    assert f"No connection to Milvus at {address.uri}. Another process has it open" in second.stderr


def test_a_lite_file_whose_folder_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MilvusError, match="its folder cannot be made"):
        connect(MilvusAddress(str(tmp_path / "file" / "index.db")))


def test_an_address_in_the_settings_is_used_as_it_is_and_needs_no_lake():
    settings = load_settings("prod", ["milvus.uri=http://milvus.example:19530", "milvus.token=root:secret"], {})
    assert settings.lake.path is None
    with milvus_for(settings) as address:
        assert address == MilvusAddress("http://milvus.example:19530", "root:secret")


def test_standalone_is_a_server_for_as_long_as_the_block_lasts(tmp_path):
    lake = str(tmp_path / "lake")
    with milvus_for(load_settings("local", ["milvus.uri=standalone", f"lake.path={lake}"], {})) as address:
        assert connect(address).list_collections() == []
    assert status(server_folder(lake)).state == "stopped"
