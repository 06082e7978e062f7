"""Intake on batches: order of acknowledgements, redelivery, outages, hand-over."""

import asyncio
from collections.abc import Sequence

import pytest

from handlers.tenants.repository import MemoryTenantRepository, Tenant, TenantsUnavailable, TenantUnusable
from schemas.codec import decode_as
from schemas.events import DeadLetter
from streams.agents.intake import Intake
from streams.agents.intake_processor import BATCH, IntakeProcessor
from streams.engine.outcomes import Outgoing
from tests.streams.agents.support import (
    CATALOGUE,
    ORDERS,
    Log,
    LogLedger,
    Partition,
    Record,
    change,
    configuration,
    record,
    request,
)
from tests.support.waiting import eventually_async


class Tenants:
    """Tenant 1 exists, tenant 2 cannot be used; the database fails as often as it is told to."""

    def __init__(self, failures: int = 0, known: bool = False) -> None:
        self.failures = failures
        self.known = known
        self.asked = 0
        self._repository = MemoryTenantRepository()
        self._repository.create("shop", configuration(ORDERS).document)

    def peek(self, tenant_id: str) -> Tenant | None:
        """See ``TenantLookup``."""
        return self._repository.get(tenant_id) if self.known else None

    def get(self, tenant_id: str) -> Tenant | None:
        """See ``TenantLookup``."""
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise TenantsUnavailable("the database is away")
        if tenant_id == "2":
            raise TenantUnusable("tenant 2 has no configuration")
        return self._repository.get(tenant_id)


class Gate(Log):
    """A log whose acknowledgements wait until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See ``RecordPublisher``."""
        offsets = await super().publish(records)
        await self.open.wait()
        return offsets


def crashed(name: str, error: BaseException) -> None:
    pytest.fail(f"{name} crashed: {error!r}")


def make(log: Log, tenants: Tenants | None = None) -> IntakeProcessor:
    return IntakeProcessor(Intake(CATALOGUE), log, tenants or Tenants(), crashed)


async def run(processor: IntakeProcessor, partition: Partition, *records: Record) -> None:
    processor.offer(partition, records)
    await eventually_async(lambda: processor.is_idle())


async def test_a_batch_waits_twice_decisions_before_dispatches() -> None:
    log, partition = Log(), Partition()
    await run(make(log), partition, record(change(), 0), record(request(), 1), record(change(model="None"), 2))

    assert log.batches == [4, 2]
    assert log.topics()[:4] == [CATALOGUE.events] * 4
    assert [(each.kind, each.offset, each.source.offset) for each in partition.ledger.noted] == [
        ("accepted", 0, 0),
        ("matched", 1, 0),
        ("accepted", 2, 1),
        ("matched", 3, 2),
    ]
    assert partition.finished_offsets == [0, 1, 2]


async def test_nothing_is_finished_before_its_acknowledgement() -> None:
    log, partition = Gate(), Partition()
    processor = make(log)
    processor.offer(partition, [record(request(), 0)])
    await eventually_async(lambda: log.records)

    assert partition.finished_offsets == []
    assert log.topics() == [CATALOGUE.events]
    log.open.set()
    await eventually_async(lambda: partition.finished_offsets == [0])


async def test_redelivery_writes_no_second_decision_and_the_same_tier() -> None:
    first = Log()
    await run(make(first), Partition(), record(change(), 0))
    again, partition = Log(), Partition(LogLedger([each for each in first.records if each.topic == CATALOGUE.events]))
    await run(make(again), partition, record(change(), 0))

    assert again.topics() == [CATALOGUE.topic("webhook-beanstalk")]
    assert again.tasks("webhook-beanstalk") == first.tasks("webhook-beanstalk")
    assert partition.finished_offsets == [0]


