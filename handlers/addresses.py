"""Which addresses outbound calls may reach: what is public, and what the operator allows."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from schemas.errors import Permanent

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

DENIED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        # IPv6: only 2000::/3 is public; of that, not these.
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")


def denied(address: Address) -> bool:
    """Whether the table keeps an address from being reached. An IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return denied(address.ipv4_mapped)
        if address not in _PUBLIC_IPV6:
            return True
    return any(address in network for network in DENIED if network.version == address.version)


class AddressPolicy:
    """Which hosts and addresses may be reached: what is public, and what the operator allows."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        """``allow``: hosts (``dwd``), addresses or networks (``10.1.0.0/16``) that may be reached though private.

        Raises ``ValueError`` for an entry that is neither.
        """
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                if "/" in entry or ":" in entry or not entry.strip("."):
                    raise ValueError(f"{entry!r} is neither a host nor a network") from None
                self._hosts.add(entry.lower().rstrip("."))

    def permits(self, host: str, address: Address) -> bool:
        """Whether ``address``, to which ``host`` resolved, may be reached."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if host.lower().rstrip(".") in self._hosts:
            return True
        return not denied(address) or any(
            address in network for network in self._networks if network.version == address.version
        )

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Raise ``Permanent`` (code ``address_refused``) if any of the addresses may not be reached."""
        for text in addresses:
            # A scope id (fe80::1%eth0) changes nothing about where an address leads.
            if not self.permits(host, ip_address(text.partition("%")[0])):
                raise Permanent(
                    f"{host} leads to {text}, which is not public; an operator can allow it with "
                    "WEBHOOK_OUTBOUND_ALLOW, a tenant cannot",
                    code="address_refused",
                )
