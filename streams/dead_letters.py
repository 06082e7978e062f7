"""The records that nobody could read or route: listed, put back, or dismissed (`.dead-letters`).

The topic is the only memory. A decision about a letter is one more record beside it, in its partition: the same
place and group, ``retried`` or ``dismissed`` as the reason. So the list is a fold, and nothing is ever deleted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Final, Literal, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas.codec import decode_as, encode
from schemas.errors import Undecodable
from schemas.events import DeadLetter, Micros, RecordHeader, now_micros
from streams.broker.connection import consumer_config, producer_config
from streams.headers import record_headers
from streams.settings import Settings

State: TypeAlias = Literal["waiting", "retried", "dismissed"]

PROVENANCE: Final = "dead_letter"
"""Header of a record that was put back: the id of its letter."""

_DECISIONS: Final[Mapping[str, State]] = {"retried": "retried", "dismissed": "dismissed"}
_CUT: Final = "(the value is cut to "
_ANSWER_S: Final = 15.0
_READ_AT_ONCE: Final = 1000
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Letter:
    """One letter and what became of it. ``record`` is without its value, which ``DeadLetters.whole`` reads.

    ``size`` in bytes, ``None`` for a record without a value.
    """

    partition: int
    offset: int
    record: DeadLetter
    size: int | None
    state: State = "waiting"
    decided_at: Micros | None = None
    decided_by: str | None = None
    note: str | None = None

    @property
    def id(self) -> str:
        """Its place in the topic, ``partition-offset``."""
        return f"{self.partition}-{self.offset}"

    @property
    def is_whole(self) -> bool:
        """Whether the original record can be put back: a value too large for a letter was cut."""
        return _CUT not in self.record.error


class DeadLetters:
    """The letters of an installation. Every method raises ``KafkaException`` where the brokers do not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.catalogue().dead_letters

    def letters(self) -> list[Letter]:
        """Every letter that the topic holds, the oldest first; one for each record, however often it was read."""
        found: dict[tuple[str, str, int, int], Letter] = {}

        def take(message: Message) -> None:
            try:
                record = decode_as(DeadLetter, message.value() or b"")
            except Undecodable:
                # A letter that is itself no letter; nothing here could say more about it than other tools.
                return
            place = record.group, record.topic, record.partition, record.offset
            state = _DECISIONS.get(record.reason)
            if state is None:
                size = None if record.value is None else len(record.value)
                record.value = None
                found.setdefault(place, Letter(message.partition(), message.offset(), record, size))
            elif place in found:
                letter, headers = found[place], {each.name: each.value for each in record.headers}
                letter.state, letter.decided_at = state, record.failed_at
                letter.decided_by, letter.note = (headers.get("by") or b"").decode(), record.error or None

        self._scan(dict.fromkeys(self._partitions(), 0), take)
        return sorted(found.values(), key=lambda letter: letter.record.failed_at)

    def whole(self, letters: Iterable[Letter]) -> Iterator[list[tuple[Letter, DeadLetter]]]:
        """Letters with their records' values, read again in order of their places, some hundred at a time."""
        for number, of_partition in groupby(sorted(letters, key=_place), key=lambda letter: letter.partition):
            for chosen in _batches(list(of_partition)):
                wanted = {letter.offset: letter for letter in chosen}
                read: list[tuple[Letter, DeadLetter]] = []
                take = partial(_keep, wanted, read)
                self._scan({number: chosen[0].offset}, take, until=chosen[-1].offset)
                yield read

    def retry(self, letters: Iterable[Letter], by: str) -> int:
        """Put the original records back where they came from, and note it; how many, all or fewer.

        Each goes to its topic by its key, without a key to its partition, with the header ``dead_letter``. A crash
        between the two leaves a record that is put back and not noted: put back twice it is a redelivery.
        """
        producer, done = Producer(producer_config(self._settings)), 0
        for batch in self.whole(letters):
            put_back: list[Letter] = []
            for letter, record in batch:
                headers = [(each.name, each.value) for each in record.headers if each.name != PROVENANCE]
                producer.produce(
                    record.topic,
                    record.value,
                    record.record_key,
                    -1 if record.record_key else record.partition,
                    on_delivery=partial(_count, put_back, letter),
                    headers=[*headers, (PROVENANCE, letter.id.encode())],
                )
            producer.flush(_ANSWER_S)
            done += self._note(producer, put_back, "retried", by, "")
        producer.close()
        return done

    def dismiss(self, letters: Sequence[Letter], by: str, note: str) -> int:
        """Note that nothing is to be done about letters; how many were noted, all or fewer."""
        producer = Producer(producer_config(self._settings))
        done = sum(self._note(producer, batch, "dismissed", by, note) for batch in _batches(letters))
        producer.close()
        return done

    def written_since(self, since_ms: int, group: str) -> list[int]:
        """When the letters of a group were written that came later than ``since_ms``; all in milliseconds."""
        found: list[int] = []

        def take(message: Message) -> None:
            try:
                record = decode_as(DeadLetter, message.value() or b"")
            except Undecodable:
                return
            if record.group == group and record.reason not in _DECISIONS:
                found.append(message.timestamp()[1])

        consumer = Consumer(consumer_config(self._settings, "dead-letters"))
        try:
            asked = [TopicPartition(self._topic, number, since_ms) for number in self._partitions()]
            first = consumer.offsets_for_times(asked, timeout=_ANSWER_S)
        finally:
            consumer.close()
        self._scan({each.partition: each.offset for each in first if each.offset >= 0}, take)
        return found

    def _note(self, producer: Producer, letters: Sequence[Letter], reason: State, by: str, note: str) -> int:
        noted: list[Letter] = []
        for letter in letters:
            decision = DeadLetter(
                topic=letter.record.topic,
                partition=letter.record.partition,
                offset=letter.record.offset,
                group=letter.record.group,
                reason=reason,
                error=note,
                failed_at=now_micros(),
                headers=[RecordHeader(name="by", value=by.encode())],
            )
            producer.produce(
                self._topic,
                encode(decision),
                letter.record.record_key,
                letter.partition,
                on_delivery=partial(_count, noted, letter),
                headers=record_headers(decision),
            )
        producer.flush(_ANSWER_S)
        return len(noted)

    def _partitions(self) -> range:
        return range(self._settings.catalogue().specs[self._topic].partitions)

    def _scan(self, first: Mapping[int, int], take: Callable[[Message], None], until: int | None = None) -> None:
        """Hand over the records of partitions from an offset each, up to ``until`` or the present end."""
        config = consumer_config(self._settings, "dead-letters")
        consumer = Consumer({**config, "enable.partition.eof": True})
        unread = dict(first)
        try:
            consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in first.items()])
            while unread:
                first_message = consumer.poll(_ANSWER_S)
                if first_message is None:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
                # What has arrived beside it; a longer wait would be for a full batch.
                for message in [first_message, *consumer.consume(_READ_AT_ONCE, 0)]:
                    error = message.error()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    if error is None and (until is None or message.offset() <= until):
                        take(message)
                    if error is not None or (until is not None and message.offset() >= until):
                        unread.pop(message.partition(), None)
        finally:
            consumer.close()


def _place(letter: Letter) -> tuple[int, int]:
    return letter.partition, letter.offset


def _batches(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    for begin in range(0, len(letters), _AT_ONCE):
        yield letters[begin : begin + _AT_ONCE]


def _keep(wanted: Mapping[int, Letter], read: list[tuple[Letter, DeadLetter]], message: Message) -> None:
    letter = wanted.get(message.offset())
    if letter is not None:
        read.append((letter, decode_as(DeadLetter, message.value())))


def _count(written: list[Letter], letter: Letter, error: KafkaError | None, _message: Message) -> None:
    """A delivery report: the letter's record is written, or not."""
    if error is None:
        written.append(letter)
