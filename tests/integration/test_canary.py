"""A tenant's secrets are found nowhere: no topic, table, log line, page, error or command shows them (DESIGN §10)."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import select

from projections.tables import WEBHOOK_ATTEMPTS
from streams.broker.connection import consumer_config
from streams.broker.runtime import embedded_database_url, read_runtime, resolve
from streams.database import create_database_engine
from streams.settings import Settings
from tests.support.canary_plugin import SPILLS
from tests.support.house import House
from tests.support.waiting import eventually

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]

CORE = "c4n4rySecretOfTenant"
SECRET = f"{CORE}\"'\\/ü+="
COLOUR = f"{CORE}-in-colour"


WRONG: dict[str, Any] = {
    "number": SECRET,
    "plugin_port": SECRET,
    "webhook_settings": [{"webhook_endpoint": 7, "priority": SECRET}],
    "auth": {"url": f"http://u:{SECRET}@h/", "secret": [SECRET], "client_id": {"x": SECRET}},
}


def configuration() -> dict[str, Any]:
    """Every handler of the plugin behind an endpoint of its own; a pipeline of two echoes what it was given."""
    entries: list[dict[str, Any]] = [
        {
            "webhook_endpoint": f"webhook/{name}",
            "pipeline": [{"handler_class": name, "retry_attempts": 1, "timeout": 0.5 if name == "SlowHandler" else 30}],
        }
        if SPILLS[name] == "failed"
        else {"webhook_endpoint": f"webhook/{name}", "target_class": name}
        for name in SPILLS
    ]
    entries.append({"webhook_endpoint": "webhook/two", "pipeline": [{"handler_class": "SuccessHandler"}] * 2})
    return {
        "auth": {"secret": SECRET, "client_id": "acme", "pin": SECRET},
        "colour": COLOUR,
        "plugin_name": "canary",
        "plugin_route_prefix": "canary",
        "webhook_settings": entries,
    }


@pytest.fixture
def house(tmp_path: Path) -> House:
    """The plugin installed beside the package, and everything logged."""
    house = House(tmp_path)
    house.environment["WEBHOOK_LOG_LEVEL"] = "debug"
    info = house.beside / "canary_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    plugin = Path(__file__).parent.parent / "support" / "canary_plugin.py"
    (house.beside / "canary_plugin.py").write_text(plugin.read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: canary-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[webhook_streams.plugins]\ncanary = canary_plugin:PLUGIN\n")
    return house


def test_a_secret_shows_nowhere(house: House, tmp_path: Path) -> None:
    data = house.data_dir
    shown: dict[str, str] = {}

    def run(*arguments: str, code: int = 0) -> str:
        done = house.webhook(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        shown["webhook " + " ".join(arguments)] = done.stdout + done.stderr
        return done.stdout

    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(configuration()))
    bad.write_text(json.dumps(configuration() | WRONG))
    with house.up():
        tenant = json.loads(run("tenants", "create", "Canary", "--config", str(good), "--json"))["id"]
        ids = {name: trigger(data, tenant, f"webhook/{name}", shown) for name in (*SPILLS, "two")}
        expected = {**SPILLS, "two": "completed"}
        eventually(lambda: outcomes(data, ids) == expected, 90, "every handler has come to its outcome")
        for command in ("show", "check"):
            run("tenants", command, tenant)
        run("tenants", "list")
        run("tenants", "check", tenant, "--connect", code=1)
        run("tenants", "check", "--config", str(bad), code=1)
        run("tenants", "configure", tenant, "--config", str(bad), code=1)
        run("tenants", "configure", tenant, "--config", str(good), "--dry-run")
        run("keys", "list")
        for form in ((), ("--json",)):
            run("events", "--limit", "50", *form)
        for name, event_id in ids.items():
            get(data, f"/v1/events/{event_id}", shown, name)
        topics = records(data)
    files = {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    log = files["up.log"].decode()

    # What is looked through is really there.
    assert "canary log of" in log
    assert "Task exception was never retrieved" in log
    assert b"webhook_attempts" in files["webhook.db"]
    assert len(topics) > 2 * len(ids)
    everything = {**files, **topics, **{name: text.encode() for name, text in shown.items()}}
    assert [place for place, content in everything.items() if spilled(content)] == []


def test_keys_are_rotated_and_tenants_configured_while_everything_runs(house: House, tmp_path: Path) -> None:
    data = house.data_dir
    shown: dict[str, str] = {}
    first, second = configuration(), configuration()
    second["webhook_settings"].append({"webhook_endpoint": "webhook/new", "target_class": "LogHandler"})
    for name, document in (("first", first), ("second", second)):
        (tmp_path / name).write_text(json.dumps(document))

    def run(*arguments: str) -> str:
        done = house.webhook(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def accepted(endpoint: str) -> bool:
        try:
            ids[endpoint] = trigger(data, tenant, endpoint, shown)
        except urllib.error.HTTPError as error:
            error.close()
            # No such endpoint, or the tenant's plugin is switched off.
            if error.code not in (404, 422):
                raise
            return False
        return True

    ids: dict[str, str] = {}
    with house.up():
        tenant = json.loads(run("tenants", "create", "Canary", "--config", str(tmp_path / "first"), "--json"))["id"]
        assert accepted("webhook/LogHandler")
        assert not accepted("webhook/new")
        run("keys", "new")
        assert json.loads(run("keys", "rotate", "--to", "k2", "--json")) == {"active": "k2", "rewritten": 1, "left": 0}
        run("tenants", "configure", tenant, "--config", str(tmp_path / "second"))
        # Of a key that did not exist when the process began.
        assert [row["values"] for row in json.loads(run("keys", "list", "--json"))] == [1, 0]
        eventually(lambda: accepted("webhook/new"), 60, "the new configuration is heard of")
        run("tenants", "disable", tenant)
        eventually(lambda: not accepted("webhook/LogHandler"), 60, "the plugin is switched off")
        run("tenants", "enable", tenant)
        eventually(lambda: accepted("webhook/LogHandler"), 60, "the plugin is switched on")
        eventually(lambda: outcomes(data, ids) == dict.fromkeys(ids, "completed"), 60)


def spilled(content: bytes) -> bool:
    """Whether the secret's core stands in it, as it is or in base64 at any offset."""
    forms = {CORE.encode()}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + CORE.encode())
        forms.add(whole[4:-4])
    return any(form in content for form in forms)


