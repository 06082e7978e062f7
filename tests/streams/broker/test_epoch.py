"""The identity of the embedded log; those of real ones are in test_provision."""

import os

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.broker.epoch import log_epoch
from streams.broker.runtime import Runtime, write_runtime
from streams.settings import Settings

pytestmark = pytest.mark.embedded


def test_in_its_own_process(embedded_broker: EmbeddedBroker, embedded_settings: Settings) -> None:
    assert log_epoch(embedded_settings, embedded_broker.catalogue.events) == embedded_broker.epoch


def test_from_another_process_by_the_runtime_file(settings: Settings) -> None:
    write_runtime(settings.data_dir, Runtime("embedded", "127.0.0.1:9", "sqlite:///x", None, os.getpid(), "epoch-7"))
    assert log_epoch(settings, "any") == "epoch-7"
    assert log_epoch(settings.model_copy(update={"bootstrap_servers": "127.0.0.1:9"}), "any") == "epoch-7"


def test_each_start_is_another_log(settings: Settings) -> None:
    epochs = set()
    for _ in range(2):
        with EmbeddedBroker(settings.catalogue()) as broker:
            epochs.add(log_epoch(broker.settings(settings), broker.catalogue.events))
    assert len(epochs) == 2
