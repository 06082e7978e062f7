"""``webhook inbound``: where providers send their webhooks, and how they sign them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Engine

from handlers.inbound.schemes import LONGEST_SECRET, HmacLayout, Scheme, generated_secret
from handlers.tenants.inbound_sources import (
    DEFAULT_LAYOUT,
    DEFAULT_TOLERANCE_S,
    LONGEST_OVERLAP,
    LONGEST_TOLERANCE_S,
    NewSource,
    Source,
    SourceNotFound,
    SourceRepository,
)
from handlers.tenants.repository import SqlTenantRepository, Tenant, TenantNotFound
from streams.cli.composition import open_keyring
from streams.cli.console import Json, examples, note, say, show, show_json
from streams.cli.tenant_database import tenant_database, told
from streams.errors import SetupError
from streams.settings import Settings

_HOUR: Final = timedelta(hours=1)
_EXAMPLES: Final = examples(
    "webhook inbound create --tenant 1 --route webhook/order --scheme github",
    "webhook inbound create --tenant 1 --route webhook/payment --scheme stripe --secret-file stripe.txt",
    "webhook inbound create --tenant 1 --route webhook/slack --scheme hmac --secret-file - "
    "--signature-header X-Slack-Signature --timestamp-header X-Slack-Request-Timestamp "
    "--signed 'v0:{timestamp}:{body}' --signature-prefix v0=",
    "webhook inbound list --json",
    "webhook inbound rotate 3 --overlap-hours 48",
    "webhook inbound remove 3 --dry-run",
)
_HOW: Final = (
    "Sources of inbound webhooks: each is an address for one provider and one route of a tenant, shown once. Schemes: "
    "standard (Standard Webhooks), github, stripe, shopify, hmac (any HMAC-SHA256 with a timestamp), and token for "
    "providers that sign nothing."
)

inbound_app = typer.Typer(name="inbound", help=_HOW + _EXAMPLES, no_args_is_help=True, rich_markup_mode="rich")

SourceId = Annotated[int, typer.Argument(metavar="ID", help="The source's id, as listed.")]
SecretFile = Annotated[
    str | None,
    typer.Option(help="File with the secret, - for standard input. Without: one is made and shown once."),
]


@inbound_app.command("create", help="Make a source; prints its address and a secret that was made, once." + _EXAMPLES)
def create_source(
    tenant: Annotated[str, typer.Option(help="The tenant: its id or one of its hostnames.")],
    route: Annotated[str, typer.Option(help="One of the tenant's plugin_routes with POST, as webhook/order.")],
    scheme: Annotated[Scheme, typer.Option(help="How the provider signs.")],
    name: Annotated[str | None, typer.Option(help="The source's name. Without: the scheme's.")] = None,
    secret_file: SecretFile = None,
    tolerance_s: Annotated[
        int, typer.Option(min=1, max=LONGEST_TOLERANCE_S, help="How far a timestamp may be away, seconds.")
    ] = DEFAULT_TOLERANCE_S,
    signature_header: Annotated[str, typer.Option(help="hmac: header of the signature.")] = (
        DEFAULT_LAYOUT.signature_header
    ),
    timestamp_header: Annotated[str, typer.Option(help="hmac: header of the time, Unix seconds.")] = (
        DEFAULT_LAYOUT.timestamp_header
    ),
    id_header: Annotated[str, typer.Option(help="hmac, token: header of the delivery's id.")] = (
        DEFAULT_LAYOUT.id_header
    ),
    signed: Annotated[str, typer.Option(help="hmac: what is signed; may hold {id} too.")] = DEFAULT_LAYOUT.signed,
    encoding: Annotated[str, typer.Option(help="hmac: hex or base64.")] = DEFAULT_LAYOUT.encoding,
    signature_prefix: Annotated[str, typer.Option(help="hmac: text before the signature, as sha256=.")] = "",
    as_json: Json = False,
) -> None:
    """Make a source."""
    with _refused():
        layout = HmacLayout(
            signature_header=signature_header,
            timestamp_header=timestamp_header,
            id_header=id_header,
            signed=signed,
            encoding=encoding,  # type: ignore[arg-type]  # checked by the layout
            signature_prefix=signature_prefix,
        )
    secret, is_new = _secret(scheme, secret_file)
    with _refused(), told(), tenant_database() as (engine, settings):
        found = _tenant(engine, settings, tenant)
        path = _listed_route(found, route)
        new = NewSource(name or scheme.value, found.id, path, scheme, secret, tolerance_s, layout)
        issued = _repository(engine, settings).create(new)
    address = f"/in/{issued.token}/{found.configuration.plugin_route_prefix}/{path}"
    if as_json:
        show_json({**_row(issued.source), "path": address, "secret": secret if is_new else None})
        return
    note("Keep this address now; it cannot be shown again. Give it to the provider behind the HTTP door's own address.")
    say(address)
    if is_new:
        note("Give the provider this secret too; it is shown only now.")
        say(secret or "")
    if scheme is Scheme.TOKEN:
        note("Nothing is signed: whoever knows this address can send. Repeats are told apart only by the id's header.")


@inbound_app.command("list", help="List sources, without their addresses and secrets." + _EXAMPLES)
def list_sources(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant: its id.")] = None, as_json: Json = False
) -> None:
    """List sources."""
    with told(), tenant_database() as (engine, settings):
        rows = [_row(each) for each in _repository(engine, settings).all(tenant)]
    columns = {
        "id": "ID",
        "name": "NAME",
        "tenant_id": "TENANT",
        "route": "ROUTE",
        "scheme": "SCHEME",
        "token_prefix": "TOKEN BEGINS WITH",
        "rotated_at": "ROTATED",
        "former_until": "FORMER SECRET UNTIL",
    }
    show(rows, columns, as_json, "No sources yet. `webhook inbound create` makes one.")


@inbound_app.command(
    "rotate", help="Give a source another secret; the former one counts a while longer, so nothing is lost." + _EXAMPLES
)
def rotate_secret(
    source_id: SourceId,
    secret_file: SecretFile = None,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=LONGEST_OVERLAP // _HOUR, help="Hours for which both secrets count.")
    ] = 24,
    as_json: Json = False,
) -> None:
    """Rotate a secret."""
    with _refused(), told(), tenant_database() as (engine, settings):
        repository = _repository(engine, settings)
        secret, is_new = _secret(repository.get(source_id).scheme, secret_file)
        source = repository.rotate(source_id, secret or "", overlap_hours * _HOUR)
    if as_json:
        show_json({**_row(source), "secret": secret if is_new else None})
        return
    if is_new:
        note("Give the provider this secret now; it cannot be shown again.")
        say(secret or "")
    until = "no longer counts" if overlap_hours == 0 else f"counts for {overlap_hours} hours more"
    note(f"Source {source.id} has another secret; the former one {until}.")


@inbound_app.command("remove", help="Remove a source: its address is worthless from then on." + _EXAMPLES)
def remove_source(
    source_id: SourceId,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a source."""
    with _refused(), told(), tenant_database() as (engine, settings):
        repository = _repository(engine, settings)
        source = repository.get(source_id) if dry_run else repository.remove(source_id)
    if as_json:
        show_json({**_row(source), "removed": not dry_run})
        return
    done = "would be removed" if dry_run else "is removed"
    say(f"Source {source.id} ({source.name}, {source.route} of tenant {source.tenant_id}) {done}.", "green")


