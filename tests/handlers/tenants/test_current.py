import asyncio

import pytest

from handlers.tenants.current import NoCurrentTenant, current_tenant, current_tenant_id, tenant_context


def test_outside_any_tenant_the_error_names_what_needs_one() -> None:
    with pytest.raises(NoCurrentTenant, match="load"):
        current_tenant_id("load()")


def test_a_nested_context_gives_the_outer_tenant_back_even_after_an_error() -> None:
    def fail_inside() -> None:
        with tenant_context("2"):
            raise RuntimeError(current_tenant_id())

    with tenant_context(1):
        with pytest.raises(RuntimeError, match="2"):
            fail_inside()
        assert current_tenant_id() == "1"
    assert current_tenant.get() is None


async def test_tasks_do_not_see_each_others_tenant() -> None:
    async def read(tenant_id: str) -> str:
        with tenant_context(tenant_id):
            await asyncio.sleep(0)
            return current_tenant_id()

    assert await asyncio.gather(*(read(str(number)) for number in range(5))) == ["0", "1", "2", "3", "4"]
