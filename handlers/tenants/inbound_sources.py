"""Sources of inbound webhooks: an address for one provider and one route of a tenant, and the secrets it signs with."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Engine, Row, delete, insert, select, update

from handlers.inbound.schemes import HmacLayout, Scheme, key_of
from handlers.tenants.encryption import DecryptionError, Keyring
from handlers.tenants.repository import TenantNotFound, TenantsUnavailable, reachable, website_number
from handlers.tenants.tables import INBOUND_SOURCES, WEBSITES

_MARK: Final = "whi"
_PREFIX_BYTES: Final = 4
_TOKEN_BYTES: Final = 32
_LONGEST_TOKEN: Final = 200
_NOBODY: Final = "0"

DEFAULT_LAYOUT: Final = HmacLayout()
DEFAULT_TOLERANCE_S: Final = 300
LONGEST_TOLERANCE_S: Final = 3600
LONGEST_OVERLAP: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class NewSource:
    """A source to be made. ``secret`` is ``None`` for ``Scheme.TOKEN`` only; ``tolerance_s`` bounds timestamps."""

    name: str
    tenant_id: str
    route: str
    scheme: Scheme
    secret: str | None = field(repr=False)
    tolerance_s: int = DEFAULT_TOLERANCE_S
    layout: HmacLayout = DEFAULT_LAYOUT


@dataclass(frozen=True, slots=True)
class Source:
    """A source as lists show it. ``token_prefix`` begins its token; until ``former_until`` two secrets count."""

    id: int
    name: str
    tenant_id: str
    route: str
    scheme: Scheme
    token_prefix: str
    tolerance_s: int
    layout: HmacLayout
    created_at: datetime
    rotated_at: datetime | None
    former_until: datetime | None


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source with the secrets that count now, the current one first."""

    source: Source
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuedSource:
    """A source just made; ``token`` is part of its address and cannot be had again."""

    token: str = field(repr=False)
    source: Source


class SourceNotFound(LookupError):
    """There is no such source."""

    def __init__(self, source_id: int) -> None:
        super().__init__(f"there is no source {source_id}; `webhook inbound list` shows all")


