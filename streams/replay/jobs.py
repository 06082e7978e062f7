"""Replays as durable jobs: a row says what was asked for and how far it has come.

Each piece is one transaction: the outbox's rows of some events, and the place behind the last of them. Whoever is
killed has done whole pieces, and who goes on does the rest: each event selected is replayed once.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

import orjson
from sqlalchemy import Connection, Engine, RowMapping, func, insert, select, update

from projections.tables import WEBHOOK_EVENTS
from schemas.events import now_micros, to_datetime
from streams.capture.outbox import OUTBOX
from streams.replay.records import Asked, NotReplayable, replay_rows
from streams.replay.selection import Selection, count, page
from streams.replay.stored import load
from streams.replay.storing import store
from streams.replay.tables import REPLAYS
from topics.catalogue import Catalogue

State: TypeAlias = Literal["running", "paused", "cancelled", "done"]

_JOBS: Final = REPLAYS.c
_OPEN: Final[tuple[State, ...]] = ("running", "paused")


class NoSuchReplay(LookupError):
    """There is no replay of that id, or it is not in a state that this can be done to; the message is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay. ``rate`` is events a second; ``skipped`` says why events were left out, and how many."""

    id: str
    state: State
    selection: Selection
    selected_at: datetime
    from_step: int
    rate: int
    requested_by: str
    reason: str | None
    selected: int
    replayed: int
    skipped: dict[str, int]
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def dealt_with(self) -> int:
        """Events that were replayed or left out."""
        return self.replayed + sum(self.skipped.values())


class Replays:
    """The replays of a database. Blocks. Raises SQLAlchemy's ``DBAPIError``."""

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def create(
        self, selection: Selection, *, by: str, rate: int, from_step: int = 0, reason: str | None = None
    ) -> Replay:
        """A replay of what is selected and has ended by now; nothing is replayed yet."""
        now = _now()
        job_id = uuid4().hex[:12]
        with self._engine.begin() as connection:
            selected = sum(each.events for each in count(connection, selection, now))
            connection.execute(
                insert(REPLAYS).values(
                    id=job_id,
                    state="running",
                    selection=selection.encode(),
                    selected_at=now,
                    from_step=from_step,
                    rate=rate,
                    requested_by=by,
                    reason=reason,
                    selected=selected,
                    replayed=0,
                    skipped="{}",
                    created_at=now,
                    updated_at=now,
                )
            )
        return self.find(job_id)

    def find(self, job_id: str) -> Replay:
        """Raises ``NoSuchReplay``."""
        with self._engine.connect() as connection:
            row = connection.execute(select(REPLAYS).where(_JOBS.id == job_id)).mappings().one_or_none()
        if row is None:
            raise NoSuchReplay(f"there is no replay {job_id}")
        return _replay(row)

    def latest(self, limit: int = 20) -> list[Replay]:
        """The latest replays, the newest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(REPLAYS).order_by(_JOBS.created_at.desc()).limit(limit)).mappings()
            return [_replay(row) for row in rows]

    def change(self, job_id: str, state: State) -> Replay:
        """Pause, resume or cancel one that has not ended. Raises ``NoSuchReplay``."""
        now = _now()
        values = {"state": state, "updated_at": now} | ({"finished_at": now} if state == "cancelled" else {})
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(REPLAYS).where(_JOBS.id == job_id, _JOBS.state.in_(_OPEN)).values(values)
            ).rowcount
        found = self.find(job_id)
        if not changed:
            raise NoSuchReplay(f"replay {job_id} has ended already: it is {found.state}")
        return found

    def advance(self, job_id: str, limit: int) -> Replay:
        """Replay the next events, at most ``limit`` of them, and say how far it is. Raises ``NoSuchReplay``.

        One that is paused, or has ended, stays as it is. Two who do this at once take turns.
        """
        with self._engine.begin() as connection:
            # Written first: the row's lock keeps others out until the commit.
            running = update(REPLAYS).where(_JOBS.id == job_id, _JOBS.state == "running")
            if connection.execute(running.values(updated_at=_now())).rowcount:
                row = connection.execute(select(REPLAYS).where(_JOBS.id == job_id)).mappings().one()
                connection.execute(running.values(self._piece(connection, row, limit)))
        return self.find(job_id)

    def under_way(self) -> int:
        """Events of any replay that have not ended, with those whose tasks are still in the outbox."""
        events = WEBHOOK_EVENTS.c
        open_runs = select(func.count()).where(events.finished_at.is_(None), events.run > 1)
        stored = select(func.count()).where(OUTBOX.c.record_type == "TaskScheduled", OUTBOX.c.published_at.is_(None))
        with self._engine.connect() as connection:
            return int(connection.execute(open_runs).scalar_one()) + int(connection.execute(stored).scalar_one())

    def _piece(self, connection: Connection, row: RowMapping, limit: int) -> dict[str, Any]:
        """Store the next events' records; gives what changes in the job's row."""
        place = (row["last_accepted_at"], row["last_event_id"]) if row["last_event_id"] is not None else None
        events = page(connection, Selection.decode(row["selection"]), row["selected_at"], place, limit)
        if not events:
            return {"state": "done", "finished_at": _now()}
        asked = Asked(row["requested_by"], now_micros(), row["reason"] or "", row["id"])
        skipped: Counter[str] = Counter(orjson.loads(row["skipped"]))
        records = []
        replayed = 0
        for stored in load(connection, events):
            try:
                records += replay_rows(stored, self._catalogue, asked, from_step=row["from_step"])
                replayed += 1
            except NotReplayable as error:
                skipped[error.code] += 1
        store(connection, records)
        return {
            "replayed": row["replayed"] + replayed,
            "skipped": orjson.dumps(skipped).decode(),
            "last_accepted_at": events[-1]["accepted_at"],
            "last_event_id": events[-1]["event_id"],
        }


def _replay(row: RowMapping) -> Replay:
    names = (name for name in Replay.__dataclass_fields__ if name not in ("selection", "skipped"))
    return Replay(
        **{name: row[name] for name in names},
        selection=Selection.decode(row["selection"]),
        skipped=orjson.loads(row["skipped"]),
    )


def _now() -> datetime:
    return to_datetime(now_micros())
