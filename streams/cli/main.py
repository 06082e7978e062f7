"""The command ``webhook``: every subcommand, and the one place where an error becomes a message and an exit code."""

import os
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from streams.cli.demo import demo
from streams.cli.events import events
from streams.cli.fakes import fakes_app
from streams.cli.local import local_app
from streams.cli.migrate import migrate
from streams.cli.roles import add_roles
from streams.cli.tenants import tenants_app, tokens_app
from streams.cli.topics import topics_app
from streams.cli.trigger import HELP as TRIGGER_HELP
from streams.cli.trigger import trigger
from streams.cli.up import up
from streams.errors import SetupError

EXIT_CODES = "Exit codes: 0 done, 1 failed or not in time, 2 wrong use or set-up, 130 interrupted."

app = typer.Typer(
    name="webhook",
    help=(
        "Multi-tenant plugins and webhooks as an event-sourced pipeline on Kafka.\n\n"
        "[bold]Examples[/bold]\n\n"
        "  webhook demo\n\n"
        "  webhook up\n\n"
        "  webhook trigger webhook/order --tenant 1 --payload @order.json --wait\n\n"
        "  webhook events --limit 5 --json\n\n" + EXIT_CODES
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    # Errors are turned into messages below; a traceback with local variables could show a tenant's secrets.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"webhook-streams {version('webhook-streams')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options before the subcommand."""


app.command("demo")(demo)
app.command("up")(up)
app.command("trigger", help=TRIGGER_HELP)(trigger)
app.command("events")(events)
app.command("migrate")(migrate)
add_roles(app)
app.add_typer(local_app, name="local")
app.add_typer(topics_app, name="topics")
app.add_typer(tenants_app, name="tenants")
app.add_typer(tokens_app, name="tokens")
app.add_typer(fakes_app, name="fakes")


def main() -> None:
    """Run the command line and leave the process: the entry point of the script ``webhook``."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except SetupError as error:
        _fail(error.message, error.hint, error.exit_code)
    except ValidationError as error:
        _fail(*_explain_settings(error), 2)
    except Exception as error:
        if os.environ.get("WEBHOOK_LOG_LEVEL", "").lower() == "debug":
            raise
        _fail(
            f"unexpected error: {type(error).__name__}: {error}",
            "set WEBHOOK_LOG_LEVEL=debug and run it again to see where it comes from.",
            1,
        )


def _fail(message: str, hint: str, exit_code: int) -> NoReturn:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[red bold]Error:[/] {escape(message)}")
    if hint:
        console.print(f"[bold]What to do:[/] {escape(hint)}")
    sys.exit(exit_code)


def _explain_settings(error: ValidationError) -> tuple[str, str]:
    """Message and hint for settings that do not validate; values are left out, they may be secrets."""
    lines = [
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors(include_input=False)
    ]
    hint = "correct them; a setting is read from the environment variable WEBHOOK_ and its name in capitals."
    return f"{error.title}: {len(lines)} value(s) are not valid: " + "; ".join(lines), hint
