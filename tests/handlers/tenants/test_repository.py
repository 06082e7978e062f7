from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, delete, select, text, update

from handlers.tenants.configuration import ConfigurationError
from handlers.tenants.encryption import Keyring
from handlers.tenants.repository import (
    HostnameTaken,
    MemoryTenantRepository,
    SqlTenantRepository,
    TenantNotFound,
    TenantRepository,
    TenantsUnavailable,
    TenantUnusable,
)
from handlers.tenants.tables import METADATA, WEBSITES
from tests.handlers.examples import small

RING = Keyring({"k1": b"1" * 32})


class TenantRepositoryContract:
    """What every repository does; subclasses give the fixture ``tenants``."""

    def test_a_created_tenant_is_found_by_id_and_by_each_hostname(self, tenants: TenantRepository) -> None:
        made = tenants.create("Acme", small(), ["Shop.Acme.example", "www.acme.example"])

        for found in (tenants.get(made.id), tenants.by_hostname("shop.acme.EXAMPLE")):
            assert found is not None
            assert (found.id, found.uuid, found.name) == (made.id, made.uuid, "Acme")
            assert found.hostnames == ("shop.acme.example", "www.acme.example")
            assert found.configuration.document == small()
            assert found.configuration.entry(made.configuration.webhook_settings[0].entry_id)
            assert found.plugin_enabled

    @pytest.mark.parametrize("tenant_id", ["0", "999", "-1", "", "1.0", "01", "x", "٣", "9" * 40, "1 OR 1=1"])
    def test_what_is_no_tenant_is_not_found(self, tenants: TenantRepository, tenant_id: str) -> None:
        tenants.create("Acme", small())

        assert tenants.get(tenant_id) is None
        assert tenants.by_hostname("nobody.example") is None

    def test_a_configuration_is_replaced_as_a_whole(self, tenants: TenantRepository) -> None:
        made = tenants.create("Acme", small(), ["acme.example"])
        tenants.configure(made.id, small(webhook_settings=[]))

        found = tenants.get(made.id)
        assert found is not None
        assert found.configuration.webhook_settings == []
        assert found.hostnames == ("acme.example",)

    def test_a_bad_configuration_changes_nothing(self, tenants: TenantRepository) -> None:
        made = tenants.create("Acme", small())
        with pytest.raises(ConfigurationError):
            tenants.create("Bad", {"plugin_port": -1})
        with pytest.raises(ConfigurationError):
            tenants.configure(made.id, {"plugin_port": -1})

        found = tenants.get(made.id)
        assert found is not None
        assert found.configuration.document == small()
        assert [each.name for each in tenants.summaries()] == ["Acme"]

    def test_a_hostname_has_one_tenant(self, tenants: TenantRepository) -> None:
        tenants.create("Acme", small(), ["acme.example"])
        with pytest.raises(HostnameTaken, match=r"acme\.example"):
            tenants.create("Other", small(), ["fresh.example", "ACME.example"])

        assert tenants.by_hostname("fresh.example") is None
        assert len(tenants.summaries()) == 1

    def test_a_given_uuid_is_kept(self, tenants: TenantRepository) -> None:
        assert tenants.create("Acme", small(), uuid="6f1c").uuid == "6f1c"
        assert [each.uuid for each in tenants.summaries()] == ["6f1c"]

    def test_a_plugin_is_switched_off_and_on(self, tenants: TenantRepository) -> None:
        made = tenants.create("Acme", small())
        for enabled in (False, True):
            tenants.switch_plugin(made.id, enabled)
            found = tenants.get(made.id)
            assert found is not None
            assert found.plugin_enabled is enabled
            assert found.configuration.document == small()
        with pytest.raises(TenantNotFound, match="no tenant 7"):
            tenants.switch_plugin("7", enabled=False)

    def test_changes_are_told_apart_though_they_fall_into_one_second(self, tenants: TenantRepository) -> None:
        begin = datetime.now(UTC)
        first, other = tenants.create("Acme", small()), tenants.create("Other", small())
        seen = [tenants.changed_since(begin)]
        for _ in range(3):
            tenants.configure(first.id, small())
            seen.append(tenants.changed_since(begin))
        tenants.switch_plugin(first.id, enabled=False)
        seen.append(tenants.changed_since(begin))

        assert all(each is not None and set(each) == {first.id, other.id} for each in seen)
        assert len({each[first.id] for each in seen if each}) == 5
        assert len({each[other.id] for each in seen if each}) == 1
        assert tenants.changed_since(datetime.now(UTC) + timedelta(seconds=5)) == {}

    def test_configuring_an_absent_tenant_is_an_error(self, tenants: TenantRepository) -> None:
        with pytest.raises(TenantNotFound, match="no tenant 7"):
            tenants.configure("7", small())

    def test_summaries_come_by_id(self, tenants: TenantRepository) -> None:
        for name in ("A", "B", "C"):
            tenants.create(name, small(), [f"{name}.example"])

        found = tenants.summaries()
        assert [(each.name, each.hostnames, each.configured) for each in found] == [
            ("A", ("a.example",), True),
            ("B", ("b.example",), True),
            ("C", ("c.example",), True),
        ]
        assert all(each.created_at.tzinfo for each in found)