def _repository(engine: Engine, settings: Settings) -> SourceRepository:
    return SourceRepository(engine, open_keyring(settings))


def _tenant(engine: Engine, settings: Settings, tenant: str) -> Tenant:
    tenants = SqlTenantRepository(engine, open_keyring(settings))
    found = tenants.get(tenant) if tenant.isdigit() else tenants.by_hostname(tenant)
    if found is None:
        raise TenantNotFound(tenant)
    return found


def _listed_route(tenant: Tenant, route: str) -> str:
    """The route as the tenant lists it. Raises ``SetupError`` for one that is not, or that leads outwards."""
    path = route.strip("/")
    configuration = tenant.configuration
    if path.startswith("webhook/") and configuration.lists_route(path):
        return path
    routes = [each.route for each in configuration.plugin_routes if each.method == "POST"]
    inward = ", ".join(each for each in routes if each.startswith("webhook/")) or "none"
    raise SetupError(
        f"{path} is no route by which tenant {tenant.id} takes webhooks; it lists {inward}.",
        'Add {"route": "webhook/...", "method": "POST"} to its plugin_routes with `webhook tenants configure`.',
        1,
    )


def _secret(scheme: Scheme, file: str | None) -> tuple[str | None, bool]:
    """The secret, and whether it was made here. Raises ``SetupError``, which never shows it."""
    if not scheme.takes_secret:
        if file is not None:
            raise SetupError("With the scheme token nothing is signed.", "Leave --secret-file out.")
        return None, False
    if file is not None:
        return _read_secret(file), False
    if scheme.secret_is_theirs:
        raise SetupError(f"{scheme.value} makes the secret itself.", "Give it with --secret-file, or - to type it in.")
    return generated_secret(scheme), True


def _read_secret(file: str) -> str:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(LONGEST_SECRET * 2)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(LONGEST_SECRET * 2)
        return data.decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SetupError(f"The secret cannot be read from {file}: {reason}.", "Name a text file, or -.") from None


@contextmanager
def _refused() -> Iterator[None]:
    """Turn what a source cannot be into a message."""
    try:
        yield
    except SourceNotFound as error:
        raise SetupError(f"{error}.", exit_code=1) from None
    except ValueError as error:
        raise SetupError(f"This source cannot be: {error}.", "See `webhook inbound create --help`.") from None


def _row(source: Source) -> dict[str, Any]:
    layout = asdict(source.layout) if source.scheme is Scheme.HMAC else None
    return {**asdict(source), "scheme": source.scheme.value, "layout": layout}
