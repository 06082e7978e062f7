"""What carries out a task: the tenant's handlers, their limits and what they are given."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import orjson

from handlers.contract import Context, HttpClient
from handlers.registry import PluginRegistry
from handlers.resolution import Resolution, ResolvedStep, resolve
from handlers.results import Result
from handlers.tenants.repository import Tenant
from schemas.errors import Permanent
from schemas.events import TaskReady
from streams.engine.decide import StepPolicy

Run: TypeAlias = Callable[[TaskReady], Awaitable[Result]]
"""Calls the handler for a task. Raises what the handler raises, and ``Permanent`` for a payload that is no object."""

_MOST_KEPT: Final = 50_000


@dataclass(frozen=True, slots=True)
class Execution:
    """How one step of one endpoint of one tenant is carried out."""

    handler: str
    run: Run
    policy: StepPolicy
    timeout_s: float


class ExecutionLookup(Protocol):
    """Finds the execution of a task."""

    def cached(self, task: TaskReady) -> Execution | None:
        """The execution if it is known and fresh: no input or output, microseconds."""

    async def lookup(self, task: TaskReady) -> Execution:
        """The execution. Raises ``Permanent`` where tenant, plugin or handler are missing, else ``Retryable``."""


class TenantLookup(Protocol):
    """Finds tenants; ``handlers.tenants.cache.CachedTenants`` is one."""

    def peek(self, tenant_id: str) -> Tenant | None:
        """The tenant if it is known and fresh, without any input or output."""

    def get(self, tenant_id: str) -> Tenant | None:
        """The tenant, ``None`` where there is none. Blocks. Raises as ``TenantRepository`` does."""


class TenantExecutions:
    """Resolves tasks by their tenants' configuration. A resolution is kept while the tenant stays the same."""

    def __init__(
        self, tenants: TenantLookup, plugins: PluginRegistry, http: HttpClient, default_timeout_s: float
    ) -> None:
        self._tenants = tenants
        self._plugins = plugins
        self._http = http
        self._default_timeout_s = default_timeout_s
        self._kept: dict[tuple[str, str, str | None], tuple[Tenant, tuple[Execution, ...]]] = {}

    def cached(self, task: TaskReady) -> Execution | None:
        """See ``ExecutionLookup``."""
        tenant = self._tenants.peek(task.tenant_id)
        if tenant is None:
            return None
        kept = self._kept.get((task.tenant_id, task.endpoint, task.settings_entry))
        if kept is None or kept[0] is not tenant or task.step >= len(kept[1]):
            return None
        return kept[1][task.step]

    async def lookup(self, task: TaskReady) -> Execution:
        """See ``ExecutionLookup``."""
        tenant = self._tenants.peek(task.tenant_id)
        if tenant is None:
            tenant = await asyncio.to_thread(self._tenants.get, task.tenant_id)
        if tenant is None:
            raise Permanent(f"tenant {task.tenant_id} does not exist", code="unknown_tenant")
        executions = self._resolve(tenant, task)
        if task.step >= len(executions):
            reason = (
                f"the pipeline of {task.endpoint} has {len(executions)} steps now, so there is no step {task.step}; "
                "its configuration was changed while the event was under way"
            )
            raise Permanent(reason, code="no_such_step")
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[task.tenant_id, task.endpoint, task.settings_entry] = tenant, executions
        return executions[task.step]

    def _resolve(self, tenant: Tenant, task: TaskReady) -> tuple[Execution, ...]:
        manifest = self._plugins.for_tenant(tenant)
        entry = tenant.configuration.entry(task.settings_entry)
        resolution = resolve(task.endpoint, tenant.configuration, manifest, entry)
        return tuple(self._execution(tenant, resolution, step) for step in resolution.steps)

    def _execution(self, tenant: Tenant, resolution: Resolution, step: ResolvedStep) -> Execution:
        return Execution(
            step.handler_name,
            _runner(tenant, resolution.is_pipeline, step, self._http),
            StepPolicy(len(resolution.steps), step.retry_attempts),
            step.timeout_s or self._default_timeout_s,
        )


def idempotency_key(task: TaskReady, handler: str) -> str:
    """Equal for every attempt of a handler run or step, different for every replay (R10)."""
    text = f"{task.event_id}|{task.run}|{handler}|{task.step}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _runner(tenant: Tenant, is_pipeline: bool, step: ResolvedStep, http: HttpClient) -> Run:
    handler: Any = step.handler
    config = tenant.configuration.document
    log = logging.getLogger(f"handlers.{step.handler_name}")

    def context_of(task: TaskReady) -> Context:
        return Context(
            tenant_id=task.tenant_id,
            event_id=task.event_id,
            event_type=task.event_type,
            endpoint=task.endpoint,
            run=task.run,
            step=task.step,
            attempt=task.attempt,
            idempotency_key=idempotency_key(task, step.handler_name),
            config=config,
            http=http,
            log=logging.LoggerAdapter(log, {"event_id": task.event_id, "tenant_id": task.tenant_id}),
            results=[orjson.loads(result) for result in task.results],
        )

    def handle(task: TaskReady) -> Awaitable[Result]:
        called: Awaitable[Result] = handler.handle(payload_of(task), context_of(task))
        return called

    def handle_step(task: TaskReady) -> Awaitable[Result]:
        context = context_of(task)
        data = {
            **payload_of(task),
            "previous_step_result": context.previous_step_result,
            "pipeline_results": context.results,
            "current_step": task.step,
        }
        called: Awaitable[Result] = handler.handle_step(data, task.step, context)
        return called

    return handle_step if is_pipeline else handle


def payload_of(task: TaskReady) -> dict[str, Any]:
    """The task's payload. Raises ``Permanent`` where it is no JSON object."""
    try:
        payload = orjson.loads(task.payload)
    except orjson.JSONDecodeError as error:
        raise Permanent(f"the payload is not JSON: {error}", code="bad_payload") from error
    if not isinstance(payload, dict):
        raise Permanent(f"the payload is {type(payload).__name__}; it must be a JSON object", code="bad_payload")
    return payload
