"""One Milvus server and one Spark session for the whole run, with all their data in temporary folders."""

import pytest
from lakevec.jobs.lake.session import spark_session
from lakevec.jobs.settings import load_settings
from lakevec.jobs.vectors.connection import MilvusAddress
from lakevec.jobs.vectors.server import serving


@pytest.fixture(scope="session")
def milvus(tmp_path_factory):
    """The address of a real standalone server; give collections names of your own."""
    with serving(tmp_path_factory.mktemp("milvus")) as server:
        yield MilvusAddress(str(server.uri))


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spark")
    settings = load_settings(
        "local",
        [
            "spark.master=local[2]",
            f"spark.conf.spark.sql.warehouse.dir={folder / 'warehouse'}",
            f"spark.conf.spark.local.dir={folder / 'local'}",
            f"spark.conf.spark.driver.extraJavaOptions=-Dderby.system.home={folder}",
        ],
        environment={},
    )
    session = spark_session(settings.spark)
    yield session
    session.stop()
