"""The Compose file: a pinned Milvus that waits for what it needs, and is no profile of lakevec's."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.settings import load_settings

FILE = Path(__file__).parent.parent / "conf" / "milvus-compose.yml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]


def test_images_are_pinned():
    assert {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items()} == {
        "etcd": "v3.5.25",
        "minio": "RELEASE.2024-05-28T17-19-04Z",
        "standalone": "v2.6.16",
    }


def test_milvus_starts_when_the_others_are_healthy():
    assert SERVICES["standalone"]["depends_on"] == {
        "etcd": {"condition": "service_healthy"},
        "minio": {"condition": "service_healthy"},
    }
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in SERVICES.values())


def test_server_and_object_store_are_reached_from_this_machine_only():
    assert [port for service in SERVICES.values() for port in service.get("ports", [])] == [
        "127.0.0.1:9000:9000",
        "127.0.0.1:19530:19530",
        "127.0.0.1:9091:9091",
    ]


def test_data_outlive_the_containers():
    volumes = yaml.safe_load(FILE.read_text())["volumes"]
    assert {service["volumes"][0].partition(":")[0] for service in SERVICES.values()} == set(volumes)


def test_the_settings_of_its_header_are_lakevecs():
    words = FILE.read_text().split("\nname:")[0].replace("\\\n#", "").split()
    overrides = [word for before, word in pairwise(words) if before == "--set"]
    settings = load_settings(None, overrides, {})
    assert (settings.milvus.uri, settings.load.staging) == ("http://localhost:19530", "s3://lakevec/staging")
    assert SERVICES["standalone"]["environment"]["MINIO_BUCKET_NAME"] == "lakevec"


def test_it_is_not_offered_as_a_profile():
    with pytest.raises(ConfigurationError, match=r"Known profiles: [a-z, ]+; or give"):
        load_settings("nowhere", [], {})
