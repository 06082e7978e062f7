"""Which handlers carry out an endpoint's webhooks.

In this order: the settings entry's pipeline, ``route_handlers``, the entry's ``target_class``, the convention. Names
are looked up in the plugin's manifest and nowhere else: a configuration never makes anything be imported. Where the
convention finds nothing, a tenant's sidecar gets the payload if ``plugin_routes`` lists the endpoint.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from handlers.contract import AnyHandler, PluginManifest
from handlers.sidecar import SidecarForwardHandler, forwards
from handlers.tenants.configuration import SettingsEntry, TenantConfiguration
from schemas.errors import Permanent

Found: TypeAlias = Literal["pipeline", "route_handlers", "target_class", "convention", "sidecar"]

_FORWARD: Final = SidecarForwardHandler()


@dataclass(frozen=True, slots=True)
class ResolvedStep:
    """One handler to run. ``None``: the worker's own ``task_timeout_s``, and the tries of the event's tier.

    Outside a pipeline, ``timeout_s`` is the handler's own, if it has one.
    """

    handler_name: str
    handler: AnyHandler
    timeout_s: float | None = None
    retry_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The handlers of an endpoint, at least one. More than one, or a pipeline of one: ``handle_step`` is called."""

    steps: tuple[ResolvedStep, ...]
    source: Found

    @property
    def is_pipeline(self) -> bool:
        """Whether steps are run by ``handle_step``."""
        return self.source == "pipeline"


def conventional_name(endpoint: str) -> str | None:
    """``OrdersBulkWebhookHandler`` of ``webhook/orders/bulk``; ``None`` where the endpoint has no words of its own."""
    words = [word for word in re.split(r"[/_.-]+", endpoint) if word]
    if words[:1] == ["webhook"]:
        words = words[1:]
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return f"{name}WebhookHandler" if name else None


def endpoint_name(endpoint: str, configuration: TenantConfiguration) -> str:
    """An endpoint as the configuration names it: without slashes around it, and without the plugin's own prefix."""
    name = endpoint.strip("/")
    return name.removeprefix(f"{configuration.plugin_route_prefix}/")


def resolve(
    endpoint: str,
    configuration: TenantConfiguration,
    manifest: PluginManifest,
    entry: SettingsEntry | None = None,
) -> Resolution:
    """The handlers of ``endpoint``; ``entry`` is what a change matched, by default the endpoint's first entry.

    Raises ``Permanent`` (code ``no_handler``) naming what was tried. A name that is configured and missing is an
    error, never a reason to go on to the next rule: another handler could do something else.
    """
    entry = entry or configuration.entry_for(endpoint)
    if entry and entry.pipeline:
        return _pipeline(endpoint, entry, manifest)
    found: Found = "convention"
    name = conventional_name(endpoint)
    if endpoint in configuration.route_handlers:
        found, name = "route_handlers", configuration.route_handlers[endpoint]
    elif entry and entry.target_class:
        found, name = "target_class", entry.target_class
    handler = manifest.handler(name) if name else None
    if handler is None and found == "convention" and forwards(configuration, endpoint):
        return Resolution((ResolvedStep(type(_FORWARD).__name__, _FORWARD),), "sidecar")
    if name is None or handler is None:
        raise _nothing_found(endpoint, manifest, [f"{name} ({found})"])
    # Attributes, not isinstance: a protocol's check costs microseconds, and this runs for every task.
    if not hasattr(handler, "handle"):
        reason = f"{name} ({found}) only runs as a step of a pipeline; name it in one, or choose another for {endpoint}"
        raise Permanent(reason, code="no_handler")
    return Resolution((ResolvedStep(name, handler, getattr(handler, "timeout_s", None)),), found)


def _pipeline(endpoint: str, entry: SettingsEntry, manifest: PluginManifest) -> Resolution:
    steps: list[ResolvedStep] = []
    missing: list[str] = []
    for index, step in enumerate(entry.pipeline or ()):
        handler = manifest.handler(step.handler_class)
        if handler is None or not hasattr(handler, "handle_step"):
            fault = "has no `handle_step`" if handler else "unknown"
            missing.append(f"{step.handler_class} (pipeline step {index}: {fault})")
        else:
            steps.append(ResolvedStep(step.handler_class, handler, step.timeout, step.retry_attempts))
    if missing:
        # Found out before the first step, so that no pipeline starts that cannot end.
        raise _nothing_found(endpoint, manifest, missing)
    return Resolution(tuple(steps), "pipeline")


def _nothing_found(endpoint: str, manifest: PluginManifest, tried: list[str]) -> Permanent:
    return Permanent(
        f"no handler for {endpoint}: plugin {manifest.id} {manifest.version} does not have {', '.join(tried)}; "
        f"it has {', '.join(sorted(manifest.handlers)) or 'none'}",
        code="no_handler",
    )
