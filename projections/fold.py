"""The log as rows, in memory: what the tables must hold after any delivery of the same records, in any order.

The writer folds each batch with it before the database sees a row, and the tests hold the tables against it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from projections.attempts import FINISHED_STEP, AttemptRow, attempt_row, is_about_attempt, merge_attempts
from projections.call_backs import CallBackRow, call_back_row, give_call_backs, merge_call_backs
from projections.changes import ChangeRow, change_row, merge_changes
from projections.history import EventRow, event_row, merge_into, step_results
from projections.lanes import hold_lanes
from projections.records import Fact, check_fact
from projections.schedule import Progress, ScheduleRow, closed_at, merge_schedule, schedule_row
from schemas.events import Micros, TaskEvent
from schemas.kinds import KINDS, OUTCOME_KINDS


@dataclass(slots=True)
class Rows:
    """The rows of every projected table, by primary key."""

    events: dict[tuple[Micros, str], EventRow] = field(default_factory=dict)
    attempts: dict[tuple[Micros, str, int, int, int], AttemptRow] = field(default_factory=dict)
    changes: dict[tuple[Micros, str], ChangeRow] = field(default_factory=dict)
    schedule: dict[str, ScheduleRow] = field(default_factory=dict)
    call_backs: dict[tuple[Micros, str], CallBackRow] = field(default_factory=dict)

    def add(self, fact: Fact) -> None:
        """Merge one record. Raises ``Undecodable`` for what cannot be projected; the rows are then as they were."""
        check_fact(fact)
        if not isinstance(fact, TaskEvent):
            wait = schedule_row(fact)
            known_wait = self.schedule.get(wait.key)
            self.schedule[wait.key] = wait if known_wait is None else merge_schedule(known_wait, wait)
            return
        kind = KINDS[fact.kind]
        if kind.status is None:
            self._add_cause(fact)
            return
        key = fact.accepted_at, fact.event_id
        known = self.events.get(key)
        if known is None:
            self.events[key] = event_row(fact, kind, kind.status)
        else:
            merge_into(known, fact, kind, kind.status)
        if is_about_attempt(kind):
            attempt = attempt_row(fact, kind)
            task = fact.accepted_at, fact.event_id, fact.run, fact.step, fact.attempt
            known_attempt = self.attempts.get(task)
            self.attempts[task] = attempt if known_attempt is None else merge_attempts(known_attempt, attempt)

    def complete(self) -> None:
        """Fill in what is worked out from rows of several tables: step results, and which waits are over."""
        steps: dict[tuple[Micros, str, int], list[tuple[int, int, str | None]]] = {}
        outcomes: dict[tuple[str, int, int, int], Micros] = {}
        for attempt in self.attempts.values():
            if attempt.of_pipeline and attempt.kind in FINISHED_STEP:
                key = attempt.accepted_at, attempt.event_id, attempt.run
                steps.setdefault(key, []).append((attempt.step, attempt.attempt, attempt.result))
            if attempt.kind in OUTCOME_KINDS:
                outcomes[attempt.event_id, attempt.run, attempt.step, attempt.attempt] = attempt.recorded_at
        progress: dict[str, Progress] = {}
        for event in self.events.values():
            event.results = step_results(steps.get((event.accepted_at, event.event_id, event.run), []))
            final_at = event.finished_at if event.final else None
            progress[event.event_id] = Progress(
                event.run, event.step, event.attempt, event.dispatch_seq, event.kind, final_at
            )
        for wait in self.schedule.values():
            task = (wait.event_id or "", wait.run or 0, wait.step or 0, wait.attempt or 0)
            wait.closed_at = closed_at(wait, outcomes.get(task), progress.get(task[0]))
        hold_lanes(self.schedule.values())
        give_call_backs(self.call_backs.values(), self.schedule.values())

    def _add_cause(self, fact: TaskEvent) -> None:
        change = change_row(fact)
        if change is not None:
            known_change = self.changes.get(change.key)
            self.changes[change.key] = change if known_change is None else merge_changes(known_change, change)
        call_back = call_back_row(fact)
        if call_back is not None:
            known = self.call_backs.get(call_back.key)
            self.call_backs[call_back.key] = call_back if known is None else merge_call_backs(known, call_back)


def fold(facts: Iterable[Fact]) -> Rows:
    """The rows of all tables after these records.

    Commutative and idempotent: order and repetition of the records make no difference (R19).
    """
    rows = Rows()
    for fact in facts:
        rows.add(fact)
    rows.complete()
    return rows
