"""An open load: requests enter the outbox at their time, whether or not anything carries them out (and so the delays
that a fault causes are not hidden by a load that waits for it)."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from schemas.codec import encode
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.capture.outbox import OutboxRow, append
from tests.faults.checker import Requested
from topics.keys import partition_key

ENDPOINT: Final = "webhook/faults"
URGENT: Final = 9

_TICK_S: Final = 0.02
_MOST_AT_ONCE: Final = 500
_AGAIN_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one event shall be like. ``payload`` is for ``tests.faults.plugin``.

    ``is_ordered``: whether it keeps its place among the events of its key. One that is tried again does not (R12).
    """

    payload: Mapping[str, Any] = field(default_factory=dict)
    delay_s: int | None = None
    priority: int = URGENT
    endpoint: str = ENDPOINT
    is_ordered: bool = True


Shape = Callable[[int, random.Random], Wanted]
"""Makes the event of a sequence number."""


def brief(_sequence: int, _random: random.Random) -> Wanted:
    """Handlers of 20 ms."""
    return Wanted({"sleep_s": 0.02})


class Load:
    """Requests of one tenant, ``rate`` a second, over ``keys`` keys, until ``stop`` or ``events`` are asked for."""

    def __init__(self, engine: Engine, topic: str, tenant_id: str, seed: int) -> None:
        self.requested: list[Requested] = []
        self.tenant_id = tenant_id
        self._engine = engine
        self._topic = topic
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(1, "load")
        self._run_of: Future[None] | None = None

    def start(self, rate: float, keys: int = 2000, shape: Shape = brief, events: int | None = None) -> None:
        """Begin, or begin anew after ``stop`` with another rate or shape."""
        self._stop.clear()
        self._run_of = self._threads.submit(self._run, rate, keys, shape, events)

    def stop(self) -> None:
        """End it; what was asked for is committed. Raises what ended it before."""
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        """Wait until ``events`` are asked for."""
        if self._run_of is not None:
            self._run_of.result()

    def _run(self, rate: float, keys: int, shape: Shape, events: int | None) -> None:
        began, base = time.monotonic(), len(self.requested)
        while not self._stop.is_set():
            made = len(self.requested) - base
            goal = int((time.monotonic() - began) * rate)
            count = min(goal if events is None else min(goal, events), made + _MOST_AT_ONCE) - made
            if count > 0:
                self._ask(count, keys, shape)
            if events is not None and made + count >= events:
                return
            self._stop.wait(_TICK_S)

    def _ask(self, count: int, keys: int, shape: Shape) -> None:
        rows: list[OutboxRow] = []
        asked: list[Requested] = []
        for _ in range(count):
            sequence = len(self.requested) + len(asked)
            wanted = shape(sequence, self._random)
            key = f"{self.tenant_id}-{self._random.randrange(keys)}"
            due = time.monotonic() + (wanted.delay_s or 0)
            request = self._request(wanted, sequence, key)
            record_key = partition_key(self.tenant_id, request.model, request.model_id, request.event_id)
            event_id = request.event_id
            rows.append(
                OutboxRow(self._topic, record_key, encode(request), "WebhookRequested", None, self.tenant_id, event_id)
            )
            asked.append(Requested(event_id, _order_key(wanted, key, sequence), sequence, due))
        self._commit(rows)
        self.requested.extend(asked)

    def _request(self, wanted: Wanted, sequence: int, key: str) -> WebhookRequested:
        order_key = _order_key(wanted, key, sequence)
        return WebhookRequested(
            event_id=new_event_id(),
            tenant_id=self.tenant_id,
            endpoint=wanted.endpoint,
            event_type="webhook_faults",
            trigger="manual",
            requested_at=now_micros(),
            payload=orjson.dumps({**wanted.payload, "sequence": sequence, "key": order_key}).decode(),
            priority=wanted.priority,
            delay_s=wanted.delay_s,
            model="Order",
            model_id=key,
        )

    def _commit(self, rows: list[OutboxRow]) -> None:
        """As an upstream does it: again until the database has said yes, or that it has the rows already."""
        while True:
            try:
                with self._engine.begin() as connection:
                    append(connection, rows)
            except IntegrityError:
                return
            except (DBAPIError, PoolTimeout):
                time.sleep(_AGAIN_S)
            else:
                return


def _order_key(wanted: Wanted, key: str, sequence: int) -> str:
    """The key by which the checker judges order: its own for an event that keeps no place."""
    return key if wanted.is_ordered else f"{key}-{sequence}"
