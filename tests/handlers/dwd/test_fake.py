import pytest

from handlers.contract import HttpClient, HttpResponse
from handlers.dwd.fake import FakeUpstream
from handlers.outbound import GuardedClient
from tests.handlers.dwd.conftest import MakeContext

CREDENTIALS = {"User-ID": "acme", "API-Secret": "x"}
LINE = {"sku": "a", "attributes": []}


async def place(client: HttpClient, fake: FakeUpstream, order: object, key: str = "k") -> HttpResponse:
    headers = {**CREDENTIALS, "Idempotency-Key": key}
    return await client.request("POST", f"{fake.url}/orders", json=order, headers=headers)


@pytest.mark.parametrize(
    "order",
    [
        [],
        {},
        {"orderLines": []},
        {"orderLines": [{"sku": "a"}], "deliveryMethod": 1},
        {"orderLines": [LINE]},
        {"orderLines": [LINE], "deliveryMethod": 1, "reference": "x" * 36},
        {"orderLines": [LINE | {"files": [{}, {}]}], "deliveryMethod": 1},
        {"orderLines": [LINE | {"externalId": "a/b"}], "deliveryMethod": 1},
    ],
)
async def test_what_the_real_api_refuses_is_refused(fake: FakeUpstream, order: object) -> None:
    async with GuardedClient(["127.0.0.1"]) as client:
        assert (await place(client, fake, order)).status == 400
        assert fake.journal == {}


async def test_the_same_order_twice_is_two_orders_as_at_the_real_one(fake: FakeUpstream) -> None:
    async with GuardedClient(["127.0.0.1"]) as client:
        for _ in range(2):
            await place(client, fake, {"orderLines": [LINE], "deliveryMethod": 1})
    assert [placed.key for placed in fake.journal.values()] == ["k", "k"]


async def test_keys_can_be_honoured_and_faults_switched_on_from_outside(fake: FakeUpstream) -> None:
    fake.behaviour.honours_key = True
    order = {"orderLines": [LINE], "deliveryMethod": 1}
    root = fake.url.removesuffix("/api")
    async with GuardedClient(["127.0.0.1"]) as client:
        first, second = [await place(client, fake, order) for _ in range(2)]
        other = await place(client, fake, order, "k2")
        assert first.body == second.body != other.body
        assert {key: placed.calls for key, placed in fake.journal.items()} == {"k": 2, "k2": 1}
        journal = await client.request("GET", f"{root}/_fake/journal")
        assert journal.body.count(b'"uuid"') == 2

        change = await client.request("PUT", f"{root}/_fake/behaviour", json={"fail_next": 1, "fail_status": 418})
        assert change.status == 200
        assert (await place(client, fake, order)).status == 418
        unknown = await client.request("PUT", f"{root}/_fake/behaviour", json={"explode": True})
        assert unknown.status == 400


async def test_calls_without_credentials_are_refused(fake: FakeUpstream, context: MakeContext) -> None:
    answer = await context().http.request("GET", f"{fake.url}/products/categories")
    assert answer.status == 401
