"""What the log says about a record that comes again: its task is done, or another worker still runs it."""

import time
from typing import Final

import structlog

from schemas.kinds import KINDS
from streams.agents.deferral import deferral_record
from streams.agents.intents import Pending, pending_of, remember
from streams.agents.moving import moved_record
from streams.agents.tier_records import TierTask, continuation_record
from streams.agents.tier_state import TierState
from streams.engine.contract import Dispatch, LedgerEntry
from streams.engine.decide import Target, continuation_of
from streams.engine.ledger import is_outcome

_HOLDING: Final = frozenset({"claimed", "released", "intent"})

_log = structlog.get_logger(__name__)


class Settling:
    """Settles records by the ledger instead of running their tasks (R1, R5)."""

    def __init__(self, state: TierState) -> None:
        self._state = state

    async def settles(self, item: TierTask) -> bool:
        """Whether the ledger settles the record: an outcome is there, or a claim holds its lane back."""
        ledger = item.partition.ledger
        entries = ledger.by_source(item.source)
        outcome = ledger.outcome(item.identity)
        has_acted = any(entry.kind == "intent" for entry in entries)
        dispatch = next((entry for entry in entries if isinstance(entry, Dispatch)), None)
        if has_acted and outcome is None:
            remember(item.task)
        if dispatch is not None:
            await self._dispatch_again(item, dispatch, has_ended=outcome is not None)
            return True
        for entry in entries:
            if outcome is None and is_outcome(entry):
                outcome = entry
        if outcome is None and item.repeat_from is not None:
            outcome = await self._found_by_search(item, item.repeat_from)
        if isinstance(outcome, Dispatch) or (outcome is None and ledger.went_on(item.identity, item.task.dispatch_seq)):
            # What came later carries the task out: this record is one that was produced twice (R16).
            self._state.finish(item)
            return True
        if outcome is not None:
            await self._settle(item, outcome)
            return True
        held = [entry for entry in entries if entry.kind in _HOLDING] if entries else None
        if held and held[-1].kind != "released":
            parked_until = max(entry.parked_until for entry in held)
            if parked_until > time.monotonic():
                self._state.park(item, parked_until)
                return True
        return False

    async def _found_by_search(self, item: TierTask, repeat_from: bytes) -> LedgerEntry | None:
        """For a record that was produced again: what settled its task, which the ledger may have pruned (R1)."""
        number, offset = repeat_from.decode().split("|")
        if int(number) != item.partition.number:
            _log.warning("repeat_from names another partition", event_id=item.task.event_id, partition=number)
            return None
        return await item.partition.ledger.search(int(offset), item.identity, item.task.dispatch_seq)

    async def _dispatch_again(self, item: TierTask, dispatch: Dispatch, has_ended: bool) -> None:
        """Its record is settled, not its task: what goes on is produced again, unless it has ended (R1)."""
        state = self._state
        if has_ended:
            state.finish(item)
            return
        if dispatch.kind == "moved":
            record = moved_record(item, dispatch.target, repeat_from=dispatch.offset)
        else:
            event = await item.partition.ledger.read(dispatch.offset)
            record = deferral_record(item, event, state.catalogue)
        state.writer.produce(record, lambda _: state.finish(item))

    async def _settle(self, item: TierTask, outcome: LedgerEntry) -> None:
        """A task that has an outcome is not run again; its continuation is produced again and awaited (R1)."""
        state = self._state
        if KINDS[outcome.kind].final:
            state.finish(item)
            return
        event = await item.partition.ledger.read(outcome.offset)
        if event.next_topic is None or event.next_step is None or event.next_attempt is None:
            state.finish(item)
            return
        reconcile = None
        if event.kind == "unclear":
            known = pending_of(item.task)
            # Not earlier than what the outcome's own sequel says, which is the safe side.
            reconcile = Pending(event.recorded_at, known.looks + 1 if known is not None else 0, event.attempt).encode()
        # A run that began with this task was noted down as one of the worker that carried it out.
        item.task.plugin_version, item.task.pipeline_hash = event.plugin_version, event.pipeline_hash
        next_task = event.next_step, event.next_attempt, event.next_due_at
        target = Target(event.next_topic, *next_task, event.result, event.gate, reconcile)
        continuation = continuation_of(item.task, state.tier, target, state.catalogue)
        record = continuation_record(item, continuation, state.catalogue.scheduled, outcome.offset)
        state.writer.produce(record, lambda _: state.finish(item))
