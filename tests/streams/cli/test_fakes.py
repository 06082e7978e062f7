"""``webhook fakes`` as a process of its own, with faults that are switched on and off while it runs."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WEBHOOK = Path(sys.executable).with_name("webhook")
CREDENTIALS = {"User-ID": "a", "API-Secret": "b", "Authorization": "PrintApiKey k", "Content-Type": "application/json"}


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A running fake and the address it printed."""
    process = subprocess.Popen(
        [WEBHOOK, "fakes", *arguments, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
        assert found
        yield found.group(), process
    finally:
        process.kill()
        process.communicate()


def ask(url: str, body: object = None, method: str | None = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, CREDENTIALS, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("vendor", "path", "order"),
    [
        ("dwd", "/api/orders", {"orderLines": [{"sku": "a", "attributes": []}], "deliveryMethod": 1}),
        ("printcom", "/orders", {"items": [{"sku": "flyers", "options": {"copies": 5}}]}),
    ],
)
def test_a_fake_keeps_its_journal_misbehaves_as_told_and_ends_when_asked(
    vendor: str, path: str, order: dict[str, Any]
) -> None:
    with serving(vendor, "--fault", "error", "--fault", "none") as (root, process):
        assert [ask(root + path, order)[0] for _ in range(3)] == [500, 201, 500]
        assert ask(f"{root}/_fake/behaviour", {"faults": ["late_error"], "repeat_faults": False}, "PUT")[0] == 200
        assert [ask(root + path, order)[0] for _ in range(2)] == [500, 201]
        assert ask(f"{root}/_fake/behaviour", {"faults": ["flood"]}, "PUT")[0] == 400
        journal = ask(f"{root}/_fake/journal")[1]["orders"]
        assert len(journal) == 3
        assert journal[0]["order"] == order
        number = journal[0]["number"]
        assert ask(f"{root}/_fake/orders/{number}", {"status": "shipped"}, "PUT")[1]["status"] == "shipped"
        assert ask(f"{root}/_fake/orders/1", {"status": "shipped"}, "PUT")[0] == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_taken_port_and_an_unknown_fault_are_refused_in_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, word in ((("--port", port), "--port"), (("--fault", "flood"), "late_error")):
            done = subprocess.run(
                [WEBHOOK, "fakes", "printcom", *arguments], capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 2
            assert word in done.stderr
            assert "Traceback" not in done.stderr
