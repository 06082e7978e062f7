"""A plugin that spills its tenant's secrets wherever a handler can; tests install it beside the package.

``SPILLS`` names each handler and the kind of the outcome it comes to.
"""

import asyncio
import base64
import json
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from handlers.contract import Context, HttpClient, PluginManifest
from handlers.results import Completed, Rejected, Result
from schemas.errors import Permanent, Retryable, Unknown

SPILLS: Final = {
    "SuccessHandler": "completed",
    "WrongJsonHandler": "failed_permanently",
    "RejectHandler": "rejected",
    "CrashHandler": "failed",
    "NestedCrashHandler": "failed",
    "RetryHandler": "failed",
    "PermanentHandler": "failed_permanently",
    "UnknownHandler": "unknown",
    "WrongTypeHandler": "failed_permanently",
    "SlowHandler": "failed",
    "LogHandler": "completed",
    "ForgetfulHandler": "completed",
    "CallHandler": "failed",
    "UnreachableHandler": "failed_permanently",
}


def secrets(context: Context) -> tuple[str, str]:
    """The two secrets of the tenant: one under ``auth``, one that only the plugin's schema marks."""
    return str(context.config["auth"]["secret"]), str(context.config["colour"])


class SuccessHandler:
    """Echoes its whole configuration, and as the second step what the first one gave."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Done."""
        secret, colour = secrets(context)
        encoded = base64.b64encode(f"user:{secret}".encode()).decode()
        return Completed({"config": dict(context.config), colour: [encoded, urlencode({"key": secret})]})

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Done."""
        context.results.append(data["previous_step_result"] or {})
        return Completed({"results": context.results, "config": dict(context.config)})


class WrongJsonHandler:
    """Gives what is no JSON."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Done."""
        return Completed({"handler": secrets(context), "too_large": "x" * 100_000, "of": secrets(context)})


class RejectHandler:
    """Rejects, naming the secret in reason and code."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Rejected."""
        return Rejected("the upstream refused " + secrets(context)[0], code=secrets(context)[1])


class CrashHandler:
    """Raises with a secret in the text."""

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Raises."""
        raise RuntimeError(f"cannot use {secrets(context)} of {context!r}")


class NestedCrashHandler:
    """Raises with a secret in the cause, the notes and a group."""

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Raises."""
        try:
            raise KeyError(secrets(context)[0])
        except KeyError as error:
            error.add_note(secrets(context)[1])
            raise ExceptionGroup(json.dumps(secrets(context)), [error]) from error


class RetryHandler:
    """Asks for a retry."""

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Raises."""
        raise Retryable(secrets(context)[0], code=secrets(context)[1])


class PermanentHandler:
    """Gives up."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Raises."""
        raise Permanent(f"no: {secrets(context)}")


class UnknownHandler:
    """Does not know."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Raises."""
        raise Unknown(f"perhaps: {secrets(context)}")


class WrongTypeHandler:
    """Returns the secret itself."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Wrong."""
        return secrets(context)[0]  # type: ignore[return-value]


class SlowHandler:
    """Runs over its time, and answers the cancellation with the secret."""

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Times out."""
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError(secrets(context)[0])


class LogHandler:
    """Logs the secrets in every way."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Done."""
        context.log.warning("canary log of %s", context.config)
        logging.getLogger("elsewhere").error("secret %r", secrets(context), extra={"more": secrets(context)})
        try:
            raise ValueError(secrets(context)[0])
        except ValueError:
            context.log.exception("failed with %s", secrets(context)[1], stack_info=True)
        await asyncio.to_thread(logging.getLogger("thread").error, "in a thread: %s", secrets(context)[0])
        return Completed({})


class ForgetfulHandler:
    """Starts a task, forgets it, and it fails."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Done."""

        async def fail() -> None:
            raise ValueError(secrets(context)[0])

        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        return Completed({})


class CallHandler:
    """Calls an upstream that refuses connections, with secrets in every part of the request."""

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Fails."""
        secret, colour = secrets(context)
        url = f"http://127.0.0.1:1/{colour}?{urlencode({'key': secret})}"
        await context.http.request("POST", url, json={"key": secret}, headers={"Authorization": colour})
        return Completed({})


class UnreachableHandler:
    """Calls an address that may not be called, with the secret in it."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Refused."""
        await context.http.request("GET", f"http://10.0.0.1/{secrets(context)[1]}?key={secrets(context)[0]}")
        return Completed({})


class Manager:
    """Spills on ``check``."""

    def __init__(self, tenant_id: str, config: Mapping[str, Any], http: HttpClient) -> None:
        self._config = config

    async def check(self) -> str | None:
        """What is wrong, with everything in it."""
        return f"refused: {self._config}"


PLUGIN: Final = PluginManifest(
    id="canary",
    version="1.0",
    handlers={name: globals()[name] for name in SPILLS},
    manager=Manager,  # type: ignore[arg-type]
    config_schema={
        "properties": {"colour": {"type": "string", "secret": True}, "number": {"type": "integer"}},
    },
)
