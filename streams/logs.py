"""Logs: one line an event on standard error, without secrets, known by their keys' names or as a tenant's."""

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog

from handlers.redaction import REDACTED, current_redactor
from streams.settings import Settings

_SECRET_NAME: Final = re.compile(
    r"password|passwd|passphrase|secret|token|authori[sz]ation|api_?-?key|private_?-?key|encryption_?-?key"
    r"|credential|cookie|signature|configure\b|client_?-?id\b",
    re.IGNORECASE,
)
_URL_PASSWORD: Final = re.compile(r"(?P<front>[a-z][a-z0-9+.-]*://[^/\s:@]*:)[^/\s@]+@", re.IGNORECASE)
_QUIET: Final = ("aiokafka", "faust", "mode", "asyncio", "alembic", "urllib3")
_DEPTH: Final = 8


def redact(value: Any, depth: int = _DEPTH) -> Any:
    """``value`` with every entry redacted whose key sounds like a secret, and without passwords in URLs."""
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\g<front>{REDACTED}@", value)
    if depth == 0:
        return REDACTED if isinstance(value, Mapping | list | tuple) else value
    if isinstance(value, Mapping):
        return {
            key: REDACTED if isinstance(key, str) and _SECRET_NAME.search(key) else redact(each, depth - 1)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(each, depth - 1) for each in value]
    return value


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # By names what nobody knows, by value what is a secret of the tenant whose handler writes.
    clean: dict[str, Any] = current_redactor.get().value(redact(event))
    return clean


def _shorten_asyncio(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Of what the event loop says of forgotten tasks keep what happened and where, not what was raised.

    It speaks outside the context of the tenant whose handler forgot them, so nobody knows which secrets to look for.
    """
    record, raised = event.get("_record"), event.get("exc_info")
    if isinstance(record, logging.LogRecord) and record.name == "asyncio" and isinstance(raised, tuple):
        kind, _, trace = event.pop("exc_info")
        event["event"] = str(event["event"]).partition("\n")[0]
        event["exception"] = f"{kind.__name__}\n{''.join(traceback.format_tb(trace))}"
    return event


def configure_logs(settings: Settings) -> None:
    """Send structlog's and the standard library's logs to standard error, as ``log_level`` and ``log_format`` ask.

    May be called again. Libraries that log much are heard from ``warning`` on, unless ``log_level`` is ``debug``.
    """
    level = getattr(logging, settings.log_level.upper())
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.UnicodeDecoder(),
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if as_text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _shorten_asyncio,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Before redaction, and never by the renderer: it would print local variables, and with them secrets.
                structlog.processors.format_exc_info,
                _redact_event,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
