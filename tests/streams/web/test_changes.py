"""``POST /v1/changes``: one change or a batch, each answered for itself, in order, durable before the answer."""

import asyncio
import json
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import select

from schemas.codec import decode_as
from schemas.events import ModelChanged
from streams.capture.outbox import OUTBOX
from streams.web.changes import BATCH_BYTES
from tests.streams.web.test_app import Door
from tests.streams.web.test_app import door as opened

door = opened

CHANGE = {"tenant": 1, "model": "Order", "model_id": 7, "model_event": "updated", "payload": {"id": 7}}


async def post(door: Door, body: object, token: str | None = "operator", **headers: str) -> tuple[int, Any]:
    """POST a body to the changes' path; status and answer."""
    sent = {"Content-Type": "application/json"} | headers
    if token is not None:
        sent["Authorization"] = f"Bearer {door.tokens.get(token, token)}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with door.client.post("/v1/changes", data=BytesIO(data), headers=sent) as answer:
        problem = answer.status >= 400
        assert answer.content_type == ("application/problem+json" if problem else "application/json")
        return answer.status, json.loads(await answer.read())


def stored(door: Door) -> list[tuple[bytes, ModelChanged]]:
    """Key and change of each row of the outbox, in its order."""
    with door.engine.connect() as connection:
        rows = connection.execute(select(OUTBOX.c.record_key, OUTBOX.c.payload).order_by(OUTBOX.c.id)).all()
    return [(row.record_key, decode_as(ModelChanged, row.payload)) for row in rows]


async def test_a_change_lies_in_the_outbox_before_the_answer(door: Door) -> None:
    sent = CHANGE | {"changed": ["status"], "previous": {"status": None}, "priority": 9, "source": "shop"}
    status, body = await post(door, sent)

    [(key, change)] = stored(door)
    assert (status, body) == (202, {"change_id": change.change_id})
    assert key == b"1|Order|7"
    assert (change.tenant_id, change.model, change.model_id, change.model_event) == ("1", "Order", "7", "updated")
    assert (change.payload, change.changed, change.previous) == ('{"id":7}', ["status"], '{"status":null}')
    assert (change.priority, change.source) == (9, "shop")


@pytest.mark.parametrize("model", ["App\\Models\\Order", "shop.models.Order", "Order"])
async def test_a_row_has_one_key_however_its_model_is_named(door: Door, model: str) -> None:
    assert (await post(door, CHANGE | {"model": model, "model_id": ["a,b", 7]}))[0] == 202
    [(key, change)] = stored(door)
    assert (key, change.model, change.model_id) == (b"1|Order|a%2Cb,7", "Order", "a%2Cb,7")
    assert change.source == "http: ops"


async def test_each_item_of_a_batch_is_answered_for_itself_and_order_is_kept(door: Door) -> None:
    batch: list[Any] = [CHANGE | {"payload": {"n": number}} for number in range(50)]
    batch[10] = CHANGE | {"model_event": "exploded"}
    batch[20] = CHANGE | {"tenant": 77}
    batch[30] = "no change"
    batch[40] = CHANGE | {"payload": {"text": "x" * 262_144}}
    status, body = await post(door, batch)

    assert (status, body["accepted"], body["refused"]) == (207, 46, 4)
    refused = {number: item for number, item in enumerate(body["items"]) if item["status"] != 202}
    assert {number: item["status"] for number, item in refused.items()} == {10: 422, 20: 404, 30: 422, 40: 413}
    assert "model_event must be one of created" in refused[10]["detail"]
    changes = [change for _, change in stored(door)]
    assert [json.loads(change.payload)["n"] for change in changes] == [n for n in range(50) if n not in refused]
    assert [item["change_id"] for item in body["items"] if item["status"] == 202] == [
        change.change_id for change in changes
    ]


async def test_a_thousand_are_a_batch_and_one_more_is_not(door: Door) -> None:
    assert (await post(door, [CHANGE] * 1000))[0] == 202
    status, problem = await post(door, [CHANGE] * 1001)
    assert (status, problem["code"]) == (422, "too_many")
    assert len(stored(door)) == 1000


