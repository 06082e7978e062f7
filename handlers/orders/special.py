"""Named operations that a tenant may ask for outside the order flow."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from handlers.contract import Context, HttpClient, PluginManager
from handlers.results import Completed, Rejected, Result

Operation: TypeAlias = Callable[[PluginManager, Mapping[str, Any], Context], Awaitable[dict[str, Any]]]
"""Does one thing and returns its result, a JSON object. Gets the tenant's manager, the payload and the context."""


async def sync_external(manager: PluginManager, payload: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Read the vendor's categories and say by which steps its catalogue is copied."""
    categories = await manager.get_categories()
    return {"categories": len(categories), "steps": [step.get("id") for step in manager.get_sync_pipeline_config()]}


OPERATIONS: Final[Mapping[str, Operation]] = {"sync_external": sync_external}


class SpecialOrderWebhookHandler:
    """Runs the payload's ``special_operation``; one that is not among ``operations`` is rejected."""

    def __init__(
        self,
        manager: Callable[[str, Mapping[str, Any], HttpClient], PluginManager],
        operations: Mapping[str, Operation] = OPERATIONS,
    ) -> None:
        self._manager = manager
        self._operations = operations

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """``operation`` and what it returned."""
        name = payload.get("special_operation")
        operation = self._operations.get(name) if isinstance(name, str) else None
        if operation is None:
            known = ", ".join(sorted(self._operations))
            return Rejected(
                f"special_operation {name!r:.80} is not known; known are: {known}", code="unknown_operation"
            )
        manager = self._manager(context.tenant_id, context.config, context.http)
        return Completed({"operation": name, **await operation(manager, payload, context)})
