"""Reads `.control` into a view, and writes to it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import structlog
from confluent_kafka import Message

from schemas.codec import decode_as, encode
from schemas.errors import Undecodable
from schemas.events import ControlState, now_micros
from streams.background import OnCrash
from streams.control.follower import TopicFollower
from streams.control.store import ControlStore
from streams.control.view import ControlView
from streams.deliveries import awaited_producer, deliver
from streams.engine.outcomes import Outgoing
from streams.headers import record_headers
from streams.settings import Settings

_log = structlog.get_logger(__name__)


def follow_control(settings: Settings, view: ControlView, on_crash: OnCrash) -> TopicFollower:
    """A follower that keeps ``view`` current; once its ``start`` returns, what was decided before is known (R18)."""

    def take(message: Message) -> None:
        try:
            # A record without a value is what other tools delete with; here states are cleared by the value null.
            if message.value() is not None:
                view.apply(decode_as(ControlState, message.value()))
        except Undecodable as error:
            _log.warning("a control record is not readable", offset=message.offset(), error=str(error))

    return TopicFollower(settings, settings.catalogue().control, take, on_crash)


def control_state(name: str, subject: str, value: Any, by: str, reason: str | None = None) -> ControlState:
    """A state that holds from now on. ``value`` is anything JSON takes; ``None`` clears what held before."""
    return ControlState(
        name=name,
        subject=subject,
        value=orjson.dumps(value).decode(),
        updated_at=now_micros(),
        updated_by=by,
        reason=reason,
    )


class ControlWriter:
    """Writes states. ``store`` keeps them where the log forgets: beside the embedded broker (R18)."""

    def __init__(self, settings: Settings, store: ControlStore | None = None) -> None:
        self._topic = settings.catalogue().control
        self._store = store
        self._producer = awaited_producer(settings)

    async def put(self, name: str, subject: str, value: Any, *, by: str, reason: str | None = None) -> None:
        """Write one state and wait until all in-sync replicas have it. Raises as ``write`` does."""
        await asyncio.to_thread(self.write, [control_state(name, subject, value, by, reason)])

    def write(self, states: Sequence[ControlState]) -> None:
        """Write states and wait until all in-sync replicas have them; any thread may.

        Raises ``KafkaException`` where the brokers refuse one or do not answer within 15 s.
        """
        if self._store is not None:
            self._store.save(states)
        deliver(self._producer, map(self._record, states))

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close()

    def _record(self, state: ControlState) -> Outgoing:
        key = f"{state.name}|{state.subject}".encode()
        return Outgoing(self._topic, encode(state), key, record_headers(state), 0)
