"""How much a relay publishes at a time, so that no tenant's rows wait long behind another's (R15). Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Protocol

AIM_S: Final = 0.05
"""How long a batch may take while one tenant crowds out others, in seconds: whoever comes meanwhile waits for it."""

LEAST_ROWS: Final = 64
"""Below this a batch costs more than its rows."""


class Row(Protocol):
    """A row of a feed."""

    def __getitem__(self, name: str, /) -> Any:
        """A column's value."""


def crowding(rows: Iterable[Row], most: int) -> str | None:
    """The tenant with more than ``most`` of the rows; ``most`` is at least half of them, so that it can be only one."""
    counts = Counter(row["tenant_id"] for row in rows)
    return next((tenant for tenant, count in counts.most_common(1) if count > most), None)


class Pace:
    """Rows of the next batch: ``most``, or fewer while the batches of a tenant that crowds out others take long."""

    def __init__(self, most: int) -> None:
        self.rows = most
        self._most = most
        self._least = min(most, LEAST_ROWS)

    def took(self, seconds: float, rows: int, tenants_wait: bool) -> None:
        """A batch of ``rows`` is done. ``tenants_wait``: one tenant had most of it, and others had a part."""
        if not tenants_wait or seconds < AIM_S / 2:
            self.rows = min(self._most, 2 * self.rows)
        elif seconds > AIM_S:
            self.rows = max(self._least, min(self.rows, rows) // 2)
