"""Control states beside the embedded broker."""

from sqlalchemy import create_engine

from projections.migrate import upgrade
from streams.control.log import control_state
from streams.control.store import ControlStore


def test_the_latest_state_of_each_name_and_subject_is_kept() -> None:
    engine = create_engine("sqlite://")
    upgrade(engine, ("system",))
    store = ControlStore(engine)
    store.save([])
    first = control_state("pause", "webhook-high", {"paused": True}, "ann", "upstream is down")
    other = control_state("pause", "all", {"paused": True}, "ann")
    store.save([first, other])
    second = control_state("pause", "webhook-high", {"paused": False}, "bob")
    store.save([second])
    assert sorted(store.load(), key=lambda state: state.subject) == [other, second]
