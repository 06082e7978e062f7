"""What a handler says of its work: it returns one of these, or raises an error of ``schemas.errors``."""

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Completed:
    """The work is done. ``result`` is a JSON object, kept in the history and handed to the pipeline's next step."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The work will never succeed: the payload is wrong or the upstream refused it. ``reason`` is for people."""

    reason: str
    code: str = "rejected"


@dataclass(frozen=True, slots=True)
class Wait:
    """The work goes on elsewhere; a call-back with this ``key`` will bring its result within ``timeout_s`` seconds.

    No worker is kept busy meanwhile. The call-back's payload becomes the result of this step, or of this handler; so
    the next step finds it as ``previous_step_result``. Without one in time the event ends ``timed_out``. A call-back
    may come before the handler returns; a second one is recorded and ignored. ``key``, of 1 to 200 printable
    characters, belongs to one thing that the tenant waits for: whoever waits with it again gets the first call-back.
    """

    key: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class NotFound:
    """What ``reconcile`` says where the upstream does not know the work: it was not done, or does not show yet."""


Result: TypeAlias = Completed | Rejected
Returned: TypeAlias = Result | Wait
Reconciled: TypeAlias = Completed | Rejected | NotFound
