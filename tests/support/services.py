"""Real services for tests: started once a session in directories of their own, missing ones skipped but not in CI."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy
from confluent_kafka.admin import AdminClient

from streams.broker import provision
from streams.broker.kafka_server import start_kafka, stop_kafka
from streams.broker.postgres_server import postgres_url, start_postgres, stop_postgres
from streams.errors import SetupError
from topics.catalogue import Catalogue

_TOPIC_TIMEOUT_S = 60


@contextmanager
def service_directory() -> Iterator[Path]:
    """A directory for a server's files, removed afterwards.

    Not below pytest's own, whose permissions every new pytest process sets back: PostgreSQL, run as another user,
    would lose its files in the middle of a test.
    """
    directory = Path(tempfile.mkdtemp(prefix="webhook-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running_kafka() -> Iterator[str]:
    """A Kafka of one node; gives its ``host:port``."""
    with service_directory() as directory:
        try:
            cluster = start_kafka(directory)
        except SetupError as error:
            missing("Apache Kafka", error)
        try:
            yield cluster.bootstrap_servers
        finally:
            stop_kafka(directory)


@contextmanager
def running_postgres() -> Iterator[Path]:
    """A PostgreSQL; gives its directory."""
    with service_directory() as parent:
        directory = parent / "postgres"
        try:
            start_postgres(directory)
        except SetupError as error:
            missing("PostgreSQL", error)
        try:
            yield directory
        finally:
            stop_postgres(directory)


def use_logical_log(directory: Path) -> None:
    """Let a PostgreSQL that runs tell of rows in its log (``wal_level``); it is restarted for that."""
    engine = sqlalchemy.create_engine(postgres_url(directory), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("ALTER SYSTEM SET wal_level = logical"))
    engine.dispose()
    stop_postgres(directory)
    start_postgres(directory)


@contextmanager
def fresh_database(directory: Path) -> Iterator[str]:
    """An empty database of a running PostgreSQL; gives its SQLAlchemy URL."""
    name = f"t{uuid.uuid4().hex[:12]}"
    engine = sqlalchemy.create_engine(postgres_url(directory), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        yield postgres_url(directory, name)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


@contextmanager
def created_topics(bootstrap_servers: str, catalogue: Catalogue) -> Iterator[None]:
    """All topics of a catalogue on a real broker, deleted afterwards."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 4})
    provision.apply(admin, catalogue)
    try:
        yield
    finally:
        for future in admin.delete_topics(list(catalogue.specs), operation_timeout=_TOPIC_TIMEOUT_S).values():
            future.result(_TOPIC_TIMEOUT_S)


def missing(what: str, error: SetupError) -> NoReturn:
    """Skip the test that needs a service, with the reason; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing in CI: {error}")
    pytest.skip(f"{what} is not available: {error}")
