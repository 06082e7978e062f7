import math
import threading
from datetime import datetime

import pytest
from sqlalchemy import Engine, create_engine

from handlers.tenants.cache import CachedTenants
from handlers.tenants.encryption import Keyring
from handlers.tenants.repository import (
    MemoryTenantRepository,
    SqlTenantRepository,
    Tenant,
    TenantsUnavailable,
    TenantUnusable,
)
from tests.handlers.examples import small
from tests.support.waiting import eventually


class Store(MemoryTenantRepository):
    """Counts reads, and can be away or broken."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.fault: Exception | None = None

    def get(self, tenant_id: str) -> Tenant | None:
        self.reads += 1
        if self.fault:
            raise self.fault
        return super().get(tenant_id)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    store = Store()
    store.create("Acme", small(), ["acme.example"])
    return store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cached(store: Store, clock: Clock) -> CachedTenants:
    """A cache that hears of changes only by time."""
    return CachedTenants(store, ttl_s=5, absent_ttl_s=0.5, changes_s=math.inf, clock=clock)


@pytest.fixture
def asking(store: Store, clock: Clock) -> CachedTenants:
    """A cache that asks for changes, and would not read again by itself."""
    return CachedTenants(store, ttl_s=1e9, changes_s=0.5, clock=clock)


def test_one_read_serves_until_it_is_old(cached: CachedTenants, store: Store, clock: Clock) -> None:
    assert cached.peek("1") is None
    assert cached.get("1") is cached.get("1") is cached.peek("1")
    assert store.reads == 1

    store.configure("1", small(webhook_settings=[]))
    clock.now += 4.9
    assert cached.peek("1") is cached.get("1")
    assert store.reads == 1
    clock.now += 0.2
    assert cached.peek("1") is None
    fresh = cached.get("1")
    assert fresh is not None
    assert fresh.configuration.webhook_settings == []


def test_an_unchanged_tenant_stays_the_same_object(cached: CachedTenants, store: Store, clock: Clock) -> None:
    known = cached.get("1")
    store.configure("1", small())
    clock.now += 6
    assert cached.get("1") is known
    assert store.reads == 2


def test_what_was_known_is_served_during_an_outage_and_the_database_is_not_hammered(
    cached: CachedTenants, store: Store, clock: Clock
) -> None:
    known = cached.get("1")
    store.fault = TenantsUnavailable("away")
    clock.now += 60

    assert [cached.get("1") for _ in range(20)] == [known] * 20
    assert store.reads == 2
    assert cached.peek("1") is known
    clock.now += 60
    store.fault = None
    store.configure("1", small(webhook_settings=[]))
    assert cached.get("1") is not known


def test_an_outage_with_nothing_known_is_a_passing_fault(cached: CachedTenants, store: Store) -> None:
    store.fault = TenantsUnavailable("away")
    with pytest.raises(TenantsUnavailable):
        cached.get("1")
    store.fault = None
    assert cached.get("1")


def test_an_absent_tenant_is_remembered_shortly(cached: CachedTenants, store: Store, clock: Clock) -> None:
    assert [cached.get("2") for _ in range(5)] == [None] * 5
    assert store.reads == 1
    store.create("New", small())
    clock.now += 0.6
    assert cached.get("2")


def test_an_unusable_tenant_raises_each_time_and_recovers(cached: CachedTenants, store: Store, clock: Clock) -> None:
    store.fault = TenantUnusable("no configuration", code="tenant_not_configured")
    for _ in range(3):
        with pytest.raises(TenantUnusable) as caught:
            cached.get("1")
        assert caught.value.code == "tenant_not_configured"
    assert store.reads == 1
    store.fault = None
    clock.now += 0.6
    assert cached.get("1")


def test_an_invalidated_tenant_is_read_again_yet_kept_for_an_outage(cached: CachedTenants, store: Store) -> None:
    known = cached.get("1")
    assert cached.by_hostname("ACME.example") is known
    cached.invalidate("1")
    assert cached.peek("1") is None
    store.fault = TenantsUnavailable("away")
    assert cached.get("1") is known
    store.fault = None
    store.configure("1", small(webhook_settings=[]))
    cached.invalidate()
    assert cached.get("1") is not known
    assert cached.by_hostname("acme.example") is not known


def test_many_threads_read_once(cached: CachedTenants, store: Store) -> None:
    barrier = threading.Barrier(8)

    def read() -> None:
        barrier.wait()
        cached.get("1")

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.reads == 1


def test_a_change_is_heard_at_the_next_use_after_half_a_second(
    asking: CachedTenants, store: Store, clock: Clock
) -> None:
    store.create("Other", small())
    known, other = asking.get("1"), asking.get("2")
    for number in range(5):
        store.configure("1", small(colour=number))
        assert asking.peek("1") is not None
        clock.now += 0.6
        assert asking.peek("1") is None
        changed = asking.get("1")
        assert changed is not None
        assert changed.configuration.document["colour"] == number
        assert asking.peek("1") is changed is not known
    assert asking.get("2") is other
    store.switch_plugin("2", enabled=False)
    clock.now += 0.6
    switched = asking.get("2")
    assert switched is not None
    assert not switched.plugin_enabled


def test_without_changes_nothing_is_read_again(asking: CachedTenants, store: Store, clock: Clock) -> None:
    known = asking.get("1")
    for _ in range(10):
        clock.now += 0.6
        assert asking.get("1") is asking.peek("1") is known
    assert store.reads == 2  # the second one for the tenant's own creation, a moment before the cache began


def test_one_asks_while_the_others_go_on(asking: CachedTenants, store: Store, clock: Clock) -> None:
    known = asking.get("1")
    asks, answer = threading.Event(), threading.Event()

    def slowly(instant: datetime) -> dict[str, datetime]:
        asks.set()
        answer.wait()
        return {}

    store.changed_since = slowly  # type: ignore[method-assign]
    clock.now += 0.6
    assert asking.peek("1") is None
    thread = threading.Thread(target=asking.get, args=("1",))
    thread.start()
    asks.wait()
    assert asking.peek("1") is asking.get("1") is known
    answer.set()
    thread.join()
    assert asking.peek("1") is known


def test_an_outage_neither_loses_what_is_known_nor_a_change(asking: CachedTenants, store: Store, clock: Clock) -> None:
    known, really, asked = asking.get("1"), store.changed_since, []

    def away(instant: datetime) -> dict[str, datetime]:
        asked.append(instant)
        raise TenantsUnavailable("away")

    store.changed_since = away  # type: ignore[method-assign]
    clock.now += 0.6
    assert [asking.get("1") for _ in range(20)] == [known] * 20
    assert len(asked) == 1
    store.configure("1", small(colour="red"))
    store.changed_since = really  # type: ignore[method-assign]
    clock.now += 5e9
    assert asking.get("1") is not known


def test_more_changes_than_can_be_named_are_all_heard(asking: CachedTenants, store: Store, clock: Clock) -> None:
    known = asking.get("1")
    store.configure("1", small(colour="red"))
    store.changed_since = lambda instant: None  # type: ignore[method-assign]
    clock.now += 0.6
    assert asking.get("1") is not known


def test_an_unforeseen_error_does_not_end_the_asking(asking: CachedTenants, store: Store, clock: Clock) -> None:
    known, really = asking.get("1"), store.changed_since

    def broken(instant: datetime) -> dict[str, datetime]:
        raise ZeroDivisionError

    store.changed_since = broken  # type: ignore[method-assign]
    clock.now += 0.6
    with pytest.raises(ZeroDivisionError):
        asking.get("1")
    store.changed_since = really  # type: ignore[method-assign]
    store.configure("1", small(colour="red"))
    clock.now += 0.6
    assert asking.get("1") is not known


def test_what_another_process_stores_is_heard_without_its_being_told(database: Engine) -> None:
    ring = Keyring({"k1": b"1" * 32})
    tenant = SqlTenantRepository(database, ring).create("Acme", small())
    cached = CachedTenants(SqlTenantRepository(database, ring), ttl_s=1e9)
    assert cached.get(tenant.id) == tenant
    other = create_engine(database.url)
    for colour in ("red", "blue"):
        SqlTenantRepository(other, ring).configure(tenant.id, small(colour=colour))
        eventually(lambda: seen(cached, tenant.id) == colour)  # noqa: B023 (asked before the next one is stored)
    other.dispose()


def seen(cached: CachedTenants, tenant_id: str) -> object:
    """As the engine asks: a peek, and a look where that gives nothing."""
    tenant = cached.peek(tenant_id) or cached.get(tenant_id)
    return tenant and tenant.configuration.document.get("colour")
