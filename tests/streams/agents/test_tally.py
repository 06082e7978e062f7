"""What counts as a fault of ours: bugs, never what a tenant's upstream or payload leads to (R17)."""

import pytest

from handlers.results import Completed, Rejected, Wait
from schemas.errors import Permanent, Retryable, Unknown
from streams.agents.tally import Tally
from streams.engine.decide import CallBackMissing, TimedOut, WorkersDied


@pytest.mark.parametrize(
    ("verdict", "is_ours"),
    [
        (Completed({}), False),
        (Rejected("no such article"), False),
        (Wait("order-7", 60), False),
        (Retryable("503"), False),
        (TimedOut("too long"), False),
        (Permanent("no such tenant"), False),
        (CallBackMissing("no call-back"), False),
        (Unknown("no answer"), False),
        (ZeroDivisionError(), True),
        (WorkersDied("twice"), True),
        ({"a": "dictionary"}, True),
        (None, True),
    ],
)
def test_whose_fault_it_is(verdict: object, is_ours: bool) -> None:
    tally = Tally()
    tally.count(verdict)
    assert (tally.attempts, tally.faults) == (1, int(is_ours))
