"""How the roles are put together from settings: by ``webhook work``, ``intake`` and the others, and by ``up``."""

from dataclasses import dataclass
from typing import Final

from confluent_kafka.admin import AdminClient
from sqlalchemy import Engine

from handlers.contract import HttpClient
from handlers.registry import PluginRegistry, load_plugins
from handlers.tenants.cache import CachedTenants
from handlers.tenants.encryption import Keyring, KeyringError
from handlers.tenants.inbound_sources import SourceRepository
from handlers.tenants.key_file import open_key_file
from handlers.tenants.repository import SqlTenantRepository
from schemas.codec import use_ids
from schemas.registry import RegistryError, ids_from_registry
from streams.agents.bounded import BoundedTierProcessor, BoundedWriter, Room
from streams.agents.executions import TenantExecutions
from streams.agents.intake import GROUP as INTAKE_GROUP
from streams.agents.intake import HealthProvider, Intake
from streams.agents.intake_processor import IntakeProcessor
from streams.agents.intents import Confirm
from streams.agents.producer import WriterPublisher
from streams.agents.tier import TierProcessor
from streams.background import OnCrash
from streams.capture.budget import Budget
from streams.database import open_database
from streams.engine.app import WorkerApp, create_worker_app
from streams.engine.letter_limit import DeadLetterLimit
from streams.engine.outcomes import OutcomeWriter
from streams.engine.threads import HandlerThreads
from streams.engine.watchdog import end_process
from streams.errors import SetupError
from streams.settings import Settings
from topics.catalogue import Catalogue

KEYS_FILE: Final = "encryption.keys"
"""Name of the file in the data directory that holds the encryption keys, unless settings name another."""

_ANSWER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class System:
    """What most roles share. ``settings`` are resolved: brokers and database are known."""

    settings: Settings
    catalogue: Catalogue
    engine: Engine
    tenants: CachedTenants
    plugins: PluginRegistry
    threads: HandlerThreads


def open_system(settings: Settings, engine: Engine | None = None) -> System:
    """The shared parts; ``engine`` where the caller has one already. Raises ``SetupError``."""
    use_registry_ids(settings)
    engine = engine or open_database(settings)
    tenants = CachedTenants(SqlTenantRepository(engine, open_keyring(settings)))
    threads = HandlerThreads(settings.handler_threads)
    return System(settings, settings.catalogue(), engine, tenants, load_plugins(), threads)


def open_inbound(system: System) -> SourceRepository:
    """The sources of inbound webhooks. Raises ``SetupError`` for keys that cannot be used."""
    return SourceRepository(system.engine, open_keyring(system.settings))


def open_keyring(settings: Settings) -> Keyring:
    """The keys of tenants' configuration: from the setting, its file, or the data directory's file, made if missing.

    Raises ``SetupError`` for keys that cannot be used.
    """
    try:
        if settings.encryption_keys is not None:
            return Keyring.parse(settings.encryption_keys.get_secret_value())
        if settings.encryption_keys_file is not None:
            return Keyring.read(settings.encryption_keys_file)
        return open_key_file(settings.data_dir / KEYS_FILE)
    except KeyringError as error:
        raise SetupError(
            f"The encryption keys cannot be used: {error}.",
            "Correct WEBHOOK_ENCRYPTION_KEYS or WEBHOOK_ENCRYPTION_KEYS_FILE.",
        ) from error


def use_registry_ids(settings: Settings) -> None:
    """Take the schemas' ids from the external registry, where settings name one. Raises ``SetupError``."""
    if settings.schema_registry_url is None:
        return
    subjects = {spec.subject: spec.record for spec in settings.catalogue().specs.values()}
    try:
        use_ids(ids_from_registry(settings.schema_registry_url, subjects))
    except (RegistryError, ValueError) as error:
        raise SetupError(
            f"The schema registry does not give the schemas' ids: {error}.", "Start it, or correct SCHEMA_REGISTRY_URL."
        ) from error


def check_topics(admin: AdminClient, settings: Settings) -> None:
    """Return where every topic exists with the partitions that settings say. Raises ``SetupError``."""
    catalogue = settings.catalogue()
    present = admin.list_topics(timeout=_ANSWER_S).topics
    missing = [name for name in catalogue.specs if name not in present]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SetupError(f"The broker lacks topics: {', '.join(missing[:3])}{more}.", "Run `webhook topics apply`.")
    for spec in catalogue.specs.values():
        count = len(present[spec.name].partitions)
        if count != spec.partitions:
            # Sources are decided in the partition of .events with their own number: the counts must agree (R2).
            raise SetupError(
                f"Topic {spec.name} has {count} partitions instead of {spec.partitions}.",
                "See `webhook topics plan`, or set WEBHOOK_PARTITIONS to what the topics have.",
            )


def make_intake(
    system: System,
    on_crash: OnCrash = end_process,
    budget: Budget | None = None,
    health: HealthProvider | None = None,
) -> WorkerApp:
    """The app of intake, for ``run_workers``. Call it where the event loop runs.

    ``budget`` is the embedded broker's room (R21), the same one for every producer of the process. ``health`` says how
    the tiers are; ``None``: nobody measures them, and each rule's first tier is taken.
    """
    settings, catalogue = system.settings, system.catalogue
    bounded = {*catalogue.tier_by_topic, catalogue.events, catalogue.scheduled}
    publisher = WriterPublisher(OutcomeWriter(settings, on_crash), budget, bounded)
    processor = IntakeProcessor(
        Intake(catalogue, health, plugins=system.plugins),
        publisher,
        system.tenants,
        on_crash,
        settings.waiting_per_partition,
    )
    processor.letter_limit = DeadLetterLimit(settings, INTAKE_GROUP)
    return create_worker_app(INTAKE_GROUP, [catalogue.changes, catalogue.requests], settings, processor, on_crash)


def make_tier(
    system: System,
    tier: str,
    http: HttpClient,
    on_crash: OnCrash = end_process,
    confirm: Confirm | None = None,
    room: Room | None = None,
) -> WorkerApp:
    """The app of a tier's worker, for ``run_workers``. Call it where the event loop runs.

    ``confirm`` makes sure of intents where the brokers' word is not enough (R6). ``room``: the worker keeps to that of
    the embedded broker (R21).
    """
    settings, catalogue = system.settings, system.catalogue
    executions = TenantExecutions(
        system.tenants, system.plugins, http, settings.task_timeout_s, settings.data_dir, system.threads
    )
    executions.queue_connection = settings.queue_connection
    if room is None:
        processor = TierProcessor(tier, settings, executions, OutcomeWriter(settings, on_crash), on_crash, confirm)
    else:
        writer = BoundedWriter(settings, on_crash, room)
        processor = BoundedTierProcessor(tier, settings, executions, writer, on_crash, confirm)
    return create_worker_app(tier, [catalogue.topic(tier), catalogue.steps(tier)], settings, processor, on_crash)
