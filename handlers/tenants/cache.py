"""Tenants kept in memory, so that the database may be away while events are carried out."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from handlers.tenants.repository import Tenant, TenantReader, TenantsUnavailable, TenantUnusable

_MOST_KEPT: Final = 20_000
_OVERLAP: Final = timedelta(minutes=1)
"""How far behind the newest change another one may still turn up: transactions take time, and clocks differ."""


class TenantSource(TenantReader, Protocol):
    """Finds tenants, and says which of them have changed. Calls block, and raise as ``TenantReader`` does."""

    def changed_since(self, instant: datetime) -> dict[str, datetime] | None:
        """When each tenant that has changed since did so last, by id; ``None``: too many to name."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read last: a tenant, ``None`` for no such tenant, or why it cannot be used."""

    found: Tenant | TenantUnusable | None
    fresh_until: float


class CachedTenants:
    """Reads through to a repository, and answers with what it last knew while the database is away.

    While it is used it asks twice a second which tenants have changed, so a change is heard within a second; who is
    told of one earlier calls ``invalidate``. Safe to use from several threads.
    """

    def __init__(
        self,
        repository: TenantSource,
        ttl_s: float = 5.0,
        absent_ttl_s: float = 0.5,
        changes_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Seconds: a tenant is taken as read for ``ttl_s``, as absent for ``absent_ttl_s``, unchanged ``changes_s``."""
        self._repository = repository
        self._ttl_s = ttl_s
        self._absent_ttl_s = min(absent_ttl_s, ttl_s)
        self._changes_s = changes_s
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._lock = threading.Lock()
        self._changes_due = clock() + changes_s
        self._asks = False
        self._since = datetime.now(UTC) - _OVERLAP
        self._changed: dict[str, datetime] = {}

    def peek(self, tenant_id: str) -> Tenant | None:
        """The tenant if it is known and fresh, without any input or output: else call ``get`` in a thread."""
        kept, now = self._kept.get(("id", tenant_id)), self._clock()
        if kept is None or kept.fresh_until <= now or not isinstance(kept.found, Tenant):
            return None
        if self._changes_due <= now and not self._asks:
            # One caller is sent to ask for changes; the others go on meanwhile with what is known.
            return None
        return kept.found

    def get(self, tenant_id: str) -> Tenant | None:
        """The tenant with that id. Raises as a repository does, but for an outage only where nothing is known."""
        return self._look(("id", tenant_id), self._repository.get)

    def by_hostname(self, fqdn: str) -> Tenant | None:
        """The tenant that has the hostname. Raises as ``get`` does."""
        return self._look(("hostname", fqdn.lower()), self._repository.by_hostname)

    def invalidate(self, tenant_id: str | None = None) -> None:
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
        self._ask_for_changes()
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

    def _ask_for_changes(self) -> None:
        """Invalidate what has changed since the last time, if it is time to ask and nobody else does."""
        with self._lock:
            if self._asks or self._clock() < self._changes_due:
                return
            self._asks = True
        pause_s = self._changes_s
        try:
            changed = self._repository.changed_since(self._since)
        except TenantsUnavailable:
            # What is known is served anyway; asking at the usual pace would make one task after the other wait.
            changed, pause_s = {}, self._ttl_s
        else:
            self._note(changed)
        finally:
            self._changes_due = self._clock() + pause_s
            self._asks = False

    def _note(self, changed: dict[str, datetime] | None) -> None:
        if changed is None:
            self._since = datetime.now(UTC) - _OVERLAP
            self._changed = {}
            self.invalidate()
            return
        for tenant_id, instant in changed.items():
            if self._changed.get(tenant_id) != instant:
                self.invalidate(tenant_id)
        self._changed = changed
        if changed:
            self._since = max(self._since, max(changed.values()) - _OVERLAP)

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
