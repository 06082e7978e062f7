# ruff: noqa: RUF001 (characters that look like others are what is tested)
"""The table of ways to reach inside: each must be refused before anything is sent, and only the operator opens one."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from handlers.addresses import AddressPolicy
from handlers.outbound import GuardedClient
from schemas.errors import Permanent, Retryable
from streams.settings import Settings

LITERAL = {
    # IPv4, each network's first, inner and last addresses
    "this network": "http://0.0.0.0/",
    "this network, inner": "http://0.1.2.3/",
    "private 10": "http://10.0.0.0/",
    "private 10, last": "http://10.255.255.255/",
    "carrier-grade NAT": "http://100.64.0.1/",
    "carrier-grade NAT, last": "http://100.127.255.254/",
    "cloud metadata of Alibaba": "http://100.100.100.200/latest/meta-data/",
    "loopback": "http://127.0.0.1/",
    "loopback, inner": "http://127.8.9.10:8080/",
    "loopback, last": "http://127.255.255.255/",
    "cloud metadata": "http://169.254.169.254/latest/meta-data/",
    "container metadata": "http://169.254.170.2/v2/credentials",
    "private 172.16": "http://172.16.0.1/",
    "private 172.31": "http://172.31.255.255/",
    "protocol assignments": "http://192.0.0.8/",
    "cloud metadata of Oracle": "http://192.0.0.192/",
    "documentation 1": "http://192.0.2.1/",
    "AS112": "http://192.31.196.1/",
    "multicast tunnels": "http://192.52.193.1/",
    "6to4 relay": "http://192.88.99.1/",
    "private 192.168": "http://192.168.0.1/",
    "AS112, second": "http://192.175.48.6/",
    "benchmarks": "http://198.18.0.1/",
    "benchmarks, second half": "http://198.19.255.255/",
    "documentation 2": "http://198.51.100.7/",
    "documentation 3": "http://203.0.113.7/",
    "multicast": "http://224.0.0.251/",
    "multicast, last": "http://239.255.255.255/",
    "reserved": "http://240.0.0.1/",
    "broadcast": "http://255.255.255.255/",
    # IPv4 in other clothes
    "decimal": "http://2130706433/",
    "decimal of metadata": "http://2852039166/",
    "decimal, too large": "http://4294967297/",
    "hexadecimal": "http://0x7f000001/",
    "hexadecimal, dotted": "http://0x7f.0x0.0x0.0x1/",
    "hexadecimal, capital": "http://0X7F.0.0.1/",
    "octal": "http://017700000001/",
    "octal, dotted": "http://0177.0.0.01/",
    "octal, padded": "http://0000177.0.0.1/",
    "mixed": "http://0251.0xfe.43518/",
    "short, two parts": "http://127.1/",
    "short, three parts": "http://127.0.1/",
    "short zero": "http://0/",
    "leading zeros": "http://127.000.000.001/",
    "trailing dot": "http://127.0.0.1./",
    "two trailing dots": "http://127.0.0.1../",
    "overflowing octet": "http://127.0.0.257/",
    "percent-encoded": "http://%31%32%37.0.0.1/",
    "percent-encoded twice": "http://%2531%2532%2537.0.0.1/",
    "circled digits": "http://①②⑦.⓪.⓪.①/",
    "full-width digits": "http://１２７.０.０.１/",
    "full-width full stops": "http://127．0．0．1/",
    "ideographic full stops": "http://127。0。0。1/",
    "Arabic digits": "http://١٢٧.٠.٠.١/",
    "soft hyphen": "http://127.0.0\u00ad.1/",
    "zero-width space": "http://127.0.0.\u200b1/",
    # IPv6
    "IPv6 loopback": "http://[::1]/",
    "IPv6 loopback, long": "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "IPv6 unspecified": "http://[::]/",
    "IPv4-mapped": "http://[::ffff:127.0.0.1]/",
    "IPv4-mapped, hexadecimal": "http://[::ffff:7f00:1]/",
    "IPv4-mapped metadata": "http://[::ffff:a9fe:a9fe]/",
    "IPv4-mapped private": "http://[::FFFF:10.1.2.3]/",
    "IPv4-mapped, long": "http://[0:0:0:0:0:ffff:192.168.1.1]/",
    "IPv4-compatible": "http://[::127.0.0.1]/",
    "IPv4-compatible, hexadecimal": "http://[::7f00:1]/",
    "IPv4-translated": "http://[::ffff:0:127.0.0.1]/",
    "NAT64": "http://[64:ff9b::127.0.0.1]/",
    "NAT64 of metadata": "http://[64:ff9b::a9fe:a9fe]/",
    "NAT64 of a public address": "http://[64:ff9b::808:808]/",
    "NAT64, local": "http://[64:ff9b:1::7f00:1]/",
    "6to4 of loopback": "http://[2002:7f00:1::]/",
    "6to4 of private": "http://[2002:c0a8:101::1]/",
    "6to4 of metadata": "http://[2002:a9fe:a9fe::1]/",
    "Teredo": "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "Teredo, server inside": "http://[2001::7f00:1]/",
    "ORCHID": "http://[2001:20::1]/",
    "IPv6 benchmarks": "http://[2001:2::1]/",
    "IPv6 documentation": "http://[2001:db8::1]/",
    "IPv6 documentation, second": "http://[3fff::1]/",
    "unique local fc": "http://[fc00::1]/",
    "unique local fd": "http://[fd12:3456:789a::1]/",
    "IPv6 metadata": "http://[fd00:ec2::254]/",
    "link-local": "http://[fe80::1]/",
    "link-local, zone": "http://[fe80::1%25eth0]/",
    "link-local, numbered zone": "http://[fe80::1%251]/",
    "loopback, zone": "http://[::1%25lo]/",
    "site-local": "http://[fec0::1]/",
    "IPv6 multicast": "http://[ff02::1]/",
    "IPv6 multicast, global": "http://[ff0e::1]/",
    "discard-only": "http://[100::1]/",
    "segment routing": "http://[5f00::1]/",
    "ISATAP in link-local": "http://[fe80::5efe:7f00:1]/",
    "IPv6 not assigned": "http://[4000::1]/",
    "IPv6 not closed": "http://[::1/",
    "address of no version": "http://[v1.fe80]/",
    # Names that stand for this machine
    "localhost": "http://localhost/",
    "localhost, capital": "http://LOCALHOST:9092/",
    "localhost, trailing dot": "http://localhost./",
    "localhost, circled letters": "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "localhost, full-width": "http://ｌｏｃａｌｈｏｓｔ/",
    "localhost, long s": "http://localho\u017ft/",
    # What confuses parsers
    "user": "http://user@8.8.8.8/",
    "user and password": "http://user:canary@8.8.8.8/",
    "empty user": "http://@127.0.0.1/",
    "host as user": "http://8.8.8.8@127.0.0.1/",
    "escaped user": "http://8.8.8.8%40127.0.0.1/",
    "two hosts": "http://8.8.8.8:80@127.0.0.1:80/",
    "backslash": "http://127.0.0.1\\@8.8.8.8/",
    "fragment before host": "http://127.0.0.1#@8.8.8.8/",
    "question mark before host": "http://127.0.0.1?@8.8.8.8/",
    "semicolon": "http://127.0.0.1;8.8.8.8/",
    "blank in host": "http://127.0.0.1 8.8.8.8/",
    "new line in host": "http://127.0.0.1\r\nX: y/",
    "tab in host": "http://127.0.\t0.1/",
    "port that is none": "http://127.0.0.1:99999/",
    "three slashes": "http:///127.0.0.1/",
    "no scheme": "//127.0.0.1/",
    "no host": "http://",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp": "ftp://8.8.8.8/",
    "data": "data:text/plain,x",
    "unix socket": "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "websocket": "ws://8.8.8.8/",
    "capital scheme": "FILE:///etc/passwd",
    "nothing": "",
}

RESOLVED = {
    "private": ["10.0.0.1"],
    "metadata": ["169.254.169.254"],
    "loopback behind a public one": ["8.8.8.8", "127.0.0.1"],
    "loopback before a public one": ["127.0.0.1", "8.8.8.8"],
    "IPv6 loopback behind a public IPv4": ["8.8.8.8", "::1"],
    "IPv4-mapped": ["::ffff:10.0.0.1"],
    "NAT64": ["64:ff9b::a00:1"],
    "6to4": ["2002:a00:1::1"],
    "Teredo": ["2001::a00:1"],
    "unique local": ["fd00::1"],
    "link-local with a zone": ["fe80::1%1"],
    "unspecified": ["0.0.0.0"],
    "unspecified IPv6": ["::"],
    "multicast": ["224.0.0.1"],
    "carrier-grade NAT": ["100.64.0.1"],
}

Resolve = Callable[[list[str]], None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Makes names below ``.example`` lead to addresses."""
    real = socket.getaddrinfo
    addresses: list[str] = []

    def found(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        if not str(host).rstrip(".").endswith(".example"):
            return real(host, port, *args, **named)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each.partition("%")[0], port, 0, int("%" in each)))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return addresses.extend


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where connections would have gone: none may be tried."""
    tried: list[Any] = []

    async def connect(_loop: Any, _socket: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError("not in this test")

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", connect)
    return tried


@pytest.mark.parametrize("url", LITERAL.values(), ids=LITERAL)
async def test_no_spelling_leads_inside(url: str, no_connection: list[Any]) -> None:
    async with GuardedClient() as client:
        with pytest.raises((Permanent, Retryable)) as caught:
            await client.request("POST", url, json={"x": 1})
    assert no_connection == []
    # A name that nobody resolves is no refusal, and leads nowhere either.
    assert caught.value.code in ("address_refused", "bad_address", "not_connected")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("addresses", RESOLVED.values(), ids=RESOLVED)
async def test_no_name_leads_inside(addresses: list[str], resolve: Resolve, no_connection: list[Any]) -> None:
    resolve(addresses)
    async with GuardedClient() as client:
        with pytest.raises(Permanent) as caught:
            await client.request("GET", "https://innocent.example/")
    assert caught.value.code == "address_refused"
    assert "WEBHOOK_OUTBOUND_ALLOW" in str(caught.value)
    assert no_connection == []


@pytest.mark.parametrize(
    ("allow", "url", "addresses", "reached"),
    [
        ("10.0.0.0/8", "http://10.1.2.3:81/", [], ("10.1.2.3", 81)),
        ("10.0.0.0/8", "http://[::ffff:10.1.2.3]:81/", [], ("::ffff:a01:203", 81, 0, 0)),
        ("fd00::/8", "http://[fd00::1]:81/", [], ("fd00::1", 81, 0, 0)),
        ("dwd.example", "http://DWD.example.:81/", ["10.1.2.3"], ("10.1.2.3", 81)),
        ("10.1.2.3", "http://any.example:81/", ["10.1.2.3"], ("10.1.2.3", 81)),
        ("9.9.9.9", "http://any.example:81/", ["8.8.8.8"], ("8.8.8.8", 81)),
    ],
)
async def test_the_operators_list_opens_what_it_names(
    allow: str, url: str, addresses: list[str], reached: object, resolve: Resolve, no_connection: list[Any]
) -> None:
    resolve(addresses)
    async with GuardedClient([allow]) as client:
        with pytest.raises(Retryable) as caught:
            await client.request("GET", url)
    assert caught.value.code == "not_connected"
    assert no_connection == [reached]


@pytest.mark.parametrize(
    ("allow", "url", "addresses"),
    [
        ("10.0.0.0/8", "http://11.example/", ["10.0.0.1", "192.168.0.1"]),
        ("10.0.0.1", "http://10.0.0.2/", []),
        ("10.0.0.1", "http://[64:ff9b::a00:1]/", []),
        ("dwd.example", "http://other.example/", ["10.0.0.1"]),
        ("dwd.example", "http://dwd.example.evil.example/", ["10.0.0.1"]),
        ("dwd.example", "http://xdwd.example/", ["10.0.0.1"]),
        ("dwd.example", "http://dwd.example@10.0.0.1/", []),
        ("dwd", "http://10.0.0.1/dwd", []),
    ],
)
async def test_the_operators_list_opens_nothing_else(
    allow: str, url: str, addresses: list[str], resolve: Resolve, no_connection: list[Any]
) -> None:
    resolve(addresses)
    async with GuardedClient([allow]) as client:
        with pytest.raises(Permanent):
            await client.request("GET", url)
    assert no_connection == []


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "192.0.1.1", "172.32.0.1", "2a00::1"])
def test_public_addresses_pass(host: str) -> None:
    AddressPolicy().check("name.example", [host])


@pytest.mark.parametrize(
    ("allow", "host", "address", "passes"),
    [
        (["10.1.0.0/16"], "a", "10.1.2.3", True),
        (["10.1.0.0/16"], "a", "::ffff:10.1.2.3", True),
        (["10.1.0.0/16"], "a", "10.2.2.3", False),
        (["dwd"], "DWD.", "10.2.2.3", True),
        (["dwd"], "dwd.evil.example", "10.2.2.3", False),
        (["fd00::/8"], "a", "fd00::1", True),
        (["127.0.0.1"], "a", "127.0.0.1", True),
        (["127.0.0.1"], "a", "127.0.0.2", False),
    ],
)
def test_the_list_opens_hosts_addresses_and_networks(allow: list[str], host: str, address: str, passes: bool) -> None:
    policy = AddressPolicy(allow)
    if passes:
        policy.check(host, [address])
    else:
        with pytest.raises(Permanent):
            policy.check(host, [address])


def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(Permanent, match=r"10\.0\.0\.1"):
        AddressPolicy().check("name.example", ["8.8.8.8", "10.0.0.1"])


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "http://host", "", "."])
def test_an_entry_that_is_no_host_and_no_network_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host nor a network"):
        AddressPolicy([entry])


async def test_a_name_that_changes_its_mind_is_asked_once_per_connection(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch, no_connection: list[Any]
) -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        if not str(host).endswith(".example"):
            return real(host, port, *args, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers)[0], port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    async with GuardedClient() as client:
        with pytest.raises(Retryable):
            await client.request("GET", "http://rebind.example/")
    async with GuardedClient() as client:
        with pytest.raises(Permanent) as caught:
            await client.request("GET", "http://rebind.example/")
    assert no_connection == [("8.8.8.8", 80)]
    assert caught.value.code == "address_refused"


def test_a_setting_that_names_neither_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match=r"outbound_allow\n.*'10\.0\.0\.1/8' is neither a host nor a network"):
        Settings.model_validate({"outbound_allow": "dwd 10.0.0.1/8"})
    assert Settings.model_validate({"outbound_allow": "dwd 10.0.0.0/8"}).outbound_allow == ["dwd", "10.0.0.0/8"]
