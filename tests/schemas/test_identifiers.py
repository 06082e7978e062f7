"""Event ids keep R9: derived from the cause, equal on redelivery, ordered by time."""

import time
from uuid import RFC_4122, UUID

from schemas.identifiers import derived_event_id, new_event_id

AT = 1_790_000_000_123_456


def test_a_new_id_is_a_uuid_of_version_7_with_the_present_time() -> None:
    before = time.time_ns() // 1_000_000
    value = UUID(new_event_id())
    after = time.time_ns() // 1_000_000

    assert (value.version, value.variant) == (7, RFC_4122)
    assert before <= value.int >> 80 <= after


def test_new_ids_differ() -> None:
    assert len({new_event_id() for _ in range(10_000)}) == 10_000


def test_a_derived_id_is_a_uuid_of_version_8_with_the_time_of_the_change() -> None:
    value = UUID(derived_event_id(AT, "change", "entry"))

    assert (value.version, value.variant) == (8, RFC_4122)
    assert value.int >> 80 == AT // 1000


def test_a_derived_id_is_the_same_on_redelivery() -> None:
    assert derived_event_id(AT, "change", "entry") == derived_event_id(AT, "change", "entry")


def test_each_change_and_each_entry_has_its_own_derived_id() -> None:
    ids = {
        derived_event_id(AT, "change", "entry"),
        derived_event_id(AT, "change", "entry2"),
        derived_event_id(AT, "change2", "entry"),
        derived_event_id(AT, "changee", "ntry"),
        derived_event_id(AT + 1000, "change", "entry"),
    }

    assert len(ids) == 5
