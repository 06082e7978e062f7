"""What each ``kind`` of ``TaskEvent`` means for its event: status, finality, and whether it can be retried by hand."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal["pending", "processing", "completed", "failed", "failed_permanently", "unknown"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table.

    ``status`` is the event's status after it, ``None`` where the kind does not change it. ``outcome``: it ends an
    attempt. ``final``: the event's run has ended. ``retryable``: ``queue:retry`` takes an event that ended with it.
    ``rank`` orders records of one attempt: a later stage overrides an earlier one whatever order they arrive in.
    """

    name: str
    status: Status | None
    outcome: bool
    final: bool
    retryable: bool
    rank: int


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("matched", None, outcome=False, final=False, retryable=False, rank=0),
        Kind("called_back", None, outcome=False, final=False, retryable=False, rank=0),
        Kind("accepted", "pending", outcome=False, final=False, retryable=False, rank=1),
        Kind("retried", "pending", outcome=False, final=False, retryable=False, rank=1),
        Kind("replayed", "pending", outcome=False, final=False, retryable=False, rank=1),
        Kind("moved", "pending", outcome=False, final=False, retryable=False, rank=2),
        Kind("deferred", "pending", outcome=False, final=False, retryable=False, rank=2),
        Kind("intent", "processing", outcome=False, final=False, retryable=False, rank=3),
        Kind("started", "processing", outcome=False, final=False, retryable=False, rank=3),
        Kind("claimed", "processing", outcome=False, final=False, retryable=False, rank=4),
        Kind("released", "processing", outcome=False, final=False, retryable=False, rank=4),
        Kind("waiting", "processing", outcome=True, final=False, retryable=False, rank=5),
        Kind("retry", "pending", outcome=True, final=False, retryable=False, rank=6),
        Kind("unclear", "unknown", outcome=True, final=False, retryable=False, rank=6),
        Kind("step_completed", "processing", outcome=True, final=False, retryable=False, rank=7),
        Kind("failed", "failed", outcome=True, final=False, retryable=True, rank=8),
        Kind("timed_out", "failed_permanently", outcome=True, final=True, retryable=True, rank=9),
        Kind("superseded", "completed", outcome=True, final=True, retryable=True, rank=9),
        Kind("cancelled", "failed_permanently", outcome=True, final=True, retryable=True, rank=9),
        Kind("unknown", "unknown", outcome=True, final=True, retryable=True, rank=9),
        Kind("rejected", "failed_permanently", outcome=True, final=True, retryable=True, rank=9),
        Kind("failed_permanently", "failed_permanently", outcome=True, final=True, retryable=True, rank=9),
        Kind("completed", "completed", outcome=True, final=True, retryable=False, rank=10),
        Kind("dismissed", "failed_permanently", outcome=False, final=True, retryable=False, rank=11),
        Kind("resolved_completed", "completed", outcome=False, final=True, retryable=False, rank=11),
        Kind("resolved_failed", "failed_permanently", outcome=False, final=True, retryable=False, rank=11),
    )
}
"""Every kind by name. ``failed`` means: the tier's tries are used up and the failed tier takes over.

``unclear``: whether the work was done is not known, and its handler will look for it. ``unknown``: a person has to.
``retried`` begins a further attempt of the same run, ``replayed`` a new run; both are made by hand, as are
``dismissed`` (a failure that is listed no more) and ``resolved_...`` (an event ended from whatever state it was in).
"""

OUTCOME_KINDS: Final = tuple(kind.name for kind in KINDS.values() if kind.outcome)
"""Names of the kinds that end an attempt."""

FINAL_KINDS: Final = tuple(kind.name for kind in KINDS.values() if kind.final)
"""Names of the kinds that end an event's run."""
