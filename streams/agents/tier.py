"""The tier agent: carries out tasks in lanes, records what came of them, continues what has a sequel."""

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from typing import Final

import structlog

from handlers.results import Result
from schemas.codec import decode_as
from schemas.errors import Undecodable
from schemas.events import TaskReady, now_micros
from schemas.kinds import KINDS
from streams.agents.executions import ExecutionLookup
from streams.agents.tier_records import TierTask, continuation_record, outcome_event
from streams.background import OnCrash, run_in_background
from streams.engine.contract import AssignedPartition, ConsumedRecord, LedgerEntry
from streams.engine.decide import Decision, StepPolicy, Target, Verdict, continuation_of, decide
from streams.engine.guard import SWEEP_S, Stopped, run_guarded, sweep
from streams.engine.lanes import Lanes
from streams.engine.ledger import is_outcome
from streams.engine.outcomes import OutcomeWriter, dead_letter_of, fits
from streams.engine.runners import Runners
from streams.headers import task_identity
from streams.settings import Settings
from topics.tiers import TIERS

_log = structlog.get_logger(__name__)

UNDELIVERED: Final = 20_000
"""Records on their way to the brokers beyond which nothing new starts."""

SAME_TASK_S: Final = 1.0
"""How often a record asks whether the earlier start of the same task has ended."""

_SETTLE_PAUSE_S: Final = 0.01
_NO_POLICY: Final = StepPolicy()


