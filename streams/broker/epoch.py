"""The identity of a log: positions and bounds of another log are not believed (R20)."""

from typing import Final

from confluent_kafka import KafkaException, TopicCollection

from streams.broker.connection import admin_client
from streams.broker.runtime import embedded_epoch
from streams.errors import SetupError
from streams.settings import Settings

_ANSWER_S: Final = 10.0


def log_epoch(settings: Settings, topic: str) -> str:
    """``cluster id/topic id`` of a topic, on the embedded broker the epoch of its start. Blocks.

    Another value means that what stands at an offset is not what stood there before: the topic was created anew, or
    this is another cluster. Raises ``SetupError`` where no broker answers or the topic does not exist.
    """
    embedded = embedded_epoch(settings)
    if embedded is not None:
        return embedded
    admin = admin_client(settings)
    try:
        cluster = admin.list_topics(topic, timeout=_ANSWER_S).cluster_id
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=_ANSWER_S)[topic].result()
    except KafkaException as error:
        raise SetupError(
            f"Topic {topic} cannot be described: {error.args[0].str()}.", "Create it with `webhook topics apply`."
        ) from error
    return f"{cluster}/{described.topic_id}"
