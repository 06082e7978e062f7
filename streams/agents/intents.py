"""Handlers that must not act twice (R6): an intent in the log before they act, and a look before they act again.

What may have been done already carries the option ``RECONCILE``: ``sent_until|looks|attempt``, the last moment (UTC,
in microseconds) at which it may have been sent, how often it has become unclear, and by which attempt it was sent.
Nothing is sent for such a task before its handler's ``reconcile`` has looked for it; see README.md.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias

from handlers.results import Completed, NotFound, Reconciled, Rejected, Returned, Wait
from schemas.errors import Permanent, Retryable, Unknown
from schemas.events import Micros, TaskReady, now_micros
from streams.agents.executions import Caution
from streams.agents.tier_records import TierTask
from streams.agents.tier_state import TierState
from streams.engine.decide import (
    LONGEST_RETRY_AFTER_S,
    LOOKED,
    RECONCILE,
    TimedOut,
    Unclear,
    Verdict,
    WorkersDied,
    told,
)
from streams.engine.threads import NotStarted

Confirm: TypeAlias = Callable[[int, int], Awaitable[None]]
"""Returns when the record of `.events` at a partition's offset will outlive the broker; raises nothing."""

MOST_LOOKS: Final = 12
"""How often a task may become unclear before only a person can find out."""

LONGEST_PAUSE_S: Final = 300.0
_FENCE_PAUSE_S: Final = 0.1
_MICROS: Final = 1_000_000


class Pending(NamedTuple):
    """What may have been done already: until when it may have been sent, how often it was unclear, by which attempt."""

    sent_until: Micros
    looks: int
    attempt: int

    def encode(self) -> str:
        """As the option ``RECONCILE``."""
        return f"{self.sent_until}|{self.looks}|{self.attempt}"


class _Unsettled(Exception):
    """``reconcile`` does not find the work, and it is too early to believe that it was not done."""


class NotDone(Retryable):
    """The attempt's worker has died, and its handler does not find that it had done anything."""

    code = "worker_died"


def pending_of(task: TaskReady) -> Pending | None:
    """What the task may have done already; ``None``: nothing."""
    text = task.options.get(RECONCILE)
    if text is None:
        return None
    parts = text.split("|")
    if len(parts) != len(Pending._fields) or not all(part.isdecimal() for part in parts):
        # The option may come from outside: what cannot be read counts as sent just now.
        return Pending(now_micros(), 0, 0)
    return Pending(*map(int, parts))


def _looked_for(task: TaskReady) -> str:
    """Value of the option ``LOOKED`` of a task whose earlier runs have been looked for."""
    return f"{task.run}|{task.step}"


def _has_looked(task: TaskReady) -> bool:
    return task.options.get(LOOKED) == _looked_for(task)


def remember(task: TaskReady) -> None:
    """A worker has died, or was stopped, after its intent: whatever it sent, it sent before now."""
    known = pending_of(task)
    looks = known.looks + 1 if known is not None else 0
    task.options[RECONCILE] = Pending(now_micros(), looks, task.attempt).encode()


class Intents:
    """Runs handlers with ``caution``. One per worker.

    ``clocks_apart_s`` is how far the clocks of the hosts may differ. ``confirm`` makes sure of an intent where the
    brokers' word is not enough (embedded mode).
    """

    def __init__(self, state: TierState, clocks_apart_s: float, confirm: Confirm | None = None) -> None:
        self._state = state
        self._clocks_apart_s = clocks_apart_s
        self._confirm = confirm

    async def run(self, item: TierTask) -> Returned:
        """Carry out a task, guarded by the caller: look for it if it may have been done, else do it."""
        execution, slot = item.execution, item.slot
        assert execution is not None  # noqa: S101  set by the tier before it runs anything
        assert slot is not None  # noqa: S101
        caution = execution.caution
        assert caution is not None  # noqa: S101
        task = item.task
        if task.run > 1 and caution.reconcile is not None and RECONCILE not in task.options and not _has_looked(task):
            # What earlier runs have done is looked for first (R10); when they ended is not known here. Not only by the
            # first attempt, which may have failed before it came so far.
            task.options[RECONCILE] = Pending(now_micros(), 0, 0).encode()
        pending = pending_of(task)
        if pending is not None:
            found = await self._look(item, caution, pending)
            if not isinstance(found, NotFound):
                return found
            task.options[LOOKED] = _looked_for(task)
            if pending.attempt == item.task.attempt:
                # A handler may do otherwise in a further attempt, so one that may have begun is never begun anew.
                raise NotDone("its worker died before anything was done; it is tried again")
            slot.start(execution.timeout_s)
        # From here on it may be in the log that this attempt acts, so every other end of it is unclear.
        item.may_have_acted = True
        if caution.at_most_once:
            await self._declare(item, execution.timeout_s)
        return await execution.run(item.task)

    async def _declare(self, item: TierTask, timeout_s: float) -> None:
        """The intent is in the log, and this worker still the one whose task it is, before anything is sent."""
        state = self._state
        offset = await state.note(item, "intent", timeout_s)
        if self._confirm is not None:
            await self._confirm(item.source.partition, offset)
        while state.fence.is_up:
            await asyncio.sleep(_FENCE_PAUSE_S)

    async def _look(self, item: TierTask, caution: Caution, pending: Pending) -> Reconciled:
        """What ``reconcile`` finds; ``NotFound`` only where that is to be believed."""
        if caution.reconcile is None:
            raise Unknown("whether it was done is not known", code="unknown")
        # What counts is when the search began: it may have passed the place before the work showed there.
        began = now_micros()
        found: Any = await caution.reconcile(item.task)
        if isinstance(found, NotFound) and began < _settled_at(caution, pending, self._clocks_apart_s):
            raise _Unsettled
        if not isinstance(found, Completed | Rejected | NotFound):
            text = f"reconcile returned {type(found).__name__}; it must return Completed, Rejected or NotFound"
            raise Unknown(text, code="wrong_result")
        reconciled: Reconciled = found
        return reconciled


