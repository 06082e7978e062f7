"""What carries out a task: the tenant's handlers, their limits and what they are given."""

import asyncio
import hashlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

import orjson

from handlers.contract import Context, HttpClient, PluginManifest
from handlers.redaction import NOTHING_SECRET, Redactor, current_redactor
from handlers.registry import PluginRegistry
from handlers.resolution import Resolution, ResolvedStep, resolve
from handlers.results import Reconciled, Returned
from handlers.tenants.repository import Tenant
from handlers.tenants.secrets import secret_values
from schemas.errors import Permanent
from schemas.events import TaskReady
from streams.agents.debug_record import tells, told
from streams.agents.versions import RunsOn, held_by_version, runs_on
from streams.engine.decide import StepPolicy
from streams.engine.threads import HandlerThreads

Run: TypeAlias = Callable[[TaskReady], Awaitable[Returned]]
"""Calls the handler for a task. Raises what the handler raises, and ``Permanent`` for a payload that is no object."""

Look: TypeAlias = Callable[[TaskReady], Awaitable[Reconciled]]
"""Calls the handler's ``reconcile`` for a task; raises as ``Run``."""

_MOST_KEPT: Final = 50_000


class Held(Exception):
    """A task has to wait behind ``gate``."""

    def __init__(self, gate: str) -> None:
        super().__init__(gate)
        self.gate = gate


@dataclass(frozen=True, slots=True)
class Caution:
    """Why a handler must not simply be called again (R6): it acts at most once, or goes on in its thread when given up.

    ``reconcile`` looks whether the work was done; what it does not find counts as not done ``settle_s`` seconds after
    the last moment at which it may have been sent. ``None``: it cannot be looked for.
    """

    at_most_once: bool = True
    reconcile: Look | None = None
    settle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Execution:
    """How one step of one endpoint of one tenant is carried out. Its verdict goes through ``redactor``.

    ``upstream`` is the host that it calls; ``None`` where none is known, so that no circuit and no rate holds it.
    ``caution`` is ``None`` for a handler that may be called again.
    ``runs_on`` is ``None`` where no plugin is needed.
    """

    handler: str
    run: Run
    policy: StepPolicy
    timeout_s: float
    redactor: Redactor = NOTHING_SECRET
    upstream: str | None = None
    caution: Caution | None = None
    runs_on: RunsOn | None = None


class ExecutionLookup(Protocol):
    """Finds the execution of a task."""

    def cached(self, task: TaskReady) -> Execution | None:
        """The execution if it is known and fresh: no input or output, microseconds."""

    async def lookup(self, task: TaskReady) -> Execution:
        """The execution. Raises ``Permanent`` where tenant or handler are missing, else ``Retryable``.

        Raises ``Held`` where the plugin or the pipeline is not the one that the run began with.
        """


class TenantLookup(Protocol):
    """Finds tenants; ``handlers.tenants.cache.CachedTenants`` is one."""

    def peek(self, tenant_id: str) -> Tenant | None:
        """The tenant if it is known and fresh, without any input or output."""

    def get(self, tenant_id: str) -> Tenant | None:
        """The tenant, ``None`` where there is none. Blocks. Raises as ``TenantRepository`` does."""


