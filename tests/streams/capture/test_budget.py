from types import SimpleNamespace
from typing import Any

from confluent_kafka import OFFSET_INVALID, TopicPartition

from streams.capture.budget import RECORD_OVERHEAD_BYTES, Budget, committed_offsets
from topics.catalogue import build_catalogue

CATALOGUE = build_catalogue(partitions=3)
TOPIC = CATALOGUE.changes


def make(committed: dict[int, int], unread_bytes: int = 10_000, unread_batches: int = 100) -> Budget:
    return Budget(CATALOGUE, lambda _topic: committed, unread_bytes, unread_batches)


def test_bytes_are_free_again_once_their_records_are_committed() -> None:
    committed: dict[int, int] = {}
    budget = make(committed, unread_bytes=2 * (1000 + RECORD_OVERHEAD_BYTES))
    for offset in range(2):
        assert budget.reserve(TOPIC, 0, 1000)
        budget.written(TOPIC, 0, offset, 1000)
    committed[0] = 1
    assert budget.reserve(TOPIC, 0, 1000)
    assert not budget.reserve(TOPIC, 0, 1000)


def test_each_partition_has_its_own_room_and_a_failed_write_gives_it_back() -> None:
    budget = make({}, unread_batches=1)
    assert budget.reserve(TOPIC, 0, 1)
    assert not budget.reserve(TOPIC, 0, 1)
    assert budget.reserve(TOPIC, 1, 1)
    budget.give_back(TOPIC, 0, 1)
    assert budget.reserve(TOPIC, 0, 1)


def test_what_is_finished_takes_room_that_there_is_not() -> None:
    committed: dict[int, int] = {}
    budget = make(committed, unread_bytes=4 * (1000 + RECORD_OVERHEAD_BYTES))
    assert budget.fits(TOPIC, 0, 1000) == 4
    for offset in range(5):
        budget.take(TOPIC, 0, 1000)
        budget.written(TOPIC, 0, offset, 1000)
    assert budget.is_half_full(TOPIC, 0)
    committed[0] = 4
    assert budget.fits(TOPIC, 0, 1000) == 3
    assert not budget.is_half_full(TOPIC, 0)


def test_partitions_are_those_of_the_java_clients() -> None:
    # Kafka's own test vectors of murmur2: "21" gives -973932308, "foobar" -790332482.
    budget = make({})
    assert budget.partition(TOPIC, b"21") == (-973932308 & 0x7FFFFFFF) % 3
    assert budget.partition(TOPIC, b"foobar") == (-790332482 & 0x7FFFFFFF) % 3


def test_each_topic_is_read_by_a_group_of_its_own() -> None:
    asked: list[str] = []

    def answer(requests: list[Any], **_: object) -> dict[str, Any]:
        asked.append(requests[0].group_id)
        places = [TopicPartition("t", 0, 7), TopicPartition("t", 1, OFFSET_INVALID)]
        result = SimpleNamespace(result=lambda: SimpleNamespace(topic_partitions=places))
        return {requests[0].group_id: result}

    read = committed_offsets(SimpleNamespace(list_consumer_group_offsets=answer), CATALOGUE)
    topics = (CATALOGUE.changes, CATALOGUE.requests, CATALOGUE.events, CATALOGUE.scheduled)
    assert [read(topic) for topic in (*topics, CATALOGUE.steps("webhook-low"))] == [{0: 7}] * 5
    assert asked == ["webhook-intake"] * 2 + ["webhook-projector"] * 2 + ["webhook-low"]