def trigger(data: Path, tenant: str, endpoint: str, shown: dict[str, str]) -> str:
    """Ask for a webhook by HTTP: its event's id."""
    body = {"tenant": tenant, "endpoint": endpoint, "payload": {"id": 1}}
    answer = get(data, "/v1/webhooks", shown, endpoint, json.dumps(body).encode())
    return str(json.loads(answer)["event_id"])


def get(data: Path, path: str, shown: dict[str, str], what: str, body: bytes | None = None) -> str:
    """The answer to a request, kept in ``shown``."""
    runtime = read_runtime(data)
    assert runtime is not None
    headers = {"Authorization": f"Bearer {(data / 'token').read_text().strip()}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{runtime.http_url}{path}", body, headers)
    with urllib.request.urlopen(request) as answer:
        text = str(answer.read().decode())
        shown[f"{path} {what}"] = text + str(answer.headers)
    return text


def outcomes(data: Path, ids: dict[str, str]) -> dict[str, str]:
    """The last outcome of each event that has one."""
    engine = create_database_engine(embedded_database_url(data))
    attempts = select(WEBHOOK_ATTEMPTS.c.event_id, WEBHOOK_ATTEMPTS.c.kind).order_by(WEBHOOK_ATTEMPTS.c.step)
    with engine.connect() as connection:
        found = {str(event_id): kind for event_id, kind in connection.execute(attempts)}
    engine.dispose()
    return {name: found[event_id] for name, event_id in ids.items() if event_id in found}


def records(data: Path) -> dict[str, bytes]:
    """Everything that every topic holds: keys, headers and values."""
    settings = resolve(Settings(data_dir=data))
    consumer = Consumer(consumer_config(settings, "canary"))
    found: dict[str, bytes] = {}
    places = [
        TopicPartition(topic, number)
        for topic, metadata in consumer.list_topics(timeout=10).topics.items()
        for number in metadata.partitions
    ]
    ends = {(each.topic, each.partition): consumer.get_watermark_offsets(each, timeout=10) for each in places}
    for place in places:
        low, high = ends[place.topic, place.partition]
        if high > low:
            consumer.assign([TopicPartition(place.topic, place.partition, low)])
            position = low
            while position < high:
                (message,) = consumer.consume(1, timeout=10) or [None]
                assert message is not None, f"{place} ends before its end"
                assert message.error() is None, message.error()
                position = (message.offset() or 0) + 1
                headers = b"".join(value or b"" for _, value in message.headers() or ())
                content = (message.key() or b"") + headers + (message.value() or b"")
                found[f"{place.topic}[{place.partition}]@{message.offset()}"] = content
    consumer.close()
    return found
