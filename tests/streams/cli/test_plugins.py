"""``webhook plugins``: what it lists and checks, and the package it writes."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from handlers.tenants.repository import SqlTenantRepository
from projections.migrate import upgrade
from streams.cli.composition import open_keyring
from streams.cli.plugins import plugins_app
from streams.database import create_database_engine
from streams.errors import SetupError
from streams.settings import Settings
from tests.handlers.examples import small

app = typer.Typer()
app.add_typer(plugins_app)

BROKEN = "raise RuntimeError('no licence was found')"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed plugin whose import fails."""
    metadata = tmp_path / "installed" / "broken-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[webhook_streams.plugins]\nsad = plug_sad:PLUGIN\n")
    (tmp_path / "installed" / "plug_sad.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    yield
    sys.modules.pop("plug_sad", None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plugins", *arguments])


@pytest.mark.usefixtures("broken")
def test_the_list_shows_usable_and_broken_plugins() -> None:
    listed = {row["id"]: row for row in json.loads(run("list", "--json").stdout)}
    assert listed["dwd"]["status"] == "usable"
    assert listed["dwd"]["aliases"] == ["drukwerkdeal.nl"]
    assert "OrderExportHandler" in listed["dwd"]["handlers"]
    assert listed["sad"] == {
        **listed["sad"],
        "status": "broken",
        "distribution": "broken 1.0",
        "reason": "RuntimeError: no licence was found",
    }
    shown = run("list").stdout
    assert "no licence was found" in shown
    assert "Traceback" not in shown


@pytest.mark.usefixtures("broken")
def test_a_check_shows_the_traceback_of_the_import_and_fails() -> None:
    whole = run("check")
    assert whole.exit_code == 1
    assert "dwd 2.0.0 is usable" in whole.stdout
    assert "sad  is broken: RuntimeError" in whole.stdout
    assert "plug_sad.py" in whole.stdout
    assert run("check", "drukwerkdeal.nl").exit_code == 0
    assert run("check", "sad", "--json").exit_code == 1
    unknown = run("check", "nobody")
    assert isinstance(unknown.exception, SetupError)
    assert "'nobody'" in unknown.exception.message


def test_a_check_compares_tenants_with_their_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'system.db'}"
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", url)
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    upgrade(url)
    engine = create_database_engine(url)
    tenants = SqlTenantRepository(engine, open_keyring(Settings()))
    tenants.create("Good", small())
    tenants.create("Old", small(plugin__v="1.0.0"))
    engine.dispose()

    checked = run("check", "--tenants", "--json")
    assert checked.exit_code == 1
    (problem,) = json.loads(checked.stdout)["tenants"]
    assert (problem["tenant"], problem["path"]) == ("2", "plugin__v")
    assert "made for versions >=2,<3, not 1.0.0" in problem["reason"]
    assert "s3cr3t-canary" not in checked.stdout


def test_a_new_package_is_valid_and_names_itself_throughout(tmp_path: Path) -> None:
    done = run("new", "ink-well", "--directory", str(tmp_path))
    assert done.exit_code == 0
    package = tmp_path / "webhook-plugin-ink-well"
    project = tomllib.loads((package / "pyproject.toml").read_text())
    assert project["project"]["name"] == "webhook-plugin-ink-well"
    assert project["project"]["entry-points"]["webhook_streams.plugins"] == {
        "ink-well": "webhook_plugin_ink_well.manifest:PLUGIN"
    }
    texts = [path.read_text() for path in package.rglob("*") if path.is_file()]
    assert len(texts) == 8
    assert not any("{{" in text or "{%" in text for text in texts)
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    assert ruff is not None
    options = ("--isolated", "--line-length", "120")
    subprocess.run([ruff, "check", *options, "--select", "E,F,W,B,UP", package], check=True, capture_output=True)
    subprocess.run([ruff, "format", *options, "--check", package], check=True, capture_output=True)


def test_a_new_package_overwrites_nothing_and_takes_no_bad_name(tmp_path: Path) -> None:
    for name in ("Bad", "1st", "a b", "../x", ""):
        refused = run("new", name, "--directory", str(tmp_path))
        assert isinstance(refused.exception, SetupError), name
    assert list(tmp_path.iterdir()) == []
    assert run("new", "acme", "--directory", str(tmp_path)).exit_code == 0
    again = run("new", "acme", "--directory", str(tmp_path))
    assert isinstance(again.exception, SetupError)
    assert "exists already" in again.exception.message
