"""Gates: what holds a task back beside its time, and who lets it go (R15). Pure.

A gate is a text of parts joined by ``|``, so that it can be stored, indexed and shown:

* ``tenant|<tenant>``: the tenant's share of the workers,
* ``host|<tenant>|<host>``: the circuit to one upstream of a tenant,
* ``rate|<tenant>|<host>``: the call rate of one upstream of a tenant,
* ``version|<plugin>|<version>``: workers that carry on runs of a plugin's version,
* ``call_back|<tenant>|<key>``: a call-back that has not come,
* ``coalesce|<tenant>|<entry and key>``: events alike that may still come.

The relay lets go what waits behind the first four, first in, first out. Who waits for a call-back goes when it comes,
or when its time is up; of those who wait for others alike, the last goes.
"""

import hashlib
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from topics.keys import join_parts, split_parts

GateKind: TypeAlias = Literal["tenant", "host", "rate", "version", "call_back", "coalesce"]

CALL_BACK: Final = "call_back|"
"""How the gate of every call-back begins."""

COALESCE: Final = "coalesce|"
"""How the gate of all that is coalesced begins."""

_LONGEST_NAME: Final = 300
"""Characters of what such a gate names; it is indexed."""

VERSION: Final = "version|"
"""How the gate of every version begins."""

LONGEST_KEY: Final = 200
"""Characters of a call-back's key."""

_KINDS: Final = frozenset(get_args(GateKind))


class Gate(NamedTuple):
    """The parts of a gate. ``name`` is the host, the version or the call-back's key, empty for a tenant's gate.

    ``tenant`` is the plugin where the gate is a version's.
    """

    kind: GateKind
    tenant: str
    name: str = ""

    def __str__(self) -> str:
        parts = (self.kind, self.tenant) if self.kind == "tenant" else (self.kind, self.tenant, self.name)
        return join_parts(*parts)


def tenant_gate(tenant: str) -> str:
    """Gate of a tenant's share."""
    return str(Gate("tenant", tenant))


def host_gate(tenant: str, host: str) -> str:
    """Gate of the circuit to an upstream."""
    return str(Gate("host", tenant, host))


def rate_gate(tenant: str, host: str) -> str:
    """Gate of the call rate of an upstream."""
    return str(Gate("rate", tenant, host))


def version_gate(plugin: str, version: str) -> str:
    """Gate of the workers that carry on runs of a plugin's version."""
    return str(Gate("version", plugin, version))


def call_back_gate(tenant: str, key: str) -> str:
    """Gate of a call-back."""
    return str(Gate("call_back", tenant, key))


def coalesce_gate(tenant: str, entry_id: str, key: str) -> str:
    """Gate of events of a settings entry that are alike in ``key``."""
    name = join_parts(entry_id, key)
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}#{hashlib.sha256(name.encode()).hexdigest()}"
    return str(Gate("coalesce", tenant, name))


def is_coalesce_gate(gate: str | None) -> bool:
    """Whether what waits behind a gate waits for others alike."""
    return gate is not None and gate.startswith(COALESCE)


def call_back_key_fault(key: object) -> str | None:
    """What is wrong with a call-back's key; ``None`` where it is one."""
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or not key.isprintable():
        shown = repr(key) if len(repr(key)) <= LONGEST_KEY else f"{repr(key)[:LONGEST_KEY]}..."
        return f"the key of a call-back is text of 1 to {LONGEST_KEY} printable characters, not {shown}"
    return None


def is_call_back_gate(gate: str | None) -> bool:
    """Whether a call-back lets go what waits behind a gate."""
    return gate is not None and gate.startswith(CALL_BACK)


def parse_gate(text: str) -> Gate:
    """The parts of a gate. Raises ``ValueError`` for a text that is none."""
    kind, *parts = split_parts(text)
    if kind not in _KINDS or len(parts) != (1 if kind == "tenant" else 2):
        raise ValueError(
            f"{text!r} is no gate; one is tenant|7, host|7|api.example.com, rate|..., version|..., call_back|..."
        )
    return Gate(kind, *parts)  # type: ignore[arg-type]


def is_released_in_order(gate: str | None) -> bool:
    """Whether the relay lets go what waits behind a gate, in order; call-backs and events alike have ways of theirs."""
    return gate is not None and not gate.startswith((CALL_BACK, COALESCE))
