"""Where tenants are kept: one protocol, in the system's database or in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import uuid4

import orjson
from sqlalchemy import Connection, Engine, Row, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from handlers.tenants.configuration import ConfigurationError, TenantConfiguration, parse_configuration
from handlers.tenants.encryption import DecryptionError, Keyring
from handlers.tenants.tables import HOSTNAMES, WEBSITES
from schemas.errors import Permanent, Retryable

CONFIGURE: Final = "configure"
"""Column that an encrypted configuration is bound to."""
_LARGEST_ID: Final = 2**63 - 1
_MOST_CHANGED: Final = 1000


@dataclass(frozen=True, slots=True)
class Tenant:
    """A website with its valid configuration. ``id`` is ``str(websites.id)``, as in every event."""

    id: str
    uuid: str
    name: str
    hostnames: tuple[str, ...]
    configuration: TenantConfiguration
    plugin_enabled: bool = True


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """A website as lists show it: readable even where its configuration is not."""

    id: str
    uuid: str
    name: str
    hostnames: tuple[str, ...]
    configured: bool
    plugin_enabled: bool
    created_at: datetime


class TenantUnusable(Permanent):
    """A tenant without a configuration, or with one that is not valid any more."""

    code = "tenant_unusable"


class TenantsUnavailable(Retryable):
    """The tenants' database did not answer, or its values cannot be decrypted with the keys that are here."""

    code = "tenants_unavailable"


class HostnameTaken(ValueError):
    """A hostname belongs to another tenant."""


class TenantNotFound(LookupError):
    """There is no such tenant."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"there is no tenant {tenant_id}; `webhook tenants list` shows all")


class TenantReader(Protocol):
    """Finds tenants. Calls block.

    Raises ``TenantUnusable`` for a tenant that exists and cannot be used, and ``TenantsUnavailable``.
    """

    def get(self, tenant_id: str) -> Tenant | None:
        """The tenant with that id, unless it is deleted."""

    def by_hostname(self, fqdn: str) -> Tenant | None:
        """The tenant that has the hostname, upper and lower case alike."""


class TenantRepository(TenantReader, Protocol):
    """Reads and writes tenants. Calls block, and raise as ``TenantReader`` does."""

    def summaries(self) -> list[TenantSummary]:
        """Every tenant, by id."""

    def create(
        self, name: str, document: Mapping[str, Any], hostnames: Sequence[str] = (), uuid: str | None = None
    ) -> Tenant:
        """Add a tenant, with a new ``uuid`` where none is given.

        Raises ``ConfigurationError`` and ``HostnameTaken``; then nothing is added.
        """

    def configure(self, tenant_id: str, document: Mapping[str, Any]) -> Tenant:
        """Replace a tenant's configuration. Raises ``ConfigurationError`` and ``TenantNotFound``."""

    def switch_plugin(self, tenant_id: str, enabled: bool) -> None:
        """Let a tenant's plugin run or not; its configuration stays. Raises ``TenantNotFound``."""

    def changed_since(self, instant: datetime) -> dict[str, datetime] | None:
        """When each tenant that has changed since did so last, by id; ``None``: too many to name."""