async def test_a_body_of_eight_mebibytes_is_read_and_a_longer_one_is_not(door: Door) -> None:
    batch = json.dumps([CHANGE | {"payload": {"text": "x" * 200_000}}] * 40).encode()
    assert len(batch) < BATCH_BYTES
    assert (await post(door, batch.ljust(BATCH_BYTES)))[0] == 202
    status, problem = await post(door, batch.ljust(BATCH_BYTES + 1))
    assert (status, problem["code"]) == (413, "too_large")
    assert len(stored(door)) == 40


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 422, "bad_option"),
        ("text", 400, "bad_json"),
        (b"{", 400, "bad_json"),
        (CHANGE | {"tenant": 77}, 404, "unknown_tenant"),
        (CHANGE | {"tenant": None}, 422, "missing_field"),
        (CHANGE | {"model": None}, 422, "bad_option"),
        (CHANGE | {"model": "Order\x00"}, 422, "bad_option"),
        (CHANGE | {"model": "shop."}, 422, "bad_option"),
        (CHANGE | {"model_id": None}, 422, "bad_option"),
        (CHANGE | {"model_id": []}, 422, "bad_option"),
        (CHANGE | {"model_id": True}, 422, "bad_option"),
        (CHANGE | {"model_id": "a\x00"}, 422, "bad_option"),
        (CHANGE | {"payload": []}, 422, "bad_payload"),
        (CHANGE | {"previous": []}, 422, "bad_payload"),
        (CHANGE | {"changed": "status"}, 422, "bad_option"),
        (CHANGE | {"changed": [1]}, 422, "bad_option"),
        (CHANGE | {"priority": 11}, 422, "bad_option"),
        (CHANGE | {"change_id": ""}, 422, "bad_option"),
        (CHANGE | {"colour": "red"}, 422, "unknown_field"),
        ({name: value for name, value in CHANGE.items() if name != "payload"}, 422, "missing_field"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, 422, "too_deep"),
    ],
)
async def test_what_is_refused_says_why_and_leaves_nothing(door: Door, body: object, status: int, code: str) -> None:
    answered, problem = await post(door, body)
    assert (answered, problem["code"]) == (status, code)
    assert stored(door) == []


async def test_a_named_change_is_accepted_once_also_amid_other_batches(door: Door) -> None:
    named = [CHANGE | {"change_id": f"c{number}"} for number in range(3)]
    first = await post(door, named[0])
    status, batch = await post(door, [*named, named[1], CHANGE])
    assert (first[0], status) == (202, 202)
    ids = [item["change_id"] for item in batch["items"]]
    assert ids[0] == first[1]["change_id"]
    assert (ids[1], len(set(ids))) == (ids[3], 4)
    assert [change.change_id for _, change in stored(door)] == [ids[0], ids[1], ids[2], ids[4]]


async def test_a_name_with_another_change_is_refused_for_its_item_alone(door: Door) -> None:
    named = CHANGE | {"change_id": "c"}
    other = named | {"model_event": "deleted"}
    status, batch = await post(door, [named, other, CHANGE])
    assert (status, [item["status"] for item in batch["items"]]) == (207, [202, 409, 202])
    status, problem = await post(door, other)
    assert (status, problem["code"]) == (409, "key_reused")
    assert len(stored(door)) == 2


async def test_tenants_have_names_of_their_own(door: Door) -> None:
    named = CHANGE | {"change_id": "c"}
    one, two = await post(door, named), await post(door, named | {"tenant": 2})
    assert (one[0], two[0]) == (202, 202)
    assert one[1] != two[1]
    assert [change.tenant_id for _, change in stored(door)] == ["1", "2"]


async def test_a_bound_token_brings_changes_of_its_own_tenant_only(door: Door) -> None:
    own = {name: value for name, value in CHANGE.items() if name != "tenant"}
    status, batch = await post(door, [own, own | {"tenant": 2}, own | {"tenant": 77}], "bound")
    assert (status, [item["status"] for item in batch["items"]]) == (207, [202, 404, 404])
    assert len(stored(door)) == 1


async def test_a_batch_under_a_key_is_accepted_once_and_answered_alike(door: Door) -> None:
    batch = [CHANGE, CHANGE | {"model_event": "exploded"}, CHANGE | {"change_id": "c"}]
    answers = await asyncio.gather(*(post(door, batch, **{"Idempotency-Key": "k"}) for _ in range(5)))
    assert answers[0][0] == 207
    assert all(answer == answers[0] for answer in answers)
    assert len(stored(door)) == 2
    status, problem = await post(door, batch[:2], **{"Idempotency-Key": "k"})
    assert (status, problem["code"]) == (409, "key_reused")


async def test_without_its_database_nothing_is_accepted(door: Door) -> None:
    with door.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE webhook_outbox")
    status, problem = await post(door, [CHANGE])
    assert (status, problem["code"]) == (503, "unavailable")
    assert "sqlite" not in problem["detail"]


async def test_who_may_not_bring_changes_is_told_before_the_body_is_read(door: Door) -> None:
    assert (await post(door, b"{", None))[0] == 401
    assert (await post(door, b"{", "viewer"))[0] == 403
    assert (await post(door, b"{", **{"Content-Type": "text/plain"}))[0] == 415
