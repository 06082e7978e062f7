"""What a token may ask for in a second; and what a body may be."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

from handlers.inbound.schemes import Scheme
from streams.settings import Settings
from streams.web.problems import Problem
from streams.web.rate_limit import Rates
from tests.streams.web.test_app import ASKED, Door, opened_door
from tests.streams.web.test_app import door as opened
from tests.streams.web.test_inbound import now, opened_inbound

door = opened


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def refusal(rates: Rates, token_id: int) -> Problem | None:
    try:
        rates.take(token_id)
    except Problem as problem:
        return problem
    return None


def test_a_token_may_ask_at_its_rate_with_a_burst_of_two_seconds() -> None:
    clock = Clock()
    rates = Rates("token", 10, clock)
    assert [refusal(rates, 1) for _ in range(20)] == [None] * 20
    refused = refusal(rates, 1)
    assert refused is not None
    assert (refused.status, refused.retry_after_s) == (429, 1)
    assert refusal(rates, 2) is None
    clock.now = 0.5
    assert [refusal(rates, 1) is None for _ in range(6)] == [True] * 5 + [False]


def test_a_large_batch_passes_and_is_made_up_for() -> None:
    clock = Clock()
    rates = Rates("token", 10, clock)
    assert refusal(rates, 1) is None
    rates.count(1, 999)
    refused = refusal(rates, 1)
    assert refused is not None
    assert refused.retry_after_s == 99
    clock.now = 98.0
    assert refusal(rates, 1) is not None
    clock.now = 99.0
    assert refusal(rates, 1) is None


def test_nought_is_no_limit() -> None:
    rates = Rates("token", 0, Clock())
    assert [refusal(rates, 1) for _ in range(1000)] == [None] * 1000


async def test_too_many_requests_are_told_when_to_come_again(settings: Settings, tmp_path: object) -> None:
    slow = settings.model_copy(update={"http_token_rate_per_s": 0.001})
    async with opened_door(slow, settings.data_dir) as door:
        assert (await door.post(ASKED))[0] == 202
        headers = {"Authorization": f"Bearer {door.tokens['operator']}"}
        async with door.client.post("/v1/webhooks", json=ASKED, headers=headers) as answer:
            problem = json.loads(await answer.read())
        assert (answer.status, problem["code"], answer.content_type) == (
            429,
            "rate_limited",
            "application/problem+json",
        )
        assert 0 < int(answer.headers["Retry-After"]) <= 1000
        # Another token is not kept waiting.
        assert (await door.post(ASKED, "bound"))[0] == 202
        assert len(door.requests()) == 2


async def test_a_source_that_sends_too_often_is_told_when_to_come_again(settings: Settings, tmp_path: Path) -> None:
    slow = settings.model_copy(update={"http_source_rate_per_s": 0.001})
    async with opened_inbound(slow, tmp_path) as inbound:
        first, second = (now(Scheme.STANDARD, delivery_id=each) for each in ("d1", "d2"))
        # What is not signed uses nothing up.
        forged = replace(first, body=first.body + b" ")
        assert [(await inbound.post(each))[0] for each in (forged, first, forged)] == [401, 202, 401]
        async with inbound.door.client.post(
            inbound.paths[Scheme.STANDARD], data=second.body, headers=second.headers
        ) as answer:
            problem = json.loads(await answer.read())
        assert (answer.status, problem["code"]) == (429, "rate_limited")
        assert "this source may send 0.001 requests" in problem["detail"]
        assert 0 < int(answer.headers["Retry-After"]) <= 1000
        # Another source is not kept waiting, and no token either.
        assert (await inbound.post(now(Scheme.GITHUB)))[0] == 202
        assert (await inbound.door.post(ASKED))[0] == 202
        assert len(inbound.door.requests()) == 3


async def test_a_packed_body_is_unpacked_and_bounded(door: Door) -> None:
    packed = {"Content-Encoding": "gzip"}
    assert (await door.post(gzip.compress(json.dumps(ASKED).encode()), **packed))[0] == 202
    bomb = gzip.compress(b" " * 50_000_000)
    status, problem = await door.post(bomb, **packed)
    assert (status, problem["code"]) == (413, "too_large")
    status, problem = await door.post(b"no gzip at all", **packed)
    assert (status, problem["code"]) == (400, "bad_body")
    assert len(door.requests()) == 1