class TierProcessor:
    """A ``RecordProcessor`` of one tier and its steps. ``worker`` is the name that outcomes carry."""

    def __init__(
        self, tier: str, settings: Settings, executions: ExecutionLookup, writer: OutcomeWriter, on_crash: OnCrash
    ) -> None:
        self.tier = TIERS[tier]
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self._catalogue = settings.catalogue()
        self._steps_topic = self._catalogue.steps(tier)
        self._timeout_s = settings.task_timeout_s
        self._stop_grace_s = settings.stop_grace_s
        self._executions = executions
        self._writer = writer
        self._on_crash = on_crash
        self._lanes: Lanes[TierTask] = Lanes(settings.window, settings.waiting_per_partition, settings.waiting_bytes)
        self._runners = Runners(self._take, self._execute, on_crash)
        self._started: dict[str, TierTask] = {}
        self._parked = 0
        self._closing: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """See ``RecordProcessor``."""
        await self._writer.start()
        self._closing.append(run_in_background(f"{self.tier.name}-deadlines", self._sweep(), self._on_crash))

    def offer(self, partition: AssignedPartition, records: Sequence[ConsumedRecord]) -> None:
        """See ``RecordProcessor``."""
        is_step = partition.topic == self._steps_topic
        for record in records:
            # Without a key there is no order to keep: each such record has a lane of its own.
            key = record.key or (partition.topic, partition.number, record.offset)
            self._lanes.offer(key, TierTask(partition, record, is_step))
        self._runners.wake()

    def has_room(self, partition: AssignedPartition) -> bool:
        """See ``RecordProcessor``."""
        return self._lanes.has_room(partition) and self._writer.undelivered < UNDELIVERED

    def is_idle(self) -> bool:
        """See ``RecordProcessor``."""
        return not self._started and not self._lanes.waiting and not self._lanes.running

    def is_excused(self) -> bool:
        """See ``Excusing``: a handler is within its timeout, a claim holds, or the brokers have not answered yet."""
        return self._parked > 0 or self._writer.undelivered > 0 or any(t.slot.deadline for t in self._started.values())

    @property
    def running(self) -> int:
        """Tasks that hold a place of the window."""
        return self._lanes.running

    @property
    def waiting(self) -> int:
        """Records that wait for their turn."""
        return self._lanes.waiting

    async def hand_over(self, partitions: Sequence[AssignedPartition], grace_s: float) -> None:
        """See ``RecordProcessor`` and R5."""
        for partition in partitions:
            self._lanes.drop(partition)
        given_up = set(partitions)
        end = time.monotonic() + grace_s
        while time.monotonic() < end and any(task.partition in given_up for task in self._started.values()):
            await asyncio.sleep(_SETTLE_PAUSE_S)
        open_tasks = [task for task in self._started.values() if task.partition in given_up and not task.is_recorded]
        now = time.monotonic()
        claims = (self._note(task, "claimed", max(0.0, task.slot.deadline - now)) for task in open_tasks)
        await asyncio.gather(*claims)

    async def stop(self) -> None:
        """See ``RecordProcessor``: what runs longer than the grace is cancelled and released to the next owner."""
        end = time.monotonic() + self._stop_grace_s
        while self._started and time.monotonic() < end:
            await asyncio.sleep(_SETTLE_PAUSE_S)
        cut_off = [task for task in self._started.values() if task.slot.deadline]
        for task in cut_off:
            task.slot.cancel()
        await asyncio.gather(*(self._note(task, "released", None) for task in cut_off))
        await self._writer.stop()
        for each in self._closing:
            each.cancel()

    def _take(self) -> TierTask | None:
        return self._lanes.take() if self._writer.undelivered < UNDELIVERED else None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            sweep(list(self._started.values()), time.monotonic())
            if self._lanes.startable:
                self._runners.wake()

    async def _execute(self, item: TierTask) -> None:
        """Carry out one record, as far as a runner does it; the rest follows with the delivery reports."""
        if item.partition.closed:
            self._lanes.release(item)
            return
        try:
            task = decode_as(TaskReady, item.record.value or b"")
        except Undecodable as error:
            self._give_up(item, error)
            return
        item.task = task
        item.identity = task_identity(task)
        item.read_headers()
        if await self._is_known(item):
            return
        # The first await lies behind: a hand-over may have come in between, and nothing may start after it (R5).
        if not self._may_start(item):
            return
        self._started[item.identity] = item
        item.started_at = now_micros()
        try:
            verdict = await run_guarded(self._attempt(item), item.slot, self._timeout_s)
        except Stopped:
            self._leave(item)
            return
        self._lanes.free_slot(item)
        self._record(item, verdict)

    async def _attempt(self, item: TierTask) -> Result:
        execution = self._executions.cached(item.task)
        if execution is None:
            execution = await self._executions.lookup(item.task)
        item.execution = execution
        item.slot.start(execution.timeout_s)
        return await execution.run(item.task)

    async def _is_known(self, item: TierTask) -> bool:
        """Whether the ledger settles the record: an outcome is there, or a claim holds its lane back (R1, R5)."""
        ledger = item.partition.ledger
        entries = ledger.by_source(item.source)
        outcome = ledger.outcome(item.identity)
        for entry in entries:
            if outcome is None and is_outcome(entry):
                outcome = entry
        if outcome is None and item.repeat_from is not None:
            outcome = await self._found_by_search(item, item.repeat_from)
        if outcome is not None:
            await self._settle(item, outcome)
            return True
        claims = [entry for entry in entries if entry.kind in ("claimed", "released")] if entries else None
        if claims and claims[-1].parked_until > time.monotonic():
            self._park(item, claims[-1].parked_until)
            return True
        return False

    async def _found_by_search(self, item: TierTask, repeat_from: bytes) -> LedgerEntry | None:
        """For a continuation that was produced again: its outcome, which the ledger may have pruned (R1)."""
        number, offset = repeat_from.decode().split("|")
        if int(number) != item.partition.number:
            _log.warning("repeat_from names another partition", event_id=item.task.event_id, partition=number)
            return None
        return await item.partition.ledger.search(int(offset), item.identity)

    async def _settle(self, item: TierTask, outcome: LedgerEntry) -> None:
        """A task that has an outcome is not run again; its continuation is produced again and awaited (R1)."""
        if KINDS[outcome.kind].final:
            self._finish(item)
            return
        event = await item.partition.ledger.read(outcome.offset)
        if event.next_topic is None or event.next_step is None or event.next_attempt is None:
            self._finish(item)
            return
        target = Target(event.next_topic, event.next_step, event.next_attempt, event.next_due_at, event.result)
        continuation = continuation_of(item.task, self.tier, target, self._catalogue)
        record = continuation_record(item, continuation, self._catalogue.scheduled, outcome.offset)
        self._writer.produce(record, lambda _: self._finish(item))

    def _park(self, item: TierTask, until: float) -> None:
        """Hold the item's lane until its task has an outcome or ``until``, on the monotonic clock."""
        self._lanes.park(item)
        self._parked += 1
        woken = False

        def wake() -> None:
            nonlocal woken
            if not woken:
                woken = True
                self._parked -= 1
                timer.cancel()
                self._lanes.unpark(item.lane)
                self._runners.wake()

        timer = asyncio.get_running_loop().call_later(max(0.0, until - time.monotonic()), wake)
        item.partition.ledger.watch(item.identity, wake)

    def _may_start(self, item: TierTask) -> bool:
        """False where the partition is gone by now, or where this process runs the task already: then it waits (R5)."""
        if item.partition.closed:
            self._lanes.release(item)
            return False
        if item.identity in self._started:
            self._park(item, time.monotonic() + SAME_TASK_S)
            return False
        return True

    def _record(self, item: TierTask, verdict: Verdict) -> None:
        """Write the outcome; its delivery report goes on from there."""
        policy = item.execution.policy if item.execution is not None else _NO_POLICY
        finished_at = now_micros()
        decision = decide(item.task, verdict, self.tier, policy, self._catalogue, finished_at)
        continuation = decision.continuation
        outgoing = None
        if continuation is not None:
            outgoing = continuation_record(item, continuation, self._catalogue.scheduled)
            if not fits(outgoing.value, outgoing.key):
                size = len(outgoing.value)
                text = f"the next record would have {size} bytes, more than a topic takes; return smaller results"
                decision, outgoing = Decision("failed_permanently", error=text, error_code="too_large"), None
        event = outcome_event(item, decision, self.tier.name, self.worker, finished_at)

        def delivered(offset: int) -> None:
            item.is_recorded = True
            entry = LedgerEntry(event.kind, offset, item.source, item.identity)
            item.partition.ledger.note(entry)
            if outgoing is None:
                self._finish(item)
            else:
                self._writer.produce(outgoing, lambda _: self._finish(item))

        self._writer.record(event, item.source, item.record.key, delivered, traceparent=item.traceparent)

    def _give_up(self, item: TierTask, error: Undecodable) -> None:
        """A record that nobody can read goes to `.dead-letters`; the partition goes on (R3)."""
        _log.error("a record cannot be decoded", topic=item.record.topic, offset=item.record.offset, error=str(error))
        letter = dead_letter_of(item.record, self.tier.name, "undecodable", str(error), now_micros())
        self._lanes.free_slot(item)
        self._writer.dead_letter(letter, lambda _: self._finish(item))

    async def _note(self, item: TierTask, kind: str, remaining_s: float | None) -> None:
        """Write that a task is claimed or released, and enter it into the ledger before the commit (R2, R5)."""
        event = outcome_event(item, Decision(kind), self.tier.name, self.worker, now_micros())
        event.finished_at = None
        event.remaining_s = remaining_s
        offset = await self._writer.write(event, item.source, item.record.key)
        parked_until = time.monotonic() + remaining_s if remaining_s is not None else 0.0
        item.partition.ledger.note(LedgerEntry(kind, offset, item.source, item.identity, parked_until))

    def _finish(self, item: TierTask) -> None:
        item.partition.finish(item.record.offset)
        self._leave(item)

    def _leave(self, item: TierTask) -> None:
        if self._started.get(item.identity) is item:
            del self._started[item.identity]
        self._lanes.release(item)
        if self._lanes.startable:
            self._runners.wake()
