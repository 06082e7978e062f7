"""Contract tests that a plugin inherits: subclass, give what is abstract, and let pytest collect the subclass.

A handler's tests run against a stand-in of its upstream; no Kafka, no database.
"""

# ruff: noqa: S101 - asserts are what these classes are for
import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from handlers.contract import PLUGIN_API_VERSION, Context, Handler, PluginManifest, StepHandler
from handlers.outbound import GuardedClient
from handlers.registry import PluginRegistry
from handlers.resolution import resolve
from handlers.results import Completed, NotFound, Reconciled, Rejected, Returned, Wait
from handlers.tenants.configuration import parse_configuration
from handlers.tenants.validation import schema_problems
from schemas.errors import Permanent, Retryable, Unknown
from schemas.limits import MAX_STEP_RESULT_BYTES


class PluginContract:
    """What holds of every plugin. Give ``manifest`` and ``document``, a valid configuration of a tenant."""

    manifest: ClassVar[PluginManifest]
    document: ClassVar[Mapping[str, Any]]

    def test_the_manifest_fits_this_version(self) -> None:
        """Id, version and API version are there, and every handler can be made and called."""
        assert self.manifest.version
        assert self.manifest.api_version == PLUGIN_API_VERSION
        assert self.manifest.handlers
        for name in self.manifest.handlers:
            handler = self.manifest.handler(name)
            assert isinstance(handler, Handler | StepHandler), f"{name} has neither handle nor handle_step"
            assert self.manifest.handler(name) is handler, f"{name} is made more than once"

    def test_a_configuration_leads_to_the_plugin_and_names_only_its_handlers(self) -> None:
        """The document is valid, chooses this plugin, and each of its endpoints resolves."""
        configuration = parse_configuration(dict(self.document))
        registry = PluginRegistry({self.manifest.id: self.manifest})
        assert registry.of(configuration) is self.manifest
        for entry in configuration.webhook_settings:
            assert resolve(entry.webhook_endpoint, configuration, self.manifest, entry).steps
        for endpoint in configuration.route_handlers:
            assert resolve(endpoint, configuration, self.manifest).steps

    def test_the_document_fits_and_one_without_credentials_does_not(self) -> None:
        """The document keeps the plugin's schema and version range; a secret that the schema wants is missed."""
        registry = PluginRegistry({self.manifest.id: self.manifest})
        assert registry.problems(parse_configuration(dict(self.document))) == []
        assert list(schema_problems(dict(self.document), self.manifest)) == []
        if self._marked():
            bare = {**self.document, "auth": {}}
            assert list(schema_problems(bare, self.manifest)), "config_schema must require the credentials"

    def test_secrets_are_marked_and_do_not_show(self) -> None:
        """What the schema marks secret is masked wherever a configuration is shown."""
        orjson.dumps(dict(self.manifest.config_schema))
        auth = {**self.document.get("auth", {}), **dict.fromkeys(self._marked(), "canary-secret")}
        configuration = parse_configuration({**self.document, "auth": auth})
        assert "canary-secret" not in repr(configuration) + str(configuration.masked())
        beside = dict.fromkeys(_secrets_of(self.manifest.config_schema), "canary-secret")
        schema = self.manifest.config_schema
        assert "canary-secret" not in str(parse_configuration({**self.document, **beside, "auth": auth}).masked(schema))

    def _marked(self) -> list[str]:
        """Names of the secrets under ``auth``."""
        return _secrets_of(self.manifest.config_schema.get("properties", {}).get("auth", {}))


def _secrets_of(schema: Mapping[str, Any]) -> list[str]:
    return [name for name, each in schema.get("properties", {}).items() if each.get("secret")]


class StepContract:
    """What holds of every handler that is a pipeline's step without an effect of its own.

    Give ``handler``, a payload it takes (``good``), payloads that can never do (``bad``), the ``results`` of the steps
    before it and the tenant's ``config``.
    """

    handler: ClassVar[StepHandler]
    good: ClassVar[Mapping[str, Any]]
    bad: ClassVar[tuple[Mapping[str, Any], ...]]
    results: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    config: ClassVar[Mapping[str, Any]] = {}

    def test_a_good_payload_gives_a_result_that_can_be_kept(self) -> None:
        """The result is a JSON object, small enough to go along with the event; the payload is left as it was."""
        before = orjson.dumps(dict(self.good))
        result = asyncio.run(self._step(self.good))
        assert isinstance(result, Completed)
        assert isinstance(result.result, dict)
        assert len(orjson.dumps(result.result)) <= MAX_STEP_RESULT_BYTES
        assert orjson.dumps(dict(self.good)) == before

    def test_what_can_never_work_is_rejected(self) -> None:
        """A wrong payload ends as ``Rejected`` with a reason, never as an exception that is retried."""
        for payload in self.bad:
            result = asyncio.run(self._step(payload))
            assert isinstance(result, Rejected), f"{result} for {payload}"
            assert result.reason

    async def _step(self, payload: Mapping[str, Any]) -> Returned:
        results = [dict(each) for each in self.results]
        number = len(results)
        async with GuardedClient(()) as client:
            context = _context(self.config, client, step=number, results=results, event_type="manual_trigger")
            data = {
                **payload,
                "previous_step_result": context.previous_step_result,
                "pipeline_results": results,
                "current_step": number,
            }
            return await self.handler.handle_step(data, number, context)


