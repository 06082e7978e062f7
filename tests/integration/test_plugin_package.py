"""A third party's plugin: written, built, installed beside, used, removed, and back again."""

import asyncio
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from projections.tables import WEBHOOK_EVENTS
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.capture.outbox import OutboxSink
from streams.settings import Settings
from tests.support.house import WEBHOOK, House, pip
from tests.support.waiting import eventually

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(170)]

ORDER = {"id": 7, "items": [{"sku": "A", "quantity": 1}]}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package as ``webhook plugins new`` writes it."""
    subprocess.run([WEBHOOK, "plugins", "new", "acme", "--directory", tmp_path], check=True, capture_output=True)
    return tmp_path / "webhook-plugin-acme"


@pytest.fixture
def wheel(package: Path, tmp_path: Path) -> Path:
    """The package's wheel, built without any network."""
    pip(["wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path / "wheels"), str(package)])
    (built,) = (tmp_path / "wheels").iterdir()
    return built


@pytest.fixture
def upstream(package: Path) -> Iterator[Any]:
    """The package's own stand-in of its upstream, served from a thread."""
    spec = importlib.util.spec_from_file_location("acme_upstream", package / "tests" / "upstream.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    served, started, ended = module.Upstream(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with served:
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(20)
    yield served
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


def ask(engine: Engine) -> str:
    """An event as a model's change would cause it: it does not ask whether a plugin is there."""
    request = WebhookRequested(
        event_id=new_event_id(),
        tenant_id="1",
        endpoint="webhook/order",
        event_type="order_created",
        trigger="service",
        requested_at=now_micros(),
        payload=json.dumps({**ORDER, "id": 8}),
        priority=9,
    )
    return OutboxSink(engine, Settings().catalogue()).accept(request).event_id


def event_of(engine: Engine, event_id: str) -> Mapping[str, Any]:
    with engine.connect() as connection:
        query = select(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.event_id == event_id)
        row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row is not None else {}


def test_a_plugin_from_another_package_is_used_missed_and_used_again(
    package: Path, wheel: Path, upstream: Any, tmp_path: Path
) -> None:
    house = House(tmp_path)
    house.install(wheel)
    checked = house.webhook("plugins", "check", "acme")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    document = json.loads((package / "tenant.example.json").read_text())
    configuration = tmp_path / "tenant.json"
    configuration.write_text(json.dumps({**document, "auth": {"url": upstream.url, "secret": "s"}}))

    with house.up():
        made = house.webhook("tenants", "create", "Acme", "--config", str(configuration))
        assert made.returncode == 0, made.stderr
        trigger = ("trigger", "webhook/order", "--tenant", "1", "--payload", json.dumps(ORDER), "--priority", "9")
        done = house.webhook(*trigger, "--wait", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["result"] == {"number": 1}
    house.remove()
    with house.up() as engine:
        refused = house.webhook(*trigger)
        assert refused.returncode == 2
        assert "'acme' is not installed" in refused.stderr
        event_id = ask(engine)
        missed = eventually(lambda: _failed(engine, event_id), timeout_s=60)
        assert missed["kind"] == "failed"
        assert "'acme' is not installed; installed are: " in missed["error"]
        assert "then retry" in missed["error"]
    house.install(wheel)
    with house.up() as engine:
        # It would be tried again by itself after the failed tier's half hour.
        let_go = house.webhook("schedule", "run", event_id)
        assert let_go.returncode == 0, let_go.stdout + let_go.stderr
        eventually(lambda: event_of(engine, event_id)["status"] == "completed", timeout_s=60)
    assert sorted(upstream.orders.values()) == [1, 2]


def _failed(engine: Engine, event_id: str) -> Mapping[str, Any]:
    event = event_of(engine, event_id)
    return event if event.get("status") == "failed" else {}


def test_the_contract_of_a_new_package_passes_where_it_is_installed(package: Path, wheel: Path, tmp_path: Path) -> None:
    house = House(tmp_path)
    house.install(wheel)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning"],
        cwd=package,
        env=house.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout
    # And it fails where a handler raises what it should have rejected.
    handler = package / "webhook_plugin_acme" / "order.py"
    handler.write_text(handler.read_text().replace("return Rejected(", "raise ValueError("))
    failed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=package,
        env={**house.environment, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1, failed.stdout
