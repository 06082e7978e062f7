"""Pace: a batch is whole, unless one tenant's rows make others wait for long."""

from streams.capture.pace import AIM_S, LEAST_ROWS, Pace, crowding

MOST = 500


def rows(**counts: int) -> list[dict[str, str]]:
    return [{"tenant_id": tenant} for tenant, count in counts.items() for _ in range(count)]


def test_a_tenant_crowds_with_more_than_half() -> None:
    assert crowding(rows(noisy=6, quiet=4), 5) == "noisy"
    assert crowding(rows(noisy=5, quiet=5), 5) is None
    assert crowding([], 0) is None


def test_long_batches_become_smaller_while_others_wait_down_to_the_least() -> None:
    pace = Pace(MOST)
    pace.took(3 * AIM_S, MOST, tenants_wait=True)
    assert pace.rows == MOST // 2
    for _ in range(10):
        pace.took(3 * AIM_S, pace.rows, tenants_wait=True)
    assert pace.rows == LEAST_ROWS


def test_a_batch_that_was_not_full_says_how_many_rows_took_so_long() -> None:
    pace = Pace(MOST)
    pace.took(3 * AIM_S, 200, tenants_wait=True)
    assert pace.rows == 100


def test_a_tenant_alone_has_whole_batches_however_long_they_take() -> None:
    pace = Pace(MOST)
    for _ in range(5):
        pace.took(10 * AIM_S, MOST, tenants_wait=False)
    assert pace.rows == MOST


def test_short_batches_become_larger_again() -> None:
    pace = Pace(MOST)
    for _ in range(5):
        pace.took(3 * AIM_S, pace.rows, tenants_wait=True)
    for _ in range(5):
        pace.took(AIM_S / 3, pace.rows, tenants_wait=True)
    assert pace.rows == MOST


def test_a_small_setting_is_never_exceeded() -> None:
    pace = Pace(3)
    for seconds in (3 * AIM_S, 0.0, 0.0):
        pace.took(seconds, 3, tenants_wait=True)
        assert pace.rows == 3