@dataclass(frozen=True, slots=True)
class Bench:
    """A stand-in of an upstream, running.

    ``config``: a tenant's configuration that leads to it. ``fail(status, times)``: answer the next calls so, before
    any effect. ``effects()``: how many things were done at the upstream. ``allow``: hosts the client must reach.
    """

    config: Mapping[str, Any]
    fail: Callable[[int, int], None]
    effects: Callable[[], int]
    allow: tuple[str, ...] = ("127.0.0.1",)


class HandlerContract:
    """What holds of every handler that has an effect at an upstream.

    Give ``handler``, a payload it carries out (``good``), payloads it can never carry out (``bad``), and ``bench``.
    """

    handler: ClassVar[Handler]
    good: ClassVar[Mapping[str, Any]]
    bad: ClassVar[tuple[Mapping[str, Any], ...]]
    event_type: ClassVar[str] = "manual_trigger"

    def bench(self) -> AbstractAsyncContextManager[Bench]:
        """Start a stand-in of the upstream; each test has one of its own."""
        raise TypeError(f"{type(self).__name__} must give the method `bench`")

    def test_the_same_key_has_one_effect_and_one_result(self) -> None:
        """A handler is called again when its outcome was lost: the effect must stay one."""

        async def scenario() -> None:
            async with self.bench() as bench:
                first, second = await self._call(bench), await self._again(bench)
                assert isinstance(first, Completed)
                assert first == second
                assert isinstance(first.result, dict)
                assert len(orjson.dumps(first.result)) <= MAX_STEP_RESULT_BYTES
                assert bench.effects() == 1
                await self._call(bench, key="another")
                assert bench.effects() == 2

        asyncio.run(scenario())

    def test_a_passing_fault_is_retryable_and_the_retry_works(self) -> None:
        """429 and 5xx are raised as ``Retryable``, with no effect.

        An at-most-once handler may raise ``Unknown`` for a 5xx; its ``reconcile`` then finds nothing.
        """

        async def scenario() -> None:
            async with self.bench() as bench:
                for status in (429, 500, 503):
                    bench.fail(status, 1)
                    try:
                        result = await self._call(bench)
                    except (Retryable, Unknown) as error:
                        assert bench.effects() == 0
                        if isinstance(error, Unknown):
                            assert status != 429, "429 has no effect: raise Retryable"
                            assert await self._again(bench) == NotFound()
                    else:
                        raise AssertionError(f"{result} after the upstream answered {status}; raise Retryable")
                assert isinstance(await self._call(bench), Completed)
                assert bench.effects() == 1

        asyncio.run(scenario())

    def test_a_refusal_is_final(self) -> None:
        """4xx answers are ``Rejected`` or ``Permanent``: trying again would change nothing."""

        async def scenario() -> None:
            async with self.bench() as bench:
                for status in (400, 401, 422):
                    bench.fail(status, 1)
                    try:
                        result = await self._call(bench)
                    except Permanent as error:
                        result = Rejected(str(error))
                    assert isinstance(result, Rejected), f"{result} after the upstream answered {status}"
                    assert result.reason
                assert bench.effects() == 0

        asyncio.run(scenario())

    def test_what_can_never_work_is_rejected_without_an_effect(self) -> None:
        """A wrong payload ends as ``Rejected`` with a reason, never as an exception that is retried."""

        async def scenario() -> None:
            async with self.bench() as bench:
                for payload in self.bad:
                    result = await self._call(bench, payload)
                    assert isinstance(result, Rejected), f"{result} for {payload}"
                    assert result.reason
                assert bench.effects() == 0

        asyncio.run(scenario())

    async def _again(self, bench: Bench) -> Reconciled | Wait:
        """What the engine does with a task whose outcome was lost: an at-most-once handler is asked, not run (R6)."""
        if not getattr(self.handler, "at_most_once", False):
            return await self._call(bench)
        reconciling: Any = self.handler
        async with self._context(bench, "key") as context:
            found: Reconciled = await reconciling.reconcile(dict(self.good), context)
            return found

    async def _call(self, bench: Bench, payload: Mapping[str, Any] | None = None, key: str = "key") -> Returned:
        async with self._context(bench, key) as context:
            return await self.handler.handle(dict(self.good if payload is None else payload), context)

    @asynccontextmanager
    async def _context(self, bench: Bench, key: str) -> AsyncIterator[Context]:
        async with GuardedClient(bench.allow, timeout_s=10) as client:
            yield _context(bench.config, client, idempotency_key=key, event_type=self.event_type)


def _context(config: Mapping[str, Any], client: GuardedClient, **changes: Any) -> Context:
    known: dict[str, Any] = {
        "tenant_id": "1",
        "event_id": "0190b3a0-0000-7000-8000-000000000001",
        "endpoint": "webhook/test",
        "run": 1,
        "step": 0,
        "attempt": 1,
        "idempotency_key": "key",
        "log": logging.LoggerAdapter(logging.getLogger(__name__), {}),
    }
    return Context(config=config, http=client, **{**known, **changes})
