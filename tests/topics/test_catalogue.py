"""The catalogue: names, sizes and the agreements between topics that the engine relies on."""

import pytest

from schemas import events
from topics.catalogue import DAY_MS, MIB, Catalogue, build_catalogue
from topics.tiers import TIERS


@pytest.fixture
def catalogue() -> Catalogue:
    return build_catalogue()


def test_every_topic_by_name(catalogue: Catalogue) -> None:
    tiers = {
        "plugin-webhooks-high",
        "plugin-webhooks-tube",
        "plugin-webhooks-fast",
        "plugin-webhooks",
        "plugin-webhooks-low",
        "plugin-webhooks-failed",
    }
    roles = {"changes", "requests", "scheduled", "events", "dead-letters", "control", "signals"}
    assert set(catalogue.specs) == tiers | {f"{tier}.steps" for tier in tiers} | {f"plugin-webhooks.{r}" for r in roles}


def test_one_record_type_per_topic_and_each_is_an_event(catalogue: Catalogue) -> None:
    assert all(hasattr(events, spec.record) for spec in catalogue.specs.values())
    assert catalogue.specs["plugin-webhooks.events"].record == "TaskEvent"
    assert catalogue.specs["plugin-webhooks-low.steps"].record == "TaskReady"
    assert catalogue.specs["plugin-webhooks-low.steps"].subject == "plugin-webhooks-low.steps-value"


def test_partition_n_of_a_tier_has_a_partition_n_of_events() -> None:
    catalogue = build_catalogue(partitions=5)
    shared = (catalogue.changes, catalogue.requests, catalogue.events)
    names = [*shared, *catalogue.tier_by_topic]
    assert {catalogue.specs[name].partitions for name in names} == {5}


def test_a_dead_letter_has_room_for_a_whole_record(catalogue: Catalogue) -> None:
    assert catalogue.specs[catalogue.dead_letters].max_message_bytes == MIB + 64 * 1024
    assert {spec.max_message_bytes for spec in catalogue.specs.values() if spec.record != "DeadLetter"} == {MIB}


def test_state_is_compacted_and_signals_are_short_lived(catalogue: Catalogue) -> None:
    control = catalogue.specs[catalogue.control].config()
    assert (control["cleanup.policy"], control["segment.bytes"]) == ("compact", "4194304")
    assert "segment.bytes" not in catalogue.specs[catalogue.events].config()
    assert catalogue.specs[catalogue.signals].config()["retention.ms"] == str(3600 * 1000)
    assert catalogue.specs[catalogue.scheduled].retention_ms > 2 * 365 * DAY_MS


def test_names_and_tiers_find_each_other(catalogue: Catalogue) -> None:
    for name, tier in TIERS.items():
        assert catalogue.topic(name) == tier.topic
        assert catalogue.tier(catalogue.topic(name)) is tier
        assert catalogue.tier(catalogue.steps(name)) is tier
    with pytest.raises(KeyError):
        catalogue.tier(catalogue.events)
    with pytest.raises(KeyError):
        catalogue.topic("webhook-fax")


def test_prefix_and_tier_topics_can_be_renamed() -> None:
    catalogue = build_catalogue("shop", {"webhook-db": "shop-db"})
    assert catalogue.events == "shop.events"
    assert catalogue.topic("webhook-db") == "shop-db"
    assert catalogue.topic("webhook-high") == "plugin-webhooks-high"
    assert catalogue.tier("shop-db.steps").name == "webhook-db"


def test_topics_that_share_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        build_catalogue(tier_topics={"webhook-db": "plugin-webhooks-low"})
    with pytest.raises(ValueError, match="same name"):
        build_catalogue(tier_topics={"webhook-db": "plugin-webhooks.events"})


@pytest.mark.parametrize("name", ["", "two words", "größe", ".", "a" * 250, "a/b"])
def test_names_that_kafka_refuses_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no topic name"):
        build_catalogue(tier_topics={"webhook-db": name})
