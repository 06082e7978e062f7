"""The README is true: its commands exist, its links lead somewhere, its tables are those of the code."""

import re
from typing import Any

import pytest
import typer.main

from streams.cli.main import app
from tests.architecture.settings_table import BEGIN, END, table
from tests.architecture.source import PACKAGES, ROOT
from topics.tiers import TIERS

README = (ROOT / "README.md").read_text()
ROOMS = [ROOT / package / "README.md" for package in (*PACKAGES, "tests")]
EVERY = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOMS)}


def _code(text: str) -> list[str]:
    """What stands in code blocks and code spans, line by line."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for block in blocks for line in block.splitlines()] + spans


def _commands() -> set[str]:
    """Every subcommand as it is typed: ``up``, ``local start``."""
    found: set[str] = set()

    def collect(group: Any, before: str) -> None:
        for name, command in group.commands.items():
            found.add(f"{before}{name}")
            if hasattr(command, "commands"):
                collect(command, f"{before}{name} ")

    collect(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("where", list(EVERY))
def test_targets_of_make_exist(where: str) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    used = {found for line in _code(EVERY[where]) for found in re.findall(r"^make (\w+)", line)}
    assert used <= targets


@pytest.mark.parametrize("where", list(EVERY))
def test_commands_exist(where: str) -> None:
    known = _commands()
    groups = {name.split(" ")[0] for name in known if " " in name}
    for line in _code(EVERY[where]):
        typed = re.match(r"webhook ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", line)
        if typed:
            group, command = typed.groups()
            assert group in known, line
            assert group not in groups or command is None or f"{group} {command}" in known, line


@pytest.mark.parametrize("where", list(EVERY))
def test_links_and_paths_lead_somewhere(where: str) -> None:
    text = EVERY[where]
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", text):
        assert "://" in target or (ROOT / where).parent.joinpath(target).exists(), target
    for span in re.findall(r"`([\w./-]+/(?:[\w.-]+\.py)?)`", text):
        if span.split("/")[0] in (*PACKAGES, "tests", "infra"):
            assert (ROOT / span).exists(), span


def test_settings_are_those_of_the_code() -> None:
    shown = README.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == table(), "run: .venv/bin/python -m tests.architecture.settings_table"


def test_tiers_are_those_of_the_code() -> None:
    for tier in TIERS.values():
        row = f"| {tier.name} | {tier.topic} | {tier.stands_for} | {tier.workers} | {tier.tries} |"
        assert f"{row} {tier.retry_after_s} s |" in README
