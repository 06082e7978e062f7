"""Random but plausible lives of events, as the records that the pipeline would write about them."""

from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import orjson

from projections.records import Dispatched, Fact, Scheduled
from schemas.events import TaskEvent, TaskScheduled, now_micros

# Not long ago: a broker deletes what is older than a tier's topic keeps, while a test still reads it.
START = now_micros() - 3_600_000_000
LANES = ("7|Order|12", "7|Order|13")
FINAL_KINDS = ("completed", "rejected", "failed_permanently", "unknown", "timed_out", "superseded")


class _Life:
    """One event: writes its records one after the other."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.event_id = str(UUID(int=random.getrandbits(128), version=4))
        self.accepted_at = START + random.randrange(10**9)
        self.clock = self.accepted_at
        self.run = self.dispatch_seq = self.attempt = 1
        self.step = 0
        self.facts: list[Fact] = []

    def event(self, kind: str, **values: Any) -> None:
        self.clock += self.random.randrange(1, 10**6)
        event = TaskEvent(
            kind=kind,
            event_id=self.event_id,
            run=self.run,
            step=self.step,
            attempt=self.attempt,
            dispatch_seq=self.dispatch_seq,
            tenant_id="7",
            accepted_at=self.accepted_at,
            recorded_at=self.clock,
            tier="webhook-db",
            endpoint="webhook/order",
            event_type="order_created",
            model="Order",
            model_id="12",
            settings_entry="entry-1",
        )
        if self.random.random() < 0.2:  # not every record repeats what its event is about
            event = replace(event, endpoint="", event_type="", model=None, model_id=None, settings_entry=None)
        self.facts.append(replace(event, **values))

    def accept(self) -> None:
        self.event(
            "accepted",
            trigger="model",
            priority=self.random.randrange(1, 11),
            delay_s=0,
            payload=orjson.dumps({"note": "tab\t, \\ and \u00e9\U0001f600", "n": self.random.random()}).decode(),
            caused_by="change-1",
            plugin_version="dwd 2.0",
            pipeline_hash=self.random.choice([None, "0123456789ab"]),
            routing_rule="otherwise",
        )

    def wait(self, kind: str) -> None:
        """The task waits in the schedule, and is perhaps dispatched."""
        task = f"{self.event_id}|{self.run}|{self.step}|{self.attempt}|{self.dispatch_seq}"
        event = TaskScheduled(
            schedule_id=task,
            kind=kind,
            event_id=self.event_id,
            run=self.run,
            step=self.step,
            attempt=self.attempt,
            dispatch_seq=self.dispatch_seq,
            tenant_id="7",
            endpoint="webhook/order",
            tier="webhook-db",
            target_topic="plugin-webhooks",
            due_at=self.clock + 10**6,
            accepted_at=self.accepted_at,
            created_at=self.clock,
            task=self.random.randbytes(20),
        )
        if kind.startswith("strict"):
            event.lane = self.random.choice(LANES)
        elif self.random.random() < 0.2:
            event.gate = self.random.choice(("tenant|7", "call_back|7|paid"))
        place = self.random.randrange(10**9)
        self.facts.append(Scheduled(event, b"7|Order|12", place))
        if self.random.random() < 0.3:
            self.facts.append(Scheduled(replace(event, version=2, due_at=self.clock), b"7|Order|12", place + 1))
        if self.random.random() < 0.2:
            cancelled = replace(event, version=3, kind="cancelled", created_at=self.clock + 5)
            self.facts.append(Scheduled(cancelled, b"7|Order|12", place + 2))
        if self.random.random() < 0.7:
            self.facts.append(Dispatched(task, self.clock + 2 * 10**6))

    def outcome(self, kind: str) -> None:
        started = self.clock
        if self.random.random() < 0.5:
            self.event("started", worker="w1", started_at=started)
        if self.random.random() < 0.2:
            self.event("claimed", worker="w1", started_at=started, remaining_s=3.5)
        failed = kind not in ("completed", "step_completed")
        self.event(
            kind,
            handler="OrderWebhookHandler",
            worker="w1",
            started_at=started,
            finished_at=self.clock,
            result=None if failed else orjson.dumps({"step": self.step, "run": self.run}).decode(),
            error="upstream said\tno\\\n" if failed else None,
            error_code="refused" if failed else None,
            source_topic="plugin-webhooks",
            source_partition=3,
            source_offset=self.random.randrange(10**12),
        )

    def live(self) -> None:
        """One run, to its end or to somewhere before."""
        if self.random.random() < 0.5:
            self.wait(self.random.choice(("delay", "strict", "strict_halt")))
        for step in range(self.random.randrange(1, 4)):
            self.step, self.attempt = step, 1
            while self.random.random() < 0.4:
                self.outcome("retry")
                self.attempt += 1
                self.wait("retry")
            if self.random.random() < 0.2:
                return
            if self.random.random() < 0.5:
                break
            self.outcome("step_completed")
        else:
            self.step, self.attempt = self.step + 1, 1
        self.outcome(self.random.choice(FINAL_KINDS))
        if self.random.random() < 0.3:
            self.event("dismissed", requested_by="operator")


def call_backs(one: _Life) -> None:
    """Up to three call-backs for a key that many events wait with; one of them is recorded twice."""
    for number in range(one.random.randrange(4)):
        received_at = one.accepted_at + one.random.randrange(10**7)
        event = TaskEvent(
            kind="called_back",
            event_id=f"call-{one.event_id}-{number}",
            run=1,
            step=0,
            attempt=1,
            dispatch_seq=1,
            tenant_id="7",
            accepted_at=received_at,
            recorded_at=received_at + 10,
            trigger="call_back",
            payload=orjson.dumps({"number": number}).decode(),
            requested_by="vendor",
            gate=one.random.choice(("call_back|7|paid", "call_back|7|shipped")),
        )
        one.facts += [event, replace(event, recorded_at=event.recorded_at + number)]


def life(random: Random) -> list[Fact]:
    """The records about one event, in the order of their making, with the change that caused it."""
    one = _Life(random)
    one.accept()
    change = TaskEvent(
        kind="matched",
        event_id=f"change-{one.event_id}",
        run=1,
        step=0,
        attempt=1,
        dispatch_seq=1,
        tenant_id="7",
        accepted_at=one.accepted_at,
        recorded_at=one.clock + 1,
        model_id="12",
        result=orjson.dumps({"events": [one.event_id], "model": "Order", "model_event": "created"}).decode(),
    )
    one.facts += [change, replace(change, recorded_at=one.clock + 2, result='{"events":[]}')]
    call_backs(one)
    one.live()
    while random.random() < 0.3:
        one.run += 1
        one.dispatch_seq += 1
        one.step, one.attempt = 0, 1
        one.event("accepted", requested_by="replayer", payload="{}")
        one.live()
    return one.facts


def shuffled(facts: list[Fact], random: Random) -> list[Fact]:
    """The same records in any order, some more than once."""
    mixed = facts + random.sample(facts, k=len(facts) // 3)
    random.shuffle(mixed)
    return mixed
