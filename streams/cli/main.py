"""The command ``webhook``: every subcommand, and the one place where an error becomes a message and an exit code.

A subcommand's module is imported when the subcommand is used: most need Faust and a database's driver, which take
over a second to import, and ``webhook --help`` needs neither.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from streams.errors import SetupError

if TYPE_CHECKING:
    from pydantic import ValidationError

EXIT_CODES = "Exit codes: 0 done, 1 failed or not in time, 2 wrong use or set-up, 130 interrupted."

COMMANDS: Final = {
    "demo": ("streams.cli.demo:demo", "Run the main job once: 1,000 orders of a print shop, 100 manual triggers"),
    "up": ("streams.cli.up:up", "Run everything in this process"),
    "trigger": ("streams.cli.trigger:trigger", "Ask for a webhook."),
    "emit": ("streams.cli.emit:emit", "Tell of a change"),
    "explain": ("streams.cli.explain:explain", "Say what would fire"),
    "trace": ("streams.cli.trace:trace", "Tell the story of an event"),
    "call-back": ("streams.cli.call_backs:call_back", "Call back a handler that waits."),
    "call-backs": ("streams.cli.call_backs:call_backs", "List the latest call-backs"),
    "events": ("streams.cli.events:events", "List the latest events"),
    "attempts": ("streams.cli.attempts:attempts", "List the tries of an event"),
    "waiting": ("streams.cli.waiting:waiting", "List every event that has not ended"),
    "why": ("streams.cli.waiting:why", "Say why one event has not ended"),
    "schedule": ("streams.cli.schedule:schedule_app", "Delays, retries, deferrals and strict lanes"),
    "migrate": ("streams.cli.migrate:migrate", "Bring the database to the schema of this version"),
    "work": ("streams.cli.work:work", "Carry out the tasks of one or more tiers"),
    "workers": ("streams.cli.workers:workers", "List the workers that run"),
    "status": ("streams.cli.status:status", "Say how the six tiers are"),
    "metrics": ("streams.cli.metrics:metrics", "Count the events of the last days by date"),
    "rebalance": ("streams.cli.rebalance:rebalance", "Move waiting records from loaded tiers"),
    "queue": ("streams.cli.queue:queue_app", "Work on queues; list, retry and dismiss what failed"),
    "replay": ("streams.cli.replay:replay_app", "Run ended events anew, as a job that survives a kill"),
    "resolve": ("streams.cli.resolve:resolve_event", "End an event from whatever state it is in"),
    "pause": ("streams.cli.control:pause", "Let tiers start nothing new"),
    "resume": ("streams.cli.control:resume", "Let paused tiers go on"),
    "restart": ("streams.cli.control:restart", "Let the workers of tiers end in order"),
    "dead-letters": ("streams.cli.dead_letters:dead_letters_app", "Records that nobody could read or route."),
    "outbox": ("streams.cli.outbox:outbox_app", "Rows of the outboxes"),
    "rates": ("streams.cli.rates:rates_app", "Call rates of tenants' upstreams"),
    "breakers": ("streams.cli.rates:breakers_app", "Circuits to tenants' upstreams"),
    "weights": ("streams.cli.rates:weights_app", "Tenants' shares of the workers"),
    "intake": ("streams.cli.roles:intake", "Accept changes and requests"),
    "relay": ("streams.cli.roles:relay", "Publish the outbox and what is due of the schedule"),
    "project": ("streams.cli.roles:project", "Fold the log into the history"),
    "monitor": ("streams.cli.roles:monitor", "Measure the six tiers and publish their health"),
    "serve": ("streams.cli.roles:serve", "Take triggers by HTTP, show events"),
    "audit": (
        "streams.cli.audit:audit_app",
        "Prove from PostgreSQL's log that no change of a tracked table went unannounced",
    ),
    "guard": (
        "streams.cli.commit_guard:guard_app",
        "Let PostgreSQL refuse a commit that changes a tracked table without an event",
    ),
    "local": ("streams.cli.local:local_app", "Run Apache Kafka and PostgreSQL on this machine"),
    "topics": ("streams.cli.topics:topics_app", "Create the topics on a real Kafka"),
    "tenants": ("streams.cli.tenants:tenants_app", "Tenants and their configuration"),
    "keys": ("streams.cli.keys:keys_app", "Keys that encrypt tenants' configuration"),
    "tokens": ("streams.cli.tokens:tokens_app", "Bearer tokens of the HTTP door"),
    "inbound": ("streams.cli.inbound:inbound_app", "Sources of inbound webhooks"),
    "versions": ("streams.cli.versions:versions_app", "List which versions of plugins open events run on"),
    "plugins": ("streams.cli.plugins:plugins_app", "List and check plugins, begin a new one"),
    "fakes": ("streams.cli.fakes:fakes_app", "Serve stand-ins for the upstreams on this machine"),
}
"""Every subcommand: its function or application as ``module:name``, and how its help begins."""


class _Deferred(TyperCommand):
    """A subcommand that is imported when it is used."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._target = target

    def load(self) -> Any:
        """The command itself."""
        module, attribute = self._target.split(":")
        found = getattr(import_module(module), attribute)
        parent = typer.Typer(rich_markup_mode="rich")
        if isinstance(found, typer.Typer):
            parent.add_typer(found, name=self.name)
        else:
            parent.command(self.name)(found)
        return get_group(parent).commands[self.name or ""]

    @property
    def commands(self) -> dict[str, Any]:
        """Its own subcommands, where it has any."""
        return getattr(self.load(), "commands", {})

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Begin the command itself, which goes on from there."""
        return self.load().make_context(*arguments, **options)


class _Commands(TyperGroup):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, (target, summary) in COMMANDS.items():
            self.add_command(_Deferred(name, target, summary), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command of ``status``, and of ``webhook:status`` and ``queue:retry`` as ``php artisan`` spells them."""
        group, colon, rest = args[0].partition(":")
        if colon and rest and group == "webhook":
            args = [rest, *args[1:]]
        elif colon and rest and group in COMMANDS:
            args = [group, rest, *args[1:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="webhook",
    cls=_Commands,
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


def main() -> None:
    """Run the command line and leave the process: the entry point of the script ``webhook``."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except SetupError as error:
        _fail(error.message, error.hint, error.exit_code)
    except Exception as error:
        from pydantic import ValidationError

        if isinstance(error, ValidationError):
            _fail(*_explain_settings(error), 2)
        if os.environ.get("WEBHOOK_LOG_LEVEL", "").lower() == "debug":
            raise
        _fail(*_explain(error), 1)


def _fail(message: str, hint: str, exit_code: int) -> NoReturn:
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[red bold]Error:[/] {escape(message)}")
    if hint:
        console.print(f"[bold]What to do:[/] {escape(hint)}")
    sys.exit(exit_code)


def _explain(error: Exception) -> tuple[str, str]:
    """Message and hint for what no command expected."""
    from confluent_kafka import KafkaException

    from streams.broker.connection import PASSING_ERRORS

    if isinstance(error, KafkaException) and error.args[0].code() in PASSING_ERRORS:
        message = f"the Kafka brokers, or the leader of a partition, do not answer: {error.args[0].str()}"
        return message, "run it again once they are back; `webhook local status` shows local services."
    message = f"unexpected error: {type(error).__name__}: {error}"
    return message, "set WEBHOOK_LOG_LEVEL=debug and run it again to see where it comes from."


def _explain_settings(error: "ValidationError") -> tuple[str, str]:
    """Message and hint for settings that do not validate; values are left out, they may be secrets."""
    lines = [
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors(include_input=False)
    ]
    hint = "correct them; a setting is read from the environment variable WEBHOOK_ and its name in capitals."
    return f"{error.title}: {len(lines)} value(s) are not valid: " + "; ".join(lines), hint
