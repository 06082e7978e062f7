"""Decoders and encoders compiled from the schemas: straight-line Python, at a third of what a general codec costs.

They know the plain form of a record only: no block with a byte count, no padded number, no value of another type. Given
anything else they give up with one of ``GIVEN_UP``, and the general codec has the last word. So there is one thing
to prove: what they give is what the general codec gives (tests/schemas/test_compiled.py).
"""

import struct
from collections.abc import Callable, Collection, Mapping
from textwrap import indent
from typing import Any, Final, TypeAlias

from schemas.remembered import HIGH_INSTANTS, LOW_INSTANTS, Texts, remember_instant

Decoder: TypeAlias = Callable[[bytes], Any]
"""Gives the event in a whole record, 5 bytes of frame included."""

Encoder: TypeAlias = Callable[[Any], bytes]
"""Gives the body of an event, without the frame."""

GIVEN_UP: Final = (IndexError, ValueError, TypeError, AttributeError, OverflowError, struct.error)
"""What both raise for what is not of the plain form, broken or not."""

Schema: TypeAlias = Mapping[str, Any]


class NotPlain(Exception):
    """A type that is left to the general codec."""


_INSTANTS: Final = "_at"
"""How the names of fields end that hold an instant."""

_NAMES: Final = frozenset(
    {
        *("kind", "tenant_id", "tier", "endpoint", "event_type", "trigger", "model", "settings_entry", "routing_rule"),
        *("failover_from", "requested_by", "handler", "worker", "error_code", "source_topic", "next_topic"),
        *("target_topic", "plugin_version", "pipeline_hash"),
    }
)
"""Texts of which few different ones fill many records: each is made once. It costs little where it is wrong."""

_ABSENT_TOGETHER: Final = (
    ("failover_from", "payload", "caused_by", "requested_by"),
    ("handler", "worker", "started_at", "finished_at", "result"),
    ("next_topic", "next_step", "next_attempt", "next_due_at", "remaining_s"),
)
"""Optional neighbours that most records have all or none of."""


def _instant(data: bytes, at: int) -> tuple[int, int]:
    """The long that begins there, whatever its size, and where it ends."""
    n, end = _number(data, at + 1, data[at])
    remember_instant(data[at:end], n)
    return n >> 1 ^ -(n & 1), end


_INSTANT: Final = """
low = lows.get(data[at : at + 2])
high = highs.get(data[at + 2 : at + 8])
if low is None or high is None:
    {to}, at = instant(data, at)
else:
    {to} = high + low
    at += 8
"""
_INT: Final = """
n = data[at]
at += 1
if n < 128:
    {to} = signed[n]
else:
    n, at = number(data, at, n)
    if n > 0xFFFFFFFF:
        raise ValueError
    {to} = n >> 1 ^ -(n & 1)
"""
_LONG: Final = """
n = data[at]
at += 1
if n > 127:
    second = data[at]
    if second < 128:
        n += (second << 7) - 0x80
        at += 1
    elif (third := data[at + 1]) < 128:
        n += (second << 7) + (third << 14) - 0x4080
        at += 2
    else:
        n, at = number(data, at, n)
{to} = n >> 1 ^ -(n & 1)
"""
_NUMBER: Final = """
n = data[at]
at += 1
if n > 127:
    n, at = number(data, at, n)
"""
_LENGTH: Final = """
n = data[at]
at += 1
if n & 129:
    n, at = length(data, at, n)
end = at + (n >> 1)
"""
_READ: Final = {
    "string": _LENGTH + "{to} = data[at:end].decode()\nat = end\n",
    "name": _LENGTH + "{to} = texts[data[at:end]]\nat = end\n",
    "bytes": _LENGTH + "{to} = data[at:end]\nat = end\n",
    "int": _INT,
    "long": _LONG,
    "instant": _INSTANT,
    "double": "{to} = double(data, at)[0]\nat += 8\n",
}
_OPTIONAL: Final = """
n = data[at]
at += 1
if n == 2:
{read}
elif n:
    raise ValueError
else:
    {to} = None
"""
_ABSENT: Final = """
if data[at : at + {count}] == {zeros!r}:
    at += {count}
    {all_of_them} = None
else:
{read}
"""
_BLOCKS: Final = f"""
{{to}} = items = {{empty}}
{_NUMBER}
while n:
    if n & 1:
        raise ValueError
    for _ in range(n >> 1):
{{read}}
{indent(_NUMBER, "    ")}
"""


