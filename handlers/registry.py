"""The plugins that are installed: found by entry point, checked, and listed as broken where they cannot be used."""

import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from handlers.contract import PLUGIN_API_VERSION, Handler, PluginManifest, StepHandler
from handlers.tenants.configuration import Problem, TenantConfiguration
from handlers.tenants.repository import Tenant
from schemas.errors import Permanent, Retryable

ENTRY_POINT_GROUP: Final = "webhook_streams.plugins"
PLUGIN_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a plugin's id looks like."""


class PluginMissing(Retryable):
    """A tenant's plugin is not installed or broken. A retry works once its package is back, so nothing is given up."""

    code = "no_plugin"


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that is installed and cannot be used. ``details`` is a traceback, where there was one."""

    name: str
    distribution: str
    reason: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class PluginRegistry:
    """Usable plugins by id, and the broken ones."""

    plugins: Mapping[str, PluginManifest] = field(default_factory=dict)
    broken: tuple[BrokenPlugin, ...] = ()

    def find(self, name: str) -> PluginManifest | None:
        """The plugin with that id or alias."""
        if name in self.plugins:
            return self.plugins[name]
        return next((plugin for plugin in self.plugins.values() if name in plugin.aliases), None)

    def of(self, configuration: TenantConfiguration) -> PluginManifest | None:
        """The plugin a tenant is configured for: by ``plugin_route_prefix``, else by ``plugin_name``."""
        return self.find(configuration.plugin_route_prefix) or self.find(configuration.plugin_name)

    def require(self, configuration: TenantConfiguration) -> PluginManifest:
        """As ``of``. Raises ``PluginMissing`` saying whether it is missing or broken, and why."""
        plugin = self.of(configuration)
        if plugin is None:
            raise PluginMissing(self.explain(configuration.plugin_route_prefix))
        return plugin

    def for_tenant(self, tenant: Tenant) -> PluginManifest:
        """As ``require``, and raises ``Permanent`` (code ``plugin_disabled``) where the tenant has it switched off."""
        if not tenant.plugin_enabled:
            raise Permanent(f"the plugin of tenant {tenant.id} is switched off", code="plugin_disabled")
        return self.require(tenant.configuration)

    def problems(self, configuration: TenantConfiguration) -> list[Problem]:
        """What of a configuration does not fit the installed plugins. Nothing here stops it from being stored."""
        plugin = self.of(configuration)
        if plugin is None:
            return [Problem("plugin_route_prefix", self.explain(configuration.plugin_route_prefix))]
        shown = f"plugin {plugin.id} {plugin.version}"
        problems = [
            Problem(path, f"{shown} has no handler {name}; its events will fail")
            for path, name in configuration.handler_names()
            if name not in plugin.handlers
        ]
        wanted = configuration.plugin_version
        if wanted is not None and not _supports(plugin, wanted):
            reason = f"{shown} is made for versions {plugin.supports}, not {wanted}; update the plugin or this setting"
            problems.append(Problem("plugin__v", reason))
        return problems

    def explain(self, name: str) -> str:
        """Why there is no plugin of that name."""
        for broken in self.broken:
            if broken.name == name:
                return f"plugin {name!r} ({broken.distribution}) is broken: {broken.reason}"
        installed = ", ".join(sorted(self.plugins)) or "none"
        return f"plugin {name!r} is not installed; installed are: {installed}. Install its package, then retry"


def load_plugins(points: Iterable[EntryPoint] | None = None) -> PluginRegistry:
    """Every plugin of the entry points, by default of all installed packages. Never raises for a plugin's fault."""
    usable: dict[str, PluginManifest] = {}
    owners: dict[str, str] = {}
    broken: list[BrokenPlugin] = []
    for point in entry_points(group=ENTRY_POINT_GROUP) if points is None else points:
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"
        try:
            manifest = point.load()
            reason = _fault(manifest)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's import may raise anything
            reason = f"{type(error).__name__}: {error}"
            broken.append(BrokenPlugin(point.name, distribution, reason, traceback.format_exc()))
            continue
        if reason:
            broken.append(BrokenPlugin(point.name, distribution, reason))
            continue
        taken = next((name for name in (manifest.id, *manifest.aliases) if name in owners), None)
        if taken is not None:
            reason = f"{owners[taken]} already has the name {taken!r}; uninstall one of the two"
            broken.append(BrokenPlugin(point.name, distribution, reason))
            continue
        usable[manifest.id] = manifest
        owners.update(dict.fromkeys((manifest.id, *manifest.aliases), distribution))
    return PluginRegistry(usable, tuple(broken))


def _fault(manifest: object) -> str | None:
    """What is wrong with what an entry point named; makes every handler, so that a bad one shows at once."""
    if not isinstance(manifest, PluginManifest):
        return f"its entry point names a {type(manifest).__name__}; it must name a handlers.contract.PluginManifest"
    if manifest.api_version != PLUGIN_API_VERSION:
        return f"{manifest.id} {manifest.version} needs plugin API {manifest.api_version}, this is {PLUGIN_API_VERSION}"
    if not PLUGIN_ID.fullmatch(manifest.id):
        return f"its id {manifest.id!r} must be lower-case letters, digits, - and _"
    if not manifest.version or re.search(r"[\s#]", manifest.version):
        return f"its version {manifest.version!r} must be text without spaces and #"
    for field_name in ("supports", "compatible_with"):
        text = getattr(manifest, field_name)
        try:
            SpecifierSet(text)
        except InvalidSpecifier:
            return f"its `{field_name}` {text!r} is no version range; write it as >=2,<3"
    for name in manifest.handlers:
        handler = manifest.handler(name)
        if not isinstance(handler, Handler | StepHandler):
            return f"its handler {name} has neither `handle` nor `handle_step`"
    return None


def _supports(plugin: PluginManifest, version: str) -> bool:
    try:
        return SpecifierSet(plugin.supports).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return not plugin.supports
