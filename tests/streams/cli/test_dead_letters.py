"""Dead letters as commands."""

from collections.abc import Iterator

import pytest

from schemas.codec import encode
from streams.errors import SetupError
from streams.settings import Settings
from tests.streams.cli.commands import Commands, commands_of
from tests.streams.engine.workload import task_ready
from tests.streams.test_dead_letters import letter, write

pytestmark = pytest.mark.embedded


@pytest.fixture
def commands(embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    with commands_of(embedded_settings, monkeypatch) as made:
        yield made


def test_letters_are_filtered_and_their_decisions_listed(commands: Commands, embedded_settings: Settings) -> None:
    assert commands.run("dead-letters", "list").startswith("No dead letter waits")
    write(
        embedded_settings,
        letter(embedded_settings, 1, reason="unknown_tenant", group="webhook-intake"),
        letter(embedded_settings, 2),
        letter(embedded_settings, 3, topic="other", failed_at=1),
    )
    assert [row["place"][-1] for row in commands.json("dead-letters", "list")] == ["2", "1", "3"]
    assert len(commands.json("dead-letters", "list", "--group", "webhook-intake")) == 1
    assert len(commands.json("dead-letters", "list", "--reason", "undecodable", "--since", "1h")) == 1
    assert len(commands.json("dead-letters", "list", "--topic", "other")) == 1
    assert "1 of 3" in commands.run("dead-letters", "list", "--limit", "1")

    assert commands.json("dead-letters", "retry", "--all", "--dry-run")["done"] == 0
    assert commands.json("dead-letters", "retry", "--reason", "unknown_tenant")["done"] == 1
    (old,) = commands.json("dead-letters", "list", "--topic", "other")
    assert "1 of 1 dismissed" in commands.run("dead-letters", "dismiss", old["id"], "--note", "too old")
    assert [row["state"] for row in commands.json("dead-letters", "list")] == ["waiting"]
    settled = {row["id"]: row for row in commands.json("dead-letters", "list", "--settled")}
    assert (settled[old["id"]]["state"], settled[old["id"]]["note"]) == ("dismissed", "too old")


def test_a_letter_is_shown_as_far_as_it_can_be_read(commands: Commands, embedded_settings: Settings) -> None:
    whole = encode(task_ready("event-1", tenant_id="7"))
    write(embedded_settings, letter(embedded_settings, 1, value=whole[:60], error="broken \x1b[31m"))
    (row,) = commands.json("dead-letters", "list")
    shown = commands.run("dead-letters", "show", row["id"])
    for text in (
        'event_id: "event-1"',
        "task_ready.v",
        "header     traceparent: 00-1",
        "key        1|Order|7",
        "field ",
    ):
        assert text in shown
    assert "\x1b" not in shown
    found = commands.json("dead-letters", "show", row["id"])
    assert found["value"]["fields"]["event_id"] == "event-1"
    assert bytes.fromhex(found["value_hex"]) == whole[:60]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("retry",), "No letter is named"),
        (("dismiss", "9-9"), "no dead letter '9-9'"),
        (("show", "9-9"), "no dead letter"),
        (("retry", "--all"), "its value was too large"),
        (("list", "--since", "lately"), "no duration"),
    ],
)
def test_wrong_use_changes_nothing(
    commands: Commands, embedded_settings: Settings, arguments: tuple[str, ...], says: str
) -> None:
    write(embedded_settings, letter(embedded_settings, 1, error="too large (the value is cut to 9 bytes)"))
    with pytest.raises(SetupError, match=says):
        commands.run("dead-letters", *arguments)
    assert [row["state"] for row in commands.json("dead-letters", "list")] == ["waiting"]


def test_ten_thousand_letters_are_listed(commands: Commands, embedded_settings: Settings) -> None:
    write(embedded_settings, *(letter(embedded_settings, number) for number in range(10_000)))
    assert len(commands.json("dead-letters", "list", "--limit", "20000")) == 10_000
