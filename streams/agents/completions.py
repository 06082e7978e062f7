"""The usual end of a task, a handler that completed it, at the least cost: most outcomes are of this kind.

The outcome is put together from its record (``schemas.copying``), and what its delivery report leads to
is done for all reports of a poll together. Whatever is unusual goes the way of
every other outcome (``TierProcessor``).
"""

from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, Message

from schemas.copying import Constants, copier
from schemas.events import Micros, TaskEvent
from streams.agents.tier_records import TierTask, outcome_event
from streams.agents.tier_state import TierState
from streams.engine.contract import LedgerEntry
from streams.engine.decide import Decision
from streams.engine.outcomes import offset_of
from streams.headers import completed_headers

KIND: Final = "completed"


class _Completion(LedgerEntry):
    """An outcome under way (``outcomes.Delivery``), and what the ledger keeps of it then: one object for both."""

    __slots__ = ("completions", "finished_at", "item", "result")

    item: TierTask

    def __init__(self, completions: "Completions", item: TierTask, result: str, finished_at: Micros) -> None:
        # Field by field, as its base class would: calling that costs as much again.
        self.kind = KIND
        self.source = item.source
        self.identity = item.identity
        self.parked_until = 0.0
        self.completions = completions
        self.item = item
        self.result = result
        self.finished_at = finished_at

    def report(self, error: KafkaError | None, message: Message) -> None:
        """The outcome is in the log, and what follows is done after the poll; or it will never be."""
        if error is None:
            self.offset = offset_of(message)
            self.completions.reported.append(self)
        else:
            self.completions.writer.undelivered -= 1
            self.refuse(error)

    def refuse(self, error: KafkaError) -> None:
        """See ``Delivery``."""
        self.completions.refused(self.item, self.result, self.finished_at, error)


RecordMinimal = Callable[[TierTask, TaskEvent, str], None]
"""Writes in place of an outcome that the brokers refuse one that they take (R3), with the reason given."""


class Completions:
    """The outcomes of completed tasks of one worker; lives on its event loop."""

    def __init__(self, state: TierState, record_minimal: RecordMinimal) -> None:
        self._state = state
        self._record_minimal = record_minimal
        self._copier = copier()
        self._constants: dict[tuple[str, int, str | None], Constants] = {}
        self.writer = state.writer
        self.writer.after_poll = self._take_reports
        self.reported: list[_Completion] = []

    def record(self, item: TierTask, result: str, finished_at: Micros) -> None:
        """Write that a task is completed; ``item.marks`` are known. ``result`` is JSON."""
        source, execution = item.source, item.execution
        handler = execution.handler if execution is not None else None
        place = source[0], source[1], handler
        constants = self._constants.get(place)
        if constants is None:
            constants = self._constants[place] = self._constants_of(*place)
        value = self._copier.write(
            item.record.value, item.marks, constants, item.started_at, finished_at, result, source[2]
        )
        headers = completed_headers(item.task, item.identity, source, finished_at, item.traceparent)
        delivery = _Completion(self, item, result, finished_at)
        self.writer.hand_over(delivery, value, item.record.key, source[1], headers)

    def refused(self, item: TierTask, result: str, finished_at: Micros, error: KafkaError) -> None:
        """The outcome will never be written: a minimal one follows (R3)."""
        decision = Decision(KIND, result=result)
        event = outcome_event(item, decision, self._state.tier.name, self._state.worker, finished_at)
        self._record_minimal(item, event, str(error))

    def _take_reports(self) -> None:
        reported = self.reported
        if not reported:
            return
        self.reported = []
        self.writer.undelivered -= len(reported)
        items: list[TierTask] = []
        for each in reported:
            item = each.item
            # The ledger keeps the entry until a commit, which its record need not outlive.
            del each.item
            item.is_recorded = True
            item.partition.ledger.note(each)
            items.append(item)
        self._state.finish_all(items)

    def _constants_of(self, topic: str, number: int, handler: str | None) -> Constants:
        return self._copier.constants(
            {
                "kind": KIND,
                "tier": self._state.tier.name,
                "handler": handler,
                "worker": self._state.worker,
                "source_topic": topic,
                "source_partition": number,
            }
        )
