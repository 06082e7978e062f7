"""How many attempts of a worker have ended, and how many of them by a fault of ours: what its tier's health asks."""

from typing import Final

from handlers.results import Completed, Rejected, Wait
from schemas.errors import Permanent, Retryable, Unknown
from streams.engine.decide import Unclear

_NOT_OURS: Final = (Rejected, Wait, Retryable, Permanent, Unknown, Unclear)
"""What an upstream, a tenant or a payload leads to; whatever else a handler raises or returns is a bug."""


class Tally:
    """Of one worker since its start."""

    __slots__ = ("attempts", "faults")

    def __init__(self) -> None:
        self.attempts = 0
        self.faults = 0

    def count(self, verdict: object) -> None:
        """One more attempt came to ``verdict``, see ``streams.engine.decide.Verdict``."""
        self.attempts += 1
        if type(verdict) is not Completed and is_our_fault(verdict):
            self.faults += 1


def is_our_fault(verdict: object) -> bool:
    """Whether an attempt failed by an error in a handler or in this system, not by what it was given or called."""
    return not isinstance(verdict, (Completed, *_NOT_OURS))
