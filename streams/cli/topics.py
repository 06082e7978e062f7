"""``webhook topics``: the topics on the broker, compared with the catalogue."""

from importlib.metadata import version
from typing import Final

import typer

from streams.broker.connection import admin_client
from streams.broker.provision import Action, Change, apply, plan
from streams.broker.runtime import require_real_broker, resolve
from streams.cli.console import Json, examples, say, show, show_json
from streams.settings import Settings
from topics.asyncapi import asyncapi_document

_COLUMNS: Final = {
    "topic": "TOPIC",
    "action": "CHANGE",
    "present": "PRESENT",
    "wanted": "WANTED",
    "reason": "REASON",
}

topics_app = typer.Typer(
    name="topics",
    help="Create the topics on a real Kafka and keep them as the catalogue says."
    + examples("webhook topics plan", "webhook topics apply", "webhook topics check --json", "webhook topics asyncapi"),
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@topics_app.command(
    "plan",
    help="Show what `apply` would change; nothing is changed."
    + examples("webhook topics plan", "webhook topics plan --json"),
)
def plan_topics(as_json: Json = False) -> None:
    """Show the changes."""
    _show(_plan("webhook topics plan"), as_json, "Every topic is as it should be.")


@topics_app.command(
    "apply",
    help="Create and change topics until they match. A second run has nothing to do."
    + examples("webhook topics apply", "WEBHOOK_REPLICATION_FACTOR=3 webhook topics apply"),
)
def apply_topics(as_json: Json = False) -> None:
    """Make the changes."""
    settings = _settings("webhook topics apply")
    changes = apply(admin_client(settings), settings.catalogue(), settings.replication_factor)
    _show(changes, as_json, "Every topic was as it should be already; nothing was changed.")
    if changes and not as_json:
        say(f"{len(changes)} change(s) made.", "green")


@topics_app.command(
    "check",
    help="Exit 1 where a topic is missing or differs, 0 where all match."
    + examples("webhook topics check", "webhook topics check --json"),
)
def check_topics(as_json: Json = False) -> None:
    """Compare, for scripts and monitoring."""
    changes = _plan("webhook topics check")
    _show(changes, as_json, "Every topic is as it should be.")
    if changes:
        if not as_json:
            refused = sum(change.action is Action.REFUSED for change in changes)
            rest = f"; {refused} of them it refuses, for the reason given" if refused else ""
            say(f"{len(changes)} difference(s): see `webhook topics apply`{rest}.", "red")
        raise typer.Exit(1)


@topics_app.command(
    "asyncapi",
    help="Print the topics and their records as an AsyncAPI 3 document, in JSON. No broker is needed."
    + examples("webhook topics asyncapi > asyncapi.json"),
)
def asyncapi() -> None:
    """Describe the topics for other programs and their authors."""
    show_json(asyncapi_document(Settings().catalogue(), version("webhook-streams")))


def _settings(command: str) -> Settings:
    settings = resolve(Settings(), database=False)
    require_real_broker(settings, command)
    return settings


def _plan(command: str) -> list[Change]:
    settings = _settings(command)
    return plan(admin_client(settings), settings.catalogue(), settings.replication_factor)


def _show(changes: list[Change], as_json: bool, empty: str) -> None:
    rows = [
        {"topic": c.topic, "action": c.action, "present": c.present, "wanted": c.wanted, "reason": c.reason}
        for c in changes
    ]
    if as_json:
        show_json({"changes": rows})
    else:
        show(rows, _COLUMNS, False, empty)
