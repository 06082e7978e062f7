"""Fixtures that every room may use: settings of an installation of its own, and the brokers and databases it runs on.

``settings``           an installation with unique topic names, 4 partitions and a data directory of its own
``catalogue``          its topics; a test that also asks for ``kafka`` finds them created there
``embedded_broker``    the embedded broker with these topics; ``embedded_settings`` points at it
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.settings import Settings
from topics.catalogue import Catalogue

_QUEUES = ("high", "beanstalk", "redis", "db", "low", "failed")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation of its own: no other test shares its topics or files."""
    prefix = f"t{uuid.uuid4().hex[:10]}"
    queues = {f"{queue}_queue": f"{prefix}-{queue}" for queue in _QUEUES}
    return Settings.model_validate({"data_dir": tmp_path, "topic_prefix": prefix, "partitions": 4, **queues})


@pytest.fixture
def catalogue(settings: Settings) -> Catalogue:
    """The topics of ``settings``."""
    return settings.catalogue()


@pytest.fixture
def embedded_broker(catalogue: Catalogue) -> Iterator[EmbeddedBroker]:
    """An embedded broker with the topics of ``catalogue``."""
    with EmbeddedBroker(catalogue) as broker:
        yield broker


@pytest.fixture
def embedded_settings(settings: Settings, embedded_broker: EmbeddedBroker) -> Settings:
    """``settings``, pointed at ``embedded_broker``."""
    return embedded_broker.settings(settings)
