"""Many searches of the log find what one reading each would, and read each record once (R1, R16)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Source
from schemas.kinds import KINDS
from streams.engine import search_index
from streams.engine.ledger import GOING_ON, TailRecord
from streams.engine.search_index import MARGIN, SearchIndex

KIND_NAMES = ("completed", "retry", "moved", "deferred", "claimed", "started")

logs = st.lists(
    st.tuples(st.sampled_from(KIND_NAMES), st.sampled_from("abc"), st.integers(1, 3)) | st.none(), max_size=30
)
questions = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.integers(1, 3)), max_size=8)


def record(offset: int, found: tuple[str, str, int] | None) -> TailRecord | None:
    if found is None:
        return None
    kind, identity, dispatch_seq = found
    dispatch = dispatch_seq if kind in GOING_ON else 0
    return TailRecord(offset, kind, Source("tier", 0, offset), identity, 0.0, dispatch)


def first(records: list[TailRecord | None], from_offset: int, identity: str, dispatch_seq: int) -> int | None:
    """Offset of what settles a task, by a plain reading."""
    for each in records:
        if each is None or each.offset < from_offset or each.identity != identity:
            continue
        if KINDS[each.kind].outcome or (each.kind in GOING_ON and each.dispatch_seq > dispatch_seq):
            return each.offset
    return None


@given(logs, questions, st.integers(0, 5))
def test_it_finds_what_a_plain_reading_finds(
    log: list[tuple[str, str, int] | None], asked: list[tuple[int, str, int]], low: int
) -> None:
    records = [record(offset, each) for offset, each in enumerate(log)]
    index = SearchIndex()
    # So that some parts do not reach back to what is asked for next.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_index, "MARGIN", 2)
        for number, (from_offset, identity, dispatch_seq) in enumerate(asked):
            # The log has grown since the last question.
            end = len(records) * (number + 1) // len(asked)
            for offset in range(index.read_from(0, from_offset, low), end):
                index.add(0, offset, records[offset])
            found = index.find(0, max(low, from_offset), identity, dispatch_seq)
            expected = first(records[:end], max(low, from_offset), identity, dispatch_seq)
            assert (found.offset if found is not None else None) == expected


def test_each_record_is_read_once() -> None:
    index = SearchIndex()
    assert index.read_from(3, MARGIN + 10, 0) == 10
    for offset in range(10, 500):
        index.add(3, offset, None)
    assert index.read_from(3, 400, 0) == 500
    assert index.read_from(3, 5, 0) == 0
    assert index.read_from(4, 5, 2) == 2


def test_what_was_read_for_an_earlier_assignment_is_let_go() -> None:
    index = SearchIndex()
    index.read_from(3, 0, 0)
    index.add(3, 0, record(0, ("completed", "a", 1)))
    assert index.find(3, 0, "a", 1) is not None
    index.forget()
    assert (index.find(3, 0, "a", 1), index.read_from(3, 0, 0)) == (None, 0)
