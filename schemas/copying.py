"""Outcomes written by copying what they share with their task's record, where it stands encoded already.

A task's record and its outcome have two thirds of their fields in common, in long runs of equal order. The compiled
decoder says where these runs begin and end in the record; the outcome's bytes are put together from them, from
constants that are encoded once, and from the few fields that are new. What comes out is what ``codec.encode`` would
write (tests/schemas/test_copying.py).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from schemas.codec import decode_as, frame
from schemas.compiled import GIVEN_UP, SHORT, NotPlain, Schema, compile_decoder, compile_encoder, define, written_long
from schemas.events import TaskEvent, TaskReady
from schemas.limits import MAX_RECORD_BYTES
from schemas.store import latest_version, load_schema

Marks: TypeAlias = tuple[int, ...]
"""Where in an encoded task the runs of fields begin and end that its outcome repeats."""

Constants: TypeAlias = tuple[bytes, ...]
"""The encoded parts that many outcomes have in common (``Copier.constants``)."""

CONSTANT: Final = ("kind", "tier", "handler", "worker", "source_topic", "source_partition")
VARIABLE: Final = ("started_at", "finished_at", "result", "source_offset")
_RECORDED_AT: Final = "recorded_at"
"""Equal to ``finished_at``: a completed task's end is when its outcome is made."""
_NOT_REPEATED: Final = frozenset({"payload", "gate"})
"""Fields of that name mean something else in an outcome."""

_HIGH: Final = 13
_LOW: Final = tuple(bytes([n << 1 & 0x7F | 0x80, n >> 6 | 0x80]) for n in range(1 << _HIGH))


@lru_cache(maxsize=16)
def _high(n: int) -> bytes:
    """All but the first two bytes of an instant of this century: they change every 8 ms."""
    return written_long(n << _HIGH)[2:]


def _text(text: str) -> bytes:
    encoded = text.encode()
    size = len(encoded)
    return (SHORT[size] if size < len(SHORT) else written_long(size)) + encoded


# Where a long has no third byte, the second would be the last.
_LONG: Final = f"""
upper = {{value}} >> {_HIGH}
{{value}} = low[{{value}} & {(1 << _HIGH) - 1}] + high(upper) if upper > 0 else written({{value}})
"""
_VARIABLE: Final = {"long": _LONG, "string": "{value} = text({value})\n"}


class _Piece(NamedTuple):
    """A part of an outcome: bytes that never change, constants, one variable, or fields ``first`` to ``last``."""

    kind: str
    content: Any = None
    first: int = 0
    last: int = 0


