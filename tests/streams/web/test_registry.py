"""The registry's read API, used by the official client, and by hand for its errors."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.codec import encode
from schemas.events import TaskReady
from schemas.store import load_ids, schema_text
from streams.web.registry import registry_routes
from topics.catalogue import build_catalogue

CATALOGUE = build_catalogue()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([route.served() for route in registry_routes(CATALOGUE)])
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_the_official_deserializer_reads_our_records(url: str) -> None:
    ready = TaskReady(
        event_id="e",
        run=1,
        step=0,
        attempt=1,
        dispatch_seq=1,
        tenant_id="1",
        endpoint="webhook/order",
        event_type="order_created",
        trigger="http",
        priority=9,
        accepted_at=1_790_000_000_000_000,
        payload='{"id": 7}',
    )
    topic = CATALOGUE.topic("webhook-high")

    def read() -> object:
        with SchemaRegistryClient({"url": url}) as client:
            return AvroDeserializer(client)(encode(ready), SerializationContext(topic, MessageField.VALUE))

    record = await asyncio.to_thread(read)

    assert isinstance(record, dict)
    assert (record["endpoint"], record["priority"], record["payload"]) == ("webhook/order", 9, '{"id": 7}')


async def test_the_official_client_lists_and_looks_up(url: str) -> None:
    subject = f"{CATALOGUE.changes}-value"

    def ask() -> tuple[list[str], list[int], int, int]:
        with SchemaRegistryClient({"url": url}) as client:
            latest = client.get_latest_version(subject)
            found = client.lookup_schema(subject, latest.schema)
            return client.get_subjects(), client.get_versions(subject), latest.schema_id, found.schema_id

    subjects, versions, latest, found = await asyncio.to_thread(ask)

    assert sorted(spec.subject for spec in CATALOGUE.specs.values()) == subjects
    assert versions == [1]
    assert load_ids()[latest] == "model_changed.v1"
    assert found == latest


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/subjects/none/versions", 404, 40401),
        ("/subjects/none/versions/latest", 404, 40401),
        ("/subjects/plugin-webhooks.changes-value/versions/9", 404, 40402),
        ("/subjects/plugin-webhooks.changes-value/versions/new", 422, 42202),
        ("/schemas/ids/999", 404, 40403),
        ("/schemas/ids/x", 404, 40403),
    ],
)
async def test_what_is_not_there_is_said_in_the_registrys_own_form(url: str, path: str, status: int, code: int) -> None:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        body = json.loads(await answer.read())

    assert (answer.status, body["error_code"]) == (status, code)
    assert body["message"]


async def test_registering_a_known_schema_gives_its_id_and_a_new_one_is_refused(url: str) -> None:
    path = f"{url}/subjects/{CATALOGUE.changes}-value/versions"
    new = json.loads(schema_text("model_changed.v1")) | {"doc": "another"}
    async with aiohttp.ClientSession() as session:
        async with session.post(path, json={"schema": schema_text("model_changed.v1")}) as answer:
            known = json.loads(await answer.read())
        async with session.post(path, json={"schema": json.dumps(new)}) as answer:
            refused = answer.status
        async with session.post(path, data=b"{") as answer:
            broken = answer.status

    assert load_ids()[known["id"]] == "model_changed.v1"
    assert (refused, broken) == (422, 422)


async def test_types_and_compatibility(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/schemas/types") as answer:
            assert json.loads(await answer.read()) == ["AVRO"]
        async with session.get(f"{url}/config") as answer:
            assert json.loads(await answer.read()) == {"compatibilityLevel": "FULL_TRANSITIVE"}
