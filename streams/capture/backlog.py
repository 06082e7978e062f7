"""How much the outbox may hold that is not published: a database must not fill up while Kafka is away."""

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine, func, select

from streams.capture.outbox import OUTBOX

_LOOKS_EVERY_S: Final = 2.0


class Backlog:
    """Says whether too much waits to be published. Looks every two seconds at most. Thread-safe."""

    def __init__(self, engine: Engine, most_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``most_rows`` 0: any number."""
        self._engine = engine
        self._most = most_rows
        self._clock = clock
        self._looked_at: float | None = None
        self._is_full = False

    def is_full(self) -> bool:
        """Whether ``most_rows`` wait. Blocks for a count of them now and then. Raises what SQLAlchemy raises."""
        now = self._clock()
        if self._most and (self._looked_at is None or now - self._looked_at >= _LOOKS_EVERY_S):
            # One thread looks; the others take its last word meanwhile.
            self._looked_at = now
            waiting = (
                select(OUTBOX.c.id)
                .where(OUTBOX.c.published_at.is_(None), OUTBOX.c.parked_at.is_(None))
                .limit(self._most)
                .subquery()
            )
            with self._engine.connect() as connection:
                count = connection.execute(select(func.count()).select_from(waiting)).scalar_one()
            self._is_full = count >= self._most
        return self._is_full
