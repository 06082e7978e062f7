"""Runs ``webhook`` commands in this process, as if on an embedded installation of the test's own."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner, Result

from projections.migrate import upgrade
from streams.broker.runtime import embedded_database_url
from streams.cli.main import app
from streams.errors import SetupError
from streams.settings import Settings

_QUEUES = ("high", "beanstalk", "redis", "db", "low", "failed")


class Commands:
    """The command line of one installation."""

    def run(self, *arguments: str) -> str:
        """What a command prints, on either stream. Raises what the command does, and for exit codes other than 0."""
        return self._invoke(arguments).output

    def json(self, *arguments: str) -> Any:
        """The same with ``--json``: its standard output, parsed."""
        return json.loads(self._invoke((*arguments, "--json")).stdout)

    def _invoke(self, arguments: Sequence[str]) -> Result:
        outcome = CliRunner().invoke(app, arguments)
        if isinstance(outcome.exception, SetupError):
            raise outcome.exception
        assert outcome.exit_code == 0, (outcome.output, outcome.exception)
        return outcome


@contextmanager
def commands_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Commands that find ``settings`` in their environment, and a migrated database in its data directory."""
    for queue in _QUEUES:
        monkeypatch.setenv(f"WEBHOOK_{queue.upper()}_QUEUE", getattr(settings, f"{queue}_queue"))
    monkeypatch.setenv("WEBHOOK_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("WEBHOOK_PARTITIONS", str(settings.partitions))
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(settings.data_dir))
    monkeypatch.delenv("WEBHOOK_DATABASE_URL", raising=False)
    if settings.bootstrap_servers is None:
        monkeypatch.delenv("WEBHOOK_BOOTSTRAP_SERVERS", raising=False)
    else:
        monkeypatch.setenv("WEBHOOK_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    engine = create_engine(embedded_database_url(settings.data_dir))
    upgrade(engine)
    engine.dispose()
    yield Commands()
