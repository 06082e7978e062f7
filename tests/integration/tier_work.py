"""A tier's tasks for worker processes, put straight into its topic; the journal's handler carries them out."""

from pathlib import Path

import orjson

from schemas.identifiers import new_event_id
from streams.settings import Settings
from tests.streams.engine.workload import put, task_ready
from tests.support.load import CONFIGURATION, ENDPOINT
from tests.support.roles import Installation

TIER = "webhook-high"


def create_tenant(roles: Installation, directory: Path) -> str:
    """Migrate the installation's database and add the tenant whose tasks are carried out; its id."""
    roles.run("migrate")
    file = directory / "tenant.json"
    file.write_bytes(orjson.dumps(CONFIGURATION))
    created = orjson.loads(roles.run("tenants", "create", "Work", "--config", str(file), "--json"))
    return str(created["id"])


def put_tasks(settings: Settings, tenant_id: str, count: int, sleep_s: float = 0.0, first: int = 0) -> None:
    """Tasks of the tier, each of a key of its own, which run for ``sleep_s`` seconds."""
    tasks = []
    for number in range(first, first + count):
        payload = {"sequence": number, "key": number, "sleep_s": sleep_s}
        task = task_ready(
            new_event_id(), tenant_id=tenant_id, endpoint=ENDPOINT, payload=orjson.dumps(payload).decode()
        )
        tasks.append((f"{tenant_id}|Order|{number}", task))
    put(settings, settings.catalogue().topic(TIER), tasks)
