import threading

import pytest

from handlers.tenants.cache import CachedTenants
from handlers.tenants.repository import MemoryTenantRepository, Tenant, TenantsUnavailable, TenantUnusable
from tests.handlers.examples import small


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
    return CachedTenants(store, ttl_s=5, absent_ttl_s=0.5, clock=clock)


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


def test_a_forgotten_tenant_is_read_again_yet_kept_for_an_outage(cached: CachedTenants, store: Store) -> None:
    known = cached.get("1")
    assert cached.by_hostname("ACME.example") is known
    cached.forget("1")
    assert cached.peek("1") is None
    store.fault = TenantsUnavailable("away")
    assert cached.get("1") is known
    store.fault = None
    store.configure("1", small(webhook_settings=[]))
    cached.forget()
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
