"""Cancel and run now: of each wait either its task or the end of its event is published, and asking twice is once."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from projections.migrate import upgrade
from projections.tables import WEBHOOK_EVENTS
from schemas.events import now_micros
from streams.capture.relay import Relay
from streams.database import create_database_engine
from streams.scheduling import NotWaiting, Scheduling
from streams.settings import Settings
from tests.integration.scheduled import accept, projecting, wait_for
from tests.streams.capture.relay_support import published, running
from topics.catalogue import Catalogue

pytestmark = pytest.mark.embedded

HOUR_S = 3600


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    yield engine
    engine.dispose()


@pytest.fixture
def scheduling(embedded_settings: Settings, catalogue: Catalogue, engine: Engine) -> Iterator[Scheduling]:
    """Commands, with a relay and a projector that obey them."""
    with (
        projecting(embedded_settings, catalogue, engine),
        running(Relay(embedded_settings, catalogue, [engine], engine)),
    ):
        yield Scheduling(embedded_settings, engine)


def sent(settings: Settings, catalogue: Catalogue) -> list[str]:
    """Ids of the events whose task was published, once for each record."""
    topic = catalogue.topic("webhook-db")
    return [headers["schedule_id"].split("|")[0] for _, headers, _ in published(settings, catalogue, topic)]


def kind_of(engine: Engine, event_id: str) -> str:
    with engine.connect() as connection:
        kind: str = connection.execute(
            select(WEBHOOK_EVENTS.c.kind).where(WEBHOOK_EVENTS.c.event_id == event_id)
        ).scalar_one()
    return kind


def test_a_cancelled_event_ends_and_is_never_sent(
    scheduling: Scheduling, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    accept(embedded_settings, catalogue, {"later": HOUR_S, "soon": HOUR_S})
    wait_for(engine, "later", "soon")
    assert scheduling.cancel("later", by="me", reason="ordered twice").answer == "done"
    assert scheduling.cancel("later", by="another").answer == "done"
    assert scheduling.run_now("later", by="me").answer == "too_late"
    assert kind_of(engine, "later") == "cancelled"
    with engine.connect() as connection:
        row = connection.execute(select(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.event_id == "later")).one()
    assert (row.status, row.error, row.error_code) == (
        "failed_permanently",
        "cancelled by me: ordered twice",
        "cancelled",
    )
    assert scheduling.run_now("soon", by="me").answer == "done"
    assert sent(embedded_settings, catalogue) == ["soon"]


def test_what_was_sent_cannot_be_cancelled_and_goes_once(
    scheduling: Scheduling, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    accept(embedded_settings, catalogue, {"e": HOUR_S})
    wait_for(engine, "e")
    assert scheduling.run_now("e", by="me").answer == "done"
    assert scheduling.run_now("e", by="me").answer == "done"
    assert scheduling.cancel("e", by="me").answer == "too_late"
    assert kind_of(engine, "e") == "accepted"
    assert sent(embedded_settings, catalogue) == ["e"]


def test_of_what_nobody_knows_it_is_said_so(scheduling: Scheduling) -> None:
    with pytest.raises(NotWaiting, match="nothing with the id unknown"):
        scheduling.cancel("unknown", by="me")


def test_without_a_relay_the_answer_is_that_nobody_has_obeyed(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    accept(embedded_settings, catalogue, {"e": HOUR_S})
    with projecting(embedded_settings, catalogue, engine):
        wait_for(engine, "e")
        assert Scheduling(embedded_settings, engine).cancel("e", by="me", timeout_s=0.3).answer == "unconfirmed"


def test_cancel_against_dispatch_gives_one_of_them_and_the_answer_says_which(
    scheduling: Scheduling, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    """Each event becomes due about when it is cancelled, from two sides at once."""
    generator = random.Random(7)
    names = [f"race-{number}" for number in range(40)]
    due = {name: 1.0 + generator.random() for name in names}
    begin = accept(embedded_settings, catalogue, due)
    wait_for(engine, *names)

    def cancel(name: str) -> set[str]:
        while now_micros() < begin + int((due[name] - 0.05 + generator.random() / 10) * 1_000_000):
            pass
        return {scheduling.cancel(name, by="me", timeout_s=30).answer for _ in range(2)}

    with ThreadPoolExecutor(8) as threads:
        answers = dict(zip(names, threads.map(cancel, names), strict=True))
    assert all(answer in ({"done"}, {"too_late"}) for answer in answers.values()), answers
    went = sent(embedded_settings, catalogue)
    assert sorted(went) == sorted(name for name, answer in answers.items() if answer == {"too_late"})
    cancelled = {
        headers["identity"].split("|")[0]
        for _, headers, _ in published(embedded_settings, catalogue, catalogue.events)
        if headers.get("kind") == "cancelled"
    }
    assert cancelled == {name for name, answer in answers.items() if answer == {"done"}}
    assert {kind_of(engine, name) for name in cancelled} <= {"cancelled"}
