"""``Idempotency-Key``: one event for a key, the same answer again, and nothing for another body."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import Engine, select, update

from projections.migrate import upgrade
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.capture.outbox import OUTBOX, OutboxSink
from streams.database import create_database_engine
from streams.settings import Settings
from streams.web.idempotency import KEPT, KEYS, ClaimedKey, ClaimingSink, KeptAnswer, claim_all, prune
from streams.web.problems import Problem
from tests.streams.web.test_app import ASKED, Door
from tests.streams.web.test_app import door as opened

door = opened


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_the_same_request_under_a_key_is_accepted_once_and_answered_alike(door: Door) -> None:
    first = await door.post(ASKED, **keyed("k1"))
    again = await door.post(ASKED, **keyed("k1"))
    other = await door.post(ASKED, **keyed("k2"))

    assert first[0] == again[0] == other[0] == 202
    assert first[1] == again[1] != other[1]
    assert len(door.requests()) == 2


async def test_a_key_with_another_body_is_refused_and_leaves_nothing(door: Door) -> None:
    assert (await door.post(ASKED, **keyed("k1")))[0] == 202
    status, problem = await door.post(ASKED | {"priority": 3}, **keyed("k1"))

    assert (status, problem["code"]) == (409, "key_reused")
    assert len(door.requests()) == 1


async def test_each_token_has_keys_of_its_own(door: Door) -> None:
    assert (await door.post(ASKED, **keyed("k1")))[1] != (await door.post(ASKED, "bound", **keyed("k1")))[1]
    assert len(door.requests()) == 2


async def test_what_was_refused_leaves_its_key_free(door: Door) -> None:
    assert (await door.post(ASKED | {"priority": 0}, **keyed("k1")))[0] == 422
    assert (await door.post(ASKED, **keyed("k1")))[0] == 202


@pytest.mark.parametrize("key", ["k" * 256, "a\tb", "ü"])
async def test_a_key_that_is_none_is_refused(door: Door, key: str) -> None:
    status, problem = await door.post(ASKED, **keyed(key))
    assert (status, problem["code"]) == (400, "bad_header")
    assert door.requests() == []


async def test_twenty_equal_requests_at_once_are_one_event(door: Door) -> None:
    answers = await asyncio.gather(*(door.post(ASKED, **keyed("burst")) for _ in range(20)))
    assert {status for status, _ in answers} == {202}
    assert len({json.dumps(body) for _, body in answers}) == len(door.requests()) == 1


def age(engine: Engine, by: timedelta) -> None:
    with engine.begin() as connection:
        connection.execute(update(KEYS).values(created_at=datetime.now(UTC) - by))


async def test_a_key_is_free_again_after_a_day_and_then_forgotten(door: Door) -> None:
    first = await door.post(ASKED, **keyed("k1"))
    assert await asyncio.to_thread(prune, door.engine) == 0
    age(door.engine, KEPT + timedelta(minutes=1))
    second = await door.post(ASKED, **keyed("k1"))
    assert (first[0], second[0]) == (202, 202)
    assert first[1] != second[1]

    age(door.engine, KEPT + timedelta(hours=2))
    assert await asyncio.to_thread(prune, door.engine) == 1


async def test_an_event_that_is_not_stored_leaves_no_key(door: Door) -> None:
    with door.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE webhook_outbox RENAME TO away")
    assert (await door.post(ASKED, **keyed("k1")))[0] == 503
    with door.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO webhook_outbox")
    assert (await door.post(ASKED, **keyed("k1")))[0] == 202
    assert len(door.requests()) == 1


@pytest.mark.postgres
def test_at_the_same_time_on_postgresql_one_is_stored(settings: Settings, postgres_database: str) -> None:
    """The second waits for the first one's transaction and then finds its answer."""
    engine = create_database_engine(postgres_database)
    upgrade(engine)
    sink, start = OutboxSink(engine, settings.catalogue()), Barrier(8)

    def accept(number: int) -> str:
        event = new_event_id()
        request = WebhookRequested(
            event_id=event,
            tenant_id="1",
            endpoint="webhook/order",
            event_type="x",
            trigger="http",
            requested_at=now_micros(),
            payload="{}",
        )
        key = ClaimedKey("token|1", "k", "same" if number < 7 else "other")
        start.wait()
        try:
            return ClaimingSink(sink, key).accept(request).event_id
        except Problem as problem:
            return problem.code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(accept, range(8)))
    with engine.connect() as connection:
        stored = list(connection.execute(select(OUTBOX.c.record_id)).scalars())
        first, again = ClaimedKey("change|1", "b", "x"), ClaimedKey("change|1", "a", "y")
    with engine.begin() as connection:
        assert claim_all(connection, {first: "1"}) == {}
    with engine.begin() as connection:
        assert claim_all(connection, {again: "2", first: "3"}) == {first: KeptAnswer("x", "1")}
    assert prune(engine) == 0
    engine.dispose()

    assert len(stored) == 1
    won_by_other = answers[7] != "key_reused"
    assert answers == (["key_reused"] * 7 + stored if won_by_other else stored * 7 + ["key_reused"])
