"""Intake on the driver: batches of each partition side by side, one wait for decisions and one for dispatches."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import structlog

from handlers.tenants.configuration import TenantConfiguration
from handlers.tenants.repository import Tenant, TenantsUnavailable, TenantUnusable
from schemas.errors import PipelineError, Undecodable
from schemas.events import ModelChanged, Source, TaskEvent, WebhookRequested, now_micros
from streams.agents.intake import NOTHING_DECIDED, Decided, Intake, Plan, UnknownTenant, read_record
from streams.agents.matching import Unroutable
from streams.agents.producer import RecordPublisher
from streams.background import OnCrash, run_in_background
from streams.engine.contract import AssignedPartition, ConsumedRecord, LedgerEntry
from streams.engine.letter_limit import DeadLetterFlood, DeadLetterLimit
from streams.engine.outcomes import Outgoing
from streams.headers import task_identity

_log = structlog.get_logger(__name__)

BATCH: Final = 500
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_LONGEST_STOP_S: Final = 10.0

Read: TypeAlias = tuple[ConsumedRecord, ModelChanged | WebhookRequested | Undecodable]
Configuration: TypeAlias = TenantConfiguration | PipelineError
"""A tenant's configuration, or why there is none."""


class TenantLookup(Protocol):
    """Finds tenants; ``handlers.tenants.cache.CachedTenants`` is one."""

    def peek(self, tenant_id: str) -> Tenant | None:
        """The tenant if it is known and fresh, without any input or output."""

    def get(self, tenant_id: str) -> Tenant | None:
        """The tenant, ``None`` where there is none. Blocks. Raises as ``TenantRepository`` does."""


class _Partition:
    """What waits of one assigned partition, and whether a batch of it is under way."""

    def __init__(self) -> None:
        self.waiting: deque[ConsumedRecord] = deque()
        self.running: asyncio.Task[None] | None = None


