"""``webhook call-back`` on a real database: recorded, or refused in words."""

import json
from pathlib import Path

import pytest
import typer
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from projections.records import Dispatched, Fact, LogRecord
from projections.writer import write
from streams.cli.call_backs import call_back, call_backs
from streams.errors import SetupError
from tests.projections.test_call_backs import GATE, called
from tests.projections.test_fold import wait
from tests.streams.cli.test_trigger import engine as opened
from tests.streams.cli.test_trigger import requests

APP = typer.Typer()
APP.command()(call_back)
engine = opened


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(APP, [*arguments], input=stdin)


def test_a_call_back_is_recorded(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "payment.json"
    file.write_text('{"amount": 25}')
    done = run("order-7", "--tenant", "shop.example", "--payload", f"@{file}", "--json")
    [request] = requests(engine)
    assert json.loads(done.output) == {"call_back_id": request.event_id, "status": "recorded"}
    assert (request.tenant_id, request.options, request.payload) == ("1", {"key": "order-7"}, '{"amount":25}')
    assert "recorded" in run("order-8", "--tenant", "1", "--payload", "@-", stdin="{}").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("k", "--tenant", "9"), "no tenant has the id"),
        (("k" * 201, "--tenant", "1"), "200 printable characters"),
        (("k", "--tenant", "1", "--payload", "[1]"), "must be a JSON object"),
        (("k", "--tenant", "1", "--payload", "{"), "no usable JSON"),
        (("k", "--tenant", "1", "--payload", "@/nowhere"), "cannot be read"),
    ],
)
def test_what_is_refused_says_why(engine: Engine, arguments: tuple[str, ...], words: str) -> None:
    outcome = run(*arguments)
    assert isinstance(outcome.exception, SetupError), outcome.output
    assert words in outcome.exception.message
    assert requests(engine) == []


def test_what_came_is_listed_and_a_second_one_continued_nothing(engine: Engine) -> None:
    facts: list[Fact] = [called("c1", 500), called("c2", 700), wait(2, gate=GATE), Dispatched("e1|1|0|2|1", 9_000)]
    write(engine, [LogRecord("all", 0, offset, fact) for offset, fact in enumerate(facts)], "epoch")
    listing = typer.Typer()
    listing.command()(call_backs)
    shown = json.loads(CliRunner().invoke(listing, ["--tenant", "7", "--key", "paid", "--json"]).output)
    assert [(each["call_back_id"], each["continued"], each["payload"]) for each in shown] == [
        ("c2", 0, {}),
        ("c1", 1, {}),
    ]
    assert "CONTINUED" in CliRunner().invoke(listing).output
    assert "Nobody has called back" in CliRunner().invoke(listing, ["--tenant", "8"]).output
    assert isinstance(CliRunner().invoke(listing, ["--key", "paid"]).exception, SetupError)
