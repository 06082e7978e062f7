"""``webhook tenants``, ``webhook tokens`` and ``webhook fakes`` on a SQLite database."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from handlers.contract import HttpClient, PluginManifest
from handlers.registry import PluginRegistry
from handlers.tenants.tokens import Scope, TokenRepository
from streams.cli.fakes import fakes_app
from streams.cli.tenants import tenants_app
from streams.cli.tokens import tokens_app
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.handlers.examples import small

app = typer.Typer()
app.add_typer(tenants_app)
app.add_typer(tokens_app)
app.add_typer(fakes_app)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def create(place: Path, *more: str) -> Result:
    return run("tenants", "create", "Acme", "--config", str(place / "seed.json"), *more)


def test_a_tenant_is_created_listed_and_shown_without_its_secret(place: Path) -> None:
    made = create(place, "--hostname", "Shop.Acme.example", "--json")

    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["id"] == "1"
    (listed,) = json.loads(run("tenants", "list", "--json").stdout)
    assert (listed["name"], listed["hostnames"], listed["configured"]) == ("Acme", ["shop.acme.example"], True)
    assert "shop.acme.example" in run("tenants", "list").stdout
    shown = run("tenants", "show", "shop.acme.example")
    assert json.loads(shown.stdout)["configuration"]["auth"]["client_id"] == "your-client-id"
    assert "your-secret-key" not in shown.stdout + made.output
    assert (place / "encryption.keys").stat().st_mode & 0o777 == 0o600


def test_a_bad_configuration_creates_nothing_and_names_each_place(place: Path) -> None:
    bad = run("tenants", "create", "Bad", "--config", str(place / "bad.json"))

    assert isinstance(bad.exception, SetupError)
    assert bad.exception.exit_code == 1
    assert "plugin_port" in bad.exception.message
    assert "auth.url" in bad.exception.message
    assert "canary" not in str(bad.exception)
    assert json.loads(run("tenants", "list", "--json").stdout) == []


def test_a_configuration_is_replaced_and_checked(place: Path) -> None:
    create(place)
    (place / "next.json").write_text(json.dumps(small(colour="red")))
    replaced = run("tenants", "configure", "1", "--config", str(place / "next.json"))

    assert replaced.exit_code == 0, replaced.output
    assert "warning: colour" in replaced.stderr
    assert json.loads(run("tenants", "show", "1").stdout)["configuration"]["colour"] == "red"
    checked = run("tenants", "check", "1", "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout) == {
        "problems": [],
        "notes": [{"path": "colour", "reason": "is not a known setting; it is kept"}],
    }


def test_a_file_is_checked_without_a_tenant(place: Path) -> None:
    (place / "good.json").write_text(json.dumps(small(route_handlers={"webhook/order/export": "NoSuchHandler"})))
    good, bad = (run("tenants", "check", "--config", str(place / name)) for name in ("good.json", "bad.json"))

    assert good.exit_code == 0
    assert "warning  route_handlers.webhook/order/export: plugin dwd" in good.stdout
    assert bad.exit_code == 1
    assert "error    plugin_port:" in bad.stdout
    assert run("tenants", "check").exit_code == 2


@pytest.mark.parametrize(
    "arguments", [("tenants", "show", "9"), ("tenants", "show", "x.example"), ("tenants", "check", "9")]
)
def test_an_absent_tenant_is_named(place: Path, arguments: tuple[str, ...]) -> None:
    gone = run(*arguments)
    assert isinstance(gone.exception, SetupError)
    assert "there is no tenant" in gone.exception.message


def test_a_hostname_in_use_is_refused(place: Path) -> None:
    create(place, "--hostname", "a.example")
    again = create(place, "--hostname", "a.example")
    assert isinstance(again.exception, SetupError)
    assert "a.example belongs to another tenant" in again.exception.message


def test_a_missing_key_says_which(place: Path) -> None:
    create(place)
    (place / "encryption.keys").unlink()
    shown = run("tenants", "show", "1")
    assert isinstance(shown.exception, SetupError)
    assert "configure of tenant 1 does not decrypt" in shown.exception.message


def test_a_database_that_was_not_migrated_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", f"sqlite:///{place / 'fresh.db'}")
    with pytest.raises(SetupError, match="webhook migrate"):
        raise run("tenants", "list").exception or AssertionError


def test_a_token_is_printed_once_and_works_until_it_is_revoked(place: Path) -> None:
    create(place)
    made = run("tokens", "create", "ci", "--scope", "viewer", "--tenant", "1", "--days", "9")
    text = made.stdout.strip()
    engine = create_database_engine(f"sqlite:///{place / 'system.db'}")
    tokens = TokenRepository(engine)

    found = tokens.verify(text)
    assert found is not None
    assert (found.name, found.scope, found.tenant_id) == ("ci", Scope.VIEWER, "1")
    (listed,) = json.loads(run("tokens", "list", "--json").stdout)
    assert (listed["prefix"], listed["scope"]) == (found.prefix, "viewer")
    assert text not in run("tokens", "list").stdout
    assert run("tokens", "revoke", "1").exit_code == 0
    assert tokens.verify(text) is None
    assert isinstance(run("tokens", "revoke", "1").exception, SetupError)
    assert isinstance(run("tokens", "create", "x", "--tenant", "9").exception, SetupError)
    engine.dispose()


def test_a_configuration_that_does_not_fit_its_plugin_is_not_stored(place: Path) -> None:
    (place / "unfit.json").write_text(json.dumps(small(auth={"client_id": 7}, sku_map=["canary"], plugin_port=0)))
    bad = run("tenants", "create", "Bad", "--config", str(place / "unfit.json"))

    assert isinstance(bad.exception, SetupError)
    for path in ("plugin_port", "auth.client_id", "auth.secret", "sku_map: must be of type object"):
        assert path in bad.exception.message
    assert "canary" not in bad.exception.message
    create(place)
    assert isinstance(run("tenants", "configure", "1", "--config", str(place / "unfit.json")).exception, SetupError)
    assert json.loads(run("tenants", "show", "1").stdout)["configuration"]["plugin_port"] == 5000


def test_a_dry_run_says_what_would_change_and_changes_nothing(place: Path) -> None:
    run("tenants", "create", "Small", "--config", _file(place, small(colour="red")))
    changed = small(margin=3, plugin_port=5001)
    changed["auth"]["secret"] = "canary"
    told = run("tenants", "configure", "1", "--config", _file(place, changed), "--dry-run", "--json")

    assert json.loads(told.stdout) == [
        {"path": "auth.secret", "change": "changed"},
        {"path": "colour", "change": "removed"},
        {"path": "margin", "change": "added"},
        {"path": "plugin_port", "change": "changed"},
    ]
    assert json.loads(run("tenants", "show", "1").stdout)["configuration"]["plugin_port"] == 5000
    same = run("tenants", "configure", "1", "--config", _file(place, small(colour="red")), "--dry-run")
    assert "Nothing would change." in same.stdout


def test_a_plugin_is_switched_off_and_on(place: Path) -> None:
    create(place, "--hostname", "a.example")
    assert "off" in run("tenants", "disable", "a.example").stdout
    assert json.loads(run("tenants", "show", "1").stdout)["plugin_enabled"] is False
    run("tenants", "enable", "1")
    assert json.loads(run("tenants", "list", "--json").stdout)[0]["plugin_enabled"] is True
    assert isinstance(run("tenants", "disable", "9").exception, SetupError)


def test_a_connection_is_tried_and_its_error_holds_no_secret(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Manager:
        def __init__(self, tenant_id: str, config: Mapping[str, Any], http: HttpClient) -> None:
            self.config = config

        async def check(self) -> str | None:
            if self.config["plugin_port"] == 5000:
                raise RuntimeError(f"refused: {dict(self.config)}")
            return None

    def plugins() -> PluginRegistry:
        return PluginRegistry({"dwd": PluginManifest("dwd", "2", {}, manager=Manager)})  # type: ignore[arg-type]

    monkeypatch.setattr("streams.cli.tenants.load_plugins", plugins)
    create(place)
    bad = run("tenants", "check", "1", "--connect")
    assert bad.exit_code == 1
    assert "the connection does not work: refused" in bad.stdout
    assert "your-secret-key" not in bad.output
    good = run("tenants", "check", "--config", _file(place, small(plugin_port=1)), "--connect")
    assert good.exit_code == 0, good.output


def _file(place: Path, document: dict[str, Any]) -> str:
    path = place / "given.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("arguments", [("tenants",), ("tokens",), ("fakes",), ("fakes", "dwd"), ("tenants", "check")])
def test_every_help_shows_examples(arguments: tuple[str, ...]) -> None:
    assert "Examples" in run(*arguments, "--help").stdout
