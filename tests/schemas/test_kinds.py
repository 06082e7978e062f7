"""The table of kinds holds together."""

import pytest

from schemas.kinds import KINDS, Kind

STATUSES = {"pending", "processing", "completed", "failed", "failed_permanently", "unknown"}


@pytest.mark.parametrize("kind", list(KINDS.values()), ids=list(KINDS))
def test_row(kind: Kind) -> None:
    assert kind.status is None or kind.status in STATUSES
    if kind.final:
        assert kind.status in ("completed", "failed_permanently", "unknown")
    if kind.retryable:
        assert kind.outcome, "only what ended an attempt can be retried by hand"


def test_every_status_is_reached_by_a_kind() -> None:
    assert {kind.status for kind in KINDS.values()} == STATUSES | {None}


def test_a_final_kind_outranks_all_that_are_not() -> None:
    assert min(kind.rank for kind in KINDS.values() if kind.final) > max(
        kind.rank for kind in KINDS.values() if not kind.final
    )


def test_what_a_retry_by_hand_takes() -> None:
    assert {name for name, kind in KINDS.items() if kind.retryable} == {
        "failed",
        "timed_out",
        "superseded",
        "cancelled",
        "unknown",
        "rejected",
        "failed_permanently",
    }
