"""Commands to what waits: cancel it, or run it now (R11).

A command is a record of `.scheduled`: the same schedule in its next version. The relay obeys it, and whether it came
in time is read from the projection: the relay publishes of each wait either its task or the end of its event.
"""

import time
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from sqlalchemy import Engine, RowMapping

from projections.waits import latest_wait, outcome_kind
from schemas.codec import encode
from schemas.events import TaskScheduled, from_datetime, now_micros
from streams.deliveries import deliver_once
from streams.engine.outcomes import Outgoing
from streams.headers import record_headers
from streams.settings import Settings
from topics.gates import is_call_back_gate

Answer: TypeAlias = Literal["done", "too_late", "unconfirmed"]
"""``too_late``: the task was on its way already. ``unconfirmed``: nobody obeyed in time; it may still happen."""

Command: TypeAlias = Literal["cancelled", "run_now"]

LONGEST_REASON: Final = 1000
_POLL_S: Final = 0.05


class NotWaiting(LookupError):
    """There is nothing that the command could be about; the message is for people."""


@dataclass(frozen=True, slots=True)
class Obeyed:
    """A command's answer, and the wait it was about."""

    schedule_id: str
    event_id: str
    answer: Answer


class Scheduling:
    """Gives commands and waits for their answers. Blocks; each call may take as long as its ``timeout_s``."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._topic = settings.catalogue().scheduled
        self._engine = engine
        self._settings = settings

    def find(self, identifier: str, tenant_id: str | None = None) -> RowMapping:
        """The latest wait of an event, or that of a schedule id. Raises ``NotWaiting`` where there is none."""
        with self._engine.connect() as connection:
            wait = latest_wait(connection, identifier, tenant_id=tenant_id)
        if wait is None:
            raise NotWaiting(f"nothing with the id {identifier} waits, or has ever waited, in the schedule")
        return wait

    def cancel(
        self, identifier: str, *, by: str, reason: str = "", tenant_id: str | None = None, timeout_s: float = 10.0
    ) -> Obeyed:
        """End an event that waits, with the outcome ``cancelled``. Asked twice it ends once.

        Raises ``NotWaiting``, and ``KafkaException`` where no broker takes the command.
        """
        wait = self.find(identifier, tenant_id)
        if wait["kind"] != "cancelled" and wait["dispatched_at"] is None and wait["closed_at"] is None:
            text = f"cancelled by {by}" + (f": {reason}" if reason else "")
            self._send(wait, "cancelled", text[:LONGEST_REASON])
        return self._answer(wait, "cancelled", timeout_s)

    def run_now(self, identifier: str, *, by: str, tenant_id: str | None = None, timeout_s: float = 10.0) -> Obeyed:
        """Let a task go whose time has not come. Asked twice it goes once. What waits for a call-back times out now.

        Raises ``NotWaiting`` also for what does not wait for its time but for something else, and ``KafkaException``.
        """
        wait = self.find(identifier, tenant_id)
        if wait["dispatched_at"] is None and wait["closed_at"] is None and wait["kind"] != "cancelled":
            # The time of a wait for a call-back is its timeout.
            other = wait["held_by"] or (None if is_call_back_gate(wait["gate"]) else wait["gate"])
            if other is not None:
                raise NotWaiting(f"{wait['event_id']} does not wait for its time but for {other}; deal with that")
            if from_datetime(wait["due_at"]) > now_micros():
                self._send(wait, "run_now", f"{wait['reason'] or wait['kind']}; let go by {by}"[:LONGEST_REASON])
        return self._answer(wait, "run_now", timeout_s)

    def _send(self, wait: RowMapping, command: Command, reason: str) -> None:
        """Write the next version. Two commands at once get the same one: the earlier of them holds."""
        now = now_micros()
        event = replace(
            scheduled_of(wait),
            version=wait["version"] + 1,
            # A lane has to know what its event does to it, so there only the time changes.
            kind=wait["kind"] if command == "run_now" and wait["lane"] is not None else command,
            due_at=now,
            created_at=now,
            reason=reason,
        )
        record = Outgoing(self._topic, encode(event), wait["record_key"], record_headers(event))
        deliver_once(self._settings, [record])

    def _answer(self, wait: RowMapping, command: Command, timeout_s: float) -> Obeyed:
        end = time.monotonic() + timeout_s
        answer = self._look(wait["schedule_id"], command)
        while answer is None and time.monotonic() < end:
            time.sleep(_POLL_S)
            answer = self._look(wait["schedule_id"], command)
        return Obeyed(wait["schedule_id"], wait["event_id"], answer or "unconfirmed")

    def _look(self, schedule_id: str, command: Command) -> Answer | None:
        with self._engine.connect() as connection:
            wait = latest_wait(connection, schedule_id)
            if wait is None:
                return None
            kind = outcome_kind(connection, wait)
        if command == "run_now":
            if wait["dispatched_at"] is not None:
                return "done"
            return "too_late" if wait["kind"] == "cancelled" or wait["closed_at"] is not None else None
        if kind == "cancelled":
            return "done"
        if wait["dispatched_at"] is not None or kind is not None or wait["kind"] == "run_now":
            return "too_late"
        return "too_late" if wait["closed_at"] is not None and wait["kind"] != "cancelled" else None


def scheduled_of(wait: RowMapping) -> TaskScheduled:
    """The record of a row."""
    names = (name for name in TaskScheduled.__dataclass_fields__ if name not in ("due_at", "accepted_at", "created_at"))
    return TaskScheduled(
        **{name: wait[name] for name in names},
        due_at=from_datetime(wait["due_at"]),
        accepted_at=from_datetime(wait["accepted_at"]),
        created_at=from_datetime(wait["created_at"]),
    )
