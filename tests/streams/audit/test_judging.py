"""The judge: one of each kind of fault is found, and nothing where there is none."""

from collections.abc import Sequence
from datetime import UTC, datetime

from streams.audit.judging import Judge
from streams.audit.pgoutput import Begin, Commit, Operation, RowChange
from streams.audit.subjects import TrackedTable
from topics.keys import partition_key

ORDERS = TrackedTable("public", "orders", ("id",), ("Order",))
PEOPLE = TrackedTable("public", "people", ("id",), ("Employee", "Person"))
EMPLOYEES = TrackedTable("public", "employees", ("id",), ("Employee",))


def written(operation: Operation, key: str, table: str = "orders") -> RowChange:
    values = {"id": key}
    return RowChange("public", table, operation, {} if operation == "delete" else values, values)


def event(key: str, model: str = "Order", record_type: str = "ModelChanged") -> RowChange:
    record_key = "\\x" + partition_key("a|b", model, key, "").hex()
    return RowChange("public", "webhook_outbox", "insert", {"record_key": record_key, "record_type": record_type}, {})


def judged(*transactions: Sequence[RowChange]) -> Judge:
    judge = Judge([ORDERS, PEOPLE, EMPLOYEES])
    for number, changes in enumerate(transactions):
        judge.take(Begin(number, datetime.now(UTC)))
        for change in changes:
            judge.take(change)
        judge.take(Commit(number))
    return judge


def faults(*transactions: Sequence[RowChange]) -> tuple[int, int]:
    judge = judged(*transactions)
    return judge.missing, judge.extra


def test_changes_with_their_events_are_in_order() -> None:
    made = [written("insert", "7"), event("7"), written("update", "7"), event("7"), written("delete", "7"), event("7")]
    judge = judged(made, [written("insert", "8"), event("8")])
    assert (judge.missing, judge.extra, judge.transactions, judge.findings) == (0, 0, 2, [])
    orders = next(count for count in judge.counts if count.tables == "orders")
    assert (orders.changes, orders.events) == (4, 4)


def test_a_change_without_event_is_missing_even_where_another_transaction_has_it() -> None:
    judge = judged([written("update", "7")], [event("7")])
    assert (judge.missing, judge.extra) == (1, 1)
    assert [(each.kind, each.key, each.xid, each.operations) for each in judge.findings] == [
        ("missing", "7", 0, ("update",)),
        ("extra", "7", 1, ()),
    ]


def test_two_changes_with_one_event_and_the_event_of_another_row_are_found() -> None:
    assert faults([written("insert", "7"), written("update", "7"), event("7")]) == (1, 0)
    assert faults([written("insert", "7"), event("8")]) == (1, 1)


def test_a_request_that_names_the_row_announces_it_and_is_never_extra() -> None:
    request = event("7", record_type="WebhookRequested")
    assert faults([written("insert", "7"), request], [request]) == (0, 0)


def test_an_emptied_table_is_missing() -> None:
    judge = judged([RowChange("public", "orders", "truncate", {}, {})])
    assert [(each.operations, each.key) for each in judge.findings] == [(("truncate",), "")]


def test_tables_of_one_inherited_mapping_need_one_event_for_each_flush() -> None:
    both = [written("insert", "1", "people"), written("insert", "1", "employees"), event("1", "Employee")]
    apart = [written("update", "1", "people"), written("update", "1", "employees"), *[event("1", "Employee")] * 2]
    assert faults(both, apart, [written("update", "1", "employees"), event("1", "Employee")]) == (0, 0)
    assert faults([written("update", "1", "employees")]) == (1, 0)
    assert faults([*both, event("1", "Employee"), event("1", "Employee")]) == (0, 1)


def test_an_update_that_changes_nothing_needs_no_event_where_the_log_has_the_whole_row() -> None:
    values = {"id": "7", "status": "new"}
    assert faults([RowChange("public", "orders", "update", values, values, True)]) == (0, 0)
    assert faults([RowChange("public", "orders", "update", {**values, "status": "paid"}, values, True)]) == (1, 0)


def test_tables_and_models_that_are_not_tracked_do_not_count() -> None:
    assert faults([written("insert", "1", "others"), event("1", "Other")]) == (0, 0)
