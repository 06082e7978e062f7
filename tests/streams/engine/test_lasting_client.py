"""A consumer whose last answer named only brokers that are gone finds the cluster again (F5)."""

import socket
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.metadata import MetadataResponse_v1

from streams.engine.lasting_client import LastingClient, use_lasting_clients
from streams.settings import Settings
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded

GONE = 99


def only_broker(port: int) -> MetadataResponse_v1:
    """The answer of a broker that has heard of one other broker and of no topic."""
    return MetadataResponse_v1([(GONE, "127.0.0.1", port, None)], GONE, [])


@pytest.fixture
async def client(embedded_settings: Settings) -> AsyncIterator[LastingClient]:
    """The client of a consumer that runs."""
    use_lasting_clients()
    consumer = AIOKafkaConsumer(bootstrap_servers=embedded_settings.bootstrap_servers)
    await consumer.start()
    assert isinstance(consumer._client, LastingClient)
    yield consumer._client
    await consumer.stop()


async def test_a_client_whose_every_known_broker_is_gone_asks_the_first_ones_again(client: LastingClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    known = client.cluster.brokers()
    client.cluster.update_metadata(only_broker(port))
    assert {each.nodeId for each in client.cluster.brokers()} == {GONE}

    def is_back() -> bool:
        client.force_metadata_update()
        return bool(client.cluster.brokers() == known)

    await eventually_async(is_back, 60, "the cluster's own brokers are known again")


async def test_brokers_that_answer_are_kept(client: LastingClient) -> None:
    assert await client.force_metadata_update()
    assert not any(client.cluster.is_bootstrap(each.nodeId) for each in client.cluster.brokers())
