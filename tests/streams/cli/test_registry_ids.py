"""The ids of a registry are taken where the settings name one, and nothing happens where they do not."""

from collections.abc import Iterator

import pytest

from schemas.codec import encode, use_ids
from schemas.events import Signal
from schemas.store import load_ids
from streams.cli.composition import use_registry_ids
from streams.errors import SetupError
from streams.settings import Settings
from tests.schemas.loopback_registry import Registry

SIGNAL = Signal(kind="heartbeat", sender="a", value="{}", sent_at=1)


@pytest.fixture(autouse=True)
def shipped_ids() -> Iterator[None]:
    yield
    use_ids(load_ids())


def test_ids_and_subjects_of_the_registry(settings: Settings) -> None:
    with Registry.running() as registry:
        use_registry_ids(settings.model_copy(update={"schema_registry_url": registry.url}))
        written = int.from_bytes(encode(SIGNAL)[1:5], "big")
    assert registry.subjects[f"{settings.catalogue().signals}-value"] == [written]
    assert len(registry.subjects) == len(settings.catalogue().specs)


def test_without_a_registry_the_shipped_ids_stay(settings: Settings) -> None:
    use_registry_ids(settings.model_copy(update={"schema_registry_url": None}))
    assert encode(SIGNAL)[1:5] == (7).to_bytes(4, "big")


def test_a_registry_that_is_away_stops_the_start(settings: Settings) -> None:
    with pytest.raises(SetupError, match="schema registry") as caught:
        use_registry_ids(settings.model_copy(update={"schema_registry_url": "http://127.0.0.1:1"}))
    assert caught.value.exit_code == 2