def weigh(item: TierTask, verdict: Verdict, clocks_apart_s: float, now: Micros) -> Verdict:
    """What an attempt came to, seen by what it may have done; the verdict itself where that is clear. Pure."""
    caution = item.execution.caution if item.execution is not None else None
    pending = pending_of(item.task)
    if item.may_have_acted and caution is not None:
        if _is_clear(verdict, caution):
            return verdict
        looks = pending.looks + 1 if pending is not None else 0
        return _unclear(verdict, caution, Pending(now, looks, item.task.attempt), clocks_apart_s)
    if pending is None or isinstance(verdict, Completed | Rejected | NotDone):
        return verdict
    if isinstance(verdict, _Unsettled) and caution is not None:
        text = "it does not show yet; whether it was done is known later, so it is looked for again"
        due_at = max(now, _settled_at(caution, pending, clocks_apart_s))
        return Unclear(text, "unsettled", pending.encode(), due_at)
    return _still_unclear(verdict, pending, now)


def _unclear(verdict: Verdict, caution: Caution, pending: Pending, clocks_apart_s: float) -> Verdict:
    """The handler was called, and whether it acted is open."""
    text, code = _told(verdict)
    if caution.reconcile is None or pending.looks > MOST_LOOKS:
        return Unknown(_for_a_person(text), code=code)
    text = f"{text}; whether it was done is not known yet, so it is looked for before anything is sent again"
    return Unclear(text, code, pending.encode(), _settled_at(caution, pending, clocks_apart_s))


def _still_unclear(verdict: Verdict, pending: Pending, now: Micros) -> Verdict:
    """An attempt did not come to act, and what an earlier one did is still open."""
    text, code = _told(verdict)
    looks = pending.looks + 1
    if isinstance(verdict, Unknown | Permanent | WorkersDied) or looks > MOST_LOOKS:
        return Unknown(_for_a_person(text), code=code)
    pause_s = min(2.0**looks, LONGEST_PAUSE_S)
    pause_s = max(pause_s, min(getattr(verdict, "retry_after_s", None) or 0.0, LONGEST_RETRY_AFTER_S))
    text = f"{text}; an earlier attempt may have done it, so it is looked for again"
    return Unclear(text, code, pending._replace(looks=looks).encode(), now + int(pause_s * _MICROS))


def _settled_at(caution: Caution, pending: Pending, clocks_apart_s: float) -> Micros:
    return pending.sent_until + int((caution.settle_s + clocks_apart_s) * _MICROS)


def _is_clear(verdict: Verdict, caution: Caution) -> bool:
    """Whether a verdict says what the handler has done: only what it says itself does."""
    if isinstance(verdict, TimedOut):
        return isinstance(verdict.__cause__, NotStarted)
    if isinstance(verdict, Completed | Rejected | Wait | Retryable | Permanent):
        return True
    return not isinstance(verdict, Unknown) and not caution.at_most_once


def _told(verdict: Verdict) -> tuple[str, str]:
    """Text and code of what went wrong; the text goes on as a sentence."""
    text, code = told(verdict)
    return text.rstrip("."), code


def _for_a_person(text: str) -> str:
    if "retry the event" in text or "trigger" in text:
        return text
    return f"{text}; look for it at the upstream, and retry the event only if it was not done"
