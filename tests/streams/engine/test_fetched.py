"""Light records are the same records, and as many."""

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.engine.fetched import FetchedRecord, FetchedRecords

_BASE = fetcher.PartitionRecords.__mro__[-2]
_FIELDS = ("topic", "partition", "offset", "timestamp", "key", "value")


def _records(cls: type[Any], first: int) -> Any:
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
    batch.append(0, 1_700_000_000_000, b"1|Order|1", b"one", [("ce_id", b"a"), ("traceparent", None)])
    batch.append(1, 1_700_000_000_001, None, b"two", [])
    batch.append(2, 1_700_000_000_002, b"1|Order|2", None, [])
    return cls(TopicPartition("tier", 3), MemoryRecords(bytes(batch.build())), [], first, None, None, True, 0)


def _told(record: Any) -> tuple[Any, ...]:
    return *(getattr(record, name) for name in _FIELDS), tuple(record.headers)


def test_they_say_what_aiokafkas_say() -> None:
    light, full = _records(FetchedRecords, 1), _records(_BASE, 1)
    assert [_told(each) for each in light] == [_told(each) for each in full]
    assert light.next_fetch_offset == full.next_fetch_offset == 3


def test_a_part_of_them_is_taken_and_the_rest_later() -> None:
    records = _records(FetchedRecords, 0)
    for first in records:
        assert isinstance(first, FetchedRecord)
        break
    assert [first.offset, records.next_fetch_offset] == [0, 1]
    assert [each.offset for each in records] == [1, 2]
