"""Why a plugin cannot be loaded for a tenant."""


class PluginLoadError(LookupError):
    """A plugin cannot be loaded for a tenant; each subclass is one cause."""


class UnknownTenant(PluginLoadError):
    """No tenant has that id or hostname."""


class UnknownHostname(UnknownTenant):
    """No tenant has that hostname."""


class PluginUnavailable(PluginLoadError):
    """The tenant is there and its plugin cannot be used; each subclass is one cause."""


class NotConfigured(PluginUnavailable):
    """The tenant has no configuration, or one with missing or wrong fields."""


class PluginDisabled(PluginUnavailable):
    """The plugin is switched off for the tenant."""


class PluginNotInstalled(PluginUnavailable):
    """The tenant's plugin is unknown here: not installed, or broken."""


class CapabilityMissing(PluginUnavailable):
    """The plugin, or the tenant's ``plugin_routes``, do not offer what was asked of it."""
