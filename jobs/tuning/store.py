"""The tracking store: how one gets at it, and what is said where that fails."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from ..credentials import without_credentials
from ..errors import LakevecError
from ..lake.storage import local_path

# MLflow's own patience with a server that is away is 7 tries, some minutes in all, of 2 minutes each at worst. Where
# a run of a server ends, it prints the server's address, with the password in it, on stdout.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# A driver's module, where the package that one installs for it has another name.
PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}


class StoreError(LakevecError):
    """The tracking store cannot be reached, or refused or failed."""


class ToldClient:
    """An MlflowClient whose errors come out as StoreError: its own, and those of HTTP, databases and file systems."""

    def __init__(self, client: Any, uri: str):
        self.client, self.uri = client, uri

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.client, name)

        def told(*words: Any, **named: Any) -> Any:
            try:
                return call(*words, **named)
            except Exception as error:
                raise store_error(self.uri, error) from error

        return told


def client_of(uri: str) -> Any:
    """A client of the store. Raises StoreError, at once and with what to do, where there is no way to it.

    uri: as MLflow takes it; a database is reached before MLflow tries, which would for minutes.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # MLflow takes seconds to import, and most loads build nothing.
    from mlflow.tracking import MlflowClient

    quiet()
    try:
        if uri.startswith(DATABASES):
            reach_database(uri)
        return MlflowClient(uri)
    except Exception as error:
        raise store_error(uri, error) from error


def reach_database(uri: str) -> None:
    import sqlalchemy

    address = sqlalchemy.make_url(uri)
    if address.drivername.startswith("sqlite") and address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select 1"))


def store_error(uri: str, error: Exception) -> StoreError:
    advice = "See mlflow.tracking_uri."
    if isinstance(error, ImportError) and error.name:
        module = error.name.partition(".")[0]
        advice = f"Install what it needs beside lakevec: pip install '{PACKAGES.get(module, module)}'."
    return StoreError(f"MLflow's store {without_credentials(uri)} cannot be used: {reason_of(error)} {advice}")


def reason_of(error: Exception) -> str:
    """In a line, without secrets."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return without_credentials(said if said.endswith(".") else f"{said}.")


def redacted(record: logging.LogRecord) -> bool:
    """A filter of log records that leaves secrets of addresses out."""
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True


def quiet() -> None:
    """Nothing of MLflow's log but warnings, those without secrets, and of its databases' nothing: what fails is told as
    an error."""
    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(redacted)
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def store_beside(lake_path: str) -> str | None:
    folder = local_path(lake_path)
    return None if folder is None else f"sqlite:///{folder}-mlflow.db"


def artifacts_beside(uri: str, lake_path: str) -> str | None:
    """Where the files of a new experiment lie: beside the database, or the lake. MLflow's own place for those of a
    database is the process's folder. None where the store has a place for them."""
    if file := re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri):
        return Path(f"{file[1].removesuffix('.db')}-artifacts").absolute().as_uri()
    folder = local_path(lake_path) if uri.startswith(DATABASES) else None
    return folder and Path(f"{folder}-mlflow-artifacts").absolute().as_uri()