async def test_a_bad_record_does_not_hold_up_its_partition() -> None:
    log, partition = Log(), Partition()
    await run(
        make(log),
        partition,
        Record(b"junk", 0),
        Record(None, 1),
        record(request(tenant_id="9"), 2),
        record(request(tenant_id="2"), 3),
        record(request(), 4),
    )

    letters = [decode_as(DeadLetter, each.value) for each in log.records if each.topic == CATALOGUE.dead_letters]
    assert [(each.offset, each.reason) for each in letters] == [
        (0, "undecodable"),
        (1, "undecodable"),
        (2, "unknown_tenant"),
        (3, "unroutable"),
    ]
    assert len(log.events()) == 1
    assert partition.finished_offsets == [0, 1, 2, 3, 4]


async def test_a_database_that_is_away_is_waited_for_and_is_no_unknown_tenant() -> None:
    log, partition, tenants = Log(), Partition(), Tenants(failures=2)
    await run(make(log, tenants), partition, record(request(), 0))

    assert tenants.asked == 3
    assert [each.kind for each in log.events()] == ["accepted"]
    assert partition.finished_offsets == [0]


async def test_a_known_tenant_costs_no_look_up() -> None:
    log, partition, tenants = Log(), Partition(), Tenants(known=True)
    await run(make(log, tenants), partition, record(request(), 0))

    assert (tenants.asked, partition.finished_offsets) == (0, [0])


async def test_many_records_go_in_bounded_batches() -> None:
    log, partition = Log(), Partition()
    await run(make(log), partition, *(record(request(event_id=f"e{n}"), n) for n in range(BATCH + 1)))

    assert log.batches == [BATCH, BATCH, 1, 1]
    assert partition.finished_offsets == list(range(BATCH + 1))


async def test_partitions_run_side_by_side() -> None:
    log = Gate()
    processor = make(log)
    processor.offer(Partition(), [record(request(event_id="a"), 0)])
    processor.offer(Partition(number=4), [record(request(event_id="b"), 0, partition=4)])

    await eventually_async(lambda: len(log.records) == 2)
    log.open.set()
    await eventually_async(lambda: processor.is_idle())


async def test_room_is_bounded_per_partition() -> None:
    log, full = Gate(), Partition()
    processor = IntakeProcessor(Intake(CATALOGUE), log, Tenants(), crashed, waiting_per_partition=2)
    processor.offer(full, [record(request(event_id="a"), 0)])
    await eventually_async(lambda: log.records)
    processor.offer(full, [record(request(event_id=f"e{n}"), n) for n in (1, 2)])

    assert not processor.has_room(full)
    assert processor.has_room(Partition())
    log.open.set()
    await eventually_async(lambda: processor.is_idle())


async def test_a_closed_partition_dispatches_and_finishes_nothing_more() -> None:
    log, partition = Gate(), Partition()
    processor = make(log)
    processor.offer(partition, [record(request(), 0)])
    await eventually_async(lambda: log.records)
    partition.closed = True
    handing_over = asyncio.create_task(processor.hand_over([partition], grace_s=10))
    log.open.set()
    await handing_over

    assert log.topics() == [CATALOGUE.events]
    assert partition.finished_offsets == []
    assert processor.is_idle()


async def test_a_crash_is_reported_and_finishes_nothing() -> None:
    class Broken(Log):
        async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
            raise RuntimeError("no more")

    reports: list[BaseException] = []
    partition = Partition()
    processor = IntakeProcessor(Intake(CATALOGUE), Broken(), Tenants(), lambda _, error: reports.append(error))
    processor.offer(partition, [record(request(), 0)])

    await eventually_async(lambda: reports)
    assert partition.finished_offsets == []


async def test_a_call_back_that_comes_again_is_not_recorded_again() -> None:
    call = request(trigger="call_back", options={"key": "order-7"})
    first = Log()
    await run(make(first), Partition(), record(call, 0))
    again, partition = Log(), Partition(LogLedger(first.records))
    await run(make(again), partition, record(call, 0))

    assert first.topics() == [CATALOGUE.events]
    assert (again.records, partition.finished_offsets) == ([], [0])
