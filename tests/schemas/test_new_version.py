"""A second version of a schema, tried on a copy of the room: files and a field are all it takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from schemas.codec import encode
from schemas.events import Signal
from tests.architecture.source import ROOT

_SIGNAL = Signal(kind="heartbeat", sender="a", value="{}", sent_at=1, expires_at=2)

_PROGRAM = """
import sys
from schemas.codec import decode, encode
from schemas.compatibility import incompatibilities
from schemas.events import Signal

assert incompatibilities() == [], incompatibilities()
old = decode(bytes.fromhex(sys.argv[1]))
assert old == Signal(kind="heartbeat", sender="a", value="{}", sent_at=1, expires_at=2, urgency=5), old
new = Signal(kind="heartbeat", sender="a", value="{}", sent_at=1, urgency=7)
assert encode(new)[:5] == b"\\x00\\x00\\x00\\x00\\x0a"
assert decode(encode(new)) == new
"""


def test_records_of_both_versions_are_read_and_the_new_one_is_written(tmp_path: Path) -> None:
    room = tmp_path / "schemas"
    shutil.copytree(ROOT / "schemas", room, ignore=shutil.ignore_patterns("__pycache__"))
    schema = json.loads((room / "avro" / "signal.v1.avsc").read_text())
    schema["fields"].append({"name": "urgency", "type": "int", "doc": "1 to 10.", "default": 5})
    (room / "avro" / "signal.v2.avsc").write_text(json.dumps(schema))
    ids = json.loads((room / "ids.json").read_text())
    (room / "ids.json").write_text(json.dumps({**ids, "10": "signal.v2"}))
    events = (room / "events.py").read_text()
    last = "    expires_at: Micros | None = None\n"
    assert events.count(last) == 1
    (room / "events.py").write_text(events.replace(last, last + "    urgency: int = 5\n"))

    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, encode(_SIGNAL).hex()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
