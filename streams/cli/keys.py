"""``webhook keys``: the keys of tenants' configuration, and their rotation while everything runs."""

from pathlib import Path
from typing import Annotated, Final

import typer

from handlers.tenants.key_file import activate_key, add_key, open_key_file
from handlers.tenants.rotation import count_by_key, rotate
from streams.cli.composition import KEYS_FILE, open_keyring
from streams.cli.console import Json, examples, note, progress, say, show, show_json
from streams.cli.tenant_database import tenant_database, told
from streams.errors import SetupError
from streams.settings import Settings

_SHOWN_FAULTS: Final = 10
_EXAMPLES: Final = examples(
    "webhook keys list",
    "webhook keys new",
    "webhook keys rotate --to k2 --dry-run",
    "webhook keys rotate --to k2",
)
_HOW: Final = (
    "Keys that encrypt tenants' configuration. A rotation has two steps: `new` adds a key that can be read from now "
    "on, and `rotate --to` makes it the active one and brings every stored value under it. Nothing has to stop: "
    "running processes follow the file, and both keys are read meanwhile. On other machines put the new file in place "
    "between the two steps."
)

_LIST: Final = (
    "List the keys, and how many stored values each of them reads. Once that is none, and no backup needs it, a key's "
    "line can be taken out of the file."
)

keys_app = typer.Typer(name="keys", help=_HOW + _EXAMPLES, no_args_is_help=True, rich_markup_mode="rich")


@keys_app.command("list", help=_LIST + _EXAMPLES)
def list_keys(as_json: Json = False) -> None:
    """List keys."""
    with told(), tenant_database() as (engine, settings):
        keyring = open_keyring(settings)
        counts = count_by_key(engine, keyring.ids)
        active = keyring.active
    unread = counts.pop(None)
    rows = [{"id": key_id, "active": key_id == active, "values": number} for key_id, number in counts.items()]
    show(rows, {"id": "ID", "active": "ACTIVE", "values": "STORED VALUES"}, as_json, "There is no key.")
    if unread:
        note(f"warning: {unread} stored values were encrypted with keys that are not here; put those behind these.")


@keys_app.command("new", help="Add a key to the file; it encrypts once you rotate to it." + _EXAMPLES)
def new_key(
    key_id: Annotated[
        str | None, typer.Option("--id", help="Its id. Without: the next free one of k1, k2, ...")
    ] = None,
) -> None:
    """Add a key."""
    settings = Settings()
    with told():
        path = _file(settings)
        open_key_file(path)
        added = add_key(path, key_id)
    say(f"Key {added} is added to {path}.", "green")
    note(
        f"Keep a copy of the file: what is encrypted cannot be read without it. Next: webhook keys rotate --to {added}"
    )


@keys_app.command("rotate", help="Bring every stored value under the active key; may be repeated." + _EXAMPLES)
def rotate_keys(
    to: Annotated[str | None, typer.Option(help="Make this key the active one first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Rotate."""
    with told(), tenant_database() as (engine, settings), progress() as report:
        keyring = open_keyring(settings)
        target = to or keyring.active
        if target not in keyring.ids:
            raise SetupError(
                f"There is no key {target}.", f"Keys are: {', '.join(keyring.ids)}. See `webhook keys new`."
            )
        if dry_run:
            counts = count_by_key(engine, keyring.ids)
            waiting = sum(number for key_id, number in counts.items() if key_id not in (target, None))
            _tell(as_json, target, counts[None] or 0, would_rewrite=waiting)
            return
        if target != keyring.active:
            activate_key(_file(settings), target)
        done = rotate(engine, keyring, lambda number, total: report("rewriting", number, total))
    _tell(as_json, target, len(done.faults), rewritten=done.rewritten)
    for tenant_id, reason in list(done.faults.items())[:_SHOWN_FAULTS]:
        note(f"tenant {tenant_id}: {reason}")
    if done.faults:
        note("Give the keys that are missing, or configure these tenants anew; then rotate again.")
        raise typer.Exit(1)


def _file(settings: Settings) -> Path:
    if settings.encryption_keys is not None:
        raise SetupError(
            "The encryption keys come from WEBHOOK_ENCRYPTION_KEYS, which this command cannot change.",
            "Add `id:base64` of 32 random bytes (openssl rand -base64 32) at its end and restart everything; then put "
            "it first, restart again, and run `webhook keys rotate`. WEBHOOK_ENCRYPTION_KEYS_FILE spares you all that.",
        )
    return settings.encryption_keys_file or settings.data_dir / KEYS_FILE


def _tell(as_json: bool, active: str, left: int, **counted: int) -> None:
    if as_json:
        show_json({"active": active, **counted, "left": left})
        return
    for name, number in counted.items():
        say(f"{number} stored values {'would be' if name == 'would_rewrite' else 'were'} brought under key {active}.")
    if left:
        say(f"{left} stored values cannot be read with the keys that are here.", "red")
