"""A plugin for fault runs: its handler writes down each start and end, outside the pipeline, and fails as it is told.

This file is copied as a distribution of its own, see ``tests.faults.laboratory``: it imports only what authors may.
"""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from handlers.contract import Context, PluginManifest
from handlers.results import Completed, NotFound, Reconciled, Rejected, Result
from schemas.errors import Permanent, Retryable, Unknown

JOURNAL = "WEBHOOK_FAULTS_JOURNAL"
"""Environment variable with the path of the journal; several processes append. One line an entry:
``mark event_id run step attempt key sequence pid monotonic_ns effect``. Marks: ``S`` start, ``E`` end, ``F`` it
failed as it was told, ``C`` it was cut off."""


class Journal:
    """Writes down each start and end."""

    def __init__(self) -> None:
        self.path = Path(os.environ.get(JOURNAL, os.devnull))
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, mark: str, payload: dict[str, Any], context: Context) -> None:
        """One entry."""
        task = (context.event_id, context.run, context.step, context.attempt)
        place = (os.getpid(), time.monotonic_ns())
        entry = (mark, *task, payload["key"], payload["sequence"], *place, context.idempotency_key)
        # One write of one line: entries of several processes never mix, and a killed one leaves whole lines.
        os.write(self._file, (" ".join(map(str, entry)) + "\n").encode())


class FaultWebhookHandler:
    """Does what the payload says.

    ``sleep_s``: how long it takes, ``block_s``: the same without letting anything else run. ``url``: POST to it.
    ``failures``: attempts that fail first, in step ``failing_step`` (0), ``how`` is ``retryable``, ``bug``,
    ``rejected`` or ``permanent``. ``dies``: ``start`` or ``end``, ``dies_after_s`` later the process is gone, once.
    The result says which steps went before.
    """

    def __init__(self) -> None:
        self._journal = Journal()

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Run on its own."""
        return await self._carry_out(payload, context)

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Run as one step of a pipeline."""
        return await self._carry_out(data, context)

    async def _carry_out(self, payload: dict[str, Any], context: Context) -> Result:
        self._journal.note("S", payload, context)
        mark = "C"
        try:
            if payload.get("dies") == "start":
                self._die_once(payload, context)
            time.sleep(payload.get("block_s", 0))
            if "url" in payload:
                await context.http.request("POST", payload["url"], json={"sequence": payload["sequence"]})
            await asyncio.sleep(payload.get("sleep_s", 0))
            mark = "F"
            fails = context.step == payload.get("failing_step", 0) and context.attempt <= payload.get("failures", 0)
            result = _fail(payload["how"]) if fails else _done(payload, context)
            mark = "E"
        finally:
            self._journal.note(mark, payload, context)
        if payload.get("dies") == "end":
            self._die_once(payload, context)
        return result

    def _die_once(self, payload: dict[str, Any], context: Context) -> None:
        """End this process as ``kill -9`` does, after a while, which falls before or after each thing written."""
        mark = self._journal.path.with_name(f"died-{context.event_id}")
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return
        mark.write_text(f"{os.getpid()}")
        timer = threading.Timer(payload.get("dies_after_s", 0), os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()


class FaultOrderHandler:
    """Orders at the vendor of the payload's ``url``, at most once: the vendor takes the same order twice as two."""

    at_most_once = True
    settle_s = 10.0
    timeout_s = 10.0

    def __init__(self) -> None:
        self._journal = Journal()

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Order. Raises ``Unknown`` where the vendor may have taken it."""
        self._journal.note("S", payload, context)
        mark = "C"
        try:
            await context.http.request("POST", payload["url"], json={"reference": context.event_id})
            mark = "E"
        except Retryable as error:
            if error.code == "not_connected":
                raise
            raise Unknown(str(error)) from error
        finally:
            self._journal.note(mark, payload, context)
        return _done(payload, context)

    async def reconcile(self, payload: dict[str, Any], context: Context) -> Reconciled:
        """Whether the vendor has the order."""
        answer = await context.http.request("GET", f"{payload['url']}/{context.event_id}")
        return _done(payload, context) if answer.status == 200 else NotFound()


def _fail(how: str) -> Result:
    match how:
        case "retryable":
            raise Retryable("told to fail")
        case "permanent":
            raise Permanent("told to fail for good")
        case "rejected":
            return Rejected("told to reject")
        case _:
            raise RuntimeError("told to have a bug")


def _done(payload: dict[str, Any], context: Context) -> Completed:
    before = context.previous_step_result
    return Completed({"sequence": payload["sequence"], "steps": [*(before["steps"] if before else ()), context.step]})


PLUGIN = PluginManifest(
    "faults",
    "1.0.0",
    {"FaultWebhookHandler": FaultWebhookHandler, "FaultOrderHandler": FaultOrderHandler},
    upstream=lambda config: config.get("upstream_url"),
)
