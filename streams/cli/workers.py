"""``webhook workers``: who works at this moment, on what, and how much."""

from typing import Final

from schemas.events import to_datetime
from streams.broker.connection import admin_client
from streams.broker.runtime import resolve
from streams.cli.console import Json, note, show
from streams.control.signals import Heartbeat, heard_workers
from streams.settings import Settings

_COLUMNS: Final = {
    "worker": "WORKER",
    "tier": "TIER",
    "partitions": "PARTITIONS",
    "running": "RUNNING",
    "window": "OF",
    "waiting": "WAITING",
    "memory_mib": "MIB",
    "paused": "PAUSED",
    "started_at": "SINCE",
    "version": "VERSION",
}


def workers(as_json: Json = False) -> None:
    """List the workers that run: host and process, tier, partitions, tasks running and waiting, memory.

    A worker tells of itself every second; one that has been silent for ten is not listed.

    [bold]Examples[/bold]

      webhook workers

      webhook workers --json
    """
    settings = resolve(Settings(), database=False)
    admin_client(settings)
    found = heard_workers(settings)
    show([_row(each, as_json) for each in found], _COLUMNS, as_json, "No worker runs.")
    idle = [f"{each.worker} ({each.tier})" for each in found if not each.partitions]
    if idle:
        note(f"{len(idle)} of {len(found)} have no partition: {', '.join(idle)}; a tier has {settings.partitions}.")


def _row(heartbeat: Heartbeat, as_json: bool) -> dict[str, object]:
    partitions: object = heartbeat.partitions if as_json else ",".join(map(str, heartbeat.partitions))
    row: dict[str, object] = {
        "worker": heartbeat.worker,
        "tier": heartbeat.tier,
        "partitions": partitions,
        "running": heartbeat.running,
        "window": heartbeat.window,
        "waiting": heartbeat.waiting,
        "memory_mib": heartbeat.memory_bytes // (1024 * 1024),
        "paused": heartbeat.paused,
        "started_at": to_datetime(heartbeat.started_at),
        "version": heartbeat.version,
    }
    if as_json:
        row["plugins"] = heartbeat.versions
        row["oldest"] = [
            {"event_id": event_id, "since": to_datetime(since), "key": key} for event_id, since, key in heartbeat.oldest
        ]
    return row
