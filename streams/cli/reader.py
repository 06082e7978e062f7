"""Reads the history for the HTTP door."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine

from projections.queries import attempts_of, find_event


class HistoryReader:
    """The door's ``EventReader`` over the projections' tables."""

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
