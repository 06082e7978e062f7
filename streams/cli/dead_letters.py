"""``webhook dead-letters``: what nobody could read or route; put back, or dismissed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import orjson
import typer
from confluent_kafka import KafkaException

from schemas.events import DeadLetter, now_micros, to_datetime
from schemas.registry import ids_from_registry
from schemas.store import load_ids
from streams.broker.connection import admin_client
from streams.broker.runtime import resolve
from streams.cli.bytes_text import hex_dump, read_bytes
from streams.cli.composition import use_registry_ids
from streams.cli.console import Json, cell, examples, note, say, show, show_json
from streams.cli.control import caller
from streams.cli.durations import duration_s
from streams.dead_letters import DeadLetters, Letter
from streams.errors import SetupError
from streams.settings import Settings

_COLUMNS: Final = {
    "id": "ID",
    "failed_at": "SINCE",
    "group": "GROUP",
    "reason": "REASON",
    "place": "RECORD",
    "size": "BYTES",
    "state": "STATE",
    "error": "ERROR",
}
_ERROR_CHARACTERS: Final = 70

dead_letters_app = typer.Typer(
    help="Records that nobody could read or route. They hold nothing up; each waits until it is put back or dismissed."
    + examples(
        "webhook dead-letters list --group webhook-high",
        "webhook dead-letters show 3-17",
        "webhook dead-letters retry --reason unknown_tenant --dry-run",
        'webhook dead-letters dismiss 3-17 --note "a test of the shop"',
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as `list` shows them.")]
Group = Annotated[str | None, typer.Option(help="Given up by this group: a tier, or webhook-intake.")]
Reason = Annotated[str | None, typer.Option(help="undecodable, unroutable or unknown_tenant.")]
Topic = Annotated[str | None, typer.Option(help="Records of this topic.")]
Since = Annotated[str | None, typer.Option(metavar="DURATION", help="Given up within the last 90s, 15m, 2h, 1d.")]
Every = Annotated[bool, typer.Option("--all", help="Every letter that still waits.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show which ones, and change nothing.")]


@dead_letters_app.command("list")
def list_letters(
    group: Group = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    settled: Annotated[bool, typer.Option("--settled", help="Also those put back or dismissed.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Letters shown at most, the latest.")] = 50,
    as_json: Json = False,
) -> None:
    """List the letters that wait, the latest first.

    [bold]Examples[/bold]

      webhook dead-letters list --since 1d

      webhook dead-letters list --settled --json --limit 10000
    """
    with _opened() as (_, letters):
        chosen = [each for each in letters.letters() if settled or each.state == "waiting"]
    chosen = _filtered(chosen, group, reason, topic, since)
    shown = chosen[::-1][:limit]
    show([_row(each, as_json) for each in shown], _COLUMNS, as_json, "No dead letter waits.")
    if len(shown) < len(chosen):
        note(f"{len(shown)} of {len(chosen)}; --limit shows more.")


@dead_letters_app.command("show")
def show_letter(letter: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Show one letter: what is wrong, its headers, and its value as far as it can be read.

    [bold]Examples[/bold]

      webhook dead-letters show 3-17

      webhook dead-letters show 3-17 --json
    """
    with _opened() as (settings, letters):
        (found,) = _by_ids(letters.letters(), [letter])
        ((_, record),) = next(letters.whole([found]))
    value = record.value
    reading = None if value is None else read_bytes(value, _ids(settings))
    if as_json:
        headers = {each.name: None if each.value is None else _text(each.value) for each in record.headers}
        show_json(
            {
                **_row(found, as_json),
                "record_key": None if record.record_key is None else _text(record.record_key),
                "headers": headers,
                "value": None if reading is None else orjson.loads(_json(reading)),
                "value_hex": None if value is None else value.hex(),
            }
        )
        return
    _show_head(found, record)
    if value is None or reading is None:
        say("value      none")
        return
    say(f"value      {len(value)} bytes, {reading.form}")
    for name, each in reading.fields.items():
        say(f"  {name}: {_json(each)}")
    if reading.error is not None:
        say(f"  {reading.error}", "yellow")
    for line in hex_dump(value, reading.read_bytes if reading.read_bytes < len(value) else 0):
        say(f"  {line}")


