"""``webhook tenants`` and ``webhook tokens``: who may use the system, and how it is configured for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Engine

from handlers.registry import PluginRegistry, load_plugins
from handlers.tenants.configuration import ConfigurationError, Problem, TenantConfiguration, read_configuration
from handlers.tenants.repository import (
    HostnameTaken,
    SqlTenantRepository,
    Tenant,
    TenantNotFound,
    TenantsUnavailable,
    TenantUnusable,
)
from handlers.tenants.tokens import Scope, Token, TokenRepository
from streams.broker.runtime import resolve
from streams.cli.composition import open_database, open_keyring
from streams.cli.console import Json, note, say, show, show_json
from streams.database import check_migrations
from streams.errors import SetupError
from streams.settings import Settings

_TENANT_EXAMPLES: Final = """

[bold]Examples[/bold]

  webhook tenants create Acme --config acme.json --hostname shop.acme.example

  webhook tenants check --config acme.json

  webhook tenants show 1

  webhook tenants list --json
"""

_EXAMPLES_OF_BEARERS: Final = """

[bold]Examples[/bold]

  webhook tokens create ci --scope operator --tenant 1

  webhook tokens create dashboard --scope viewer --days 90

  webhook tokens list

  webhook tokens revoke 3
"""

tenants_app = typer.Typer(
    name="tenants",
    help="Tenants and their configuration; secrets are stored encrypted and never shown." + _TENANT_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)
tokens_app = typer.Typer(
    name="tokens",
    help="Bearer tokens of the HTTP door; each is shown once, when it is made." + _EXAMPLES_OF_BEARERS,
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
    with _told(), _database() as (engine, settings):
        configuration = _read(config)
        repository = SqlTenantRepository(engine, open_keyring(settings))
        tenant = repository.create(name, configuration.document, hostname or ())
    _tell_notes(configuration, load_plugins())
    _show_stored(tenant, "created", as_json)


@tenants_app.command("configure", help="Replace a tenant's configuration as a whole." + _TENANT_EXAMPLES)
def configure_tenant(tenant: WhichTenant, config: ConfigFile, as_json: Json = False) -> None:
    """Replace a configuration."""
    with _told(), _database() as (engine, settings):
        configuration = _read(config)
        repository = SqlTenantRepository(engine, open_keyring(settings))
        # By id the tenant need not be usable: giving it a configuration is how it becomes so.
        tenant_id = tenant if tenant.isdigit() else _find(repository, tenant).id
        stored = repository.configure(tenant_id, configuration.document)
    _tell_notes(configuration, load_plugins())
    _show_stored(stored, "configured", as_json)


@tenants_app.command("list", help="List every tenant." + _TENANT_EXAMPLES)
def list_tenants(as_json: Json = False) -> None:
    """List tenants."""
    with _told(), _database() as (engine, settings):
        rows = [asdict(each) for each in SqlTenantRepository(engine, open_keyring(settings)).summaries()]
    if not as_json:
        rows = [{**row, "hostnames": ", ".join(row["hostnames"])} for row in rows]
    columns = {
        "id": "ID",
        "name": "NAME",
        "hostnames": "HOSTNAMES",
        "configured": "CONFIGURED",
        "created_at": "CREATED",
    }
    show(rows, columns, as_json, "No tenants yet. `webhook tenants create` makes one.")


@tenants_app.command("show", help="Show a tenant and its configuration, secrets masked." + _TENANT_EXAMPLES)
def show_tenant(tenant: WhichTenant) -> None:
    """Show a tenant as JSON."""
    with _told(), _database() as (engine, settings):
        found = _find(SqlTenantRepository(engine, open_keyring(settings)), tenant)
    show_json(
        {
            "id": found.id,
            "uuid": found.uuid,
            "name": found.name,
            "hostnames": found.hostnames,
            "plugin_enabled": found.plugin_enabled,
            "configuration": found.configuration.masked(),
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
    as_json: Json = False,
) -> None:
    """Check a configuration."""
    if (tenant is None) == (config is None):
        raise typer.BadParameter("name a tenant, or a file with --config")
    problems: list[Problem] = []
    notes: list[Problem] = []
    try:
        configuration = _read(config) if config else _stored_configuration(tenant or "")
        notes = _notes(configuration, load_plugins())
    except ConfigurationError as error:
        problems = list(error.problems)
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


@tokens_app.command("create", help="Make a token and print it, once." + _EXAMPLES_OF_BEARERS)
def create_token(
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    scope: Annotated[Scope, typer.Option(help="What it may do.")] = Scope.OPERATOR,
    tenant: Annotated[str | None, typer.Option(help="Tenant it is bound to: its id. Without: every tenant.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires. Without: never.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with _told(), _database() as (engine, _):
        issued = TokenRepository(engine).create(name, scope, tenant, expires_at)
    if as_json:
        show_json({**_token_row(issued.token), "token": issued.text})
    else:
        note("Keep this token now; it cannot be shown again.")
        say(issued.text)


@tokens_app.command("list", help="List every token, without its text." + _EXAMPLES_OF_BEARERS)
def list_tokens(as_json: Json = False) -> None:
    """List tokens."""
    with _told(), _database() as (engine, _):
        rows = [_token_row(each) for each in TokenRepository(engine).all()]
    columns = {
        "id": "ID",
        "name": "NAME",
        "prefix": "BEGINS WITH",
        "scope": "SCOPE",
        "tenant_id": "TENANT",
        "last_used_at": "LAST USED",
        "expires_at": "EXPIRES",
        "revoked_at": "REVOKED",
    }
    show(rows, columns, as_json, "No tokens yet. `webhook tokens create` makes one.")


@tokens_app.command("revoke", help="Make a token worthless from now on." + _EXAMPLES_OF_BEARERS)
def revoke_token(token_id: Annotated[int, typer.Argument(metavar="ID", help="The token's id, as listed.")]) -> None:
    """Revoke a token."""
    with _told(), _database() as (engine, _):
        revoked = TokenRepository(engine).revoke(token_id)
    if not revoked:
        raise SetupError(f"There is no token {token_id} that could be revoked.", "See `webhook tokens list`.", 1)
    say(f"Token {token_id} is revoked.", "green")


@contextmanager
def _database() -> Iterator[tuple[Engine, Settings]]:
    """The system's database at the right migration; Kafka is not needed."""
    settings = resolve(Settings(), kafka=False)
    engine = open_database(settings)
    try:
        check_migrations(engine, ("system",))
        yield engine, settings
    finally:
        engine.dispose()


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a user can get wrong into a message and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        raise SetupError(
            str(error), "Correct these places; `webhook tenants check --config FILE` checks again.", 1
        ) from None
    except (HostnameTaken, TenantUnusable) as error:
        raise SetupError(str(error), exit_code=1) from None
    except TenantNotFound as error:
        raise SetupError(str(error), exit_code=1) from None
    except TenantsUnavailable as error:
        raise SetupError(str(error), "Start the database, or give the keys it was encrypted with.") from error