class Copier:
    """Writes the outcomes of tasks. ``read`` and ``write`` belong together: the one gives the marks of the other."""

    def __init__(self, source: Schema, target: Schema, source_frame: bytes, target_frame: bytes) -> None:
        """Raises ``ValueError`` for schemas that no code can be made for."""
        self._frame = source_frame
        names = [each["name"] for each in source["fields"]]
        self._pieces = list(_merged(_pieces(source, target, target_frame)))
        ends = {each.last for each in self._pieces if each.kind == "copy"}
        ends |= {each.first - 1 for each in self._pieces if each.kind == "copy" and each.first}
        self._marked = sorted(ends)
        self._types = {each["name"]: each["type"] for each in target["fields"]}
        decode = compile_decoder(TaskReady, source, source, [names[index] for index in self._marked])
        if decode is None:
            raise ValueError("the schema of tasks is not plain")
        self._decode = decode
        self.write: Callable[..., bytes] = self._compile()

    def read(self, data: bytes) -> tuple[TaskReady, Marks | None]:
        """The task in a record, with its marks; ``None`` for a record that only the general codec can read.

        Raises ``Undecodable`` as ``decode_as`` does.
        """
        if data[:5] == self._frame and len(data) <= MAX_RECORD_BYTES:
            try:
                found: tuple[TaskReady, Marks] = self._decode(data)
            except GIVEN_UP:  # of another form, or broken: the general codec knows
                return decode_as(TaskReady, data), None
            return found
        return decode_as(TaskReady, data), None

    def constants(self, values: Mapping[str, Any]) -> Constants:
        """The constant parts of outcomes with these values of the fields in ``CONSTANT``."""
        return tuple(
            b"".join(part if isinstance(part, bytes) else self._constant(part, values[part]) for part in each.content)
            for each in self._pieces
            if each.kind == "constant"
        )

    def _constant(self, name: str, value: Any) -> bytes:
        encode = compile_encoder({"fields": [{"name": name, "type": self._types[name]}]})
        if encode is None:
            raise ValueError(f"the type of {name} is not plain")
        return encode(_Holder(name, value))

    def _compile(self) -> Callable[..., bytes]:
        parts: list[str] = []
        constants = 0
        for each in self._pieces:
            if each.kind == "constant":
                parts.append(f"c{constants}")
                constants += 1
            elif each.kind == "copy":
                begin = f"m{each.first - 1}" if each.first else "5"
                parts.append(f"data[{begin}:m{each.last}]")
            else:
                parts.append(each.content)
        unpacked = ", ".join(f"c{number}" for number in range(constants))
        marks = ", ".join(f"m{index}" for index in self._marked)
        lines = [f"{unpacked}, = constants\n", f"{marks}, = marks\n"]
        for name in VARIABLE:
            kind = self._types[name]
            bare = kind[1] if isinstance(kind, list) else kind
            lines.append(_VARIABLE[bare].format(value=name))
        lines.append(f"return join(({', '.join(parts)},))\n")
        names = {"join": b"".join, "low": _LOW, "high": _high, "written": written_long, "text": _text}
        return define(", ".join(("data", "marks", "constants", *VARIABLE)), lines, names)


class _Holder:
    """An event with one field."""

    def __init__(self, name: str, value: Any) -> None:
        setattr(self, name, value)


def _pieces(source: Schema, target: Schema, target_frame: bytes) -> Iterable[_Piece]:
    """The outcome, field by field."""
    places = {each["name"]: (index, each["type"]) for index, each in enumerate(source["fields"])}
    yield _Piece("constant", (target_frame,))
    for each in target["fields"]:
        name, kind = each["name"], each["type"]
        is_optional = isinstance(kind, list)
        index, repeated = places.get(name, (0, None))
        if name in CONSTANT:
            yield _Piece("constant", (name,))
        elif name in VARIABLE or name == _RECORDED_AT:
            yield _Piece("constant", (b"\x02" if is_optional else b"",))
            yield _Piece("variable", name if name in VARIABLE else "finished_at")
        elif repeated is not None and name not in _NOT_REPEATED:
            if repeated != kind:
                if kind != ["null", repeated]:
                    raise NotPlain
                yield _Piece("constant", (b"\x02",))
            yield _Piece("copy", None, index, index)
        elif is_optional:
            yield _Piece("constant", (b"\x00",))
        else:
            raise NotPlain


def _merged(pieces: Iterable[_Piece]) -> Iterable[_Piece]:
    """The same with neighbours made one where they can be."""
    held: _Piece | None = None
    for each in pieces:
        if each.kind == "constant" and each.content == (b"",):
            continue
        if held is not None and held.kind == each.kind == "constant":
            held = _Piece("constant", (*held.content, *each.content))
        elif held is not None and held.kind == each.kind == "copy" and held.last + 1 == each.first:
            held = _Piece("copy", None, held.first, each.last)
        else:
            if held is not None:
                yield held
            held = each
    if held is not None:
        yield held


@cache
def copier() -> Copier:
    """The copier of this process. The ids of a registry have to be known by then (``codec.use_ids``)."""
    source, target = (load_schema(f"{name}.v{latest_version(name)}") for name in ("task_ready", "task_event"))
    return Copier(source, target, frame(TaskReady), frame(TaskEvent))