class TestMemory(TenantRepositoryContract):
    @pytest.fixture
    def tenants(self) -> TenantRepository:
        return MemoryTenantRepository()


class TestSqlite(TenantRepositoryContract):
    @pytest.fixture
    def tenants(self, engine: Engine) -> TenantRepository:
        return SqlTenantRepository(engine, RING)


@pytest.mark.postgres
class TestPostgres(TenantRepositoryContract):
    @pytest.fixture
    def tenants(self, postgres_database: str) -> Iterator[TenantRepository]:
        engine = create_engine(postgres_database)
        METADATA.create_all(engine)
        yield SqlTenantRepository(engine, RING)
        engine.dispose()


def stored(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(WEBSITES.c.configure).order_by(WEBSITES.c.id)).scalars())


def change(engine: Engine, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(update(WEBSITES).values(**values))


def test_the_database_holds_no_secret_in_clear(engine: Engine) -> None:
    SqlTenantRepository(engine, RING).create("Acme", small())
    assert "s3cr3t" not in stored(engine)[0]
    assert stored(engine)[0].startswith("v1.k1.")


def test_a_configuration_copied_to_another_tenant_does_not_open(engine: Engine) -> None:
    tenants = SqlTenantRepository(engine, RING)
    tenants.create("Acme", small())
    other = tenants.create("Other", small())
    change(engine, configure=stored(engine)[0])

    with pytest.raises(TenantsUnavailable, match="copied from another row"):
        tenants.get(other.id)


def test_a_missing_key_is_no_permanent_fault(engine: Engine) -> None:
    SqlTenantRepository(engine, Keyring({"k2": b"2" * 32})).create("Acme", small())
    with pytest.raises(TenantsUnavailable, match="'k2'") as caught:
        SqlTenantRepository(engine, RING).get("1")
    assert caught.value.code == "tenant_undecryptable"


@pytest.mark.parametrize(
    ("configure", "code"),
    [
        (lambda: None, "tenant_not_configured"),
        (lambda: RING.encrypt('{"plugin_name": "x"}', "1", "configure"), "tenant_unusable"),
    ],
)
def test_a_tenant_that_cannot_be_used_says_why_and_is_still_listed(
    engine: Engine, configure: Callable[[], str | None], code: str
) -> None:
    tenants = SqlTenantRepository(engine, RING)
    tenants.create("Acme", small())
    change(engine, configure=configure())

    with pytest.raises(TenantUnusable, match="tenant 1") as caught:
        tenants.get("1")
    assert caught.value.code == code
    assert [each.name for each in tenants.summaries()] == ["Acme"]
    assert tenants.configure("1", small()).configuration.document == small()


def test_a_deleted_tenant_is_not_found(engine: Engine) -> None:
    tenants = SqlTenantRepository(engine, RING)
    tenants.create("Acme", small(), ["acme.example"])
    with engine.begin() as connection:
        connection.execute(text("UPDATE websites SET deleted_at = CURRENT_TIMESTAMP"))

    assert tenants.get("1") is None
    assert tenants.by_hostname("acme.example") is None
    assert tenants.summaries() == []
    with pytest.raises(TenantNotFound):
        tenants.configure("1", small())


def test_hostnames_go_with_their_website(engine: Engine) -> None:
    tenants = SqlTenantRepository(engine, RING)
    tenants.create("Acme", small(), ["acme.example"])
    with engine.begin() as connection:
        connection.execute(delete(WEBSITES))
    assert tenants.create("Other", small(), ["acme.example"]).hostnames == ("acme.example",)


def test_an_absent_database_is_a_passing_fault(engine: Engine) -> None:
    METADATA.drop_all(engine)
    with pytest.raises(TenantsUnavailable):
        SqlTenantRepository(engine, RING).get("1")
