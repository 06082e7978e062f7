"""Inbound webhooks through the served door: authentic ones are accepted once, others all look alike."""

import asyncio
import gzip
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from handlers.inbound.schemes import Scheme
from handlers.tenants.inbound_sources import NewSource, SourceRepository
from handlers.tenants.repository import SqlTenantRepository
from handlers.tenants.tables import WEBSITES
from schemas.events import now_micros
from streams.settings import Settings
from streams.web.inbound_deliveries import DELIVERIES, KEPT, prune_deliveries
from tests.handlers.inbound.signing import SECRETS, SIGNATURE_HEADERS, SIGNING, TIMED, Sent, sent
from tests.streams.web.test_app import DOCUMENT, KEYRING, Door, opened_door

ROUTE = "webhook/order"
LISTED = {**DOCUMENT, "plugin_routes": [{"route": ROUTE, "method": "POST"}]}


@dataclass
class Inbound:
    """A door with one source of each scheme, of tenant 1; ``paths`` are their addresses."""

    door: Door
    sources: SourceRepository
    paths: dict[Scheme, str]

    async def post(self, made: Sent, path: str | None = None) -> tuple[int, dict[str, Any]]:
        """POST a delivery; status and answer."""
        to = self.paths[made.scheme] if path is None else path
        async with self.door.client.post(to, data=made.body, headers=made.headers) as answer:
            return answer.status, json.loads(await answer.read())


@asynccontextmanager
async def opened_inbound(settings: Settings, directory: Path) -> AsyncIterator[Inbound]:
    """A door that serves, for the length of the block."""
    async with opened_door(settings, directory) as door:
        SqlTenantRepository(door.engine, KEYRING).configure("1", LISTED)
        sources = SourceRepository(door.engine, KEYRING)
        new = [NewSource(scheme, "1", ROUTE, scheme, SECRETS.get(scheme)) for scheme in Scheme]
        paths = {each.scheme: f"/in/{sources.create(each).token}/shop/{ROUTE}" for each in new}
        yield Inbound(door, sources, paths)


@pytest.fixture
async def inbound(settings: Settings, tmp_path: Path) -> AsyncIterator[Inbound]:
    async with opened_inbound(settings, tmp_path) as made:
        yield made


