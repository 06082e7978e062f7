"""The vendor counts what it was sent, which is what a fault run believes."""

import socket
import urllib.error
import urllib.request

import orjson

from tests.faults.vendor import Vendor
from tests.support.waiting import eventually


def _order(vendor: Vendor, reference: str) -> int:
    body = orjson.dumps({"reference": reference})
    with urllib.request.urlopen(urllib.request.Request(vendor.url, body), timeout=20) as answer:
        status: int = answer.status
        return status


def _finds(vendor: Vendor, reference: str) -> bool:
    try:
        with urllib.request.urlopen(f"{vendor.url}/{reference}", timeout=20):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return False


def test_the_same_order_twice_is_two_orders_and_shows_late() -> None:
    with Vendor() as vendor:
        assert not _finds(vendor, "order-1")
        assert [_order(vendor, "order-1"), _order(vendor, "order-1")] == [200, 200]
        assert vendor.taken == {"order-1": 2}
        assert eventually(lambda: _finds(vendor, "order-1"))
        assert vendor.looks[True] == 1


def test_an_order_is_taken_although_nobody_waits_for_the_answer() -> None:
    body = b'{"reference": "order-2"}'
    with Vendor() as vendor:
        host, _, rest = vendor.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(rest.partition("/")[0]))) as client:
            client.sendall(b"POST /orders HTTP/1.1\r\nHost: vendor\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert eventually(lambda: vendor.taken["order-2"] == 1)
