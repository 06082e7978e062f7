"""Triggers in the foreground by HTTP: the outcome where it comes in time, else 202 and on in the background."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handlers.service import Outcome
from schemas.errors import Retryable
from streams.settings import Settings
from streams.web.blocking import BlockingCalls
from streams.web.foreground import MOST_WAITING, Foreground
from tests.streams.web.test_app import ASKED, DOCUMENT, Door, Events, opened_door
from tests.streams.web.test_app import door as opened
from tests.support.waiting import eventually_async

door = opened

WAITED_FOR = ASKED | {"run_async": False}
DONE = Outcome("completed", {"uuid": "u"}, None)


@pytest.fixture
async def hasty(settings: Settings, tmp_path: Path) -> AsyncIterator[Door]:
    """A door that waits for nobody."""
    async with opened_door(settings.model_copy(update={"http_foreground_s": 0.0}), tmp_path) as made:
        yield made


async def test_the_outcome_is_the_answer(door: Door) -> None:
    asking = asyncio.create_task(door.post(WAITED_FOR))
    await eventually_async(lambda: len(door.requests()) == 1)
    [request] = door.requests()
    assert not asking.done()
    door.history.outcomes[request.event_id] = DONE

    assert await asking == (
        200,
        {"event_id": request.event_id, "status": "completed", "result": {"uuid": "u"}, "reason": None},
    )


async def test_a_failure_is_told_with_its_reason(door: Door) -> None:
    door.history.outcomes[""] = Outcome("failed_permanently", None, "no such sku")
    status, body = await door.post(WAITED_FOR)
    assert (status, body["status"], body["reason"]) == (200, "failed_permanently", "no such sku")


async def test_without_an_outcome_in_time_the_event_goes_on(hasty: Door) -> None:
    status, body = await hasty.post(WAITED_FOR)
    [request] = hasty.requests()
    assert (status, body) == (202, {"event_id": request.event_id})


async def test_nobody_waits_who_does_not_ask_to(door: Door) -> None:
    door.history.outcomes[""] = DONE
    for asked in (ASKED, ASKED | {"run_async": True}, ASKED | {"run_async": None}):
        assert (await door.post(asked))[0] == 202
    assert (await door.post(ASKED | {"run_async": "no"}))[0] == 422
    assert (await door.post(WAITED_FOR | {"priority": 0}))[0] == 422


async def test_an_entry_may_ask_for_the_foreground(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"webhook_endpoint": "webhook/order", "queue_mode": "foreground"}
    monkeypatch.setitem(DOCUMENT, "webhook_settings", [entry])
    async with opened_door(settings, tmp_path) as door:
        door.history.outcomes[""] = DONE
        assert (await door.post(ASKED))[0] == 200


async def test_a_repeated_request_waits_for_the_first_ones_event(door: Door) -> None:
    key = {"Idempotency-Key": "k"}
    door.history.outcomes[""] = DONE
    first, again = await door.post(WAITED_FOR, **key), await door.post(WAITED_FOR, **key)
    assert first == again
    assert (first[0], len(door.requests())) == (200, 1)


async def test_a_history_that_cannot_be_read_is_asked_again(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Outcome | None] = [None, None, DONE]

    def outcome(_self: Events, _event_id: str) -> Outcome:
        answer = answers.pop(0)
        if answer is None:
            raise Retryable("the history is away")
        return answer

    monkeypatch.setattr(Events, "outcome", outcome)
    assert (await door.post(WAITED_FOR))[0] == 200
    assert answers == []


async def test_more_than_may_wait_are_answered_at_once() -> None:
    history, calls = Events(), BlockingCalls()
    foreground = Foreground(history, calls, 300.0)
    now = asyncio.get_running_loop().time()
    waiting = [asyncio.create_task(foreground.outcome("e", now)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert await foreground.outcome("e", now) is None
    history.outcomes["e"] = DONE
    assert await asyncio.gather(*waiting) == [DONE] * MOST_WAITING
    assert await foreground.outcome("e", now) == DONE
    calls.close()


async def test_a_door_that_closes_answers_those_who_wait(settings: Settings, tmp_path: Path) -> None:
    patient = settings.model_copy(update={"http_foreground_s": 300.0})
    async with opened_door(patient, tmp_path) as door:
        asking = asyncio.create_task(door.post(WAITED_FOR))
        await eventually_async(lambda: len(door.requests()) == 1)
        await door.client.server.runner.shutdown()  # type: ignore[union-attr]
        assert (await asking)[0] == 202
