"""The tier agent: carries out tasks in lanes, records what came of them, continues what has a sequel."""

import asyncio
import time
from collections.abc import Collection, Hashable, Sequence
from functools import partial
from typing import Final

import structlog

from handlers.results import Completed, Returned
from schemas.errors import Undecodable
from schemas.events import Source, TaskEvent, now_micros
from streams.agents.call_backs import called_back
from streams.agents.completions import KIND as COMPLETED
from streams.agents.completions import Completions
from streams.agents.crash_loops import announce
from streams.agents.deferral import defer
from streams.agents.executions import ExecutionLookup, Held
from streams.agents.handing_over import hand_over, let_end
from streams.agents.intents import Confirm, Intents, weigh
from streams.agents.moving import Moving
from streams.agents.overflow import Overflow
from streams.agents.settling import Settling
from streams.agents.tier_records import TierTask, continuation_record, outcome_event
from streams.agents.tier_state import TierState
from streams.background import OnCrash, run_in_background
from streams.engine.contract import AssignedPartition, ConsumedRecord, LedgerEntry
from streams.engine.decide import Decision, StepPolicy, Verdict, decide, result_json
from streams.engine.guard import SWEEP_S, DeadlineSlot, Stopped, run_guarded, sweep
from streams.engine.letter_limit import DeadLetterFlood, DeadLetterLimit
from streams.engine.lookahead import Lookahead
from streams.engine.outcomes import OutcomeWriter, Outgoing, dead_letter_of, fits, make_minimal
from streams.engine.runners import Runners
from streams.settings import Settings
from topics.gates import is_call_back_gate
from topics.tiers import Tier

_log = structlog.get_logger(__name__)

UNDELIVERED: Final = 20_000
"""Records on their way to the brokers beyond which nothing new starts."""

SAME_TASK_S: Final = 1.0
"""How often a record asks whether the earlier start of the same task has ended."""

_NO_POLICY: Final = StepPolicy()
_LAST_LETTERS_S: Final = 5.0


