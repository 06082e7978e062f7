"""``POST /v1/call-backs/{key}``: durable before the answer, for the token's own tenant."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.streams.web.test_app import Door
from tests.streams.web.test_app import door as opened

door = opened


async def post(door: Door, key: str, body: object, token: str | None = "bound", query: str = "") -> tuple[int, Any]:
    """POST a call-back; status and answer."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {door.tokens.get(token, token)}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = f"/v1/call-backs/{quote(key, safe='/')}{query}"
    async with door.client.post(path, data=data, headers=headers) as answer:
        assert answer.status < 400 or answer.content_type == "application/problem+json"
        return answer.status, json.loads(await answer.read())


@pytest.mark.parametrize("key", ["order-7", "orders/7/paid", "über 100 % | a,b", "k" * 200])
async def test_an_accepted_call_back_lies_in_the_outbox_before_the_answer(door: Door, key: str) -> None:
    status, body = await post(door, key, {"paid": True})
    [request] = door.requests()
    assert (status, body) == (202, {"call_back_id": request.event_id})
    assert (request.tenant_id, request.trigger, request.payload) == ("1", "call_back", '{"paid":true}')
    assert (request.options, request.requested_by) == ({"key": key}, "shop one")


async def test_a_token_for_all_tenants_names_one_and_a_bound_one_reaches_no_other(door: Door) -> None:
    assert (await post(door, "k", {}, "operator", "?tenant=two.example"))[0] == 202
    assert [request.tenant_id for request in door.requests()] == ["2"]
    unnamed = await post(door, "k", {}, "operator")
    foreign, missing = await post(door, "k", {}, query="?tenant=2"), await post(door, "k", {}, query="?tenant=77")
    assert (unnamed[0], unnamed[1]["code"]) == (422, "missing_field")
    assert (foreign[0], foreign[1]["code"]) == (missing[0], missing[1]["code"]) == (404, "unknown_tenant")
    assert len(door.requests()) == 1


@pytest.mark.parametrize(
    ("key", "body", "status", "code"),
    [
        ("k" * 201, {}, 422, "bad_option"),
        ("a\x00", {}, 422, "bad_option"),
        ("k", [1], 400, "bad_json"),
        ("k", b"{", 400, "bad_json"),
        ("k", {"text": "x" * 50_000}, 413, "too_large"),
        ("k", {"text": "x" * 300_000}, 413, "too_large"),
        ("k", b'{"a":' * 33 + b"1" + b"}" * 33, 422, "too_deep"),
    ],
)
async def test_what_is_refused_says_why_and_leaves_nothing(
    door: Door, key: str, body: object, status: int, code: str
) -> None:
    answered, problem = await post(door, key, body)
    assert (answered, problem["code"], problem["status"]) == (status, code, status)
    assert door.requests() == []


async def test_tokens_are_asked_for_first(door: Door) -> None:
    assert (await post(door, "k", b"{", None))[0] == 401
    assert (await post(door, "k", b"{", "viewer"))[0] == 403
