"""``webhook tenants import``: tenants of the original product, as Laravel's ``encrypt()`` stored them."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from handlers.registry import PluginRegistry, load_plugins
from handlers.tenants.configuration import ConfigurationError, TenantConfiguration
from handlers.tenants.encryption import DecryptionError
from handlers.tenants.laravel import decrypt_laravel, parse_app_key
from handlers.tenants.repository import HostnameTaken, SqlTenantRepository
from handlers.tenants.validation import validate_text
from streams.cli.composition import open_keyring
from streams.cli.console import Json, note, progress, show
from streams.cli.tenant_database import tenant_database, told
from streams.errors import SetupError

IMPORT_HELP: Final = """Import tenants of the original product.

FILE holds one JSON object for each website, one a line or all in an array: `configure` as Laravel encrypted it, and
`uuid`, `name`, `hostnames` where they are known. The application key is read from APP_KEY, former ones from
APP_PREVIOUS_KEYS (separated by commas). Websites whose uuid is here already are left alone: an import can be repeated.

[bold]Examples[/bold]

  APP_KEY=base64:... webhook tenants import websites.jsonl --dry-run

  webhook tenants import websites.jsonl --app-key-file app.key --json
"""


@dataclass(slots=True)
class _Row:
    """What became of one website. ``id`` is its new id here."""

    uuid: str
    name: str
    result: str
    id: str | None = None
    reason: str | None = None


def import_tenants(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The websites: JSON.")],
    app_key_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File that holds the application key.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decrypt and check everything, store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Import tenants."""
    plugins = load_plugins()
    with told(), tenant_database() as (engine, settings), progress() as report:
        keys = _app_keys(app_key_file)
        websites = list(_websites(file))
        repository = SqlTenantRepository(engine, open_keyring(settings))
        present = {each.uuid: each.id for each in repository.summaries()}
        read = _reader(keys, plugins)
        rows: list[_Row] = []
        for number, website in enumerate(websites, start=1):
            rows.append(_import(website, read, repository, present, dry_run))
            report("importing", number, len(websites))
    columns = {"uuid": "UUID", "name": "NAME", "result": "RESULT", "id": "ID", "reason": "WHY"}
    fields = [{name: getattr(row, name) for name in columns} for row in rows]
    show(fields, columns, as_json, "The file holds no website.")
    faults = sum(row.result == "failed" for row in rows)
    if faults:
        note(f"{faults} of {len(rows)} websites could not be imported; correct them and import the file again.")
        raise typer.Exit(1)


import_tenants.__doc__ = IMPORT_HELP


def _app_keys(path: Path | None) -> list[bytes]:
    text = path.read_text() if path is not None else os.environ.get("APP_KEY", "")
    if not text.strip():
        raise SetupError(
            "The application key of the original product is not known.", "Set APP_KEY, or give --app-key-file."
        )
    former = [each for each in os.environ.get("APP_PREVIOUS_KEYS", "").split(",") if each.strip()]
    return [parse_app_key(each) for each in (text, *former)]


def _websites(path: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of a file. Raises ``SetupError`` where it is no JSON of objects."""
    try:
        text = path.read_text()
        found = orjson.loads(text) if text.lstrip().startswith("[") else [*map(orjson.loads, text.splitlines())]
    except (OSError, ValueError) as error:
        raise SetupError(
            f"{path} is not JSON: {error}.", "Give an array of objects, or one object a line.", 1
        ) from None
    for number, each in enumerate(found, start=1):
        if not isinstance(each, dict) or not isinstance(each.get("configure"), str):
            reason = f"Website {number} in {path} is no object with a text `configure`."
            raise SetupError(reason, "Export that column as it is stored.", 1)
        yield each


def _reader(keys: Sequence[bytes], plugins: PluginRegistry) -> Callable[[str], TenantConfiguration]:
    return lambda value: validate_text(decrypt_laravel(value, keys), plugins, "its configuration")


def _import(
    website: Mapping[str, Any],
    read: Callable[[str], TenantConfiguration],
    repository: SqlTenantRepository,
    present: dict[str, str],
    dry_run: bool,
) -> _Row:
    hostnames = website.get("hostnames") or website.get("fqdn") or []
    names = [hostnames] if isinstance(hostnames, str) else [str(each) for each in hostnames]
    uuid = str(website.get("uuid") or "")
    row = _Row(uuid, str(website.get("name") or (names[0] if names else uuid or "imported")), "imported")
    if uuid in present:
        row.result, row.id = "present", present[uuid]
        return row
    try:
        configuration = read(website["configure"])
        if dry_run:
            row.result = "would be imported"
            return row
        tenant = repository.create(row.name, configuration.document, names, uuid or None)
    except (DecryptionError, ConfigurationError, HostnameTaken) as error:
        row.result, row.reason = "failed", str(error)
        return row
    row.uuid, row.id = tenant.uuid, tenant.id
    present[tenant.uuid] = tenant.id
    return row