class TierProcessor:
    """A ``RecordProcessor`` of one tier and its steps."""

    def __init__(
        self,
        tier: str,
        settings: Settings,
        executions: ExecutionLookup,
        writer: OutcomeWriter,
        on_crash: OnCrash,
        confirm: Confirm | None = None,
    ) -> None:
        self._runners = Runners(self._take, self._execute, on_crash)
        self._state = TierState(tier, settings, writer, self._runners.wake)
        self._settling = Settling(self._state)
        self._intents = Intents(self._state, settings.clocks_apart_s, confirm)
        self._clocks_apart_s = settings.clocks_apart_s
        self._completions = Completions(self._state, self._record_minimal)
        self.moving = Moving(self._state)
        self.brake = self._state.brake
        self.admission = self._state.admission
        self.fence = self._state.fence
        self._lanes = self._state.lanes
        self._started = self._state.started
        self._steps_topic = self._state.catalogue.steps(tier)
        self._timeout_s = settings.task_timeout_s
        self._stop_grace_s = settings.stop_grace_s
        self._executions = executions
        self._writer = writer
        self._on_crash = on_crash
        self._letter_limit = DeadLetterLimit(settings, tier)
        self._lookahead = Lookahead(settings, tier)
        self.overflow = Overflow(self._state, executions, self._lookahead)
        self._closing: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """See ``RecordProcessor``."""
        await self._writer.start()
        await self._letter_limit.start()
        for name, work in (("deadlines", self._sweep()), ("overflow", self.overflow.run())):
            self._closing.append(run_in_background(f"{self._state.tier.name}-{name}", work, self._on_crash))

    def offer(self, partition: AssignedPartition, records: Sequence[ConsumedRecord]) -> None:
        """See ``RecordProcessor``."""
        if records[0].offset < partition.ledger.read_until(partition.topic):
            records = self._not_ended(partition, records)
        is_step = partition.topic == self._steps_topic
        is_careful = partition.is_careful
        for record in records:
            # Without a key there is no order to keep: each such record has a lane of its own.
            key: Hashable = record.key or (partition.topic, partition.number, record.offset)
            if is_careful:
                # One lane for all of them, so one task at a time (R4).
                key = ("careful", partition.number)
            self._lanes.put(key, TierTask(partition, record, is_step))
        self._runners.wake()

    def _not_ended(self, partition: AssignedPartition, records: Sequence[ConsumedRecord]) -> list[ConsumedRecord]:
        """Without those that an earlier owner carried out: where it ran long tasks they are thousands (R2).

        They need no lane, so a partition does not stand still for as long as its slowest task took.
        """
        topic, number, ledger = partition.topic, partition.number, partition.ledger
        left: list[ConsumedRecord] = []
        for record in records:
            if ledger.has_ended(Source(topic, number, record.offset)):
                partition.finish(record.offset)
            else:
                left.append(record)
        return left

    def has_room(self, partition: AssignedPartition) -> bool:
        """See ``RecordProcessor``."""
        if self.brake.is_on:
            return False
        return self._lanes.has_room(partition) and self._writer.undelivered < UNDELIVERED

    def is_idle(self) -> bool:
        """See ``RecordProcessor``."""
        return not self._started and not self._lanes.waiting and not self._lanes.running

    def is_excused(self, partition: AssignedPartition) -> bool:
        """See ``Excusing``."""
        return self._state.is_excused(partition)

    @property
    def tier(self) -> Tier:
        """The tier with its numbers, which ``queue:work`` may change."""
        return self._state.tier

    @tier.setter
    def tier(self, tier: Tier) -> None:
        self._state.tier = tier

    @property
    def worker(self) -> str:
        """The name that outcomes carry: host and process."""
        return self._state.worker

    @property
    def window(self) -> int:
        """Tasks that may run at the same time."""
        return self._lanes.window

    @property
    def running(self) -> int:
        """Tasks that hold a place of the window."""
        return self._lanes.running

    @property
    def started(self) -> Collection[TierTask]:
        """Tasks that were started and whose outcome is not acknowledged yet."""
        return self._started.values()

    @property
    def waiting(self) -> int:
        """Records that wait for their turn."""
        return self._lanes.waiting

    async def hand_over(self, partitions: Sequence[AssignedPartition], grace_s: float) -> None:
        """See ``RecordProcessor`` and R5."""
        await hand_over(self._state, partitions, grace_s)

    async def stop(self) -> None:
        """See ``RecordProcessor``: what runs longer than the grace is cancelled and released to the next owner."""
        await let_end(self._state, self._stop_grace_s)
        await self._writer.stop()
        for each in self._closing:
            each.cancel()
        await self._lookahead.stop()

    def _take(self) -> TierTask | None:
        if self.brake.is_on or self.fence.is_up or self._writer.undelivered >= UNDELIVERED:
            return None
        item = self._lanes.take()
        if item is not None:
            self.brake.take()
        return item

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            sweep(self._runners.slots, time.monotonic())
            self.moving.go_on()
            if self._lanes.startable:
                self._runners.wake()

    async def _execute(self, item: TierTask, slot: DeadlineSlot) -> None:
        """Carry out one record, as far as a runner does it; the rest follows with the delivery reports."""
        if item.partition.closed:
            self._state.leave(item)
            return
        try:
            item.read()
        except Undecodable as error:
            self._give_up(item, error)
            return
        may_be_known = item.partition.ledger.knows(item.source, item.identity) or item.repeat_from
        if may_be_known and await self._settling.settles(item):
            return
        # Where an await lies behind, a hand-over may have come in between, and nothing may start after it (R5).
        if (may_be_known or item.identity in self._started) and not self._may_start(item):
            return
        item.started_at = now_micros()
        execution = item.execution = self._executions.cached(item.task)
        has_waited = item.task.gate is not None and is_call_back_gate(item.task.gate)
        if has_waited:
            execution = item.execution = called_back(item.task, execution)
        if execution is not None and (gate := self.admission.gate(item)) is not None:
            defer(self._state, item, gate)
            return
        if item.partition.is_careful and not has_waited and not await self._announced(item):
            return
        self._started[item.identity] = item
        item.slot = slot
        try:
            if execution is None:
                verdict = await run_guarded(self._look_up_and_run, item, slot, self._timeout_s)
            elif execution.caution is None:
                verdict = await run_guarded(execution.run, item.task, slot, execution.timeout_s)
            else:
                verdict = await run_guarded(self._intents.run, item, slot, execution.timeout_s)
        except Stopped:
            self._state.leave(item)
            return
        item.slot = None
        if isinstance(verdict, Held):
            defer(self._state, item, verdict.gate)
            return
        self.admission.judge(item, verdict)
        self._lanes.free_slot(item)
        self._record(item, verdict)

    async def _announced(self, item: TierTask) -> bool:
        """Whether a task of a careful partition was announced and may start now (R4)."""
        error = await announce(self._state, item)
        if not self._may_start(item):
            return False
        if error is None:
            return True
        self._started[item.identity] = item
        self._lanes.free_slot(item)
        self._record(item, error)
        return False

    async def _look_up_and_run(self, item: TierTask) -> Returned:
        item.execution = await self._executions.lookup(item.task)
        # The task may have been given its version, which its record lacks.
        item.marks = None
        gate = self.admission.gate(item)
        if gate is not None:
            raise Held(gate)
        if item.slot is not None:
            item.slot.start(item.execution.timeout_s)
        if item.execution.caution is not None:
            return await self._intents.run(item)
        return await item.execution.run(item.task)

    def _may_start(self, item: TierTask) -> bool:
        """False where the partition is gone by now, or where this process runs the task already: then it waits (R5)."""
        if item.partition.closed:
            self._state.leave(item)
            return False
        if item.identity in self._started:
            self._state.park(item, time.monotonic() + SAME_TASK_S)
            return False
        return True

    def _record(self, item: TierTask, verdict: Verdict) -> None:
        """Write the outcome; its delivery report goes on from there."""
        state, policy, execution = self._state, _NO_POLICY, item.execution
        if execution is not None:
            policy, verdict = execution.policy, execution.redactor.verdict(verdict)
        finished_at = now_micros()
        if execution is not None and execution.caution is None:
            if type(verdict) is Completed and item.marks is not None and item.task.step + 1 >= policy.step_count:
                # Most records come here: the same as below, without a decision made of one text.
                result = result_json(verdict.result)
                if type(result) is str:
                    self._completions.record(item, result, finished_at)
                    return
        else:
            verdict = weigh(item, verdict, self._clocks_apart_s, finished_at)
        decision = decide(item.task, verdict, state.tier, policy, state.catalogue, finished_at)
        if decision.kind == COMPLETED and decision.result is not None and item.marks is not None:
            self._completions.record(item, decision.result, finished_at)
            return
        continuation = decision.continuation
        outgoing = None
        if continuation is not None:
            outgoing = continuation_record(item, continuation, state.catalogue.scheduled)
            if not fits(outgoing.value, outgoing.key):
                size = len(outgoing.value)
                text = f"the next record would have {size} bytes, more than a topic takes; return smaller results"
                decision, outgoing = Decision("failed_permanently", error=text, error_code="too_large"), None
        event = outcome_event(item, decision, state.tier.name, state.worker, finished_at)
        delivered = partial(self._recorded, item, event, outgoing)
        self._writer.record(event, item.source, item.record.key, delivered, traceparent=item.traceparent)

    def _record_minimal(self, item: TierTask, event: TaskEvent, reason: str) -> None:
        """Write of a refused outcome only that the task failed (R3)."""
        _log.error("an outcome was refused; a minimal one is written", error=reason, event_id=event.event_id)
        make_minimal(event, reason)
        delivered = partial(self._recorded, item, event, None)
        self._writer.record(event, item.source, item.record.key, delivered, traceparent=item.traceparent)

    def _recorded(self, item: TierTask, event: TaskEvent, sequel: Outgoing | None, offset: int) -> None:
        """The outcome is in the log; its sequel follows, unless only a minimal outcome could be written (R3)."""
        item.is_recorded = True
        item.partition.ledger.note(LedgerEntry(event.kind, offset, item.source, item.identity))
        if sequel is None or event.next_topic is None:
            self._state.finish(item)
        else:
            self._writer.produce(sequel, lambda _: self._state.finish(item))

    def _give_up(self, item: TierTask, error: Undecodable) -> None:
        """A record that nobody can read goes to `.dead-letters`; the partition goes on (R3)."""
        try:
            self._letter_limit.count()
        except DeadLetterFlood:
            # The process ends at once; who reads why shall find the letters that the text speaks of.
            self._writer.flush(_LAST_LETTERS_S)
            raise
        _log.error("a record cannot be decoded", topic=item.record.topic, offset=item.record.offset, error=str(error))
        letter = dead_letter_of(item.record, self._state.tier.name, "undecodable", str(error), now_micros())
        self._lanes.free_slot(item)
        self._writer.dead_letter(letter, lambda _: self._state.finish(item))