def _reading(kind: Any, to: str, name: str = "") -> str:
    """Lines that read a value at ``at`` into ``to`` and move ``at`` behind it; ``name`` is that of its field."""
    if isinstance(kind, str) and kind in _READ:
        if kind == "long" and name.endswith(_INSTANTS):
            return _READ["instant"].format(to=to)
        return _READ["name" if kind == "string" and name in _NAMES else kind].format(to=to)
    if isinstance(kind, list) and len(kind) == 2 and kind[0] == "null":
        return _OPTIONAL.format(read=indent(_reading(kind[1], to, name), "    "), to=to)
    if isinstance(kind, dict) and kind.get("items") == "string":
        read = _reading("string", "item") + "items.append(item)\n"
        return _BLOCKS.format(to=to, empty="[]", read=indent(read, " " * 8))
    if isinstance(kind, dict) and kind.get("values") == "string":
        read = _reading("string", "name") + _reading("string", "items[name]")
        return _BLOCKS.format(to=to, empty="{}", read=indent(read, " " * 8))
    raise NotPlain


def _with_absent(read: Mapping[str, str], targets: Mapping[str, str]) -> list[str]:
    """The lines of all fields, in order, with a short cut past those that are absent together."""
    names, lines = list(read), list(read.values())
    for group in _ABSENT_TOGETHER:
        first = names.index(group[0]) if group[0] in names else 0
        if tuple(names[first : first + len(group)]) != group:
            continue
        lines[first] = _ABSENT.format(
            count=len(group),
            zeros=bytes(len(group)),
            all_of_them=" = ".join(targets[each] for each in group),
            read=indent("".join(lines[first : first + len(group)]), "    "),
        )
        lines[first + 1 : first + len(group)] = [""] * (len(group) - 1)
    return lines


def _number(data: bytes, at: int, byte: int) -> tuple[int, int]:
    """The number, still in zigzag, of which the first byte has been read, and where it ends. At most 63 bits."""
    found, shift = byte & 0x7F, 7
    while byte > 127:
        if shift > 56:
            raise ValueError
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        shift += 7
    return found, at


def _length(data: bytes, at: int, byte: int) -> tuple[int, int]:
    """The same for a length, of which the first byte is odd (then it may be negative) or not the last."""
    found, at = _number(data, at, byte)
    if found & 1:
        raise ValueError
    return found, at


def compile_decoder(cls: type[Any], writer: Schema, reader: Schema, marked: Collection[str] = ()) -> Decoder | None:
    """A decoder of what ``writer`` wrote into the events of ``reader``; ``None`` where the schemas are not plain.

    With ``marked`` fields it gives a pair: the event, and the offsets in the record at which these fields end.
    """
    wanted = {each["name"]: each for each in reader["fields"]}
    lines = ["event = new(cls)\nat = 5\n"]
    read: dict[str, str] = {}
    targets: dict[str, str] = {}
    try:
        for each in writer["fields"]:
            known = wanted.pop(each["name"], None)
            if known is not None and known["type"] != each["type"]:
                return None
            targets[each["name"]] = f"event.{each['name']}" if known else "dropped"
            read[each["name"]] = _reading(each["type"], targets[each["name"]], each["name"])
            if each["name"] in marked:
                read[each["name"]] += f"end_{each['name']} = at\n"
    except NotPlain:
        return None
    lines += read.values() if marked else _with_absent(read, targets)
    for name, each in wanted.items():
        if each["type"] == "bytes":  # its default is text that stands for bytes
            return None
        lines.append(f"event.{name} = {each['default']!r}\n")
    # A slice may have reached past the end without a word.
    marks = "".join(f"end_{each['name']}, " for each in writer["fields"] if each["name"] in marked)
    lines.append(f"if at != len(data):\n    raise ValueError\nreturn event{', (' + marks + ')' if marks else ''}\n")
    return define(
        "data",
        lines,
        {
            "cls": cls,
            "new": object.__new__,
            "lows": LOW_INSTANTS,
            "highs": HIGH_INSTANTS,
            "instant": _instant,
            "signed": tuple(n >> 1 ^ -(n & 1) for n in range(128)),
            "texts": Texts(),
            "number": _number,
            "length": _length,
            "double": struct.Struct("<d").unpack_from,
        },
    )


