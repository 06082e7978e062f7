"""Which of several relays publishes which share of an outbox: they see each other in its database (DESIGN §6).

The locks of ``leadership`` alone decide who may publish. This only spreads the shares, so that a relay that joins gets
its part and the part of one that has gone is taken by the others.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from streams.capture.leadership import NAMESPACE, own_session
from streams.capture.outbox import SLICES

log = structlog.get_logger(__name__)

_LOOKS_EVERY_S: Final = 0.5
_IDLE_S: Final = 15.0
_FIRST_KEY: Final = SLICES + 1  # Beyond the locks of the slices and the schedule.

_JOIN: Final = text("SELECT pg_advisory_lock_shared(:space, :key)")
_MEMBERS: Final = text(
    "SELECT pid, pg_backend_pid() AS own FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock' "
    "AND classid = CAST(:space AS bigint)::oid AND objid = CAST(:key AS bigint)::oid AND objsubid = 2 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def shares_of(members: Sequence[int], own: int, shares: int) -> frozenset[int]:
    """Numbers of the shares that member ``own`` of ``members`` should publish: each share is one member's.

    The parts differ by one share at most. Nothing for one that is no member.
    """
    order = sorted(members)
    return frozenset(share for share in range(shares) if order and order[share % len(order)] == own)


class Turn(Protocol):
    """Whether it is this relay's turn to publish a share."""

    def may_take(self) -> bool:
        """Whether it should try to get it."""

    def must_leave(self) -> bool:
        """Whether another one should have it, where this one has it."""


class NoTurns:
    """Who has the lock keeps it, and the others stand by."""

    def may_take(self) -> bool:
        """See ``Turn``."""
        return True

    def must_leave(self) -> bool:
        """See ``Turn``."""
        return False


class DatabaseCrew:
    """The relays that split an outbox in PostgreSQL into as many shares as this one does.

    Each has a session with a shared advisory lock there, which the server frees when it ends. A relay that splits
    otherwise is none of them; the locks keep the two apart, and it takes what they leave.
    """

    def __init__(self, engine: Engine, shares: int) -> None:
        self._engine = engine
        self._shares = shares
        self._key = {"space": NAMESPACE, "key": _FIRST_KEY + shares}
        self._own: frozenset[int] | None = None

    def turn(self, share: int) -> Turn:
        """Whose turn it is for a share."""
        return _Turn(self, share)

    def has(self, share: int) -> bool | None:
        """Whether a share is this relay's; ``None`` where that is not known now."""
        own = self._own
        return None if own is None else share in own

    def follow(self, going: Callable[[], bool]) -> None:
        """Be one of them until ``going`` says no; blocks. A database that is away is waited out."""
        while going():
            try:
                connection = own_session(self._engine, _IDLE_S)
                try:
                    self._look(connection, going)
                finally:
                    connection.close()
            except (DBAPIError, PoolTimeout) as error:
                cause = getattr(error, "orig", None) or error
                log.warning("the other relays cannot be seen now", error=str(cause))
            self._own = None
            time.sleep(_LOOKS_EVERY_S)

    def _look(self, connection: Connection, going: Callable[[], bool]) -> None:
        connection.execute(_JOIN, self._key)
        while going():
            found = connection.execute(_MEMBERS, self._key).all()
            own = shares_of([row.pid for row in found], found[0].own if found else 0, self._shares)
            if own != self._own:
                log.info("this relay's shares of an outbox", shares=sorted(own), of=self._shares, relays=len(found))
                self._own = own
            time.sleep(_LOOKS_EVERY_S)


@dataclass(frozen=True, slots=True)
class _Turn:
    crew: DatabaseCrew
    share: int

    def may_take(self) -> bool:
        """See ``Turn``."""
        return self.crew.has(self.share) is True

    def must_leave(self) -> bool:
        """See ``Turn``. What is not known now stays as it is."""
        return self.crew.has(self.share) is False
