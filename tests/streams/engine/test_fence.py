"""A worker without heartbeats starts nothing (R5)."""

import time

from streams.engine.fence import MARGIN_S, Fence


def test_the_fence_is_up_when_the_last_heartbeat_is_old() -> None:
    fence = Fence(session_timeout_s=100)
    seen = [fence.is_up]
    fence.beat(time.monotonic() - 100 + MARGIN_S - 1)
    seen.append(fence.is_up)
    fence.beat(time.monotonic())
    seen.append(fence.is_up)
    assert seen == [False, True, False]
