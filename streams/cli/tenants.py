"""``webhook tenants``: who uses the system, and how it is configured for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from handlers.outbound import GuardedClient
from handlers.redaction import Redactor
from handlers.registry import PluginRegistry, load_plugins
from handlers.tenants.configuration import ConfigurationError, Problem, TenantConfiguration
from handlers.tenants.repository import SqlTenantRepository, Tenant, TenantNotFound, TenantUnusable
from handlers.tenants.secrets import secret_values
from handlers.tenants.validation import validate, validate_text
from streams.cli.composition import open_keyring
from streams.cli.console import Json, note, say, show, show_json
from streams.cli.tenant_database import tenant_database, told
from streams.cli.tenant_import import import_tenants
from streams.errors import SetupError
from streams.settings import Settings

_CONNECT_S: Final = 60.0

_TENANT_EXAMPLES: Final = """

[bold]Examples[/bold]

  webhook tenants create Acme --config acme.json --hostname shop.acme.example

  webhook tenants check --config acme.json

  webhook tenants check 1 --connect

  webhook tenants configure 1 --config acme.json --dry-run

  webhook tenants show 1

  webhook tenants list --json
"""

tenants_app = typer.Typer(
    name="tenants",
    help="Tenants and their configuration; secrets are stored encrypted and never shown." + _TENANT_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)
ConfigFile = Annotated[
    Path, typer.Option("--config", exists=True, dir_okay=False, help="The configuration: JSON, comments allowed.")
]
WhichTenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id, or one of its hostnames.")]


@tenants_app.command("create", help="Add a tenant with its configuration." + _TENANT_EXAMPLES)
def create_tenant(
    name: Annotated[str, typer.Argument(help="The tenant's name, for people.")],
    config: ConfigFile,
    hostname: Annotated[list[str] | None, typer.Option(help="A hostname of the tenant; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Add a tenant."""
    plugins = load_plugins()
    with told(), tenant_database() as (engine, settings):
        configuration = _read(config, plugins)
        repository = SqlTenantRepository(engine, open_keyring(settings))
        tenant = repository.create(name, configuration.document, hostname or ())
    _tell_notes(configuration, plugins)
    _show_stored(tenant, "created", as_json)


@tenants_app.command("configure", help="Replace a tenant's configuration as a whole." + _TENANT_EXAMPLES)
def configure_tenant(
    tenant: WhichTenant,
    config: ConfigFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which settings would change.")] = False,
    as_json: Json = False,
) -> None:
    """Replace a configuration."""
    plugins = load_plugins()
    with told(), tenant_database() as (engine, settings):
        configuration = _read(config, plugins)
        repository = SqlTenantRepository(engine, open_keyring(settings))
        if dry_run:
            changes = configuration.changes_from(_usable(repository, tenant))
            _tell_notes(configuration, plugins)
            rows = [{"path": path, "change": change} for path, change in changes.items()]
            show(rows, {"path": "SETTING", "change": "WOULD BE"}, as_json, "Nothing would change.")
            return
        stored = repository.configure(_tenant_id(repository, tenant), configuration.document)
    _tell_notes(configuration, plugins)
    _show_stored(stored, "configured", as_json)


@tenants_app.command("enable", help="Let a tenant's plugin run again." + _TENANT_EXAMPLES)
def enable_tenant(tenant: WhichTenant) -> None:
    """Switch a plugin on."""
    _switch(tenant, enabled=True)


@tenants_app.command(
    "disable", help="Keep a tenant's plugin from running: its events fail, saying so." + _TENANT_EXAMPLES
)
def disable_tenant(tenant: WhichTenant) -> None:
    """Switch a plugin off."""
    _switch(tenant, enabled=False)


@tenants_app.command("list", help="List every tenant." + _TENANT_EXAMPLES)
def list_tenants(as_json: Json = False) -> None:
    """List tenants."""
    with told(), tenant_database() as (engine, settings):
        rows = [asdict(each) for each in SqlTenantRepository(engine, open_keyring(settings)).summaries()]
    if not as_json:
        rows = [{**row, "hostnames": ", ".join(row["hostnames"])} for row in rows]
    columns = {
        "id": "ID",
        "name": "NAME",
        "hostnames": "HOSTNAMES",
        "configured": "CONFIGURED",
        "plugin_enabled": "PLUGIN ON",
        "created_at": "CREATED",
    }
    show(rows, columns, as_json, "No tenants yet. `webhook tenants create` makes one.")


@tenants_app.command("show", help="Show a tenant and its configuration, secrets masked." + _TENANT_EXAMPLES)
def show_tenant(tenant: WhichTenant) -> None:
    """Show a tenant as JSON."""
    with told(), tenant_database() as (engine, settings):
        found = _find(SqlTenantRepository(engine, open_keyring(settings)), tenant)
    plugin = load_plugins().of(found.configuration)
    show_json(
        {
            "id": found.id,
            "uuid": found.uuid,
            "name": found.name,
            "hostnames": found.hostnames,
            "plugin_enabled": found.plugin_enabled,
            "configuration": found.configuration.masked(plugin.config_schema if plugin else {}),
        }
    )


