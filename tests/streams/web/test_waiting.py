"""Why events wait, over HTTP: each tenant's token sees its own."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from streams.settings import Settings
from tests.projections.test_waiting import START, event, wait
from tests.streams.web.test_app import Door, opened_door


@pytest.fixture
async def door(settings: Settings, tmp_path: Path) -> AsyncIterator[Door]:
    async with opened_door(settings, tmp_path) as made:
        with made.engine.begin() as connection:
            for number, tenant in enumerate(("1", "2", "1", "1")):
                times = {"accepted_at": START + timedelta(seconds=number), "tier": "webhook-high"}
                event(connection, f"e{number}", "completed" if number == 3 else "accepted", tenant_id=tenant, **times)
            wait(connection, "e2", kind="delay", tenant_id="1")
        yield made


async def ids(door: Door, query: str, token: str) -> list[str]:
    status, body = await door.get(f"/v1/waiting{query}", token)
    assert status == 200, body
    return [each["event_id"] for each in body["waiting"]]


async def test_a_list_is_scoped_by_the_token(door: Door) -> None:
    assert await ids(door, "", "viewer") == ["e0", "e1", "e2"]
    assert await ids(door, "", "bound") == ["e0", "e2"]
    assert await ids(door, "?tenant=2", "viewer") == ["e1"]
    assert await ids(door, "?tenant=1", "bound") == ["e0", "e2"]
    status, problem = await door.get("/v1/waiting?tenant=2", "bound")
    assert (status, problem["code"]) == (404, "unknown_tenant")
    assert (await door.get("/v1/waiting"))[0] == 401


async def test_pages_and_choices(door: Door) -> None:
    _, first = await door.get("/v1/waiting?limit=2", "viewer")
    assert (first["next"], first["live"]) == ("e1", False)
    assert await ids(door, "?limit=2&after=e1", "viewer") == ["e2"]
    assert await ids(door, "?reason=due_at&tier=webhook-high", "viewer") == ["e2"]
    # What is another tenant's cannot be told from what is not there.
    for after in ("e1", "none"):
        status, problem = await door.get(f"/v1/waiting?after={after}", "bound")
        assert (status, problem["code"]) == (404, "unknown_event")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=²", "tier=none", "reason=no", "other=1"])
async def test_a_bad_parameter_is_named(door: Door, query: str) -> None:
    status, problem = await door.get(f"/v1/waiting?{query}", "viewer")
    assert (status, problem["code"]) == (400, "bad_parameter")


async def test_one_event(door: Door) -> None:
    status, body = await door.get("/v1/events/e2/waiting", "bound")
    assert status == 200
    assert (body["event_id"], body["waiting"]["reason"]) == ("e2", "due_at")
    assert body["waiting"]["until"].startswith("2026-01-01T01:00")
    _, turn = await door.get("/v1/events/e0/waiting", "bound")
    assert (turn["waiting"]["reason"], turn["waiting"]["place"]) == ("nth_in_tier", 1)
    _, ended = await door.get("/v1/events/e3/waiting", "bound")
    assert ended["waiting"] is None
    for event_id in ("e1", "none"):
        status, problem = await door.get(f"/v1/events/{event_id}/waiting", "bound")
        assert (status, problem["code"]) == (404, "unknown_event")