class IntakeProcessor:
    """A ``RecordProcessor`` of changes and requests. A record is finished when all it leads to is acknowledged."""

    def __init__(
        self,
        intake: Intake,
        publisher: RecordPublisher,
        tenants: TenantLookup,
        on_crash: OnCrash,
        waiting_per_partition: int = 2000,
    ) -> None:
        self._intake = intake
        self._publisher = publisher
        self._tenants = tenants
        self._on_crash = on_crash
        self._waiting_per_partition = waiting_per_partition
        self._partitions: dict[AssignedPartition, _Partition] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._hindered = 0
        self.letter_limit: DeadLetterLimit | None = None

    async def start(self) -> None:
        """See ``RecordProcessor``."""
        await self._publisher.start()
        if self.letter_limit is not None:
            await self.letter_limit.start()

    def offer(self, partition: AssignedPartition, records: Sequence[ConsumedRecord]) -> None:
        """See ``RecordProcessor``."""
        state = self._partitions.setdefault(partition, _Partition())
        state.waiting.extend(records)
        if state.running is None:
            name = f"intake {partition.topic}/{partition.number}"
            state.running = run_in_background(name, self._work(partition, state), self._on_crash)

    def has_room(self, partition: AssignedPartition) -> bool:
        """See ``RecordProcessor``."""
        state = self._partitions.get(partition)
        return state is None or len(state.waiting) < self._waiting_per_partition

    def is_idle(self) -> bool:
        """See ``RecordProcessor``."""
        return all(state.running is None and not state.waiting for state in self._partitions.values())

    def is_excused(self, partition: AssignedPartition) -> bool:
        """See ``RecordProcessor``: the tenants' database is away, or the brokers have not answered or have no room."""
        return self._hindered > 0

    async def hand_over(self, partitions: Sequence[AssignedPartition], grace_s: float) -> None:
        """See ``RecordProcessor``. No claims are needed: the next owner finds what was decided and goes on from it."""
        running: list[asyncio.Task[None]] = []
        for partition in partitions:
            state = self._partitions.pop(partition, None)
            if state is None:
                continue
            state.waiting.clear()
            if state.running is not None:
                running.append(state.running)
        if running:
            _, unfinished = await asyncio.wait(running, timeout=grace_s)
            for task in unfinished:
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

    async def stop(self) -> None:
        """See ``RecordProcessor``."""
        running = [state.running for state in self._partitions.values() if state.running is not None]
        running += self._leaving
        if running:
            _, unfinished = await asyncio.wait(running, timeout=_LONGEST_STOP_S)
            for task in unfinished:
                task.cancel()
        await self._publisher.stop()

    async def _work(self, partition: AssignedPartition, state: _Partition) -> None:
        try:
            while state.waiting and not partition.closed:
                batch = [state.waiting.popleft() for _ in range(min(BATCH, len(state.waiting)))]
                await self._carry_out(partition, batch)
        finally:
            state.running = None

    async def _carry_out(self, partition: AssignedPartition, batch: Sequence[ConsumedRecord]) -> None:
        """Plan, write the decisions, then the dispatches, then finish."""
        read = [(record, _read(record)) for record in batch]
        configurations = await self._configurations(partition, read)
        if configurations is None:
            return
        plans: list[Plan] = []
        flood: DeadLetterFlood | None = None
        for record, event in read:
            if isinstance(event, Undecodable):
                try:
                    if self.letter_limit is not None:
                        self.letter_limit.count()
                except DeadLetterFlood as error:
                    # What came before it is carried out, so that its letters are there to be read.
                    flood = error
                    break
                plans.append(self._intake.give_up(record, event, now_micros()))
            else:
                decided = await _decided(partition, record)
                configuration = configurations[event.tenant_id]
                plans.append(self._intake.plan(record, event, configuration, decided, now_micros()))
        decisions = [each for plan in plans for each in plan.decisions]
        offsets = await self._publish(partition, [each.record for each in decisions])
        if offsets is None:
            return
        for (_, decision), offset in zip(decisions, offsets, strict=True):
            if decision is not None:
                partition.ledger.note(_ledger_entry(partition, decision, offset))
        if await self._publish(partition, [each for plan in plans for each in plan.dispatches]) is None:
            return
        for record in batch[: len(plans)]:
            partition.finish(record.offset)
        if flood is not None:
            raise flood

    async def _publish(self, partition: AssignedPartition, records: Sequence[Outgoing]) -> Sequence[int] | None:
        """``None`` where the partition is closed: its next owner reads the ledger and goes on from there (R5, R9)."""
        if partition.closed:
            return None
        self._hindered += 1
        try:
            return await self._publisher.publish(records)
        finally:
            self._hindered -= 1

    async def _configurations(
        self, partition: AssignedPartition, read: Sequence[Read]
    ) -> Mapping[str, Configuration] | None:
        """Configurations by tenant; ``None`` where the partition was closed while the database was away."""
        tenant_ids = {event.tenant_id for _, event in read if not isinstance(event, Undecodable)}
        known = {tenant_id: self._tenants.peek(tenant_id) for tenant_id in tenant_ids}
        found: dict[str, Configuration] = {name: each.configuration for name, each in known.items() if each is not None}
        missing = tenant_ids - found.keys()
        pause_s = _FIRST_PAUSE_S
        while missing and not partition.closed:
            try:
                return found | await asyncio.to_thread(lambda: {each: self._configuration(each) for each in missing})
            except TenantsUnavailable as error:
                # Not an unknown tenant: nobody can say whether it exists.
                _log.warning("tenants cannot be looked up; intake waits", error=str(error), retry_in_s=pause_s)
            self._hindered += 1
            try:
                await asyncio.sleep(pause_s)
            finally:
                self._hindered -= 1
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return None if missing else found

    def _configuration(self, tenant_id: str) -> Configuration:
        try:
            tenant = self._tenants.get(tenant_id)
        except TenantUnusable as error:
            return Unroutable(str(error))
        return UnknownTenant(tenant_id) if tenant is None else tenant.configuration


def _read(record: ConsumedRecord) -> ModelChanged | WebhookRequested | Undecodable:
    try:
        return read_record(record)
    except Undecodable as error:
        return error


def _ledger_entry(partition: AssignedPartition, event: TaskEvent, offset: int) -> LedgerEntry:
    source = Source(partition.topic, partition.number, event.source_offset or 0)
    return LedgerEntry(event.kind, offset, source, task_identity(event))


async def _decided(partition: AssignedPartition, record: ConsumedRecord) -> Decided:
    """What the ledger holds about a record; the first accepted record of an event wins (R2)."""
    entries = partition.ledger.by_source(Source(record.topic, record.partition, record.offset))
    if not entries:
        return NOTHING_DECIDED
    accepted: dict[str, tuple[TaskEvent, int]] = {}
    for entry in entries:
        if entry.kind == "accepted":
            event = await partition.ledger.read(entry.offset)
            accepted.setdefault(event.event_id, (event, entry.offset))
    return Decided(accepted, any(entry.kind in ("matched", "called_back") for entry in entries))
