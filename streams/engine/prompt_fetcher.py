"""aiokafka's fetcher, which by itself leaves a busy partition waiting for one that is idle."""

from typing import Any, Final

from aiokafka.consumer import consumer, fetcher

BUSY_WAIT_MS: Final = 50
"""Longest wait of a fetch at the broker while records of the last one have not been handed out."""


class PromptFetcher(fetcher.Fetcher):  # type: ignore[misc]
    """Lets no fetch wait long while it holds records.

    Its request is for the partitions of which it holds nothing, one at a time for each broker. Where these are the idle
    ones, as a tier's steps mostly are, the busy ones are handed out meanwhile and cannot be asked for again before the
    idle ones' wait is over.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._idle_wait_ms: int = self._fetch_max_wait_ms

    def _get_actions_per_node(self, assignment: Any) -> Any:
        self._fetch_max_wait_ms = min(BUSY_WAIT_MS, self._idle_wait_ms) if self._records else self._idle_wait_ms
        return super()._get_actions_per_node(assignment)


def use_prompt_fetchers() -> None:
    """Let every aiokafka consumer of this process have such a fetcher: it takes no other one."""
    consumer.Fetcher = PromptFetcher
