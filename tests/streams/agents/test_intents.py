"""What an attempt of a handler that must not act twice came to (R4, R6)."""

from typing import Any

import pytest

from handlers.results import Completed, NotFound, Reconciled, Rejected
from schemas.errors import Permanent, Retryable, Unknown
from schemas.events import TaskReady, now_micros
from streams.agents.executions import Caution, Execution
from streams.agents.intents import MOST_LOOKS, Intents, Pending, pending_of, remember, weigh
from streams.agents.tier_records import TierTask
from streams.engine.decide import (
    LOOKED,
    RECONCILE,
    StepPolicy,
    Target,
    TimedOut,
    Unclear,
    WorkersDied,
    continuation_of,
    decide,
)
from streams.engine.guard import DeadlineSlot
from streams.engine.threads import NotStarted
from tests.streams.agents.test_tier_records import HIGH, tier_task
from tests.streams.engine.workload import complete
from topics.catalogue import build_catalogue
from topics.tiers import TIERS

NOW = 1_800_000_000_000_000
S = 1_000_000


async def not_found(task: TaskReady) -> Reconciled:
    return NotFound()


ONCE = Caution(reconcile=not_found, settle_s=600)
BLIND = Caution()
THREAD = Caution(at_most_once=False)


def weighed(verdict: object, caution: Caution | None, *, acted: bool = True, pending: Pending | None = None) -> object:
    """With hosts whose clocks differ by a minute at most."""
    return weigh(task(caution, acted, pending), verdict, 60.0, NOW)


def task(caution: Caution | None, acted: bool, pending: Pending | None) -> TierTask:
    item = tier_task(options={RECONCILE: pending.encode()} if pending is not None else {})
    item.execution = Execution("H", complete, StepPolicy(), 5, caution=caution)
    item.may_have_acted = acted
    return item


def not_started() -> TimedOut:
    error = TimedOut("longer than its 5 s")
    error.__cause__ = NotStarted("no thread")
    return error


@pytest.mark.parametrize(
    ("verdict", "caution"),
    [
        (Completed({}), ONCE),
        (Rejected("no"), ONCE),
        (Retryable("busy", code="http_429"), ONCE),
        (Permanent("no"), ONCE),
        (not_started(), ONCE),
        (not_started(), THREAD),
        (ValueError("bug"), THREAD),
    ],
)
def test_what_a_handler_says_itself_stays(verdict: object, caution: Caution) -> None:
    assert weighed(verdict, caution) is verdict


@pytest.mark.parametrize("verdict", [TimedOut("longer than its 5 s"), ValueError("bug"), Unknown("?"), None])
def test_all_else_is_unclear_until_it_has_been_looked_for(verdict: object) -> None:
    found = weighed(verdict, ONCE)
    assert isinstance(found, Unclear)
    # As late as the clock of whoever looks then may be wrong (R6).
    assert (found.due_at, found.reconcile) == (NOW + 660 * S, Pending(NOW, 0, 1).encode())
    assert "looked for" in str(found)


@pytest.mark.parametrize("verdict", [TimedOut("longer than its 5 s"), ValueError("bug"), Unknown("?")])
def test_what_cannot_be_looked_for_is_unknown_at_once(verdict: object) -> None:
    found = weighed(verdict, BLIND)
    assert isinstance(found, Unknown)
    assert "retry the event" in str(found)


def test_a_thread_that_was_given_up_goes_on_so_its_end_is_unknown() -> None:
    assert isinstance(weighed(TimedOut("longer than its 5 s"), THREAD), Unknown)


def test_before_it_acts_a_handler_fails_as_any_other() -> None:
    error = ValueError("bug")
    assert weighed(error, ONCE, acted=False) is error


@pytest.mark.parametrize("verdict", [Retryable("away", retry_after_s=100), TimedOut("slow"), ValueError("bug")])
@pytest.mark.parametrize("caution", [ONCE, None])
def test_a_failed_look_is_repeated_with_a_longer_pause_and_not_for_ever(
    verdict: Exception, caution: Caution | None
) -> None:
    """Also where tenant or plugin were not found at all: nothing is sent that an earlier attempt may have sent."""
    sent_until = NOW - 700 * S
    pauses = []
    for looks in range(MOST_LOOKS):
        found = weighed(verdict, caution, acted=False, pending=Pending(sent_until, looks, 1))
        assert isinstance(found, Unclear)
        assert found.reconcile == Pending(sent_until, looks + 1, 1).encode()
        pauses.append((found.due_at - NOW) / S)
    least = getattr(verdict, "retry_after_s", None) or 0
    assert pauses == [max(min(2.0**looks, 300), least) for looks in range(1, MOST_LOOKS + 1)]
    last = weighed(verdict, caution, acted=False, pending=Pending(sent_until, MOST_LOOKS, 1))
    assert isinstance(last, Unknown)


