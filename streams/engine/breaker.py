"""A circuit to one upstream of one tenant: opens after failures in a row, probes, closes (R15). Pure; microseconds.

Nobody calls while it is open. When its time is up the relay lets a single probe go; its success closes the circuit,
its failure opens it again for longer.
"""

from dataclasses import dataclass
from typing import Final

from handlers.results import Completed, Rejected, Wait
from schemas.errors import Permanent, Retryable, Unknown
from schemas.events import Micros
from streams.control.view import Breaker

_MICROS: Final = 1_000_000
_MOST_DOUBLINGS: Final = 16
_NO_ANSWER: Final = frozenset({"not_connected", "connection", "timeout"})


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens at ``failures`` in a row within ``window_s``, for ``open_s`` seconds; twice as long each time its probe
    fails, at most ``longest_s``.
    """

    failures: int = 10
    window_s: float = 60.0
    open_s: float = 10.0
    longest_s: float = 300.0


class Circuit:
    """State machine of one circuit. ``state`` is what ``.control`` says, or is to say."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.state = Breaker()
        self._policy = policy
        self._first_failure_at: Micros = 0

    @property
    def is_closed(self) -> bool:
        """Whether calls may go."""
        return self.state.state == "closed"

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to remember."""
        return self.state == Breaker()

    def failed(self, started_at: Micros, now: Micros, retry_after_s: float | None = None) -> bool:
        """A call that began at ``started_at`` failed. ``retry_after_s``: the upstream named the time itself.

        True: the state has changed and has to be told.
        """
        state, policy = self.state, self._policy
        if started_at < state.since:
            # It began before the circuit opened or closed, so it says nothing about the time since.
            return False
        if state.state == "closed" and now - self._first_failure_at > policy.window_s * _MICROS:
            state = Breaker(since=state.since)
        if not state.failures:
            self._first_failure_at = now
        failures = state.failures + 1
        if state.state == "closed" and failures < policy.failures and not retry_after_s:
            self.state = state._replace(failures=failures)
            return False
        doublings = min(max(0, failures - policy.failures), _MOST_DOUBLINGS)
        open_s = min(policy.open_s * 2**doublings, policy.longest_s)
        open_until = now + int(max(open_s, retry_after_s or 0.0) * _MICROS)
        self.state = Breaker("open", open_until, max(failures, policy.failures), now)
        return True

    def succeeded(self, started_at: Micros, now: Micros) -> bool:
        """A call that began at ``started_at`` was answered. True: the state has changed and has to be told."""
        if started_at < self.state.since:
            return False
        was_closed = self.is_closed
        self.state = Breaker(since=self.state.since if was_closed else now)
        return not was_closed

    def probes(self, now: Micros) -> bool:
        """A task begins that the relay has let go. True: the circuit is half open now, which has to be told."""
        if self.state.state != "open" or now < self.state.open_until:
            return False
        self.state = self.state._replace(state="half_open")
        return True

    def adopt(self, state: Breaker) -> None:
        """Take over what another worker or a person has decided, unless something later is known."""
        later = state.since > self.state.since
        if later or (state.since == self.state.since and state.state == "half_open" and not self.is_closed):
            self.state = state


def upstream_failure(verdict: object) -> Retryable | None:
    """What failed by the upstream's fault: network, time-out, 429 or 5xx. ``None``: nothing did.

    Where it leaves open whether the work was done, the failure is the cause of an ``Unknown``.
    """
    failure = verdict.__cause__ if isinstance(verdict, Unknown) else verdict
    if isinstance(failure, Retryable) and (failure.code in _NO_ANSWER or failure.code.startswith("http_")):
        return failure
    return None


def is_answer(verdict: object) -> bool:
    """Whether an attempt shows that the upstream answers."""
    return isinstance(verdict, Completed | Rejected | Wait | Permanent)
