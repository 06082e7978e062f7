import os
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event, insert, select, update

from handlers.inbound.schemes import Scheme
from handlers.tenants.encryption import Keyring
from handlers.tenants.inbound_sources import NewSource, SourceRepository
from handlers.tenants.repository import CONFIGURE, SqlTenantRepository, TenantsUnavailable
from handlers.tenants.rotation import Rotation, count_by_key, rotate
from handlers.tenants.tables import INBOUND_SOURCES, WEBSITES
from tests.handlers.examples import small

MANY = int(os.environ.get("WEBHOOK_TEST_ROTATED", "3000"))
"""Rows of the large rotation; a million were tried."""

OLD = Keyring({"k1": b"1" * 32})
BOTH = Keyring({"k2": b"2" * 32, "k1": b"1" * 32})
NEW = Keyring({"k2": b"2" * 32})


def silent(_done: int, _total: int) -> None:
    """No report."""


def fill(engine: Engine, number: int) -> None:
    with engine.begin() as connection:
        for first in range(1, number + 1, 5000):
            rows = [
                {"uuid": str(each), "name": "x", "configure": OLD.encrypt(f"text {each}", str(each), CONFIGURE)}
                for each in range(first, min(first + 5000, number + 1))
            ]
            connection.execute(insert(WEBSITES), rows)


def stored(engine: Engine, keyring: Keyring) -> dict[int, str]:
    with engine.connect() as connection:
        rows = connection.execute(select(WEBSITES.c.id, WEBSITES.c.configure).order_by(WEBSITES.c.id)).all()
    return {number: keyring.decrypt(value, str(number), CONFIGURE) for number, value in rows}


def test_every_row_comes_under_the_active_key_and_a_stop_costs_nothing_done(database: Engine) -> None:
    fill(database, MANY)
    stops = [MANY // 3, MANY // 2]
    reports: list[tuple[int, int]] = []

    class Killed(Exception):
        pass

    def report(done: int, total: int) -> None:
        reports.append((done, total))
        if stops and done >= stops[0]:
            stops.pop(0)
            # Half old, half new: both can be read by those who run meanwhile.
            assert stored(database, BOTH)[1] == stored(database, BOTH)[MANY].replace(str(MANY), "1") == "text 1"
            raise Killed

    total = MANY
    while True:
        try:
            done = rotate(database, BOTH, report, batch=min(1000, MANY // 10))
        except Killed:
            counts = count_by_key(database, BOTH.ids)
            assert counts["k2"] > 0
            assert counts["k1"] + counts["k2"] == MANY
            assert counts["k1"] < total
            total = counts["k1"]
        else:
            break
    assert done == Rotation(rewritten=total)
    assert not stops
    assert reports[-1] == (total, total)
    assert count_by_key(database, BOTH.ids) == {"k2": MANY, "k1": 0, None: 0}
    assert stored(database, NEW) == {each: f"text {each}" for each in range(1, MANY + 1)}
    assert rotate(database, BOTH, silent).rewritten == 0


def test_what_is_configured_meanwhile_is_not_overwritten(database: Engine) -> None:
    fill(database, 20)
    others = SqlTenantRepository(database, OLD)  # a process that does not know yet which key is active
    busy = [7]

    @event.listens_for(database, "before_cursor_execute")
    def configure(*arguments: object) -> None:
        if "fresh" in str(arguments[2]) and busy:
            others.configure(str(busy.pop()), small(webhook_settings=[]))

    done = rotate(database, BOTH, silent, batch=10)

    assert not busy
    assert (done.rewritten, done.faults) == (20, {})
    tenant = SqlTenantRepository(database, NEW).get("7")
    assert tenant is not None
    assert tenant.configuration.webhook_settings == []


def test_rows_written_behind_the_rotation_under_the_former_key_are_found(database: Engine) -> None:
    fill(database, 20)
    others = SqlTenantRepository(database, OLD)
    late = [1]

    def report(done: int, _total: int) -> None:
        if done >= 20 and late:
            others.configure(str(late.pop()), small())

    assert rotate(database, BOTH, report, batch=5).rewritten == 21
    assert SqlTenantRepository(database, NEW).get("1")


def test_a_value_copied_from_another_tenant_is_neither_read_nor_rotated(database: Engine) -> None:
    repository = SqlTenantRepository(database, OLD)
    mine, other = repository.create("Mine", small()), repository.create("Other", small())
    with database.begin() as connection:
        token = connection.execute(select(WEBSITES.c.configure).where(WEBSITES.c.id == int(mine.id))).scalar_one()
        connection.execute(update(WEBSITES).where(WEBSITES.c.id == int(other.id)).values(configure=token))

    with pytest.raises(TenantsUnavailable, match=f"configure of tenant {other.id} does not decrypt"):
        repository.get(other.id)
    done = rotate(database, BOTH, silent)
    assert done.rewritten == 1
    assert "copied from another row" in done.faults[other.id]
    with pytest.raises(TenantsUnavailable):
        SqlTenantRepository(database, BOTH).get(other.id)
    assert SqlTenantRepository(database, BOTH).get(mine.id)


def test_values_of_a_key_that_is_not_here_are_counted_and_left(database: Engine) -> None:
    fill(database, 3)
    assert count_by_key(database, NEW.ids) == {"k2": 0, None: 3}
    done = rotate(database, NEW, silent)
    assert (done.rewritten, set(done.faults)) == (0, {"1", "2", "3"})
    assert stored(database, OLD)[3] == "text 3"


def test_tenants_without_a_configuration_and_deleted_ones(database: Engine) -> None:
    fill(database, 2)
    with database.begin() as connection:
        connection.execute(insert(WEBSITES).values(uuid="none", name="none"))
        connection.execute(update(WEBSITES).where(WEBSITES.c.id == 1).values(deleted_at=WEBSITES.c.created_at))
    assert rotate(database, BOTH, silent).rewritten == 2
    assert count_by_key(database, BOTH.ids) == {"k2": 2, "k1": 0, None: 0}


def test_the_secrets_of_inbound_sources_come_along_and_are_counted(database: Engine) -> None:
    """Left out, they would be lost with the former key, which nothing seems to need any more."""
    fill(database, 2)
    sources = SourceRepository(database, OLD)
    first = "the first of the secrets"
    issued = [sources.create(NewSource("x", each, "webhook/x", Scheme.GITHUB, first)) for each in ("1", "2")]
    sources.create(NewSource("unsigned", "1", "webhook/x", Scheme.TOKEN, None))
    sources.rotate(issued[0].source.id, "the second of the secrets", timedelta(days=1))
    assert count_by_key(database, BOTH.ids) == {"k2": 0, "k1": 5, None: 0}
    assert rotate(database, BOTH, silent).rewritten == 5
    assert count_by_key(database, BOTH.ids) == {"k2": 5, "k1": 0, None: 0}
    found = [SourceRepository(database, NEW).find(each.token) for each in issued]
    assert [each and each.secrets for each in found] == [("the second of the secrets", first), (first,)]
    with database.begin() as connection:
        connection.execute(update(INBOUND_SOURCES).values(secret=OLD.encrypt(first, "9", CONFIGURE)))
    done = rotate(database, BOTH, silent)
    assert (done.rewritten, set(done.faults)) == (
        0,
        {f"{each}, inbound source {each}" for each in (1, 2)} | {"1, inbound source 3"},
    )
