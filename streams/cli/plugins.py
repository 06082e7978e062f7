"""``webhook plugins``: what is installed, what is wrong with it, and a package to begin a new one with."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from jinja2 import Environment, PackageLoader, StrictUndefined
from packaging.version import Version

from handlers.contract import PluginManifest
from handlers.registry import PLUGIN_ID, PluginRegistry, load_plugins
from handlers.tenants.repository import SqlTenantRepository, TenantUnusable
from streams.cli.composition import open_keyring
from streams.cli.console import Json, examples, say, show, show_json
from streams.cli.plugin_run import HELP as RUN_HELP
from streams.cli.plugin_run import run_handler
from streams.cli.tenant_database import tenant_database, told
from streams.errors import SetupError

_EXAMPLES: Final = examples(
    "webhook plugins list",
    "webhook plugins check acme",
    "webhook plugins check --tenants --json",
    "webhook plugins new acme --directory ~/plugins",
)
_VERSION: Final = "1.0.0"
_FILES: Final[Mapping[str, str]] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "tenant.example.json": "tenant.example.json",
    "{module}/__init__.py": "init.py",
    "{module}/manifest.py": "manifest.py",
    "{module}/order.py": "order.py",
    "tests/upstream.py": "upstream.py",
    "tests/test_plugin.py": "test_plugin.py",
}

plugins_app = typer.Typer(
    name="plugins",
    help="List and check plugins, begin a new one. They are found by the entry points of installed packages, read when "
    "a process starts." + _EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

plugins_app.command("run", help=RUN_HELP)(run_handler)


@plugins_app.command("list", help="List every installed plugin, the broken ones too." + _EXAMPLES)
def list_plugins(as_json: Json = False) -> None:
    """List plugins."""
    columns = {"id": "Id", "version": "Version", "status": "Status", "aliases": "Also", "handlers": "Handlers"}
    rows = _rows(load_plugins())
    if not as_json:
        rows = [{**row, "aliases": ", ".join(row["aliases"]), "handlers": len(row["handlers"])} for row in rows]
        columns["reason"] = "Reason"
    show(rows, columns, as_json, "no plugin is installed")


@plugins_app.command(
    "check",
    help="Check every plugin, or the one named: that it can be imported and used. A broken one is shown with its "
    "import's traceback. Exit 1 where something is wrong." + _EXAMPLES,
)
def check_plugins(
    name: Annotated[str | None, typer.Argument(metavar="[PLUGIN]", help="Its id, alias or entry point.")] = None,
    tenants: Annotated[bool, typer.Option("--tenants", help="Also compare every tenant's configuration.")] = False,
    as_json: Json = False,
) -> None:
    """Check plugins."""
    registry = load_plugins()
    rows = [row for row in _rows(registry) if name is None or name in (row["id"], *row["aliases"])]
    if not rows:
        raise SetupError(f"There is no plugin {name!r}.", "See `webhook plugins list`, or install its package.", 1)
    problems = _tenants_problems(registry) if tenants else []
    if as_json:
        show_json({"plugins": rows, "tenants": problems})
    else:
        for row in rows:
            good = row["status"] == "usable"
            what = f"{len(row['handlers'])} handlers: {', '.join(row['handlers'])}" if good else row["reason"]
            say(f"{row['id']} {row['version'] or ''} is {row['status']}: {what}", "green" if good else "red")
            for line in row["details"].splitlines():
                say(f"  {line}")
        for each in problems:
            say(f"tenant {each['tenant']}: {each['path']}: {each['reason']}", "red")
    if problems or any(row["status"] != "usable" for row in rows):
        raise typer.Exit(1)


@plugins_app.command(
    "new", help="Write a package for a new plugin: manifest, a handler, and tests that pass as they are." + _EXAMPLES
)
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its id: lower-case letters, digits, - and _.")],
    directory: Annotated[
        Path, typer.Option(file_okay=False, help="Where the package's own directory is made.")
    ] = Path(),
) -> None:
    """Write a package."""
    if not PLUGIN_ID.fullmatch(name) or name[0].isdigit():
        raise SetupError(
            f"{name!r} cannot be a plugin's id.", "Take lower-case letters, digits, - and _; begin with a letter."
        )
    target = directory / f"webhook-plugin-{name}"
    if target.exists():
        raise SetupError(f"{target} exists already.", "Take another name or --directory; nothing is overwritten.", 1)
    module = f"webhook_plugin_{name.replace('-', '_')}"
    values = {
        "id": name,
        "module": module,
        "distribution": target.name,
        "title": name.replace("-", " ").replace("_", " ").capitalize(),
        "version": _VERSION,
        "next_major": Version(_VERSION).major + 1,
        "host_version": version("webhook-streams"),
    }
    # Source text, not HTML: escaping would write &#34; into it.
    templates = Environment(
        loader=PackageLoader("streams", "cli/templates/plugin"),
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    for path, template in _FILES.items():
        file = target / path.format(module=module)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(templates.get_template(f"{template}.j2").render(values))
    say(f"Wrote {target}. Next:", "green")
    say(f"  pip install --no-deps --no-build-isolation -e {target} && python -m pytest {target}")
    say(f"  webhook plugins check {name}")


def _rows(registry: PluginRegistry) -> list[dict[str, Any]]:
    """Every plugin, the usable ones first."""
    return [_usable(plugin) for _, plugin in sorted(registry.plugins.items())] + [
        {
            "id": each.name,
            "version": None,
            "title": "",
            "status": "broken",
            "aliases": [],
            "handlers": [],
            "distribution": each.distribution,
            "reason": each.reason,
            "details": each.details,
        }
        for each in registry.broken
    ]


def _usable(plugin: PluginManifest) -> dict[str, Any]:
    return {
        "id": plugin.id,
        "version": plugin.version,
        "title": plugin.title,
        "status": "usable",
        "aliases": list(plugin.aliases),
        "handlers": sorted(plugin.handlers),
        "distribution": None,
        "reason": None,
        "details": "",
    }


def _tenants_problems(registry: PluginRegistry) -> list[dict[str, str]]:
    """What of each tenant's configuration does not fit the installed plugins."""
    found: list[dict[str, str]] = []
    with told(), tenant_database() as (engine, settings):
        repository = SqlTenantRepository(engine, open_keyring(settings))
        for summary in repository.summaries():
            try:
                tenant = repository.get(summary.id)
            except TenantUnusable as error:
                found.append({"tenant": summary.id, "path": "configure", "reason": str(error)})
                continue
            problems = registry.problems(tenant.configuration) if tenant is not None else []
            found += [{"tenant": summary.id, "path": each.path, "reason": each.reason} for each in problems]
    return found
