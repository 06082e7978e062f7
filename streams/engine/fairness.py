"""Fair shares of a worker's window between tenants: weighted rounds that leave no place empty (R15). Pure.

Rounds go over tenants, not keys: a tenant with a thousand keys gets no more than one with a single key. While others
wait, nobody starts beyond its share of the window. The last places are kept for tenants that run less than their
share, so that one whose upstream hangs cannot take every place.
"""

import heapq
from collections.abc import Mapping
from typing import Final, Protocol

RESERVE_PERCENT: Final = 5
_LEAST_WINDOW: Final = 10
"""A smaller window keeps nothing free."""


class Share(Protocol):
    """A tenant's part in proportion to others', and the most it may run while others wait (``None``: no such limit)."""

    @property
    def weight(self) -> float:
        """More than 0."""

    @property
    def cap(self) -> int | None:
        """Running tasks."""


class Turn:
    """A tenant's place in the rounds. ``running`` counts its tasks that hold a place of the window."""

    __slots__ = ("in_round", "passed", "running", "tenant", "waits", "weight")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.passed = 0.0
        self.running = 0
        self.waits = False
        self.in_round = False
        self.weight = 1.0


class FairShare:
    """Chooses whose turn it is. ``shares`` may change at any time; a tenant that is not in it has weight 1.

    A tenant is known while it waits or runs. ``waits`` says that it has something to start.
    """

    def __init__(self, window: int, shares: Mapping[str, Share] | None = None) -> None:
        self.window = window
        self.reserve = max(1, window * RESERVE_PERCENT // 100) if window >= _LEAST_WINDOW else 0
        self.shares: Mapping[str, Share] = shares if shares is not None else {}
        self._turns: dict[str, Turn] = {}
        self._round: list[tuple[float, str, Turn]] = []
        self._weights = 0.0
        self._now = 0.0

    def turn(self, tenant: str) -> Turn:
        """A tenant's turn, made where there is none."""
        found = self._turns.get(tenant)
        if found is None:
            found = self._turns[tenant] = Turn(tenant)
            self._weigh(found)
            self._weights += found.weight
        return found

    def wait(self, turn: Turn) -> None:
        """The tenant has something to start."""
        turn.waits = True
        if not turn.in_round:
            turn.in_round = True
            # Who was away does not catch up on what it did not ask for.
            turn.passed = max(turn.passed, self._now)
            heapq.heappush(self._round, (turn.passed, turn.tenant, turn))

    def rest(self, tenant: str) -> None:
        """The tenant is to be passed over until it waits anew."""
        found = self._turns.get(tenant)
        if found is not None:
            found.waits = False

    def next(self, running: int) -> Turn | None:
        """The tenant that may start one task now, with ``running`` in the window; ``None``: nobody may."""
        free = self.window - running
        if free <= 0:
            return None
        is_kept = free <= self.reserve
        if not is_kept and len(self._round) == 1 and self._round[0][2].waits:
            # Nobody else waits, so there is no share to look at and no round to go on.
            return self._round[0][2]
        passed_over: list[tuple[float, str, Turn]] = []
        chosen: Turn | None = None
        while self._round and chosen is None:
            turn = self._round[0][2]
            if not turn.waits:
                heapq.heappop(self._round)
                turn.in_round = False
                self._forget(turn)
            elif turn.running < self._share(turn, is_kept):
                chosen = turn
                heapq.heapreplace(self._round, self._passed(chosen))
            else:
                passed_over.append(heapq.heappop(self._round))
        if chosen is None and passed_over and not is_kept:
            # Nobody waits who is entitled: no place is left empty.
            chosen = passed_over.pop(0)[2]
            passed_over.append(self._passed(chosen))
        for entry in passed_over:
            heapq.heappush(self._round, entry)
        return chosen

    def _passed(self, turn: Turn) -> tuple[float, str, Turn]:
        """The turn's entry after it has had its turn."""
        before = turn.weight
        self._weigh(turn)
        self._weights += turn.weight - before
        self._now = turn.passed
        turn.passed += 1.0 / turn.weight
        return turn.passed, turn.tenant, turn

    def ended(self, turn: Turn) -> None:
        """One of its tasks has left its place."""
        turn.running -= 1
        if not turn.in_round:
            self._forget(turn)

    def _share(self, turn: Turn, is_kept: bool) -> float:
        """Places a tenant is entitled to; of those that are kept, as if one more tenant were there."""
        share = max(1.0, self.window * turn.weight / (self._weights + is_kept))
        found = self.shares.get(turn.tenant)
        return share if found is None or found.cap is None else min(share, found.cap)

    def _weigh(self, turn: Turn) -> None:
        found = self.shares.get(turn.tenant)
        turn.weight = found.weight if found is not None else 1.0

    def _forget(self, turn: Turn) -> None:
        if not turn.running and self._turns.get(turn.tenant) is turn:
            del self._turns[turn.tenant]
            self._weights -= turn.weight
