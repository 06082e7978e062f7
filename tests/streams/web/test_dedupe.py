"""``dedupe``: triggers that are alike, of whoever they are, are one event."""

import asyncio
from typing import Any

import pytest

from tests.streams.web.test_app import ASKED, Door
from tests.streams.web.test_app import door as opened

door = opened


async def test_twenty_equal_posts_at_once_are_one_event(door: Door) -> None:
    asked = ASKED | {"dedupe": {"key": "order-7"}}
    answers = await asyncio.gather(*(door.post(asked) for _ in range(20)))
    assert {status for status, _ in answers} == {202}
    [request] = door.requests()
    assert {body["event_id"] for _, body in answers} == {request.event_id}
    assert request.options == {"dedupe_key": "order-7"}


async def test_the_keys_time_is_stored_with_it(door: Door) -> None:
    assert (await door.post(ASKED | {"dedupe": {"key": "order-7", "for_s": 60}}))[0] == 202
    assert door.requests()[0].options == {"dedupe_key": "order-7", "dedupe_for_s": "60"}


@pytest.mark.parametrize(
    "dedupe",
    ["order-7", {}, {"key": None}, {"key": ""}, {"key": "a", "for_s": 0}, {"key": "a\nb"}, {"key": "a", "x": 1}],
)
async def test_what_is_no_key_is_refused(door: Door, dedupe: Any) -> None:
    assert (await door.post(ASKED | {"dedupe": dedupe}))[0] == 422
    assert door.requests() == []
