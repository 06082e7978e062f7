"""Ends an event from whatever state it is in; the end is in the log, so it survives a rebuild."""

from typing import Literal, TypeAlias

from sqlalchemy import Engine

from schemas.events import now_micros
from streams.replay.records import Asked, End, end_rows
from streams.replay.stored import rows_of
from streams.replay.storing import store
from topics.catalogue import Catalogue

Resolution: TypeAlias = Literal["failed", "completed"]
_KINDS: dict[Resolution, End] = {"failed": "resolved_failed", "completed": "resolved_completed"}


class UnknownEvent(LookupError):
    """The history knows no event of that id."""


class Resolving:
    """Ends events in a database. Blocks. Raises SQLAlchemy's ``DBAPIError``."""

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def resolve(self, event_id: str, resolution: Resolution, *, by: str, reason: str) -> str:
        """End it, and give the status it had. What of it waits is dropped; what runs is neither stopped nor heeded.

        Raises ``UnknownEvent``.
        """
        asked = Asked(by, now_micros(), reason)
        with self._engine.begin() as connection:
            for event in rows_of(connection, [event_id]):
                rows = end_rows(event, _KINDS[resolution], self._catalogue, asked)
                store(connection, rows)
                status: str = event["status"]
                return status
        raise UnknownEvent(_unknown(event_id))

    def status(self, event_id: str) -> str:
        """The status it has now. Raises ``UnknownEvent``."""
        with self._engine.connect() as connection:
            for event in rows_of(connection, [event_id]):
                status: str = event["status"]
                return status
        raise UnknownEvent(_unknown(event_id))


def _unknown(event_id: str) -> str:
    return f"there is no event {event_id} in the history"
