"""The HTTP door on a real database: what is accepted is in the outbox, what is not says why."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import Engine, select

from handlers.contract import Context, PluginManifest
from handlers.registry import PluginRegistry
from handlers.results import Completed, Result
from handlers.service import Outcome, PluginService
from handlers.tenants.encryption import Keyring
from handlers.tenants.inbound_sources import SourceRepository
from handlers.tenants.repository import SqlTenantRepository
from handlers.tenants.tokens import Scope, TokenRepository
from projections.migrate import upgrade
from schemas.codec import decode_as
from schemas.events import WebhookRequested
from streams.capture.outbox import OUTBOX, OutboxSink
from streams.cli.reader import HistoryReader
from streams.database import create_database_engine
from streams.settings import Settings
from streams.waiting.reader import WaitingReader
from streams.waiting.sources import LiveSources
from streams.web.app import Services, create_app


class OrderWebhookHandler:
    """Does nothing."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """See ``Handler``."""
        return Completed({})


MANIFEST = PluginManifest(
    id="shop", title="Shop", version="1.0.0", handlers={"OrderWebhookHandler": OrderWebhookHandler}
)
KEYRING = Keyring({"k1": bytes(32)})
DOCUMENT = {"plugin_name": "shop", "plugin_route_prefix": "shop", "webhook_settings": []}


class Events:
    """One recorded event, of tenant 1; and outcomes, by event or (``""``) of all."""

    outcomes: dict[str, Outcome]

    def __init__(self) -> None:
        self.outcomes = {}

    def outcome(self, event_id: str) -> Outcome | None:
        """See ``OutcomeReader``."""
        return self.outcomes.get(event_id, self.outcomes.get(""))

    def event(self, event_id: str, tenant_id: str | None) -> Mapping[str, Any] | None:
        """See ``EventReader``."""
        if event_id != "e1" or tenant_id not in (None, "1"):
            return None
        return {"event_id": "e1", "status": "completed"}


@dataclass
class Door:
    """A served application, its database and its tokens by name."""

    client: TestClient[Any, Any]
    engine: Engine
    tokens: dict[str, str]
    history: Events

    async def post(self, body: object, token: str | None = "operator", **headers: str) -> tuple[int, dict[str, Any]]:
        """POST a body as JSON (bytes go as they are); status and answer."""
        sent = {"Content-Type": "application/json"} | headers
        if token is not None:
            sent["Authorization"] = f"Bearer {self.tokens.get(token, token)}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.post("/v1/webhooks", data=data, headers=sent) as answer:
            return answer.status, json.loads(await answer.read())

    async def get(self, path: str, token: str | None = None) -> tuple[int, dict[str, Any]]:
        """GET a path; status and answer."""
        headers = {} if token is None else {"Authorization": f"Bearer {self.tokens[token]}"}
        async with self.client.get(path, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())

    def requests(self) -> list[WebhookRequested]:
        """The requests that lie in the outbox."""
        asked = select(OUTBOX.c.payload).where(OUTBOX.c.record_type == "WebhookRequested").order_by(OUTBOX.c.id)
        with self.engine.connect() as connection:
            rows = connection.execute(asked).scalars()
            return [decode_as(WebhookRequested, row) for row in rows]


@asynccontextmanager
async def opened_door(settings: Settings, tmp_path: Path, database_url: str | None = None) -> AsyncIterator[Door]:
    """A served application on a database of its own, with two tenants; on the one named, with its history."""
    engine = create_database_engine(database_url or f"sqlite:///{tmp_path / 'door.db'}")
    upgrade(engine)
    tenants = SqlTenantRepository(engine, KEYRING)
    for name in ("one", "two"):
        tenants.create(name, DOCUMENT, [f"{name}.example"])
    tokens = TokenRepository(engine)
    texts = {
        "operator": tokens.create("ops", Scope.OPERATOR).text,
        "viewer": tokens.create("eyes", Scope.VIEWER).text,
        "bound": tokens.create("shop one", Scope.ADMIN, "1").text,
        "bound2": tokens.create("shop two", Scope.ADMIN, "2").text,
    }
    sink = OutboxSink(engine, settings.catalogue())
    plugins = PluginService(tenants, PluginRegistry({"shop": MANIFEST}), sink)
    waiting = WaitingReader(engine, LiveSources(settings))
    stub = Events()
    history = stub if database_url is None else HistoryReader(engine)
    sources = SourceRepository(engine, KEYRING)
    app = create_app(settings, Services(engine, sink, plugins, tokens, sources, history, waiting))
    async with TestClient(TestServer(app)) as client:
        yield Door(client, engine, texts, stub)
    engine.dispose()


@pytest.fixture
async def door(settings: Settings, tmp_path: Path) -> AsyncIterator[Door]:
    async with opened_door(settings, tmp_path) as made:
        yield made


ASKED = {"tenant": 1, "endpoint": "webhook/order", "payload": {"id": 7}}


async def test_an_accepted_request_lies_in_the_outbox_before_the_answer(door: Door) -> None:
    status, body = await door.post(ASKED | {"priority": 9, "delay": 5, "event_type": "order_created"})

    [request] = door.requests()
    assert (status, body) == (202, {"event_id": request.event_id})
    assert (request.tenant_id, request.endpoint, request.payload) == ("1", "webhook/order", '{"id":7}')
    assert (request.priority, request.delay_s, request.event_type) == (9, 5, "order_created")
    assert (request.trigger, request.requested_by) == ("http", "ops")


async def test_a_bound_token_needs_no_tenant_and_reaches_no_other(door: Door) -> None:
    asked = {name: value for name, value in ASKED.items() if name != "tenant"}

    assert (await door.post(asked, "bound"))[0] == 202
    assert (await door.post(asked | {"tenant": "one.example"}, "bound"))[0] == 202
    foreign = await door.post(asked | {"tenant": "2"}, "bound")
    missing = await door.post(asked | {"tenant": "77"}, "bound")

    assert (foreign[0], foreign[1]["code"]) == (missing[0], missing[1]["code"]) == (404, "unknown_tenant")
    assert len(door.requests()) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (ASKED | {"tenant": 77}, 404, "unknown_tenant"),
        (ASKED | {"tenant": "nobody.example"}, 404, "unknown_tenant"),
        ({"endpoint": "webhook/order", "payload": {}}, 422, "missing_field"),
        ({"tenant": 1, "payload": {}}, 422, "missing_field"),
        ({"tenant": 1, "endpoint": "webhook/order"}, 422, "missing_field"),
        (ASKED | {"endpoint": "webhook/none"}, 404, "unknown_endpoint"),
        (ASKED | {"payload": [1]}, 422, "bad_payload"),
        (ASKED | {"priority": 11}, 422, "bad_option"),
        (ASKED | {"priority": 0}, 422, "bad_option"),
        (ASKED | {"priority": "9"}, 422, "bad_option"),
        (ASKED | {"delay": -1}, 422, "bad_option"),
        (ASKED | {"delay": 10**9}, 422, "bad_option"),
        (ASKED | {"tenant": True}, 422, "bad_option"),
        (ASKED | {"event_type": ""}, 422, "bad_option"),
        (ASKED | {"model": "Order"}, 422, "bad_option"),
        (ASKED | {"colour": "red"}, 422, "unknown_field"),
        ([ASKED], 400, "bad_json"),
        (b"{", 400, "bad_json"),
        (b"\xff\xfe", 400, "bad_json"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, 422, "too_deep"),
        (ASKED | {"payload": {"text": "x" * (256 * 1024)}}, 413, "too_large"),
        (ASKED | {"payload": {"text": "x" * (300 * 1024)}}, 413, "too_large"),
    ],
)
async def test_what_is_refused_says_why_and_leaves_nothing(door: Door, body: object, status: int, code: str) -> None:
    answered, problem = await door.post(body)

    assert (answered, problem["code"], problem["status"]) == (status, code, status)
    assert problem["detail"]
    assert door.requests() == []


async def test_tokens_are_asked_for_before_the_body_is_looked_at(door: Door) -> None:
    assert (await door.post(b"{", None))[0] == 401
    assert (await door.post(b"{", "whs_unknown"))[0] == 401
    status, problem = await door.post(b"{", "viewer")

    assert (status, problem["code"]) == (403, "scope")


async def test_other_media_types_are_refused(door: Door) -> None:
    status, problem = await door.post(b"a=1", **{"Content-Type": "application/x-www-form-urlencoded"})

    assert (status, problem["code"]) == (415, "media_type")


async def test_without_its_database_the_door_says_try_again(door: Door) -> None:
    with door.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE webhook_outbox")
    headers = {"Authorization": f"Bearer {door.tokens['operator']}"}
    async with door.client.post("/v1/webhooks", json=ASKED, headers=headers) as answer:
        problem = json.loads(await answer.read())

    assert (answer.status, problem["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.content_type == "application/problem+json"


async def test_an_unforeseen_error_shows_nothing_of_the_inside(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("canary-inside")

    monkeypatch.setattr(Events, "event", fail)
    status, problem = await door.get("/v1/events/e1", "viewer")

    assert (status, problem["code"]) == (500, "internal")
    assert "canary" not in json.dumps(problem)


async def test_events_are_shown_to_their_tenant_only(door: Door) -> None:
    assert await door.get("/v1/events/e1", "viewer") == (200, {"event_id": "e1", "status": "completed"})
    assert (await door.get("/v1/events/e1", "bound"))[0] == 200
    assert (await door.get("/v1/events/e1", "bound2"))[0] == 404
    assert (await door.get("/v1/events/e2", "viewer"))[0] == 404
    assert (await door.get("/v1/events/e1"))[0] == 401


async def test_health_and_routes(door: Door) -> None:
    assert (await door.get("/livez"))[0] == 200
    assert (await door.get("/readyz"))[0] == 200
    status, problem = await door.get("/none")
    assert (status, problem["status"]) == (404, 404)
    async with door.client.get("/v1/webhooks") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    async with door.client.get("/subjects") as subjects:
        assert subjects.status == 200


async def test_no_registry_of_our_own_beside_an_external_one(door: Door, settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"schema_registry_url": "http://registry.example"})
    services = Services(door.engine, None, None, TokenRepository(door.engine), None, Events(), None)  # type: ignore[arg-type]
    app = create_app(elsewhere, services)
    async with TestClient(TestServer(app)) as client, client.get("/subjects") as answer:
        assert answer.status == 404
