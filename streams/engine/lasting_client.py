"""aiokafka's client, which by itself asks only brokers of its last answer: where these are gone it is lost (F5)."""

from collections.abc import Collection
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer import consumer

_log = structlog.get_logger(__name__)


class LastingClient(AIOKafkaClient):  # type: ignore[misc]
    """Begins again with the brokers of its settings when no broker that it knows answers.

    A cluster that has just lost brokers names only those that it has heard of lately, sometimes one. When this one goes
    too, all others may be back, and nobody who is asked could say so.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # With them it falls back on these wherever it knows of no other broker.
        self.cluster = ClusterMetadata(
            metadata_max_age_ms=self._metadata_max_age_ms, bootstrap_servers=self._bootstrap_servers
        )

    async def _metadata_update(self, cluster_metadata: ClusterMetadata, topics: Collection[str]) -> bool:
        if await super()._metadata_update(cluster_metadata, topics):
            return True
        known = {(each.host, each.port) for each in self.cluster._brokers.values()}
        # Where no other one was named at first there is nobody else to ask, and who is known is only away for a while.
        if known and any((host, port) not in known for host, port, _ in self.hosts):
            _log.warning("no known broker answers; the first ones are asked again", known=sorted(self.cluster._brokers))
            self.cluster._brokers = {}
        return False


def use_lasting_clients() -> None:
    """Let every aiokafka consumer of this process have such a client: it takes no other one."""
    consumer.AIOKafkaClient = LastingClient
