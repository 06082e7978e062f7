"""``webhook keys`` on a SQLite database."""

import base64
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from handlers.tenants.encryption import Keyring
from handlers.tenants.repository import SqlTenantRepository
from streams.cli.keys import keys_app
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.handlers.examples import small

app = typer.Typer()
app.add_typer(keys_app)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ("keys", *arguments))


@pytest.fixture
def repository(place: Path) -> SqlTenantRepository:
    """Three tenants, as a running process has them: it never reads its key file by itself."""
    assert run("new", "--id", "first").exit_code == 0
    engine = create_database_engine(f"sqlite:///{place / 'system.db'}")
    repository = SqlTenantRepository(engine, Keyring.read(place / "encryption.keys"))
    for name in "abc":
        repository.create(name, small())
    return repository


def listed() -> dict[str, tuple[bool, int]]:
    return {row["id"]: (row["active"], row["values"]) for row in json.loads(run("list", "--json").stdout)}


def test_a_rotation_from_the_first_key_to_the_next(place: Path, repository: SqlTenantRepository) -> None:
    assert listed() == {"k1": (True, 3), "first": (False, 0)}
    made = run("new")
    assert "k2" in made.stdout
    assert "keys rotate --to k2" in made.stderr
    dry = run("rotate", "--to", "k2", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"active": "k2", "would_rewrite": 3, "left": 0}
    assert listed()["k1"] == (True, 3)

    done = run("rotate", "--to", "k2")
    assert done.exit_code == 0, done.output
    assert "3 stored values were brought under key k2" in done.stdout
    assert listed() == {"k2": (True, 3), "k1": (False, 0), "first": (False, 0)}
    # The process that runs meanwhile reads and writes under the new key.
    assert repository.get("2")
    repository.configure("2", small(colour="red"))
    assert listed()["k2"] == (True, 3)
    again = run("rotate", "--json")
    assert json.loads(again.stdout) == {"active": "k2", "rewritten": 0, "left": 0}
    text = (place / "encryption.keys").read_text()
    keys = [line.partition(":")[2] for line in text.split()]
    assert len(keys) == 3
    for shown in (made, dry, done, again, run("list")):
        assert not any(key in shown.output for key in keys)


def test_values_that_cannot_be_read_are_named_and_fail_the_command(
    place: Path, repository: SqlTenantRepository
) -> None:
    path = place / "encryption.keys"
    kept = path.read_text()
    path.write_text(f"other:{base64.b64encode(b'o' * 32).decode()}\n")
    told = run("list")
    assert "3 stored values were encrypted with keys that are not here" in told.stderr
    failed = run("rotate")
    assert failed.exit_code == 1
    assert "tenant 3: configure of tenant 3 is encrypted with key 'k1'; here are: other" in failed.stderr
    assert "3 stored values cannot be read" in run("rotate", "--dry-run").stdout
    path.write_text(path.read_text() + kept)
    assert json.loads(run("rotate", "--json").stdout) == {"active": "other", "rewritten": 3, "left": 0}


def test_wrong_use_is_told_in_words(
    place: Path, repository: SqlTenantRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, words in (
        (("rotate", "--to", "k9"), "There is no key k9"),
        (("new", "--id", "k1"), "there is a key k1 already"),
        (("new", "--id", "a:b"), "letters, digits"),
    ):
        refused = run(*arguments)
        assert isinstance(refused.exception, SetupError)
        assert words in refused.exception.message
    monkeypatch.setenv("WEBHOOK_ENCRYPTION_KEYS", f"env:{base64.b64encode(b'e' * 32).decode()}")
    refused = run("new")
    assert isinstance(refused.exception, SetupError)
    assert "WEBHOOK_ENCRYPTION_KEYS_FILE" in refused.exception.hint


@pytest.mark.parametrize("arguments", [(), ("list",), ("new",), ("rotate",)])
def test_every_help_shows_examples(arguments: tuple[str, ...]) -> None:
    assert "Examples" in run(*arguments, "--help").stdout