class SourceRepository:
    """Sources in the system's database, their tokens hashed and their secrets encrypted.

    Calls block and raise ``TenantsUnavailable`` where the database is away or lacks the keys.
    """

    def __init__(self, engine: Engine, keyring: Keyring) -> None:
        self._engine = engine
        self._keyring = keyring
        self._decoy = self._nobodys_secret()

    def create(self, new: NewSource) -> IssuedSource:
        """Make a source. Raises ``TenantNotFound``, and ``ValueError`` for a secret that is not usable."""
        if new.scheme.takes_secret:
            key_of(new.scheme, new.secret or "")
        prefix = f"{_MARK}_{secrets.token_hex(_PREFIX_BYTES)}"
        token = f"{prefix}_{secrets.token_urlsafe(_TOKEN_BYTES)}"
        number = website_number(new.tenant_id)
        website = select(WEBSITES.c.id).where(WEBSITES.c.id == number, WEBSITES.c.deleted_at.is_(None))
        with reachable(), self._engine.begin() as connection:
            if number is None or connection.execute(website).one_or_none() is None:
                raise TenantNotFound(new.tenant_id)
            added = insert(INBOUND_SOURCES).values(
                website_id=number,
                name=new.name,
                route=new.route,
                scheme=new.scheme.value,
                token_prefix=prefix,
                token_hash=_hash(token),
                tolerance_s=new.tolerance_s,
                layout=orjson.dumps(asdict(new.layout)).decode(),
                secret=self._sealed(new.secret, new.tenant_id, _hash(token)) if new.scheme.takes_secret else None,
            )
            row = connection.execute(added.returning(INBOUND_SOURCES)).one()
        return IssuedSource(token, _source(row))

    def find(self, token: str) -> OpenedSource | None:
        """The source of an address, unless it or its tenant is gone. For an unknown one the work is the same."""
        wanted = _hash(token[:_LONGEST_TOKEN])
        living = WEBSITES.c.deleted_at.is_(None)
        # Looked up by the hash of 256 random bits: the time of the look-up tells nothing of use.
        found = select(INBOUND_SOURCES).join(WEBSITES).where(INBOUND_SOURCES.c.token_hash == wanted, living)
        with reachable(), self._engine.connect() as connection:
            row = connection.execute(found).one_or_none()
        if row is None:
            self._spend_as_much()
            return None
        source = _source(row)
        former = source.former_until is not None and source.former_until > datetime.now(UTC)
        sealed = [row.secret, row.former_secret if former else None]
        return OpenedSource(source, tuple(self._opened(value, row) for value in sealed if value is not None))

    def rotate(self, source_id: int, secret: str, overlap: timedelta) -> Source:
        """Make ``secret`` the current one; the one before counts for ``overlap`` longer, 0 to 7 days.

        Raises ``SourceNotFound``, and ``ValueError`` for a source without secrets and a secret that is not usable.
        """
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise ValueError(f"two secrets count for at most {LONGEST_OVERLAP.days} days")
        now = datetime.now(UTC)

        def changed(row: Row[Any]) -> dict[str, object]:
            scheme = Scheme(row.scheme)
            if not scheme.takes_secret:
                raise ValueError("this source has no secret: make another source for another address")
            key_of(scheme, secret)
            return {
                "secret": self._sealed(secret, str(row.website_id), row.token_hash),
                "former_secret": row.secret if overlap else None,
                "former_until": now + overlap if overlap else None,
                "rotated_at": now,
            }

        return self._change(source_id, changed)

    def remove(self, source_id: int) -> Source:
        """Remove a source: its address is worthless from now on. Raises ``SourceNotFound``."""
        with reachable(), self._engine.begin() as connection:
            gone = delete(INBOUND_SOURCES).where(INBOUND_SOURCES.c.id == source_id).returning(INBOUND_SOURCES)
            row = connection.execute(gone).one_or_none()
        if row is None:
            raise SourceNotFound(source_id)
        return _source(row)

    def get(self, source_id: int) -> Source:
        """A source by its id. Raises ``SourceNotFound``."""
        found = self._listed(INBOUND_SOURCES.c.id == source_id)
        if not found:
            raise SourceNotFound(source_id)
        return found[0]

    def all(self, tenant_id: str | None = None) -> list[Source]:
        """Every source, by id; with ``tenant_id`` that tenant's."""
        of_tenant = INBOUND_SOURCES.c.website_id == website_number(tenant_id or "")
        return self._listed(*([] if tenant_id is None else [of_tenant]))

    def _listed(self, *conditions: ColumnElement[bool]) -> list[Source]:
        with reachable(), self._engine.connect() as connection:
            rows = connection.execute(select(INBOUND_SOURCES).where(*conditions).order_by(INBOUND_SOURCES.c.id))
            return [_source(row) for row in rows]

    def _change(self, source_id: int, changed: Callable[[Row[Any]], dict[str, object]]) -> Source:
        this = INBOUND_SOURCES.c.id == source_id
        with reachable(), self._engine.begin() as connection:
            row = connection.execute(select(INBOUND_SOURCES).where(this).with_for_update()).one_or_none()
            if row is None:
                raise SourceNotFound(source_id)
            statement = update(INBOUND_SOURCES).where(this).values(**changed(row)).returning(INBOUND_SOURCES)
            return _source(connection.execute(statement).one())

    def _spend_as_much(self) -> None:
        try:
            self._keyring.decrypt(self._decoy, _NOBODY, _NOBODY)
        except DecryptionError:
            # Its key was taken out of the file meanwhile.
            self._decoy = self._nobodys_secret()

    def _nobodys_secret(self) -> str:
        return self._keyring.encrypt(secrets.token_urlsafe(_TOKEN_BYTES), _NOBODY, _NOBODY)

    def _sealed(self, secret: str | None, tenant_id: str, token_hash: str) -> str:
        return self._keyring.encrypt(secret or "", tenant_id, secret_binding(token_hash))

    def _opened(self, value: str, row: Row[Any]) -> str:
        try:
            return self._keyring.decrypt(value, str(row.website_id), secret_binding(row.token_hash))
        except DecryptionError as error:
            raise TenantsUnavailable(str(error), code="tenant_undecryptable") from None


def secret_binding(token_hash: str) -> str:
    """What an encrypted secret is bound to beside its tenant: in another source's row it does not decrypt."""
    return f"inbound_secret|{token_hash}"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _source(row: Row[Any]) -> Source:
    return Source(
        id=row.id,
        name=row.name,
        tenant_id=str(row.website_id),
        route=row.route,
        scheme=Scheme(row.scheme),
        token_prefix=row.token_prefix,
        tolerance_s=row.tolerance_s,
        layout=HmacLayout(**orjson.loads(row.layout)),
        created_at=row.created_at,
        rotated_at=row.rotated_at,
        former_until=row.former_until,
    )
