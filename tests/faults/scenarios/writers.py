"""Programs that change rows: whatever dies, what the database committed is what was announced and carried out."""

import signal
from typing import Any, Final

from handlers.tenants.configuration import parse_configuration
from schemas.identifiers import derived_event_id
from streams.audit.slot import WalAudit
from streams.audit.subjects import resolve_tables
from tests.faults import writer
from tests.faults.checker import Requested
from tests.faults.laboratory import CONFIGURATION, Laboratory
from tests.faults.load import ENDPOINT, Load
from tests.faults.scenario import Scenario, Size
from tests.faults.scenarios.services import REPEATS
from tests.faults.writers import Writers, committed, differing, published, ready, settle, steps_of
from tests.support.services import use_logical_log
from tests.support.waiting import eventually

WRITERS: Final = 16
WORKERS: Final = 2
_SHOWN: Final = 3

TRACKING: Final[dict[str, Any]] = {
    **CONFIGURATION,
    "webhook_settings": [
        {"id": "parts", "models": ["Part"], "events": ["created", "updated", "deleted"], "webhook_endpoint": ENDPOINT}
    ],
}


def play(laboratory: Laboratory, size: Size) -> None:
    """Kill a writer at each turn, and with it the relay, PostgreSQL or the broker; then compare everything."""
    use_logical_log(laboratory.postgres.directory)
    load = laboratory.start(WORKERS, TRACKING)
    for worker in laboratory.workers:
        worker.disturb()
    ready(laboratory.engine)
    audit = WalAudit(laboratory.engine)
    with laboratory.engine.connect() as connection:
        tables = resolve_tables(connection, {writer.TABLE: ("Part",)})
    audit.start(tables, limit_mb=0, wait_s=60)
    writers = Writers(laboratory.settings, laboratory.postgres.url, load.tenant_id, WRITERS)
    laboratory.cleanup.callback(writers.kill)
    writers.start(size.rate)
    laboratory.hold(size.step_s)
    kills = (_kill_relay, _kill_database, _kill_broker)
    for number in range(size.faults):
        writers.replace_ended()
        writers.kill_one(laboratory.random)
        kills[number % len(kills)](laboratory, size)
        laboratory.hold(size.step_s)
    writers.replace_ended()
    laboratory.notes["writers_that_ended_by_themselves"] = writers.ended
    writers.kill()
    settle(laboratory.engine, size.settle_s)
    _compare(laboratory, audit, load)
    audit.stop()


def _kill_relay(laboratory: Laboratory, _size: Size) -> None:
    laboratory.mark("kill -9 of a writer and the relay")
    laboratory.relay.kill()
    laboratory.relay.start()


def _kill_database(laboratory: Laboratory, size: Size) -> None:
    laboratory.mark("kill -9 of a writer and PostgreSQL")
    laboratory.postgres.kill()
    laboratory.hold(size.step_s / 4)
    laboratory.postgres.start()


def _kill_broker(laboratory: Laboratory, size: Size) -> None:
    laboratory.mark("kill -9 of a writer and the broker")
    laboratory.kafka.signal(1, signal.SIGKILL)
    laboratory.hold(size.step_s / 4)
    laboratory.kafka.start(1)
    eventually(laboratory.kafka.is_whole, 180, "the broker is back")


def _compare(laboratory: Laboratory, audit: WalAudit, load: Load) -> None:
    """The database's log against the outbox, the outbox against Kafka, and each row's changes against its events.

    What was announced is what has to be carried out: the checker looks for it afterwards.
    """
    found = committed(audit)
    changes = published(laboratory.settings)
    judge = found.judge
    laboratory.notes |= {
        "transactions": judge.transactions,
        "committed_changes": found.changes,
        "published_changes": len(changes),
        "unannounced": judge.missing,
        "extra": judge.extra,
        "rows": len(found.rows),
    }
    wrong = [f"{each.kind}: {each}" for each in judge.findings]
    by_id = {change.change_id: change for change in changes}
    for name, ids in (("lost", set(found.announced) - by_id.keys()), ("invented", by_id.keys() - set(found.announced))):
        wrong.extend(f"{name} between outbox and Kafka: change {each}" for each in sorted(ids))
    wrong.extend(differing(found.rows, steps_of(changes)))
    laboratory.violations.extend(wrong[:_SHOWN])
    if len(wrong) > _SHOWN:
        laboratory.violations.append(f"and {len(wrong) - _SHOWN} more like these")
    if not found.changes:
        laboratory.violations.append("the writers committed nothing")
    (entry,) = parse_configuration(TRACKING).webhook_settings
    for sequence, change_id in enumerate(found.announced):
        if change_id in by_id:
            event_id = derived_event_id(by_id[change_id].occurred_at, change_id, entry.entry_id)
            load.requested.append(Requested(event_id, f"part-{by_id[change_id].model_id}", sequence))


SCENARIOS: Final = (
    Scenario(
        "writers",
        "16 writers; they, the relay, PostgreSQL and the broker are killed; judged by the database's own log",
        play,
        full=Size(rate=40, faults=12, step_s=20, settle_s=180),
        allowed=REPEATS,
    ),
)