class TenantExecutions:
    """Resolves tasks by their tenants' configuration. A resolution is kept while the tenant stays the same."""

    def __init__(
        self,
        tenants: TenantLookup,
        plugins: PluginRegistry,
        http: HttpClient,
        default_timeout_s: float,
        files_dir: Path | None = None,
        threads: HandlerThreads | None = None,
    ) -> None:
        """``files_dir`` is where handlers may put files; ``threads`` run those that are plain functions."""
        self.queue_connection = ""
        self._files_dir = files_dir
        self._threads = threads or HandlerThreads()
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
        entry = tenant.configuration.entry(task.settings_entry) or tenant.configuration.entry_for(task.endpoint)
        present = runs_on(manifest, entry)
        # Before its handlers are looked up: another version may not have them, and the run must not fail for it.
        gate = held_by_version(task, present)
        if gate is not None:
            raise Held(gate)
        resolution = resolve(task.endpoint, tenant.configuration, manifest, entry)
        redactor = Redactor(secret_values(tenant.configuration.document, manifest.config_schema))
        upstream = upstream_of(manifest, tenant.configuration.document)
        return tuple(
            replace(self._execution(tenant, resolution, step, redactor, upstream), runs_on=present)
            for step in resolution.steps
        )

    def _execution(
        self, tenant: Tenant, resolution: Resolution, step: ResolvedStep, redactor: Redactor, upstream: str | None
    ) -> Execution:
        handler: Any = step.handler
        calls = _Calls(tenant, step.handler_name, self._http, self._files_dir, resolution.is_pipeline)
        method = handler.handle_step if resolution.is_pipeline else handler.handle
        reconcile = getattr(handler, "reconcile", None)
        caution = None
        at_most_once = bool(getattr(handler, "at_most_once", False))
        if at_most_once or reconcile is not None or not inspect.iscoroutinefunction(method):
            look = None if reconcile is None else self._caller(reconcile, calls.to_reconcile, redactor)
            caution = Caution(at_most_once, look, float(getattr(handler, "settle_s", 0.0)))
        run = self._caller(method, calls.of_a_step if resolution.is_pipeline else calls.alone, redactor)
        return Execution(
            step.handler_name,
            told(run, step.handler_name, redactor, self.queue_connection) if tells() else run,
            StepPolicy(len(resolution.steps), step.retry_attempts),
            step.timeout_s or self._default_timeout_s,
            redactor,
            upstream if getattr(handler, "calls_upstream", True) else None,
            caution,
        )

    def _caller(
        self, method: Callable[..., Any], arguments: Callable[[TaskReady], tuple[Any, ...]], redactor: Redactor
    ) -> Callable[[TaskReady], Awaitable[Any]]:
        """Calls a handler's method for a task; in a thread where it is a plain function."""
        threads = self._threads

        def call(task: TaskReady) -> Awaitable[Any]:
            current_redactor.set(redactor)
            awaitable: Awaitable[Any] = method(*arguments(task))
            return awaitable

        async def call_in_thread(task: TaskReady) -> Any:
            current_redactor.set(redactor)
            result = await threads.run(partial(method, *arguments(task)))
            return await result if inspect.isawaitable(result) else result

        return call if inspect.iscoroutinefunction(method) else call_in_thread


def upstream_of(manifest: PluginManifest, config: Mapping[str, Any]) -> str | None:
    """Host of the upstream that a plugin calls with this configuration; ``None`` where it does not say."""
    address = manifest.upstream(config) if manifest.upstream is not None else None
    try:
        return urlsplit(address).hostname if address else None
    except ValueError:
        return None


def idempotency_key(task: TaskReady, handler: str) -> str:
    """Equal for every attempt of a handler run or step, different for every replay (R10)."""
    text = f"{task.event_id}|{task.run}|{handler}|{task.step}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Calls:
    """What a step's handler is called with."""

    def __init__(
        self, tenant: Tenant, handler: str, http: HttpClient, files_dir: Path | None, is_pipeline: bool
    ) -> None:
        self._config = tenant.configuration.document
        self._handler = handler
        self._http = http
        self._files_dir = files_dir
        self._is_pipeline = is_pipeline
        self._log = logging.getLogger(f"handlers.{handler}")

    def alone(self, task: TaskReady) -> tuple[dict[str, Any], Context]:
        """The arguments of ``handle``."""
        return payload_of(task), self._context(task)

    def of_a_step(self, task: TaskReady) -> tuple[dict[str, Any], int, Context]:
        """The arguments of ``handle_step``."""
        context = self._context(task)
        return self._step_data(task, context), task.step, context

    def to_reconcile(self, task: TaskReady) -> tuple[dict[str, Any], Context]:
        """The arguments of ``reconcile``: the same data as the call that it looks for."""
        context = self._context(task)
        return (self._step_data(task, context) if self._is_pipeline else payload_of(task)), context

    def _step_data(self, task: TaskReady, context: Context) -> dict[str, Any]:
        return {
            **payload_of(task),
            "previous_step_result": context.previous_step_result,
            "pipeline_results": context.results,
            "current_step": task.step,
        }

    def _context(self, task: TaskReady) -> Context:
        return Context(
            tenant_id=task.tenant_id,
            event_id=task.event_id,
            event_type=task.event_type,
            endpoint=task.endpoint,
            run=task.run,
            step=task.step,
            attempt=task.attempt,
            idempotency_key=idempotency_key(task, self._handler),
            config=self._config,
            http=self._http,
            log=logging.LoggerAdapter(self._log, {"event_id": task.event_id, "tenant_id": task.tenant_id}),
            results=[orjson.loads(result) for result in task.results],
            files_dir=self._files_dir,
        )


def payload_of(task: TaskReady) -> dict[str, Any]:
    """The task's payload. Raises ``Permanent`` where it is no JSON object."""
    try:
        payload = orjson.loads(task.payload)
    except orjson.JSONDecodeError as error:
        raise Permanent(f"the payload is not JSON: {error}", code="bad_payload") from error
    if not isinstance(payload, dict):
        raise Permanent(f"the payload is {type(payload).__name__}; it must be a JSON object", code="bad_payload")
    return payload
