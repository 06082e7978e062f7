"""Whose work is being done: the current tenant, per task or thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

current_tenant: Final[ContextVar[str | None]] = ContextVar("current_tenant", default=None)
"""Id of the current tenant (``str(websites.id)``), or ``None`` outside any tenant."""


class NoCurrentTenant(LookupError):
    """Something needs to know the tenant, and none is current."""

    def __init__(self, purpose: str = "this call") -> None:
        super().__init__(
            f"{purpose} needs a current tenant and there is none; "
            "wrap the code in `with tenant_context(tenant_id):` or name the tenant"
        )


def current_tenant_id(purpose: str = "this call") -> str:
    """Id of the current tenant. Raises ``NoCurrentTenant``, naming ``purpose``, where there is none."""
    tenant_id = current_tenant.get()
    if tenant_id is None:
        raise NoCurrentTenant(purpose)
    return tenant_id


@contextmanager
def tenant_context(tenant_id: str | int) -> Iterator[str]:
    """Make a tenant current inside the block, and whoever was current before it again afterwards."""
    token = current_tenant.set(str(tenant_id))
    try:
        yield str(tenant_id)
    finally:
        current_tenant.reset(token)
