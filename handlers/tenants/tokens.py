"""Bearer tokens of the HTTP door: made once, kept as hashes, never shown again."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Row, insert, select, update

from handlers.tenants.repository import TenantNotFound, reachable, website_number
from handlers.tenants.tables import TOKENS, WEBSITES

_MARK: Final = "whs"
_SECRET_BYTES: Final = 32
_PREFIX_BYTES: Final = 4
_USE_RECORDED_EVERY: Final = timedelta(minutes=1)


class Scope(StrEnum):
    """What a token may do. Each scope may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def allows(self, needed: "Scope") -> bool:
        """Whether this scope is enough where ``needed`` is asked for."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept. ``tenant_id`` ``None``: it is the system's and reaches every tenant."""

    id: int
    name: str
    prefix: str
    scope: Scope
    tenant_id: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def reaches(self, tenant_id: str) -> bool:
        """Whether the token may act for that tenant."""
        return self.tenant_id is None or self.tenant_id == tenant_id


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token just made; ``text`` is what its bearer sends, and cannot be had again."""

    text: str
    token: Token

    def __repr__(self) -> str:
        return f"IssuedToken(token={self.token!r})"


class TokenRepository:
    """Tokens in the system's database. Calls block and raise ``TenantsUnavailable`` where it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self, name: str, scope: Scope, tenant_id: str | None = None, expires_at: datetime | None = None
    ) -> IssuedToken:
        """Make a token. Raises ``TenantNotFound`` for a tenant that is not there."""
        prefix = f"{_MARK}_{secrets.token_hex(_PREFIX_BYTES)}"
        text = f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        with reachable(), self._engine.begin() as connection:
            number = None
            if tenant_id is not None:
                number = website_number(tenant_id)
                website = select(WEBSITES.c.id).where(WEBSITES.c.id == number, WEBSITES.c.deleted_at.is_(None))
                if number is None or connection.execute(website).one_or_none() is None:
                    raise TenantNotFound(tenant_id)
            added = (
                insert(TOKENS)
                .values(
                    name=name,
                    prefix=prefix,
                    token_hash=_hash(text),
                    scope=scope.value,
                    website_id=number,
                    expires_at=expires_at,
                )
                .returning(TOKENS)
            )
            return IssuedToken(text, _token(connection.execute(added).one()))

    def verify(self, text: str) -> Token | None:
        """The token a bearer sent, if it is known, not revoked and not expired. Its use is noted once a minute."""
        now = datetime.now(UTC)
        # Looked up by the hash of 256 random bits: the time of the look-up tells nothing of use.
        with reachable(), self._engine.connect() as connection:
            row = connection.execute(select(TOKENS).where(TOKENS.c.token_hash == _hash(text))).one_or_none()
        if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        if row.last_used_at is None or now - row.last_used_at >= _USE_RECORDED_EVERY:
            self._set(TOKENS.c.id == row.id, last_used_at=now)
        return _token(row)

    def revoke(self, token_id: int) -> bool:
        """Make a token worthless from now on. ``False`` where it is not there, or already revoked."""
        return self._set((TOKENS.c.id == token_id) & TOKENS.c.revoked_at.is_(None), revoked_at=datetime.now(UTC)) == 1

    def all(self) -> list[Token]:
        """Every token, by id."""
        with reachable(), self._engine.connect() as connection:
            return [_token(row) for row in connection.execute(select(TOKENS).order_by(TOKENS.c.id))]

    def _set(self, condition: ColumnElement[bool], **values: datetime) -> int:
        with reachable(), self._engine.begin() as connection:
            return connection.execute(update(TOKENS).where(condition).values(**values)).rowcount


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scope=Scope(row.scope),
        tenant_id=None if row.website_id is None else str(row.website_id),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