@dead_letters_app.command("retry")
def retry_letters(
    ids: Ids = None,
    group: Group = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put records back where they came from, by their keys, once their fault is mended; what fails again comes again.

    Name letters by ids or filters; filters choose among those that wait. A record keeps its headers and gets one more,
    `dead_letter`, with the letter's id. Exit code 1: the brokers did not take all.

    [bold]Examples[/bold]

      webhook dead-letters retry 3-17 4-2

      webhook dead-letters retry --reason unknown_tenant --since 1d --dry-run
    """
    with _opened() as (_, letters):
        chosen = _chosen(letters.letters(), ids, (group, reason, topic, since), every)
        cut = [each.id for each in chosen if not each.is_whole]
        if cut:
            raise SetupError(
                f"Not whole: {', '.join(cut[:5])}; its value was too large for a letter and is cut.",
                "Produce the original anew, then dismiss the letter; leave it out here.",
            )
        done = 0 if dry_run else letters.retry(chosen, caller())
    _report(chosen, done, "put back", dry_run, as_json)


@dead_letters_app.command("dismiss")
def dismiss_letters(
    ids: Ids = None,
    group: Group = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    every: Every = False,
    why: Annotated[str, typer.Option("--note", help="Why nothing is to be done.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Record that nothing is to be done about letters; they stay in the topic and in `list --settled`.

    [bold]Examples[/bold]

      webhook dead-letters dismiss 3-17 --note "a test of the shop"

      webhook dead-letters dismiss --topic plugin-webhooks.changes --dry-run
    """
    with _opened() as (_, letters):
        chosen = _chosen(letters.letters(), ids, (group, reason, topic, since), every)
        done = 0 if dry_run else letters.dismiss(chosen, caller(), why)
    _report(chosen, done, "dismissed", dry_run, as_json)


@contextmanager
def _opened() -> Iterator[tuple[Settings, DeadLetters]]:
    """The letters of the installation that runs. Raises ``SetupError`` where its brokers do not answer."""
    settings = resolve(Settings(), database=False)
    use_registry_ids(settings)
    admin_client(settings)
    try:
        yield settings, DeadLetters(settings)
    except KafkaException as error:
        raise SetupError(
            f"The brokers do not answer: {error.args[0].str()}.", "Check that they run; try again.", exit_code=1
        ) from error


def _ids(settings: Settings) -> Mapping[int, str]:
    if settings.schema_registry_url is None:
        return load_ids()
    subjects = {spec.subject: spec.record for spec in settings.catalogue().specs.values()}
    return ids_from_registry(settings.schema_registry_url, subjects)


def _chosen(
    letters: Sequence[Letter], ids: Sequence[str] | None, filters: tuple[str | None, ...], every: bool
) -> Sequence[Letter]:
    """The letters that a command is about. Raises ``SetupError`` where it names none or an unknown one."""
    if ids:
        return _by_ids(letters, ids)
    if not every and not any(filters):
        raise SetupError("No letter is named.", "Give ids, a filter such as --reason, or --all; try --dry-run first.")
    return _filtered([each for each in letters if each.state == "waiting"], *filters)


def _by_ids(letters: Sequence[Letter], ids: Sequence[str]) -> list[Letter]:
    known = {each.id: each for each in letters}
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise SetupError(f"There is no dead letter {unknown[0]!r}.", "See `webhook dead-letters list --settled`.")
    return [known[each] for each in dict.fromkeys(ids)]


def _filtered(
    letters: Sequence[Letter], group: str | None, reason: str | None, topic: str | None, since: str | None
) -> list[Letter]:
    begin = 0 if since is None else now_micros() - duration_s(since) * 1_000_000
    return [
        each
        for each in letters
        if group in (None, each.record.group)
        and reason in (None, each.record.reason)
        and topic in (None, each.record.topic)
        and each.record.failed_at >= begin
    ]


def _row(letter: Letter, as_json: bool) -> dict[str, object]:
    record = letter.record
    error = (
        record.error if as_json or len(record.error) <= _ERROR_CHARACTERS else record.error[:_ERROR_CHARACTERS] + "…"
    )
    return {
        "id": letter.id,
        "failed_at": to_datetime(record.failed_at),
        "group": record.group,
        "reason": record.reason,
        "place": f"{record.topic}[{record.partition}]@{record.offset}",
        "size": letter.size,
        "state": letter.state,
        "error": error,
        "decided_at": None if letter.decided_at is None else to_datetime(letter.decided_at),
        "decided_by": letter.decided_by,
        "note": letter.note,
    }


def _show_head(letter: Letter, record: DeadLetter) -> None:
    for name, value in _row(letter, True).items():
        if value is not None:
            say(f"{name:10} {cell(value)}")
    say(f"key        {'none' if record.record_key is None else _text(record.record_key)}")
    for header in record.headers:
        say(f"header     {header.name}: {'none' if header.value is None else _text(header.value)}")


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _json(value: Any) -> str:
    return orjson.dumps(value, default=lambda other: _text(other) if isinstance(other, bytes) else str(other)).decode()


def _report(chosen: Sequence[Letter], done: int, what: str, dry_run: bool, as_json: bool) -> None:
    if as_json:
        show_json({"chosen": [each.id for each in chosen], "done": done, "dry_run": dry_run})
    elif dry_run:
        show([_row(each, False) for each in chosen], _COLUMNS, False, "No letter is chosen.")
        note(f"{len(chosen)} would be {what}; nothing was changed.")
    else:
        say(f"{done} of {len(chosen)} {what}.")
    if not dry_run and done < len(chosen):
        raise typer.Exit(1)
