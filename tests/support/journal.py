"""A plugin for load tests: its handler writes down each start and end, outside the pipeline it is called by.

This file is copied as a distribution of its own, see ``tests.support.roles``: it imports only what authors may.
"""

import asyncio
import os
import time
from typing import Any

from handlers.contract import Context, PluginManifest
from handlers.results import Completed, Returned, Wait

JOURNAL = "WEBHOOK_TEST_JOURNAL"
"""Environment variable with the path of the journal. One line an entry, several processes append:
``mark event_id key sequence pid monotonic_ns wall_us``; mark ``S`` is a start, ``E`` an end."""


class JournalWebhookHandler:
    """Sleeps as long as the payload says and succeeds, or waits for the call-back ``wait_for`` for ``timeout_s``."""

    def __init__(self) -> None:
        path = os.environ.get(JOURNAL, os.devnull)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def handle(self, payload: dict[str, Any], context: Context) -> Returned:
        """Note the start, sleep, note the end."""
        self._note("S", payload, context)
        await asyncio.sleep(payload["sleep_s"])
        self._note("E", payload, context)
        if "wait_for" in payload:
            return Wait(payload["wait_for"], payload["timeout_s"])
        return Completed({"sequence": payload["sequence"]})

    def _note(self, mark: str, payload: dict[str, Any], context: Context) -> None:
        entry = (mark, context.event_id, payload["key"], payload["sequence"], os.getpid())
        times = (time.monotonic_ns(), time.time_ns() // 1000)
        # One write of one line: entries of several processes never mix, and a killed one leaves whole lines.
        os.write(self._file, (" ".join(map(str, entry + times)) + "\n").encode())


PLUGIN = PluginManifest("journal", "1.0.0", {"JournalWebhookHandler": JournalWebhookHandler})
