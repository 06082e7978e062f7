"""``webhook topics asyncapi`` needs neither a broker nor a database."""

import json

import pytest
from typer.testing import CliRunner

from streams.cli.topics import topics_app


def test_the_document_has_this_installations_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_TOPIC_PREFIX", "shop")
    document = json.loads(CliRunner().invoke(topics_app, ["asyncapi"]).stdout)
    assert document["asyncapi"] == "3.0.0"
    assert "shop.changes" in document["channels"]
