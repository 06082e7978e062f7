from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from handlers.tenants.encryption import Keyring
from handlers.tenants.repository import SqlTenantRepository, TenantNotFound
from handlers.tenants.tokens import Scope, TokenRepository
from tests.handlers.examples import small


@pytest.fixture
def tokens(engine: Engine) -> TokenRepository:
    SqlTenantRepository(engine, Keyring({"k1": b"1" * 32})).create("Acme", small())
    return TokenRepository(engine)


def test_a_token_is_known_by_its_text_alone(tokens: TokenRepository, engine: Engine) -> None:
    issued = tokens.create("ci", Scope.OPERATOR, "1")

    found = tokens.verify(issued.text)
    assert found is not None
    assert (found.name, found.scope, found.tenant_id) == ("ci", Scope.OPERATOR, "1")
    assert issued.text.startswith(found.prefix + "_")
    assert len(issued.text) - len(found.prefix) - 1 == 43  # 256 bits in base64
    for wrong in (issued.text[:-1], issued.text + "x", found.prefix, ""):
        assert tokens.verify(wrong) is None
    with engine.connect() as connection:
        assert issued.text not in str(connection.execute(text("SELECT * FROM tokens")).all())
    assert issued.text not in repr(issued)


def test_a_tenants_token_reaches_that_tenant_and_the_systems_every_one(tokens: TokenRepository) -> None:
    bound, free = tokens.create("a", Scope.ADMIN, "1").token, tokens.create("b", Scope.VIEWER).token

    assert [bound.reaches(tenant_id) for tenant_id in ("1", "2", "11")] == [True, False, False]
    assert free.reaches("2")


def test_scopes_are_ordered() -> None:
    assert [[have.allows(need) for need in Scope] for have in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_an_expired_or_revoked_token_is_worthless(tokens: TokenRepository) -> None:
    now = datetime.now(UTC)
    expired = tokens.create("a", Scope.ADMIN, expires_at=now - timedelta(seconds=1))
    valid = tokens.create("b", Scope.ADMIN, expires_at=now + timedelta(hours=1))

    assert tokens.verify(expired.text) is None
    assert tokens.verify(valid.text) is not None
    assert tokens.revoke(valid.token.id)
    assert not tokens.revoke(valid.token.id)
    assert tokens.verify(valid.text) is None


def test_use_is_noted_once_a_minute(tokens: TokenRepository, engine: Engine) -> None:
    issued = tokens.create("a", Scope.ADMIN)
    assert tokens.all()[0].last_used_at is None
    tokens.verify(issued.text)
    first = tokens.all()[0].last_used_at
    assert first is not None
    tokens.verify(issued.text)
    assert tokens.all()[0].last_used_at == first
    with engine.begin() as connection:
        connection.execute(text("UPDATE tokens SET last_used_at = '2020-01-01 00:00:00.000000'"))
    tokens.verify(issued.text)
    assert (tokens.all()[0].last_used_at or first) >= first


@pytest.mark.parametrize("tenant_id", ["2", "x", ""])
def test_a_token_for_an_absent_tenant_is_refused(tokens: TokenRepository, tenant_id: str) -> None:
    with pytest.raises(TenantNotFound):
        tokens.create("a", Scope.VIEWER, tenant_id)
    assert tokens.all() == []
