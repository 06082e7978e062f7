"""Partition keys: equal for one row, different for different rows, whatever the texts hold."""

from hypothesis import given
from hypothesis import strategies as st

from topics.keys import join_parts, model_key_text, partition_key, split_parts, tenant_of_key

texts = st.text(alphabet="a1%7C|2,", min_size=1, max_size=6) | st.text(min_size=1, max_size=6)
rows = st.tuples(texts, texts, st.lists(texts, min_size=1, max_size=3).map(tuple))


def _key(row: tuple[str, str, tuple[str, ...]]) -> bytes:
    tenant_id, model, primary_key = row
    return partition_key(tenant_id, model, model_key_text(*primary_key), "event")


@given(rows, rows)
def test_two_rows_share_a_key_only_when_they_are_one(
    first: tuple[str, str, tuple[str, ...]], second: tuple[str, str, tuple[str, ...]]
) -> None:
    assert (_key(first) == _key(second)) == (first == second)


@given(rows)
def test_a_key_has_three_parts(row: tuple[str, str, tuple[str, ...]]) -> None:
    assert _key(row).count(b"|") == 2
    primary_key = _key(row).decode().split("|")[2]
    assert len(primary_key.split(",")) == len(row[2])


def test_plain_keys_are_readable() -> None:
    assert partition_key("1", "Order", model_key_text(7), "e") == b"1|Order|7"
    assert partition_key("1", "Price", model_key_text(7, "nl"), "e") == b"1|Price|7,nl"


def test_separators_are_percent_encoded() -> None:
    assert model_key_text("a,b", "c|d", "e%f") == "a%2Cb,c%7Cd,e%25f"
    assert partition_key("1|2", "O,r", "7", "e") == b"1%7C2|O%2Cr|7"


def test_an_id_that_was_not_encoded_cannot_make_a_fourth_part() -> None:
    assert partition_key("1", "Order", "7|8", "e") == b"1|Order|7%7C8"


def test_without_a_model_or_its_id_the_event_is_the_key() -> None:
    assert partition_key("1", None, None, "event") == b"event"
    assert partition_key("1", "Order", None, "event") == b"event"
    assert partition_key("1", None, "7", "event") == b"event"
    assert partition_key("1", "", "", "event") == b"event"


@given(rows)
def test_a_key_tells_its_tenant(row: tuple[str, str, tuple[str, ...]]) -> None:
    assert tenant_of_key(_key(row)) == row[0]


def test_an_events_id_tells_no_tenant() -> None:
    assert tenant_of_key(partition_key("1", None, None, "0199f3c2-6f0c-8c55")) is None


@given(st.lists(texts, min_size=1, max_size=4))
def test_joined_parts_are_split_again(parts: list[str]) -> None:
    assert split_parts(join_parts(*parts)) == parts
