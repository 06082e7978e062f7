"""The numbers of the six tiers, as the original product has them."""

from topics.tiers import TIERS


def test_the_six_tiers() -> None:
    rows = [
        (tier.name, tier.topic, tier.workers, tier.tries, tier.sleep_s, tier.retry_after_s) for tier in TIERS.values()
    ]
    assert rows == [
        ("webhook-high", "plugin-webhooks-high", 2, 3, 1, 60),
        ("webhook-beanstalk", "plugin-webhooks-tube", 3, 3, 2, 90),
        ("webhook-redis", "plugin-webhooks-fast", 2, 3, 2, 90),
        ("webhook-db", "plugin-webhooks", 2, 3, 3, 90),
        ("webhook-low", "plugin-webhooks-low", 1, 5, 5, 600),
        ("webhook-failed", "plugin-webhooks-failed", 1, 5, 10, 1800),
    ]


def test_names_and_variables_are_unique() -> None:
    for attribute in ("name", "topic", "environment", "stands_for"):
        assert len({getattr(tier, attribute) for tier in TIERS.values()}) == 6


def test_thresholds_of_load() -> None:
    assert {(tier.warning_load, tier.unhealthy_load) for tier in TIERS.values()} == {(50, 200)}
