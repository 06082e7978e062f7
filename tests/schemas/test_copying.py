"""An outcome that is put together from its task's record is what the codec would write."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.copying import CONSTANT, VARIABLE, copier
from schemas.errors import Undecodable
from schemas.events import TaskEvent, TaskReady
from tests.schemas.strategies import of_class

_INSTANTS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**15) | st.integers(2**50, 2**51)
_MEANS_SOMETHING_ELSE = {"payload", "gate"}


@settings(max_examples=300)
@given(task=of_class(TaskReady), outcome=of_class(TaskEvent), data=st.data())
def test_what_is_copied_equals_what_is_encoded(task: TaskReady, outcome: TaskEvent, data: st.DataObject) -> None:
    values = {name: getattr(outcome, name) for name in CONSTANT}
    variables: dict[str, Any] = {name: data.draw(_INSTANTS) for name in VARIABLE}
    variables["result"] = data.draw(st.text(max_size=200))
    names = {each.name for each in fields(TaskReady)} & {each.name for each in fields(TaskEvent)}
    repeated: dict[str, Any] = {name: getattr(task, name) for name in names - _MEANS_SOMETHING_ELSE}
    record = encode(task)
    found, marks = copier().read(record)
    assert found == task
    if marks is None:  # a number that only the general codec reads
        return
    constants = copier().constants(values)
    written = copier().write(record, marks, constants, *(variables[name] for name in VARIABLE))
    variables["recorded_at"] = variables["finished_at"]
    assert written == encode(TaskEvent(**repeated, **values, **variables))


@pytest.mark.parametrize("record", [b"", b"\x00", b"\x00\x00\x00\x00\x63", b"{}" * 40])
def test_what_cannot_be_read_raises_as_the_codec_does(record: bytes) -> None:
    with pytest.raises(Undecodable):
        copier().read(record)
