"""Judges a run from what it left behind: who asked, who executed, what the log and the history say. Pure.

Times are seconds on the machine's monotonic clock, which all of its processes share however wrong their time of day is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from schemas.events import TaskId


@dataclass(frozen=True, slots=True)
class Requested:
    """One event that was asked for. ``key`` and ``sequence`` give the order promised; ``due`` its earliest start."""

    event_id: str
    key: str
    sequence: int
    due: float = 0.0


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a task by process ``pid``. ``ended`` is ``None`` where nobody saw its end.

    ``effect`` is the idempotency key under which it brought its effect about, empty where it failed or was cut off.
    """

    task: TaskId
    key: str
    sequence: int
    pid: int
    began: float
    ended: float | None
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome record of the log. ``partition`` is that of the record which carried the task."""

    task: TaskId
    is_final: bool
    recorded: float
    partition: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run left behind.

    ``histories`` counts the rows of the history that show an event as ended. ``ends`` gives when processes were
    killed; ``disturbed`` since when there is a reason to repeat a process's tasks (it was killed, paused, cut off).
    ``unexplained`` are events that once had no reason to wait, or more than one.
    """

    requested: Sequence[Requested]
    executions: Sequence[Execution]
    outcomes: Sequence[Outcome]
    histories: Mapping[str, int]
    ends: Mapping[int, float] = field(default_factory=dict)
    disturbed: Mapping[int, float] = field(default_factory=dict)
    unexplained: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Events or tasks by what is wrong with them; all empty but ``repeated`` in a run that kept every promise.

    ``lost``: asked for, and not executed and ended exactly once in log and history. ``invented``: nobody asked.
    ``repeated``: tasks executed more than once. ``repeated_after_outcome``: though the log had their outcome.
    ``repeated_without_reason``: though nothing had happened to the process that executed them before.
    ``overlaps``: executed twice at the same time. ``inversions``: first started after a later event of their key.
    ``key_overlaps``: started while another event of their key was running. ``early``: before they were due.
    ``unexplained``: waited without a reason, or with two.
    """

    lost: frozenset[str]
    invented: frozenset[str]
    repeated: frozenset[TaskId]
    repeated_after_outcome: frozenset[TaskId]
    repeated_without_reason: frozenset[TaskId]
    overlaps: frozenset[TaskId]
    inversions: frozenset[str]
    key_overlaps: frozenset[str]
    early: frozenset[str]
    unexplained: frozenset[str]


def check(evidence: Evidence) -> Verdict:
    """Compare everything with everything."""
    by_task: dict[TaskId, list[Execution]] = defaultdict(list)
    for execution in sorted(evidence.executions, key=lambda each: each.began):
        by_task[execution.task].append(execution)
    repeated = {task: found for task, found in by_task.items() if len(found) > 1}
    recorded: dict[TaskId, float] = {}
    for outcome in evidence.outcomes:
        recorded[outcome.task] = min(outcome.recorded, recorded.get(outcome.task, inf))
    first = _first_executions(evidence.executions)
    asked = {each.event_id for each in evidence.requested}
    known = {each.task.event_id for each in evidence.outcomes} | {task.event_id for task in by_task}
    return Verdict(
        lost=frozenset(_lost(evidence, {task.event_id for task in by_task})),
        invented=frozenset((known | set(evidence.histories)) - asked),
        repeated=frozenset(repeated),
        repeated_after_outcome=frozenset(
            task for task, found in repeated.items() if any(each.began > recorded.get(task, inf) for each in found)
        ),
        repeated_without_reason=frozenset(
            task
            for task, found in repeated.items()
            if any(evidence.disturbed.get(before.pid, inf) > after.began for before, after in pairwise(found))
        ),
        overlaps=frozenset(task for task, found in repeated.items() if _overlap(found, evidence.ends)),
        inversions=frozenset(_inversions(first)),
        key_overlaps=frozenset(_key_overlaps(first, evidence.ends)),
        early=frozenset(
            each.event_id
            for each in evidence.requested
            if each.event_id in first and first[each.event_id].began < each.due
        ),
        unexplained=evidence.unexplained,
    )


def _lost(evidence: Evidence, executed: set[str]) -> Iterator[str]:
    ended = {each.task.event_id for each in evidence.outcomes if each.is_final}
    for each in evidence.requested:
        is_kept = each.event_id in ended and each.event_id in executed
        if not is_kept or evidence.histories.get(each.event_id, 0) != 1:
            yield each.event_id


def _first_executions(executions: Iterable[Execution]) -> dict[str, Execution]:
    """First execution of each event, in the order in which they began."""
    first: dict[str, Execution] = {}
    for execution in sorted(executions, key=lambda each: each.began):
        first.setdefault(execution.task.event_id, execution)
    return first


def _overlap(found: Sequence[Execution], ends: Mapping[int, float]) -> bool:
    latest = 0.0
    for execution in found:
        if execution.began < latest:
            return True
        latest = max(latest, _end(execution, ends))
    return False


def _end(execution: Execution, ends: Mapping[int, float]) -> float:
    return execution.ended if execution.ended is not None else ends.get(execution.pid, inf)


def _inversions(first: Mapping[str, Execution]) -> Iterator[str]:
    latest: dict[str, int] = {}
    for event_id, execution in first.items():
        if latest.get(execution.key, -1) > execution.sequence:
            yield event_id
        latest[execution.key] = max(latest.get(execution.key, -1), execution.sequence)


def _key_overlaps(first: Mapping[str, Execution], ends: Mapping[int, float]) -> Iterator[str]:
    busy: dict[str, float] = {}
    for event_id, execution in first.items():
        if execution.began < busy.get(execution.key, 0.0):
            yield event_id
        busy[execution.key] = max(busy.get(execution.key, 0.0), _end(execution, ends))


@dataclass(frozen=True, slots=True)
class Standstill:
    """The longest times between two starts while something was done: of the whole group, and of one partition."""

    group_s: float
    partition_s: float


def standstill(evidence: Evidence, begin: float, end: float) -> Standstill:
    """Look at the starts from ``begin`` to ``end``, of which load has to come in without a pause.

    The last start before ``begin`` counts too, and so does a partition that starts nothing more until ``end``.
    """
    partition_of = {outcome.task: outcome.partition for outcome in evidence.outcomes}
    starts: dict[int, list[float]] = defaultdict(list)
    for execution in evidence.executions:
        if execution.task in partition_of and execution.began <= end:
            starts[partition_of[execution.task]].append(execution.began)
    everything = [began for found in starts.values() for began in found]
    return Standstill(
        longest_gap(everything, begin, end), max((longest_gap(each, begin, end) for each in starts.values()), default=0)
    )


def longest_gap(starts: Iterable[float], begin: float, end: float) -> float:
    """Longest time in seconds between two of ``starts`` that lies in the window, at least in part."""
    within = sorted([*(each for each in starts if each <= end), end])
    return max((after - before for before, after in pairwise(within) if after > begin), default=0.0)


def lateness(evidence: Evidence) -> list[float]:
    """Seconds from the due time of each event that was executed to its first start, sorted."""
    first = _first_executions(evidence.executions)
    return sorted(first[each.event_id].began - each.due for each in evidence.requested if each.event_id in first)


def effects(executions: Iterable[Execution]) -> Counter[str]:
    """How often each effect was brought about, by its idempotency key."""
    return Counter(each.effect for each in executions if each.effect)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the sorted ``values`` do not exceed; 0 where there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
