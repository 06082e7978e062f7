"""The records by which an ended event goes on, or any event ends, as rows of the outbox. Pure (R10).

What goes on does so twice over: a record of `.events` says it to the history, and a wait in the schedule, due at once,
lets the relay publish the task. Both have the identity of the new task, so that the same thing done twice is done once.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from sqlalchemy import RowMapping

from projections.history import split_runs_on
from schemas.codec import encode
from schemas.events import Micros, TaskEvent, TaskId, TaskReady, TaskScheduled, from_datetime
from schemas.limits import MAX_RECORD_BYTES
from streams.agents.acceptance import FIRST_ATTEMPT, FIRST_DISPATCH, LANE, lane_kind, lane_of
from streams.agents.intents import Pending
from streams.agents.waiting import waiting_task
from streams.capture.outbox import OutboxRow
from streams.engine.decide import RECONCILE, TRIES_BEFORE
from streams.headers import task_identity
from streams.replay.stored import Stored
from streams.stored_tasks import stored_task
from topics.catalogue import Catalogue
from topics.keys import partition_key

End: TypeAlias = Literal["dismissed", "resolved_completed", "resolved_failed"]

BY_HAND: Final = "by_hand"
"""Kind of the wait of a task that a person asked for."""

REPLAY: Final = "replay"
"""Trigger of a run that a replay began; its event keeps the trigger of its own."""

_HEADERS_BYTES: Final = 2048

_MAY_HAVE_ACTED: Final = frozenset({"unknown", "timed_out"})
"""Ends after which a further attempt looks first for what may have been done (R6)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for it, when and why, and by which replay."""

    by: str
    at: Micros
    reason: str = ""
    replay_id: str | None = None


class NotReplayable(ValueError):
    """Why an event cannot go on; ``code`` is short, for counting."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def retry_rows(stored: Stored, catalogue: Catalogue, asked: Asked, *, not_done: bool = False) -> list[OutboxRow]:
    """A further attempt of the step at which an event's run ended, in the tier where that run began.

    ``not_done``: a person has made sure that nothing was done, so nobody looks again. Raises ``NotReplayable``.
    """
    event = stored.event
    task_id = TaskId(event["event_id"], event["run"], event["step"], event["attempt"] + 1)
    options = {TRIES_BEFORE: str(event["attempt"])}
    if event["kind"] in _MAY_HAVE_ACTED and not not_done:
        ended_at = from_datetime(event["finished_at"])
        options[RECONCILE] = Pending(ended_at, 0, event["attempt"]).encode()
    task = _task(stored, task_id, event["dispatch_seq"], options)
    task.plugin_version, task.pipeline_hash = split_runs_on(event["runs_on"])
    return _going_on("retried", stored, task, catalogue, asked)


def replay_rows(stored: Stored, catalogue: Catalogue, asked: Asked, *, from_step: int = 0) -> list[OutboxRow]:
    """A new run of an ended event, from a step on; the results of the steps before are those of earlier runs.

    A run from its beginning takes the version of its plugin that there is; one from a later step stays on the version
    and the pipeline whose results it takes over. Raises ``NotReplayable``.
    """
    event = stored.event
    task_id = TaskId(event["event_id"], event["run"] + 1, from_step, FIRST_ATTEMPT)
    task = _task(stored, task_id, FIRST_DISPATCH, {})
    if from_step:
        task.plugin_version, task.pipeline_hash = split_runs_on(event["runs_on"])
    return _going_on("replayed", stored, task, catalogue, asked)


def end_rows(event: RowMapping, kind: End, catalogue: Catalogue, asked: Asked) -> list[OutboxRow]:
    """The end of an event as a person says it, whatever state it is in.

    A resolution outranks all that the run may still say: it counts as a later dispatch of the task that would be next.
    """
    step, attempt, dispatch_seq = event["step"], event["attempt"], event["dispatch_seq"]
    if kind != "dismissed":
        dispatch_seq += 1
        if event["next_topic"] is not None:
            step, attempt = event["next_step"], event["next_attempt"]
    said = _said(event, kind, TaskId(event["event_id"], event["run"], step, attempt), dispatch_seq, asked)
    said.error = f"{kind.replace('_', ' as ')} by {asked.by}" + (f": {asked.reason}" if asked.reason else "")
    said.error_code = kind
    said.plugin_version, said.pipeline_hash = split_runs_on(event["runs_on"])
    return [_row(catalogue.events, _key(event), said, f"{task_identity(said)}|{dispatch_seq}|{kind}")]


def _going_on(kind: str, stored: Stored, task: TaskReady, catalogue: Catalogue, asked: Asked) -> list[OutboxRow]:
    key = _key(stored.event)
    tier = stored.tier
    topic = catalogue.steps(tier) if task.step else catalogue.topic(tier)
    wait = waiting_task(task, BY_HAND, tier, topic, asked.at, asked.at)
    wait.reason = f"{kind} by {asked.by}" + (f": {asked.reason}" if asked.reason else "")
    strict = lane_kind(stored.event["routing_rule"])
    if strict is not None:
        task.options[LANE] = lane_of(key)
        wait.task = encode(task)
        if kind == "replayed":
            # A retry's run has its place in the lane still, and takes it again.
            wait.kind, wait.lane = strict, task.options[LANE]
    identity = TaskId(task.event_id, task.run, task.step, task.attempt)
    said = _said(stored.event, kind, identity, task.dispatch_seq, asked)
    said.tier, said.caused_by = tier, asked.replay_id
    said.trigger = REPLAY if kind == "replayed" else ""
    said.plugin_version, said.pipeline_hash = task.plugin_version, task.pipeline_hash
    # The wait's id is its task's: whoever asks twice asks for the same.
    return [
        _row(catalogue.events, key, said, f"{wait.schedule_id}|{kind}"),
        _row(catalogue.scheduled, key, wait, wait.schedule_id),
    ]


def _said(event: RowMapping, kind: str, task_id: TaskId, dispatch_seq: int, asked: Asked) -> TaskEvent:
    return TaskEvent(
        kind=kind,
        **task_id._asdict(),
        dispatch_seq=dispatch_seq,
        tenant_id=event["tenant_id"],
        accepted_at=from_datetime(event["accepted_at"]),
        recorded_at=asked.at,
        tier=event["tier"] or "",
        endpoint=event["endpoint"] or "",
        event_type=event["event_type"] or "",
        model=event["model"],
        model_id=event["model_id"],
        requested_by=asked.by,
    )


def _row(topic: str, key: bytes, record: TaskEvent | TaskScheduled, record_id: str) -> OutboxRow:
    payload = encode(record)
    if len(payload) + len(key) + _HEADERS_BYTES > MAX_RECORD_BYTES:
        raise NotReplayable("too_large", f"its record would have {len(payload)} bytes, more than a topic takes")
    return OutboxRow(topic, key, payload, type(record).__name__, None, record.tenant_id, record_id)


def _task(stored: Stored, task_id: TaskId, dispatch_seq: int, options: dict[str, str]) -> TaskReady:
    event = stored.event
    if event["payload"] is None or event["endpoint"] is None or not stored.tier:
        raise NotReplayable("no_payload", "its acceptance, and with it its payload, is not in the history any more")
    results = stored.results_before(task_id.step)
    if results is None:
        text = f"no earlier run has finished all steps before step {task_id.step}"
        raise NotReplayable("no_results", text)
    return stored_task(event, task_id, dispatch_seq, results, options)


def _key(event: RowMapping) -> bytes:
    return partition_key(event["tenant_id"], event["model"], event["model_id"], event["event_id"])