@pytest.mark.parametrize("verdict", [Unknown("the list is too long"), Permanent("refused"), WorkersDied("2 died")])
def test_what_nobody_can_find_out_is_unknown(verdict: Exception) -> None:
    """R4: also a task that kills its workers, once an intent says that it may have acted."""
    assert isinstance(weighed(verdict, ONCE, acted=False, pending=Pending(NOW, 0, 1)), Unknown)


def test_a_task_does_not_become_unclear_for_ever() -> None:
    assert isinstance(weighed(TimedOut("slow"), ONCE, pending=Pending(NOW, MOST_LOOKS - 1, 1)), Unclear)
    assert isinstance(weighed(TimedOut("slow"), ONCE, pending=Pending(NOW, MOST_LOOKS, 1)), Unknown)


def test_only_an_unclear_outcome_hands_its_doubt_on() -> None:
    """A retry that a handler asks for itself has done nothing, so the next attempt need not look."""
    doubtful = task(ONCE, acted=True, pending=Pending(NOW, 3, 1)).task
    catalogue, tier = build_catalogue(), TIERS["webhook-high"]
    retry = decide(doubtful, Retryable("busy"), tier, StepPolicy(), catalogue, NOW).continuation
    assert retry is not None
    assert RECONCILE not in retry.task.options
    verdict = Unclear("?", "unknown", Pending(NOW, 4, 1).encode(), NOW + S)
    decision = decide(doubtful, verdict, tier, StepPolicy(), catalogue, NOW)
    sequel = decision.continuation
    assert sequel is not None
    assert (decision.kind, sequel.task.attempt, sequel.due_at) == ("unclear", doubtful.attempt + 1, NOW + S)
    assert pending_of(sequel.task) == Pending(NOW, 4, 1)
    # R1: what is rebuilt from the outcome equals what was produced.
    target = Target(HIGH, 0, sequel.task.attempt, NOW + S, reconcile=Pending(NOW, 4, 1).encode())
    assert continuation_of(doubtful, tier, target, catalogue) == sequel


def test_what_an_intent_leaves_is_counted_and_what_cannot_be_read_was_sent_just_now() -> None:
    before = now_micros()
    doubtful = task(ONCE, acted=False, pending=Pending(5, 3, 1)).task
    remember(doubtful)
    found = pending_of(doubtful)
    assert found is not None
    assert (found.looks, found.sent_until >= before) == (4, True)
    doubtful.options[RECONCILE] = "nonsense|x"
    found = pending_of(doubtful)
    assert found is not None
    assert (found.looks, found.sent_until >= before) == (0, True)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_replay_looks_for_earlier_runs_whichever_attempt_comes_so_far(attempt: int) -> None:
    """The first one may have failed before: its tenant could not be read (R10)."""
    acted: list[str] = []
    looked: list[str] = []

    async def act(task: TaskReady) -> Completed:
        acted.append(task.event_id)
        return Completed({})

    async def look(task: TaskReady) -> Reconciled:
        looked.append(task.event_id)
        return NotFound()

    no_state: Any = None
    intents = Intents(no_state, 0.0)
    caution = Caution(at_most_once=False, reconcile=look)

    async def carry_out(options: dict[str, str], attempt: int) -> TierTask:
        item = tier_task(run=2, attempt=attempt, options=options)
        item.execution = Execution("H", act, StepPolicy(), 5, caution=caution)
        item.slot = DeadlineSlot(None)
        await intents.run(item)
        return item

    item = await carry_out({}, attempt)
    assert looked == acted == ["e1"]
    decision = decide(item.task, Retryable("busy"), TIERS["webhook-high"], StepPolicy(), build_catalogue(), NOW)
    assert decision.continuation is not None
    await carry_out(decision.continuation.task.options, attempt + 1)
    assert (len(looked), len(acted)) == (1, 2)
    await carry_out({LOOKED: "2|1"}, attempt)
    assert len(looked) == 2
