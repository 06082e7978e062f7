"""``webhook tokens``: who may use the HTTP door."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from handlers.tenants.tokens import Scope, Token, TokenRepository
from streams.cli.console import Json, note, say, show, show_json
from streams.cli.tenant_database import tenant_database, told
from streams.errors import SetupError

_EXAMPLES_OF_BEARERS: Final = """

[bold]Examples[/bold]

  webhook tokens create ci --scope operator --tenant 1

  webhook tokens create dashboard --scope viewer --days 90

  webhook tokens list

  webhook tokens revoke 3
"""

tokens_app = typer.Typer(
    name="tokens",
    help="Bearer tokens of the HTTP door; each is shown once, when it is made." + _EXAMPLES_OF_BEARERS,
    no_args_is_help=True,
    rich_markup_mode="rich",
)


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
    with told(), tenant_database() as (engine, _):
        issued = TokenRepository(engine).create(name, scope, tenant, expires_at)
    if as_json:
        show_json({**_token_row(issued.token), "token": issued.text})
    else:
        note("Keep this token now; it cannot be shown again.")
        say(issued.text)


@tokens_app.command("list", help="List every token, without its text." + _EXAMPLES_OF_BEARERS)
def list_tokens(as_json: Json = False) -> None:
    """List tokens."""
    with told(), tenant_database() as (engine, _):
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
    with told(), tenant_database() as (engine, _):
        revoked = TokenRepository(engine).revoke(token_id)
    if not revoked:
        raise SetupError(f"There is no token {token_id} that could be revoked.", "See `webhook tokens list`.", 1)
    say(f"Token {token_id} is revoked.", "green")


def _token_row(token: Token) -> dict[str, Any]:
    return {**asdict(token), "scope": token.scope.value}
