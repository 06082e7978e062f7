"""A fetch that cannot bring what is needed next does not hold it up for long."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition

from streams.engine.prompt_fetcher import BUSY_WAIT_MS, PromptFetcher

BUSY, IDLE = TopicPartition("tier", 0), TopicPartition("tier-steps", 0)


class Held:
    """Records of the last fetch that were not handed out; long enough ago for a next one."""

    def calculate_backoff(self) -> float:
        return 0


def _fetcher(wait_ms: int) -> Any:
    fetcher: Any = PromptFetcher.__new__(PromptFetcher)
    cluster = SimpleNamespace(leader_for_partition=lambda _tp: 1, broker_metadata=lambda _node: object())
    fetcher._client, fetcher._records, fetcher._in_flight = SimpleNamespace(cluster=cluster), {}, set()
    fetcher._preferred_read_replica, fetcher._client_rack, fetcher._fetcher_timeout = {}, None, 1.0
    fetcher._fetch_max_wait_ms = fetcher._idle_wait_ms = wait_ms
    fetcher._fetch_min_bytes, fetcher._fetch_max_bytes, fetcher._max_partition_fetch_bytes = 1, 1 << 22, 1 << 20
    fetcher._isolation_level = 0
    return fetcher


def _assignment() -> Any:
    subscription = SubscriptionState()
    subscription.assign_from_user({BUSY, IDLE})
    assignment = subscription.subscription.assignment
    for tp in (BUSY, IDLE):
        assignment.state_value(tp).seek(0)
    return assignment


def _request(fetcher: Any) -> Any:
    ((_, request),), *_rest = fetcher._get_actions_per_node(_assignment())
    return request


@pytest.mark.parametrize(("wait_ms", "short_ms"), [(500, BUSY_WAIT_MS), (20, 20)])
async def test_a_fetch_of_idle_partitions_is_short_while_busy_ones_are_being_handed_out(
    wait_ms: int, short_ms: int
) -> None:
    fetcher = _fetcher(wait_ms)
    fetcher._records = {BUSY: Held()}
    request = _request(fetcher)
    assert [topic for topic, _ in request._topics] == [IDLE.topic]
    assert request._max_wait_ms == short_ms


async def test_a_fetch_of_all_partitions_waits_as_long_as_it_may() -> None:
    fetcher = _fetcher(500)
    fetcher._records = {BUSY: Held()}
    _request(fetcher)
    fetcher._records = {}
    assert _request(fetcher)._max_wait_ms == 500
