"""Workers do as `.control` says: from the start, and whenever it changes."""

import asyncio
from typing import Any

from schemas.events import now_micros
from streams.control.brake import Brake
from streams.control.log import control_state
from streams.control.view import ControlView
from streams.control.worker import WorkerControl
from tests.support.waiting import eventually_async


def _fail(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name}: {error}")


def _apply(view: ControlView, name: str, subject: str, value: Any) -> None:
    view.apply(control_state(name, subject, value, "ann"))


async def test_a_pause_holds_from_the_start_and_ends_when_told_to() -> None:
    view, brakes = ControlView(), {"webhook-high": Brake(), "webhook-low": Brake()}
    _apply(view, "pause", "webhook-low", {"paused": True})
    control = WorkerControl(view, brakes, asyncio.Event().set)
    control.start(_fail)
    assert (brakes["webhook-high"].is_on, brakes["webhook-low"].is_on) == (False, True)
    _apply(view, "pause", "webhook-low", {"paused": False})
    await eventually_async(lambda: not brakes["webhook-low"].is_on)
    await asyncio.to_thread(_apply, view, "pause", "all", {"paused": True})
    await eventually_async(lambda: brakes["webhook-low"].is_on and brakes["webhook-high"].is_on)
    control.stop()
    _apply(view, "pause", "all", {"paused": False})
    await asyncio.sleep(0)
    assert brakes["webhook-high"].is_on


async def test_a_pause_ends_by_itself_at_its_time() -> None:
    view, brake = ControlView(), Brake()
    _apply(view, "pause", "webhook-low", {"paused": True, "until": now_micros() + 300_000})
    control = WorkerControl(view, {"webhook-low": brake}, asyncio.Event().set)
    control.start(_fail)
    assert brake.is_on
    await eventually_async(lambda: not brake.is_on)
    control.stop()


async def test_only_a_restart_asked_for_after_the_start_counts_and_only_once() -> None:
    view, asked = ControlView(), []
    _apply(view, "restart", "all", 4)
    control = WorkerControl(view, {"webhook-low": Brake()}, lambda: asked.append(True))
    control.start(_fail)
    _apply(view, "restart", "webhook-high", 9)
    _apply(view, "restart", "all", 4)
    await asyncio.sleep(0)
    assert asked == []
    _apply(view, "restart", "webhook-low", 5)
    _apply(view, "restart", "all", 6)
    await eventually_async(lambda: asked)
    await asyncio.sleep(0)
    assert asked == [True]
    control.stop()


def test_a_brake_counts_what_starts_and_what_did_not_start_after_all() -> None:
    brake = Brake()
    brake.take()
    brake.give_back()
    assert (brake.is_on, brake.left) == (False, None)
    brake.left = 1
    brake.take()
    assert brake.is_on
    brake.give_back()
    assert not brake.is_on
