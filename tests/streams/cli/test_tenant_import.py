"""``webhook tenants import`` on a SQLite database."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from streams.cli.tenants import tenants_app
from streams.errors import SetupError
from tests.handlers.examples import small
from tests.handlers.tenants.laravel_values import KEY, KEY_TEXT, OTHER_TEXT, cbc, serialized

app = typer.Typer()
app.add_typer(tenants_app)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY", KEY_TEXT)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ("tenants", *arguments))


def website(uuid: str, document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 70, "uuid": uuid, "configure": cbc(serialized(json.dumps(document)), KEY), **more}


def lines(place: Path, *rows: object) -> str:
    path = place / "websites.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_websites_come_in_once_with_uuid_and_hostnames(place: Path) -> None:
    file = lines(
        place,
        website("u1", small(), hostnames=["Shop.example", "b.example"]),
        {**website("u2", small(colour="red"), name="Second"), "configure": cbc(json.dumps(small(colour="red")), KEY)},
        website("u3", small(), fqdn="c.example"),
    )
    dry = run("import", file, "--dry-run", "--json")
    assert {row["result"] for row in json.loads(dry.stdout)} == {"would be imported"}
    assert json.loads(run("list", "--json").stdout) == []

    done = run("import", file, "--json")
    assert done.exit_code == 0, done.output
    assert [(row["uuid"], row["id"], row["result"]) for row in json.loads(done.stdout)] == [
        ("u1", "1", "imported"),
        ("u2", "2", "imported"),
        ("u3", "3", "imported"),
    ]
    listed = json.loads(run("list", "--json").stdout)
    assert [(row["uuid"], row["name"], row["hostnames"]) for row in listed] == [
        ("u1", "Shop.example", ["shop.example", "b.example"]),
        ("u2", "Second", []),
        ("u3", "c.example", ["c.example"]),
    ]
    assert json.loads(run("show", "2").stdout)["configuration"]["colour"] == "red"
    again = run("import", file, "--json")
    assert again.exit_code == 0
    assert [(row["result"], row["id"]) for row in json.loads(again.stdout)] == [("present", each) for each in "123"]
    assert "s3cr3t-canary" not in done.output + dry.output + again.output


def test_what_cannot_be_imported_is_named_and_the_rest_comes_in(place: Path) -> None:
    damaged = website("u2", small())
    damaged["configure"] = damaged["configure"][:-8]
    file = lines(
        place,
        website("u1", small(), hostnames=["a.example"]),
        damaged,
        website("u3", small(plugin_port=0, auth={"client_id": 1})),
        website("u4", small(), hostnames=["a.example"]),
        website("u5", small()),
    )
    done = run("import", file, "--json")

    assert done.exit_code == 1
    rows = {row["uuid"]: row for row in json.loads(done.stdout)}
    assert [rows[uuid]["result"] for uuid in rows] == ["imported", "failed", "failed", "failed", "imported"]
    assert "no value of Laravel's encrypt()" in rows["u2"]["reason"]
    assert "plugin_port" in rows["u3"]["reason"]
    assert "auth.secret: is missing" in rows["u3"]["reason"]
    assert "a.example belongs to another tenant" in rows["u4"]["reason"]
    assert "3 of 5 websites" in done.stderr


def test_the_key_comes_from_a_file_or_from_former_ones(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lines(place, website("u1", small()))
    monkeypatch.setenv("APP_KEY", OTHER_TEXT)
    assert "none of the application keys fits" in run("import", file).stdout
    monkeypatch.setenv("APP_PREVIOUS_KEYS", KEY_TEXT)
    assert run("import", file).exit_code == 0
    monkeypatch.delenv("APP_KEY")
    missing = run("import", file)
    assert isinstance(missing.exception, SetupError)
    assert "APP_KEY" in missing.exception.hint
    (place / "app.key").write_text(KEY_TEXT + "\n")
    assert run("import", file, "--app-key-file", str(place / "app.key")).exit_code == 0


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is not JSON"), ('{"uuid": "u"}', "Website 1"), ("[7]", "Website 1")]
)
def test_a_file_that_is_no_export_is_refused(place: Path, text: str, words: str) -> None:
    (place / "bad.jsonl").write_text(text)
    refused = run("import", str(place / "bad.jsonl"))
    assert isinstance(refused.exception, SetupError)
    assert words in refused.exception.message
    assert "Examples" in run("import", "--help").stdout
