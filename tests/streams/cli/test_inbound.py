"""``webhook inbound`` on a SQLite database: what it prints once, what it never prints, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from handlers.inbound.schemes import HmacLayout
from handlers.tenants.encryption import Keyring
from handlers.tenants.inbound_sources import OpenedSource, SourceRepository
from streams.cli.inbound import inbound_app
from streams.cli.tenants import tenants_app
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.handlers.examples import small

app = typer.Typer()
app.add_typer(inbound_app)
app.add_typer(tenants_app)

SECRET = "canary: a secret of the provider"
ROUTES = [
    {"route": "webhook/order", "method": "POST"},
    {"route": "webhook/read", "method": "GET"},
    {"route": "orders", "method": "POST"},
]


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def create(*more: str, scheme: str = "github", stdin: str | None = None) -> Any:
    """The JSON of a source of tenant 1 that is made."""
    arguments = ("inbound", "create", "--tenant", "1", "--route", "webhook/order", "--scheme", scheme, *more, "--json")
    made = run(*arguments, stdin=stdin)
    assert made.exit_code == 0, (made.output, made.exception)
    return json.loads(made.stdout)


@pytest.fixture
def shop(place: Path) -> Path:
    (place / "small.json").write_text(json.dumps(small(plugin_routes=ROUTES)))
    made = run("tenants", "create", "Shop", "--config", str(place / "small.json"), "--hostname", "shop.example")
    assert made.exit_code == 0, made.output
    return place


def opened(place: Path, path: str) -> OpenedSource:
    """The source of an address, as the HTTP door finds it."""
    engine = create_database_engine(f"sqlite:///{place / 'system.db'}")
    found = SourceRepository(engine, Keyring.read(place / "encryption.keys")).find(path.split("/")[2])
    engine.dispose()
    assert found is not None
    return found


def test_a_source_is_made_and_its_address_and_secret_are_shown_once(shop: Path) -> None:
    made = run("inbound", "create", "--tenant", "shop.example", "--route", "/webhook/order/", "--scheme", "standard")
    path, secret = made.stdout.split()
    assert path.startswith("/in/whi_")
    assert path.endswith(f"/{small()['plugin_route_prefix']}/webhook/order")
    found = opened(shop, path)
    assert found.secrets == (secret,)
    listed = run("inbound", "list").stdout + run("inbound", "list", "--json").stdout
    assert "webhook/order" in listed
    assert secret not in listed
    assert path.split("/")[2] not in listed
    assert json.loads(run("inbound", "list", "--tenant", "2", "--json").stdout) == []


def test_a_secret_is_read_from_a_file_or_standard_input_and_never_shown(shop: Path) -> None:
    (shop / "secret.txt").write_text(SECRET + "\n")
    for made in (
        create("--secret-file", str(shop / "secret.txt"), scheme="stripe"),
        create("--secret-file", "-", stdin=SECRET, scheme="shopify"),
    ):
        assert made["secret"] is None
        assert opened(shop, made["path"]).secrets == (SECRET,)
        assert SECRET not in json.dumps(made)


def test_a_layout_and_a_tolerance_are_kept(shop: Path) -> None:
    made = create(
        *("--signature-header", "X-Slack-Signature", "--timestamp-header", "X-Slack-Request-Timestamp"),
        *("--signed", "v0:{timestamp}:{body}", "--signature-prefix", "v0=", "--tolerance-s", "60", "--name", "slack"),
        scheme="hmac",
    )
    source = opened(shop, made["path"]).source
    wanted = HmacLayout(
        "X-Slack-Signature", "X-Slack-Request-Timestamp", signed="v0:{timestamp}:{body}", signature_prefix="v0="
    )
    assert (source.layout, source.tolerance_s, source.name) == (wanted, 60, "slack")


def test_rotating_keeps_the_former_secret_for_a_while(shop: Path) -> None:
    made = create()
    new = json.loads(run("inbound", "rotate", str(made["id"]), "--json").stdout)
    assert opened(shop, made["path"]).secrets == (new["secret"], made["secret"])
    shown = run("inbound", "rotate", str(made["id"]), "--secret-file", "-", "--overlap-hours", "0", stdin=SECRET)
    assert "no longer counts" in shown.output
    assert SECRET not in shown.output
    assert opened(shop, made["path"]).secrets == (SECRET,)


def test_removing_can_be_tried_first(shop: Path) -> None:
    made = create(scheme="token")
    assert "would be removed" in run("inbound", "remove", str(made["id"]), "--dry-run").output
    assert opened(shop, made["path"]).secrets == ()
    assert json.loads(run("inbound", "remove", str(made["id"]), "--json").stdout)["removed"]
    assert "No sources yet" in run("inbound", "list").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scheme", "github", "--tenant", "9"), "no tenant 9"),
        (("--scheme", "github", "--tenant", "nobody.example"), "no tenant nobody.example"),
        (("--scheme", "github", "--route", "webhook/none"), "it lists webhook/order"),
        (("--scheme", "github", "--route", "webhook/read"), "no route"),
        (("--scheme", "github", "--route", "orders"), "no route"),
        (("--scheme", "stripe"), "stripe makes the secret itself"),
        (("--scheme", "token", "--secret-file", "-"), "nothing is signed"),
        (("--scheme", "github", "--secret-file", "nowhere"), "cannot be read"),
        (("--scheme", "github", "--secret-file", "-"), "not 6"),
        (("--scheme", "standard", "--secret-file", "-"), "base64"),
        (("--scheme", "hmac", "--signed", "{body}"), "{timestamp} once"),
        (("--scheme", "hmac", "--encoding", "rot13"), "hex or base64"),
    ],
)
def test_what_is_refused_says_why_and_shows_no_secret(shop: Path, arguments: tuple[str, ...], words: str) -> None:
    # The last of an option counts.
    asked = ("inbound", "create", "--tenant", "1", "--route", "webhook/order", *arguments)
    outcome = run(*asked, stdin="canary")
    assert isinstance(outcome.exception, SetupError), outcome.output
    assert words in outcome.exception.message
    assert "canary" not in str(outcome.exception) + outcome.output
    assert json.loads(run("inbound", "list", "--json").stdout) == []


@pytest.mark.parametrize("command", ["rotate", "remove"])
def test_a_source_that_is_not_there(shop: Path, command: str) -> None:
    outcome = run("inbound", command, "7")
    assert isinstance(outcome.exception, SetupError)
    assert (outcome.exception.exit_code, "no source 7" in outcome.exception.message) == (1, True)
