"""Records that go on as another dispatch of their task, with no attempt: deferred behind a gate, or moved (R15, R16).

The record of `.events` that says so settles its source, not its task, and embeds what goes on (R1).
"""

from collections.abc import Callable

from schemas.events import TaskEvent
from streams.agents.tier_records import TierTask, outcome_event
from streams.agents.tier_state import TierState
from streams.engine.contract import Dispatch, LedgerEntry
from streams.engine.decide import Decision
from streams.engine.outcomes import Outgoing


def going_on_event(state: TierState, item: TierTask, kind: str, tier: str, topic: str) -> TaskEvent:
    """The record of `.events`: ``kind`` is ``deferred`` or ``moved``, ``topic`` where the task will be next."""
    task = item.task
    event = outcome_event(item, Decision(kind), tier, state.worker, item.started_at)
    event.dispatch_seq = task.dispatch_seq + 1
    event.started_at = event.finished_at = None
    event.next_topic = topic
    event.next_step, event.next_attempt = task.step, task.attempt
    return event


def let_go_on(
    state: TierState,
    item: TierTask,
    event: TaskEvent,
    sequel: Callable[[], Outgoing],
    target: str,
    done: Callable[[], None] | None = None,
) -> None:
    """Write ``event``, then what goes on; the source is finished after both acknowledgements, and ``done`` is called.

    ``target`` is the topic to which a record is moved, empty for one that is deferred.
    """
    # Among the started, so that a hand-over waits for it; but no task has been started.
    state.started.setdefault(item.identity, item)

    def finish() -> None:
        state.finish(item)
        if done is not None:
            done()

    def written(offset: int) -> None:
        place = event.kind, offset, item.source, item.identity
        item.is_recorded = True
        if event.next_topic is None:
            # Only a minimal outcome could be written: the event has failed (R3).
            item.partition.ledger.note(LedgerEntry(*place))
            finish()
            return
        item.partition.ledger.note(Dispatch(*place, dispatch_seq=event.dispatch_seq, target=target))
        state.writer.produce(sequel(), lambda _: finish())

    state.writer.record(event, item.source, item.record.key, written, traceparent=item.traceparent)
