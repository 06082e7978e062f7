"""How many deferrals of a tenant are on their way at once: nobody waits for them, so they may not crowd the others out.

A circuit that opens before thousands of waiting records sends all of them behind its gate. As fast as a worker can,
that keeps loop, brokers and projector busy for seconds, in which its other tenants' records hardly come through (R15).
"""

from collections import Counter
from typing import Any, Final

from streams.engine.lanes import Lanes

MOST_UNDER_WAY: Final = 32
"""Deferrals of a tenant without acknowledgement at which it rests; with half of them it goes on."""


class Deferring:
    """One per worker, on its event loop."""

    def __init__(self, lanes: Lanes[Any]) -> None:
        self._lanes = lanes
        self._under_way: Counter[str] = Counter()
        self._resting: set[str] = set()

    def begin(self, tenant: str) -> None:
        """A record of the tenant is being deferred."""
        self._under_way[tenant] += 1
        if self._under_way[tenant] >= MOST_UNDER_WAY:
            self._resting.add(tenant)
            self._lanes.rest(tenant)

    def end(self, tenant: str) -> bool:
        """One is behind its gate. True: the tenant, which rested, goes on."""
        self._under_way[tenant] -= 1
        left = self._under_way[tenant]
        if not left:
            del self._under_way[tenant]
        if tenant not in self._resting or left > MOST_UNDER_WAY // 2:
            return False
        self._resting.discard(tenant)
        self._lanes.go_on(tenant)
        return True