SHORT: Final = tuple(bytes([2 * n]) for n in range(64))


def written_long(value: int) -> bytes:
    """A long in zigzag."""
    if 64 <= value < 8192:  # the lengths of most texts that are no short ones
        return bytes((value << 1 & 0x7F | 0x80, value >> 6))
    if not -(2**63) <= value < 2**63:
        raise OverflowError
    n = value << 1 ^ value >> 63
    out = bytearray()
    while n > 127:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


_TEXT: Final = """
text = {value}.encode()
n = len(text)
out += short[n] if n < 64 else written(n)
out += text
"""
_WRITE: Final = {
    "string": _TEXT,
    "bytes": "if type({value}) is not bytes:\n    raise TypeError\nout += written(len({value}))\nout += {value}\n",
    "int": """
if type({value}) is not int or not -0x80000000 <= {value} <= 0x7FFFFFFF:
    raise TypeError
out += short[{value}] if 0 <= {value} < 64 else written({value})
""",
    "long": """
if type({value}) is not int:
    raise TypeError
n = {value} << 1
if 1 << 49 <= n < 1 << 56:
    n = n & 0x000000000FFFFFFF | (n & 0x00FFFFFFF0000000) << 4
    n = n & 0x00003FFF00003FFF | (n & 0x0FFFC0000FFFC000) << 2
    n = n & 0x007F007F007F007F | (n & 0x3F803F803F803F80) << 1
    out += (n | 0x0080808080808080).to_bytes(8, "little")
else:
    out += written({value})
""",
    "double": "if type({value}) is not float:\n    raise TypeError\nout += double({value})\n",
}


def _writing(kind: Any, value: str) -> str:
    """Lines that append a value to ``out``."""
    if isinstance(kind, str) and kind in _WRITE:
        return _WRITE[kind].format(value=value)
    if isinstance(kind, list) and len(kind) == 2 and kind[0] == "null":
        write = indent("out += b'\\x02'\n" + _writing(kind[1], value), "    ")
        return f"if {value} is None:\n    out += b'\\x00'\nelse:\n{write}\n"
    if isinstance(kind, dict) and kind.get("items") == "string":
        items, write = f"for item in {value}:", _TEXT.format(value="item")
        container = "list"
    elif isinstance(kind, dict) and kind.get("values") == "string":
        items, write = f"for name, item in {value}.items():", _TEXT.format(value="name") + _TEXT.format(value="item")
        container = "dict"
    else:
        raise NotPlain
    return (
        f"if type({value}) is not {container}:\n    raise TypeError\n"
        f"if {value}:\n    out += written(len({value}))\n    {items}\n{indent(write, ' ' * 8)}\nout += b'\\x00'\n"
    )


def compile_encoder(schema: Schema) -> Encoder | None:
    """An encoder of events of this schema; ``None`` where it is not plain."""
    try:
        lines = [f"value = event.{each['name']}\n" + _writing(each["type"], "value") for each in schema["fields"]]
    except NotPlain:
        return None
    lines = ["out = bytearray()\n", *lines, "return bytes(out)\n"]
    return define("event", lines, {"short": SHORT, "written": written_long, "double": struct.Struct("<d").pack})


def define(parameters: str, lines: list[str], names: dict[str, Any]) -> Callable[..., Any]:
    """A function of these lines, which may use these names. The lines are made of schemas, never of data."""
    source = f"def compiled({parameters}):\n" + indent("".join(lines), "    ")
    scope = dict(names)
    exec(source, scope)  # noqa: S102
    return scope["compiled"]  # type: ignore[no-any-return]
