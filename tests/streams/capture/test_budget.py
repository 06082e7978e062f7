from streams.capture.budget import RECORD_OVERHEAD_BYTES, Budget
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


def test_partitions_are_those_of_the_java_clients() -> None:
    # Kafka's own test vectors of murmur2: "21" gives -973932308, "foobar" -790332482.
    budget = make({})
    assert budget.partition(TOPIC, b"21") == (-973932308 & 0x7FFFFFFF) % 3
    assert budget.partition(TOPIC, b"foobar") == (-790332482 & 0x7FFFFFFF) % 3
