"""Reads the history for the HTTP door and for triggers in the foreground."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from handlers.service import Outcome
from projections.queries import attempts_of, find_event
from schemas.errors import Retryable
from schemas.kinds import KINDS


class HistoryReader:
    """The door's ``EventReader`` and the plugin service's ``OutcomeReader`` over the projections' tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def event(self, event_id: str, tenant_id: str | None) -> Mapping[str, Any] | None:
        """The event with its attempts, ready for JSON; only of that tenant, where one is named."""
        with self._engine.connect() as connection:
            found = find_event(connection, event_id, tenant_id=tenant_id)
            if found is None:
                return None
            attempts = attempts_of(connection, found, tenant_id=tenant_id)
        return {**asdict(found), "attempts": [asdict(attempt) for attempt in attempts]}

    def outcome(self, event_id: str) -> Outcome | None:
        """See ``OutcomeReader``."""
        try:
            with self._engine.connect() as connection:
                found = find_event(connection, event_id)
        except (DBAPIError, PoolTimeout) as error:
            raise Retryable(f"the history cannot be read now: {getattr(error, 'orig', None) or error}") from error
        if found is None or not KINDS[found.kind].final:
            return None
        result = orjson.loads(found.result) if found.result else None
        return Outcome(found.status, result if isinstance(result, dict) else None, found.error)