def now(scheme: Scheme, payload: object = None, *, delivery_id: str = "d1", before_s: int = 0) -> Sent:
    """A good delivery that was signed just now, or so many seconds ago."""
    return sent(scheme, payload, delivery_id=delivery_id, at_s=now_micros() // 1_000_000 - before_s)


@pytest.mark.parametrize("scheme", Scheme)
async def test_a_delivery_becomes_one_event_and_a_repeat_gets_its_answer(inbound: Inbound, scheme: Scheme) -> None:
    first = await inbound.post(now(scheme))
    # Repeated by the provider: the same id, another time and so another signature.
    again = await inbound.post(now(scheme, before_s=30))
    other = await inbound.post(now(scheme, delivery_id="d2"))

    requests = inbound.door.requests()
    assert first == again == (202, {"event_id": requests[0].event_id})
    assert other == (202, {"event_id": requests[1].event_id})
    assert [json.loads(each.payload)["id"] for each in requests] == ["d1", "d2"]
    request = requests[0]
    assert (request.tenant_id, request.endpoint, request.trigger) == ("1", ROUTE, "inbound")
    assert request.requested_by == scheme
    provider = {"github": "push", "shopify": "orders/create", "standard": "paid", "stripe": "paid"}
    assert request.event_type == provider.get(scheme, "shop.webhook/order")


async def test_deliveries_are_told_apart_for_each_source(inbound: Inbound) -> None:
    made = inbound.sources.create(NewSource("second", "1", ROUTE, Scheme.GITHUB, SECRETS[Scheme.GITHUB]))
    first = await inbound.post(now(Scheme.GITHUB))
    second = await inbound.post(now(Scheme.GITHUB), f"/in/{made.token}/shop/{ROUTE}")
    assert (first[0], second[0]) == (202, 202)
    assert first[1] != second[1]


async def test_twenty_at_once_are_one_event(inbound: Inbound) -> None:
    answers = await asyncio.gather(*(inbound.post(now(Scheme.STANDARD, before_s=each)) for each in range(20)))
    [request] = inbound.door.requests()
    assert all(each == (202, {"event_id": request.event_id}) for each in answers)


async def test_a_copy_under_another_id_is_known_by_what_is_signed(inbound: Inbound) -> None:
    made = now(Scheme.HMAC)
    first = await inbound.post(made)
    assert await inbound.post(made.with_headers(X_Delivery_Id="of the next one")) == first
    # ... and has not used up that id.
    assert await inbound.post(now(Scheme.HMAC, {"id": 2}, delivery_id="of the next one")) != first
    # A repeat is remembered too: a copy of it under yet another id is no new one.
    repeated = now(Scheme.HMAC, before_s=20)
    assert await inbound.post(repeated) == first
    assert await inbound.post(repeated.with_headers(X_Delivery_Id="and another")) == first
    assert len(inbound.door.requests()) == 2


async def test_without_an_id_an_unsigned_delivery_is_taken_each_time(inbound: Inbound) -> None:
    made = Sent(Scheme.TOKEN, {"Content-Type": "application/json"}, b'{"state": "shipped"}')
    assert (await inbound.post(made)) != (await inbound.post(made))
    assert len(inbound.door.requests()) == 2


async def test_whatever_is_wrong_gets_one_answer(inbound: Inbound) -> None:
    good = now(Scheme.STANDARD)
    path = inbound.paths[Scheme.STANDARD]
    token = path.split("/")[2]
    answers = [
        await inbound.post(good, f"/in/whi_00000000_unknown/shop/{ROUTE}"),
        await inbound.post(good, path.replace("/shop/", "/other/")),
        await inbound.post(good, path + "s"),
        await inbound.post(good, f"/in/{token}/shop/orders"),
        await inbound.post(good, f"/in/{'x' * 3000}/shop/{ROUTE}"),
        await inbound.post(good, inbound.paths[Scheme.GITHUB]),
        await inbound.post(replace(good, headers={})),
        await inbound.post(replace(good, body=b"{")),
        await inbound.post(good.with_headers(webhook_id="d2")),
        await inbound.post(now(Scheme.STANDARD, before_s=400)),
        await inbound.post(now(Scheme.STANDARD, before_s=-4000)),
    ]
    assert all(each == answers[0] for each in answers), answers
    assert (answers[0][0], answers[0][1]["code"]) == (401, "refused")
    assert inbound.door.requests() == []


async def test_whatever_is_wrong_costs_the_same(inbound: Inbound, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: digests over the body."""
    counted: list[int] = []
    digest = hmac.digest

    def counting(key: bytes, content: bytes, name: str) -> bytes:
        counted.append(len(content) // 1000)
        return digest(key, content, name)

    monkeypatch.setattr(hmac, "digest", counting)
    made = now(Scheme.STANDARD, {"text": "x" * 1000})
    path = inbound.paths[Scheme.STANDARD]
    for to in (path, path.replace("/shop/", "/other/"), f"/in/whi_unknown/shop/{ROUTE}"):
        for each in (made, replace(made, headers={}), replace(made, body=made.body + b" ")):
            counted.clear()
            await inbound.post(each, to)
            assert counted == [1, 1]


@pytest.mark.parametrize("scheme", SIGNING)
async def test_a_changed_bit_is_refused(inbound: Inbound, scheme: Scheme) -> None:
    made = now(scheme)
    changed = bytearray(made.body)
    changed[len(changed) // 2] ^= 4
    assert (await inbound.post(replace(made, body=bytes(changed))))[0] == 401
    header = SIGNATURE_HEADERS[scheme]
    text = made.headers[header]
    # The digit before the end: beyond base64's padding, and before what Stripe adds.
    place = len(text.removesuffix(",v0=" + "0" * 64)) - 3
    flipped = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
    assert (await inbound.post(replace(made, headers={**made.headers, header: flipped})))[0] == 401
    assert inbound.door.requests() == []
    assert (await inbound.post(made))[0] == 202


@pytest.mark.parametrize("scheme", TIMED)
async def test_a_stale_copy_is_refused(inbound: Inbound, scheme: Scheme) -> None:
    assert (await inbound.post(now(scheme, before_s=120)))[0] == 202
    assert (await inbound.post(now(scheme, before_s=400, delivery_id="d2")))[0] == 401


async def test_a_header_that_comes_twice_counts_as_none(inbound: Inbound) -> None:
    made = now(Scheme.GITHUB)
    headers = [("X-Hub-Signature-256", "sha256=" + "0" * 64), *made.headers.items()]
    async with inbound.door.client.post(inbound.paths[Scheme.GITHUB], data=made.body, headers=headers) as answer:
        assert answer.status == 401


async def test_during_a_rotation_both_secrets_count(inbound: Inbound) -> None:
    github = next(each for each in inbound.sources.all() if each.scheme is Scheme.GITHUB)
    inbound.sources.rotate(github.id, "the secret after it", timedelta(hours=1))
    assert (await inbound.post(now(Scheme.GITHUB)))[0] == 202
    inbound.sources.rotate(github.id, "the secret after that", timedelta(hours=1))
    assert (await inbound.post(now(Scheme.GITHUB)))[0] == 401


async def test_an_authentic_sender_is_told_what_is_wrong(inbound: Inbound) -> None:
    async def refusal(made: Sent) -> tuple[int, str]:
        status, problem = await inbound.post(made)
        return status, problem["code"]

    assert await refusal(now(Scheme.GITHUB, [1])) == (400, "bad_payload")
    assert await refusal(now(Scheme.HMAC, {"tenant_id": 2})) == (422, "foreign_tenant")
    assert await refusal(now(Scheme.GITHUB).with_headers(Content_Type="text/plain")) == (415, "media_type")
    packed = replace(now(Scheme.GITHUB).with_headers(Content_Encoding="gzip"), body=gzip.compress(b"{}"))
    assert await refusal(packed) == (415, "media_type")
    assert await refusal(now(Scheme.TOKEN, {"text": "x" * 262_140})) == (413, "too_large")
    assert await refusal(now(Scheme.TOKEN, {"text": "x" * 300_000})) == (413, "too_large")
    tenants = SqlTenantRepository(inbound.door.engine, KEYRING)
    tenants.configure("1", DOCUMENT)
    assert await refusal(now(Scheme.GITHUB)) == (404, "unknown_route")
    tenants.configure("1", LISTED)
    tenants.switch_plugin("1", enabled=False)
    assert await refusal(now(Scheme.GITHUB)) == (422, "plugin_unavailable")
    assert inbound.door.requests() == []
    tenants.switch_plugin("1", enabled=True)
    assert (await inbound.post(now(Scheme.GITHUB)))[0] == 202
    with inbound.door.engine.begin() as connection:
        connection.execute(update(WEBSITES).values(deleted_at=datetime.now(UTC)))
    assert await refusal(now(Scheme.GITHUB)) == (401, "refused")


async def test_what_was_not_stored_is_no_repeat(inbound: Inbound) -> None:
    with inbound.door.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE webhook_outbox RENAME TO elsewhere")
    status, problem = await inbound.post(now(Scheme.GITHUB))
    assert (status, problem["code"]) == (503, "unavailable")
    with inbound.door.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO webhook_outbox")
    assert (await inbound.post(now(Scheme.GITHUB)))[0] == 202
    assert len(inbound.door.requests()) == 1


async def test_neither_token_nor_secret_is_logged_or_answered(
    inbound: Inbound, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with inbound.door.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE webhook_inbound_deliveries")
        connection.exec_driver_sql("DROP TABLE hostnames")
    answers = [await inbound.post(now(Scheme.GITHUB)), await inbound.post(replace(now(Scheme.GITHUB), body=b"x"))]
    assert [each[0] for each in answers] == [503, 401]
    said = "".join(capsys.readouterr()) + caplog.text + json.dumps([each[1] for each in answers])
    assert "inbound webhook" in said
    assert inbound.paths[Scheme.GITHUB].split("/")[2] not in said
    assert SECRETS[Scheme.GITHUB] not in said


async def test_deliveries_are_remembered_for_longer_than_providers_repeat_them(inbound: Inbound) -> None:
    first = await inbound.post(now(Scheme.GITHUB))
    engine = inbound.door.engine
    with engine.begin() as connection:
        connection.execute(update(DELIVERIES).values(received_at=datetime.now(UTC) - KEPT + timedelta(hours=1)))
    assert prune_deliveries(engine) == 0
    assert await inbound.post(now(Scheme.GITHUB)) == first
    with engine.begin() as connection:
        connection.execute(update(DELIVERIES).values(received_at=datetime.now(UTC) - KEPT - timedelta(hours=1)))
    assert prune_deliveries(engine) == 1
    assert await inbound.post(now(Scheme.GITHUB)) != first


_VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
_NAMES = (
    *("webhook-id", "webhook-timestamp", "webhook-signature", "stripe-signature", "x-hub-signature-256"),
    *("x-shopify-hmac-sha256", "x-signature", "x-timestamp", "x-delivery-id", "content-type"),
)


async def test_bad_signatures_never_fail_inside(inbound: Inbound) -> None:
    """A few hundred through the whole door; ten thousand are tried at the verifying function."""
    drawn: list[tuple[dict[str, str], bytes]] = []

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(_NAMES), _VALUE), st.binary(max_size=50))
    def draw(headers: dict[str, str], body: bytes) -> None:
        drawn.append((headers, body))

    draw()
    for headers, body in drawn:
        for scheme in SIGNING:
            status, _ = await inbound.post(Sent(scheme, {name: text.strip() for name, text in headers.items()}, body))
            assert status == 401
    assert inbound.door.requests() == []
