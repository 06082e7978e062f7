"""Intents of an embedded installation: its broker forgets everything, so they count once they are projected (R6)."""

import asyncio
from collections.abc import Mapping


class ProjectedIntents:
    """Waits for the projector, which commits to the disk itself (``synchronous=FULL``). Made on the event loop."""

    def __init__(self, events_topic: str) -> None:
        self._topic = events_topic
        self._loop = asyncio.get_running_loop()
        self._positions: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[int, asyncio.Future[None]]]] = {}

    def written(self, positions: Mapping[tuple[str, int], int]) -> None:
        """The projector has committed up to these positions; called in its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._reached, positions)

    async def confirm(self, partition: int, offset: int) -> None:
        """See ``intents.Confirm``."""
        if self._positions.get(partition, 0) > offset:
            return
        projected = self._loop.create_future()
        self._waiting.setdefault(partition, []).append((offset, projected))
        await projected

    def _reached(self, positions: Mapping[tuple[str, int], int]) -> None:
        for (topic, partition), position in positions.items():
            if topic != self._topic:
                continue
            self._positions[partition] = position
            waiting = self._waiting.pop(partition, [])
            for offset, projected in waiting:
                if offset >= position:
                    self._waiting.setdefault(partition, []).append((offset, projected))
                elif not projected.done():
                    projected.set_result(None)