@tenants_app.command(
    "check", help="Check a configuration, of a file or of a tenant; exit 1 where it cannot be used." + _TENANT_EXAMPLES
)
def check_tenant(
    tenant: Annotated[str | None, typer.Argument(metavar="TENANT", help="The tenant's id or hostname.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", exists=True, dir_okay=False, help="Check this file instead.")
    ] = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also try the credentials at the upstream.")] = False,
    as_json: Json = False,
) -> None:
    """Check a configuration."""
    if (tenant is None) == (config is None):
        raise typer.BadParameter("name a tenant, or a file with --config")
    plugins = load_plugins()
    problems: Sequence[Problem] = []
    notes: list[Problem] = []
    try:
        configuration = _read(config, plugins) if config else _stored_configuration(tenant or "", plugins)
        notes = [*configuration.notes(_plugin_keys(configuration, plugins)), *plugins.problems(configuration)]
        if connect:
            problems = asyncio.run(_connect(tenant or "", configuration, plugins, Settings()))
    except ConfigurationError as error:
        problems = error.problems
    except TenantUnusable as error:
        problems = [Problem("", str(error))]
    if as_json:
        show_json({"problems": [each._asdict() for each in problems], "notes": [each._asdict() for each in notes]})
    else:
        for each in problems:
            say(f"error    {each}", "red")
        for each in notes:
            say(f"warning  {each}", "yellow")
        say("The configuration cannot be used." if problems else "The configuration can be used.")
    if problems:
        raise typer.Exit(1)


tenants_app.command("import")(import_tenants)


def _read(path: Path, plugins: PluginRegistry) -> TenantConfiguration:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"The file {path} cannot be read: {error}.", "Give a text file in UTF-8.") from None
    return validate_text(text, plugins, str(path))


def _stored_configuration(tenant: str, plugins: PluginRegistry) -> TenantConfiguration:
    with told(), tenant_database() as (engine, settings):
        repository = SqlTenantRepository(engine, open_keyring(settings))
        try:
            configuration = _find(repository, tenant).configuration
        except TenantUnusable as error:
            raise ConfigurationError([Problem("", str(error))]) from None
    return validate(dict(configuration.document), plugins, f"the configuration of tenant {tenant}")


async def _connect(
    tenant_id: str, configuration: TenantConfiguration, plugins: PluginRegistry, settings: Settings
) -> list[Problem]:
    """What the plugin's own check of the upstream and its credentials finds."""
    plugin = plugins.of(configuration)
    if plugin is None or plugin.manager is None:
        return [Problem("", "no plugin is here that could try the connection")]
    async with GuardedClient(settings.outbound_allow) as client:
        manager = plugin.manager(tenant_id, configuration.document, client)
        # Whatever a plugin raises is an answer here, and is told without the secrets it may quote.
        (answer,) = await asyncio.gather(asyncio.wait_for(manager.check(), _CONNECT_S), return_exceptions=True)
    if answer is None:
        return []
    text = f"no answer within {_CONNECT_S:g} s" if isinstance(answer, TimeoutError) else str(answer)
    redactor = Redactor(secret_values(configuration.document, plugin.config_schema))
    return [Problem("auth", f"the connection does not work: {redactor.text(text)}")]


def _switch(tenant: str, *, enabled: bool) -> None:
    with told(), tenant_database() as (engine, settings):
        repository = SqlTenantRepository(engine, open_keyring(settings))
        tenant_id = _tenant_id(repository, tenant)
        repository.switch_plugin(tenant_id, enabled)
    say(f"The plugin of tenant {tenant_id} is switched {'on' if enabled else 'off'}.", "green")


def _tenant_id(repository: SqlTenantRepository, tenant: str) -> str:
    # By id the tenant need not be usable: giving it a configuration is how it becomes so.
    return tenant if tenant.isdigit() else _find(repository, tenant).id


def _usable(repository: SqlTenantRepository, tenant: str) -> TenantConfiguration | None:
    try:
        return _find(repository, tenant).configuration
    except TenantUnusable:
        return None


def _find(repository: SqlTenantRepository, tenant: str) -> Tenant:
    found = repository.get(tenant) if tenant.isdigit() else repository.by_hostname(tenant)
    if found is None:
        raise TenantNotFound(tenant)
    return found


def _plugin_keys(configuration: TenantConfiguration, plugins: PluginRegistry) -> frozenset[str]:
    plugin = plugins.of(configuration)
    return frozenset(plugin.config_schema.get("properties", {}) if plugin else ())


def _tell_notes(configuration: TenantConfiguration, plugins: PluginRegistry) -> None:
    for each in (*configuration.notes(_plugin_keys(configuration, plugins)), *plugins.problems(configuration)):
        note(f"warning: {each}")


def _show_stored(tenant: Tenant, what: str, as_json: bool) -> None:
    if as_json:
        show_json({"id": tenant.id, "uuid": tenant.uuid, "name": tenant.name, "hostnames": tenant.hostnames})
    else:
        say(f"Tenant {tenant.id} ({tenant.name}) is {what}.", "green")
