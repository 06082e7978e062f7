"""Tenants kept in memory, so that the database may be away while events are carried out."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from handlers.tenants.repository import Tenant, TenantReader, TenantsUnavailable, TenantUnusable

_MOST_KEPT: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read last: a tenant, ``None`` for no such tenant, or why it cannot be used."""

    found: Tenant | TenantUnusable | None
    fresh_until: float


class CachedTenants:
    """Reads through to a repository, and answers with what it last knew while the database is away.

    Safe to use from several threads.
    """

    def __init__(
        self,
        repository: TenantReader,
        ttl_s: float = 5.0,
        absent_ttl_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``ttl_s``: how long a tenant is taken as read; ``absent_ttl_s``: how long one that is not there, seconds."""
        self._repository = repository
        self._ttl_s = ttl_s
        self._absent_ttl_s = min(absent_ttl_s, ttl_s)
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._lock = threading.Lock()

    def peek(self, tenant_id: str) -> Tenant | None:
        """The tenant if it is known and fresh, without any input or output: else call ``get`` in a thread."""
        kept = self._kept.get(("id", tenant_id))
        if kept is None or kept.fresh_until <= self._clock() or not isinstance(kept.found, Tenant):
            return None
        return kept.found

    def get(self, tenant_id: str) -> Tenant | None:
        """The tenant with that id. Raises as a repository does, but for an outage only where nothing is known."""
        return self._look(("id", tenant_id), self._repository.get)

    def by_hostname(self, fqdn: str) -> Tenant | None:
        """The tenant that has the hostname. Raises as ``get`` does."""
        return self._look(("hostname", fqdn.lower()), self._repository.by_hostname)

    def forget(self, tenant_id: str | None = None) -> None:
        """Read a tenant again when it is next asked for; ``None``: all of them. What is known stays for an outage."""
        with self._lock:
            for key, kept in list(self._kept.items()):
                if (
                    tenant_id is None
                    or (isinstance(kept.found, Tenant) and kept.found.id == tenant_id)
                    or key[1] == tenant_id
                ):
                    self._kept[key] = _Kept(kept.found, float("-inf"))

    def _look(self, key: tuple[str, str], read: Callable[[str], Tenant | None]) -> Tenant | None:
        kept = self._kept.get(key)
        if kept is None or kept.fresh_until <= self._clock():
            # One reader at a time: the others find the answer when it is their turn.
            with self._lock:
                kept = self._kept.get(key)
                if kept is None or kept.fresh_until <= self._clock():
                    kept = self._kept[key] = self._renew(kept, key[1], read)
        if isinstance(kept.found, TenantUnusable):
            raise TenantUnusable(str(kept.found), code=kept.found.code)
        return kept.found

    def _renew(self, kept: _Kept | None, name: str, read: Callable[[str], Tenant | None]) -> _Kept:
        found: Tenant | TenantUnusable | None
        try:
            found = read(name)
            if kept is not None and found == kept.found:
                # The same object as before: what others derived from it still holds.
                found = kept.found
        except TenantUnusable as error:
            found = error
        except TenantsUnavailable:
            if kept is None:
                raise
            # Stale is better than nothing, and asking again at once would make every task wait for the connection.
            found = kept.found
        if len(self._kept) >= _MOST_KEPT:
            # Names that do not exist can be made up without end.
            self._kept = {key: each for key, each in self._kept.items() if isinstance(each.found, Tenant)}
        ttl_s = self._ttl_s if isinstance(found, Tenant) else self._absent_ttl_s
        return _Kept(found, self._clock() + ttl_s)
