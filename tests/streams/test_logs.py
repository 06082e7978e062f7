import logging

import pytest
import structlog

from handlers.redaction import REDACTED, Redactor, current_redactor
from streams.logs import configure_logs, redact
from streams.settings import Settings


def test_secrets_go_by_the_name_of_their_key_at_any_depth() -> None:
    event = {
        "tenant_id": "1",
        "config": {"api_key": "s1", "items": [{"client_secret": "s2", "sku": "A4"}]},
        "Authorization": "Bearer s3",
        "url": "postgresql://user:s4@host/name",
    }
    clean = redact(event)
    assert clean == {
        "tenant_id": "1",
        "config": {"api_key": REDACTED, "items": [{"client_secret": REDACTED, "sku": "A4"}]},
        "Authorization": REDACTED,
        "url": f"postgresql://user:{REDACTED}@host/name",
    }
    assert event["config"] != clean["config"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_both_kinds_of_loggers_are_redacted(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure_logs(Settings.model_validate({"log_format": log_format}))
        structlog.get_logger("a").info("tenant loaded", configure="canary-1", rows=3)
        of_tenant = current_redactor.set(Redactor(["canary-3"]))
        logging.getLogger("handlers.Order").warning("sending %s", {"key": "canary-3"}, extra={"more": "canary-3"})
        try:
            raise ValueError("canary-3")
        except ValueError:
            logging.getLogger("handlers.Order").exception("sending failed: %r", "canary-3")
        current_redactor.reset(of_tenant)
        unknown = "yranac"[::-1]  # not to be found in the line of source that a traceback shows
        try:
            raise ValueError(unknown)
        except ValueError as error:
            forgotten = f"Task exception was never retrieved\nfuture: <Task exception={error!r}>"
            logging.getLogger("asyncio").error(forgotten, exc_info=error)
        logging.getLogger("b").info("connected to %s", "amqp://u:canary-2@h/")
        logging.getLogger("b").debug("not asked for")
        try:
            raise ValueError("broken")
        except ValueError:
            structlog.get_logger("a").error("failed", exc_info=True)
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
    written = capsys.readouterr().err
    assert "canary" not in written
    assert "tenant loaded" in written
    assert "connected to" in written
    assert "sending failed" in written
    assert "Task exception was never retrieved" in written
    assert written.count("test_both_kinds_of_loggers_are_redacted") == 3, "each error shows where it was raised"
    assert "not asked for" not in written
    assert "broken" in written