def _read(path: Path) -> TenantConfiguration:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"The file {path} cannot be read: {error}.", "Give a text file in UTF-8.") from None
    return read_configuration(text, str(path))


def _stored_configuration(tenant: str) -> TenantConfiguration:
    with _database() as (engine, settings):
        repository = SqlTenantRepository(engine, open_keyring(settings))
        try:
            return _find(repository, tenant).configuration
        except (TenantNotFound, TenantsUnavailable) as error:
            raise SetupError(str(error), exit_code=1) from None


def _find(repository: SqlTenantRepository, tenant: str) -> Tenant:
    found = repository.get(tenant) if tenant.isdigit() else repository.by_hostname(tenant)
    if found is None:
        raise TenantNotFound(tenant)
    return found


def _notes(configuration: TenantConfiguration, plugins: PluginRegistry) -> list[Problem]:
    """What is allowed and probably not meant, the plugin's view included."""
    plugin = plugins.of(configuration)
    if plugin is None:
        reason = plugins.explain(configuration.plugin_route_prefix)
        return [*configuration.notes(), Problem("plugin_route_prefix", reason)]
    missing = [
        Problem(path, f"plugin {plugin.id} {plugin.version} has no handler {name}; its events will fail")
        for path, name in configuration.handler_names()
        if name not in plugin.handlers
    ]
    return [*configuration.notes(plugin.config_schema.get("properties", {})), *missing]


def _tell_notes(configuration: TenantConfiguration, plugins: PluginRegistry) -> None:
    for each in _notes(configuration, plugins):
        note(f"warning: {each}")


def _show_stored(tenant: Tenant, what: str, as_json: bool) -> None:
    if as_json:
        show_json({"id": tenant.id, "uuid": tenant.uuid, "name": tenant.name, "hostnames": tenant.hostnames})
    else:
        say(f"Tenant {tenant.id} ({tenant.name}) is {what}.", "green")


def _token_row(token: Token) -> dict[str, Any]:
    return {**asdict(token), "scope": token.scope.value}