class MemoryTenantRepository:
    """Tenants in memory, for tests and for trying a plugin out."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._created: dict[str, datetime] = {}
        self._changed: dict[str, datetime] = {}

    def get(self, tenant_id: str) -> Tenant | None:
        """See ``TenantRepository``."""
        return self._tenants.get(tenant_id)

    def by_hostname(self, fqdn: str) -> Tenant | None:
        """See ``TenantRepository``."""
        wanted = fqdn.lower()
        return next((tenant for tenant in self._tenants.values() if wanted in tenant.hostnames), None)

    def summaries(self) -> list[TenantSummary]:
        """See ``TenantRepository``."""
        return [
            TenantSummary(
                each.id, each.uuid, each.name, each.hostnames, True, each.plugin_enabled, self._created[each.id]
            )
            for each in self._tenants.values()
        ]

    def create(
        self, name: str, document: Mapping[str, Any], hostnames: Sequence[str] = (), uuid: str | None = None
    ) -> Tenant:
        """See ``TenantRepository``."""
        configuration = parse_configuration(dict(document))
        names = _lower(hostnames)
        for fqdn in names:
            if self.by_hostname(fqdn):
                raise HostnameTaken(f"hostname {fqdn} belongs to another tenant")
        tenant = Tenant(str(len(self._tenants) + 1), uuid or str(uuid4()), name, names, configuration)
        self._tenants[tenant.id] = tenant
        self._created[tenant.id] = self._changed[tenant.id] = datetime.now(UTC)
        return tenant

    def configure(self, tenant_id: str, document: Mapping[str, Any]) -> Tenant:
        """See ``TenantRepository``."""
        configuration = parse_configuration(dict(document))
        if tenant_id not in self._tenants:
            raise TenantNotFound(tenant_id)
        return self._change(tenant_id, configuration=configuration)

    def switch_plugin(self, tenant_id: str, enabled: bool) -> None:
        """See ``TenantRepository``."""
        if tenant_id not in self._tenants:
            raise TenantNotFound(tenant_id)
        self._change(tenant_id, plugin_enabled=enabled)

    def changed_since(self, instant: datetime) -> dict[str, datetime] | None:
        """See ``TenantRepository``."""
        return {tenant_id: at for tenant_id, at in self._changed.items() if at >= instant}

    def _change(self, tenant_id: str, **values: Any) -> Tenant:
        self._tenants[tenant_id] = replace(self._tenants[tenant_id], **values)
        self._changed[tenant_id] = datetime.now(UTC)
        return self._tenants[tenant_id]


class SqlTenantRepository:
    """Tenants in the system's database, their configuration encrypted. Safe to use from several threads."""

    def __init__(self, engine: Engine, keyring: Keyring) -> None:
        self._engine = engine
        self._keyring = keyring

    def get(self, tenant_id: str) -> Tenant | None:
        """See ``TenantRepository``."""
        number = website_number(tenant_id)
        return None if number is None else self._read(lambda: WEBSITES.c.id == number)

    def by_hostname(self, fqdn: str) -> Tenant | None:
        """See ``TenantRepository``."""
        website = select(HOSTNAMES.c.website_id).where(HOSTNAMES.c.fqdn == fqdn.lower()).scalar_subquery()
        return self._read(lambda: WEBSITES.c.id == website)

    def summaries(self) -> list[TenantSummary]:
        """See ``TenantRepository``."""
        with reachable(), self._engine.connect() as connection:
            rows = connection.execute(select(WEBSITES).where(WEBSITES.c.deleted_at.is_(None)).order_by(WEBSITES.c.id))
            names: dict[int, list[str]] = {}
            found = rows.all()
            for website_id, fqdn in connection.execute(
                select(HOSTNAMES.c.website_id, HOSTNAMES.c.fqdn).order_by(HOSTNAMES.c.id)
            ):
                names.setdefault(website_id, []).append(fqdn)
        return [
            TenantSummary(
                id=str(row.id),
                uuid=row.uuid,
                name=row.name,
                hostnames=tuple(names.get(row.id, ())),
                configured=row.configure is not None,
                plugin_enabled=row.plugin_enabled,
                created_at=row.created_at,
            )
            for row in found
        ]

    def create(
        self, name: str, document: Mapping[str, Any], hostnames: Sequence[str] = (), uuid: str | None = None
    ) -> Tenant:
        """See ``TenantRepository``."""
        configuration = parse_configuration(dict(document))
        names = _lower(hostnames)
        uuid = uuid or str(uuid4())
        with reachable(), self._engine.begin() as connection:
            added = insert(WEBSITES).values(uuid=uuid, name=name).returning(WEBSITES.c.id)
            number = connection.execute(added).scalar_one()
            # The ciphertext is bound to the id, which the database has only just given.
            self._store(connection, number, configuration)
            for fqdn in names:
                try:
                    connection.execute(insert(HOSTNAMES).values(fqdn=fqdn, website_id=number))
                except IntegrityError as error:
                    raise HostnameTaken(f"hostname {fqdn} belongs to another tenant") from error
        return Tenant(str(number), uuid, name, names, configuration)

    def configure(self, tenant_id: str, document: Mapping[str, Any]) -> Tenant:
        """See ``TenantRepository``."""
        configuration = parse_configuration(dict(document))
        number = website_number(tenant_id)
        with reachable(), self._engine.begin() as connection:
            if number is None or not self._store(connection, number, configuration):
                raise TenantNotFound(tenant_id)
        tenant = self.get(tenant_id)
        if tenant is None:
            raise TenantNotFound(tenant_id)
        return tenant

    def switch_plugin(self, tenant_id: str, enabled: bool) -> None:
        """See ``TenantRepository``."""
        number = website_number(tenant_id)
        with reachable(), self._engine.begin() as connection:
            if number is None or not _change(connection, number, plugin_enabled=enabled):
                raise TenantNotFound(tenant_id)

    def changed_since(self, instant: datetime) -> dict[str, datetime] | None:
        """See ``TenantRepository``."""
        changed = select(WEBSITES.c.id, WEBSITES.c.updated_at).where(WEBSITES.c.updated_at >= instant)
        with reachable(), self._engine.connect() as connection:
            rows = connection.execute(changed.limit(_MOST_CHANGED + 1)).all()
        return None if len(rows) > _MOST_CHANGED else {str(number): at for number, at in rows}

    def _store(self, connection: Connection, number: int, configuration: TenantConfiguration) -> bool:
        text = orjson.dumps(configuration.document).decode()
        return _change(connection, number, configure=self._keyring.encrypt(text, str(number), CONFIGURE))

    def _read(self, condition: Callable[[], Any]) -> Tenant | None:
        with reachable(), self._engine.connect() as connection:
            row = connection.execute(select(WEBSITES).where(condition(), WEBSITES.c.deleted_at.is_(None))).one_or_none()
            if row is None:
                return None
            names = select(HOSTNAMES.c.fqdn).where(HOSTNAMES.c.website_id == row.id).order_by(HOSTNAMES.c.id)
            hostnames = tuple(connection.execute(names).scalars())
        return Tenant(str(row.id), row.uuid, row.name, hostnames, self._configuration(row), row.plugin_enabled)

    def _configuration(self, row: Row[Any]) -> TenantConfiguration:
        tenant_id = str(row.id)
        if row.configure is None:
            raise TenantUnusable(
                f"tenant {tenant_id} has no configuration; give it one with `webhook tenants configure`",
                code="tenant_not_configured",
            )
        try:
            text = self._keyring.decrypt(row.configure, tenant_id, CONFIGURE)
        except DecryptionError as error:
            # Not permanent: a worker that was started without a key must not fail its tenants' events for good.
            raise TenantsUnavailable(str(error), code="tenant_undecryptable") from None
        try:
            return parse_configuration(orjson.loads(text), f"the stored configuration of tenant {tenant_id}")
        except ConfigurationError as error:
            raise TenantUnusable(str(error)) from None


@contextmanager
def reachable() -> Iterator[None]:
    """Turn a fault of the database into ``TenantsUnavailable``."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        cause = getattr(error, "orig", None) or error
        raise TenantsUnavailable(f"the tenants' database failed ({type(cause).__name__}: {cause})") from error


def _change(connection: Connection, number: int, **values: object) -> bool:
    """Change a website that is not deleted; ``False`` where there is none."""
    # To the microsecond, which SQLite's own clock does not give: two changes of one second differ.
    changed = update(WEBSITES).where(WEBSITES.c.id == number, WEBSITES.c.deleted_at.is_(None))
    return connection.execute(changed.values(**values, updated_at=datetime.now(UTC))).rowcount == 1


def website_number(tenant_id: str) -> int | None:
    """``websites.id`` of a tenant id; ``None`` for text that is none."""
    if not (tenant_id.isascii() and tenant_id.isdigit()):
        return None
    number = int(tenant_id) if len(tenant_id) < 20 else 0
    return number if 0 < number <= _LARGEST_ID and str(number) == tenant_id else None


def _lower(hostnames: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fqdn.strip().lower().rstrip(".") for fqdn in hostnames))
