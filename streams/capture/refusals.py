"""Rows that can never be published: why, and an alert for each cause, not for each row (R7)."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger(__name__)

AGAIN_S: Final = 60.0
"""A cause that goes on is told again after so many seconds."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """``cause`` is one of a few words, the same for all rows with this fault; ``reason`` is about this row."""

    cause: str
    reason: str


class Alarm:
    """Tells of refusals at level error: the first row of a cause at once, the others as a number, once a minute."""

    def __init__(self, share: str, shown_by: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``shown_by`` is the command that shows the rows."""
        self._share = share
        self._shown_by = shown_by
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._untold: Counter[str] = Counter()

    def tell(self, refused: Mapping[str, Refusal]) -> None:
        """These rows are set aside now. Call it with none, too: what was held back is told when its minute is over."""
        first: dict[str, tuple[str, Refusal]] = {}
        for row, refusal in refused.items():
            self._untold[refusal.cause] += 1
            first.setdefault(refusal.cause, (row, refusal))
        now = self._clock()
        for cause, count in list(self._untold.items()):
            if now - self._told_at.get(cause, float("-inf")) < AGAIN_S:
                continue
            row, refusal = first.get(cause, ("", Refusal(cause, "as before")))
            log.error(
                "rows cannot be published and are set aside",
                share=self._share,
                cause=cause,
                rows=count,
                row=row or None,
                reason=refusal.reason,
                shown_by=self._shown_by,
            )
            self._told_at[cause] = now
            del self._untold[cause]
