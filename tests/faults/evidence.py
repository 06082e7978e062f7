"""Reads what a run left behind, for the checker: the handlers' journal, the log, and the history."""

import time
from collections import Counter
from pathlib import Path
from typing import Final

from confluent_kafka import Message

from projections.fold import Rows
from projections.records import Fact
from schemas.events import TaskEvent, TaskId
from schemas.kinds import FINAL_KINDS, KINDS
from streams.settings import Settings
from tests.faults.checker import Execution, Outcome
from tests.support.load import Log

_NS: Final = 1_000_000_000
_MS: Final = 1000


def read_journal(path: Path) -> list[Execution]:
    """What the handlers of ``tests.faults.plugin`` wrote down; nothing where the file is not there yet."""
    running: dict[tuple[TaskId, int], Execution] = {}
    done: list[Execution] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        mark, event_id, run, step, attempt, key, sequence, pid_text, monotonic_ns, effect = line.split()
        task, pid, now = TaskId(event_id, int(run), int(step), int(attempt)), int(pid_text), int(monotonic_ns) / _NS
        if mark == "S":
            running[task, pid] = Execution(task, key, int(sequence), pid, now, None)
            continue
        began = running.pop((task, pid)).began
        done.append(Execution(task, key, int(sequence), pid, began, now, effect if mark == "E" else ""))
    return [*done, *running.values()]


class TimedLog(Log):
    """The log, with the time at which each outcome reached it: that of the broker, where `.events` is set to it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.outcomes: list[Outcome] = []
        self._clock = time.time() - time.monotonic()

    def _fact(self, message: Message) -> Fact | None:
        fact = super()._fact(message)
        if isinstance(fact, TaskEvent) and KINDS[fact.kind].outcome:
            task = TaskId(fact.event_id, fact.run, fact.step, fact.attempt)
            partition = fact.source_partition if fact.source_partition is not None else -1
            reached = message.timestamp()[1] / _MS - self._clock
            self.outcomes.append(Outcome(task, KINDS[fact.kind].final, reached, partition))
        return fact


def histories_of(rows: Rows) -> Counter[str]:
    """How many rows of the history show each event as ended."""
    return Counter(row.event_id for row in rows.events.values() if row.kind in FINAL_KINDS)
