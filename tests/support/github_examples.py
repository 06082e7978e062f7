"""GitHub's public examples of its webhooks, as their npm package has them, and a few of our own making."""

import hashlib
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

PACKAGE: Final = "@octokit/webhooks-examples@7.6.1"
_SHA256: Final = "89e6cb1c6345d32e3dd775617fa54effbdc26c859e514898d7728e95e9738280"
_MEMBER: Final = "package/api.github.com/index.json"
_FETCH_S: Final = 60.0

Example = tuple[str, dict[str, Any]]
"""An event's name as ``X-GitHub-Event`` has it, and its payload."""

_REPOSITORY: Final = {"id": 1, "full_name": "shop/orders", "private": False, "description": "Käse & Brot 🧀"}
OWN_EXAMPLES: Final[list[Example]] = [
    ("ping", {"zen": "One thing at a time.", "hook_id": 7, "hook": {"events": ["*"], "active": True}}),
    ("push", {"ref": "refs/heads/main", "commits": [], "forced": False, "repository": _REPOSITORY, "base_ref": None}),
    (
        "issues",
        {"action": "opened", "issue": {"number": 1, "title": "é\u2028", "body": None}, "repository": _REPOSITORY},
    ),
    ("star", {"action": "created", "starred_at": "2026-01-01T00:00:00Z", "repository": _REPOSITORY}),
    ("release", {"action": "published", "release": {"id": 2**53 - 1, "assets": [{"size": 0}]}, "sender": {"id": 0}}),
]


def github_examples() -> list[Example]:
    """GitHub's examples, fetched once, by npm, into the user's cache. The test is skipped where npm gives none."""
    try:
        with tarfile.open(_package()) as package:
            member = package.extractfile(_MEMBER)
            events = orjson.loads(member.read() if member else b"")
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"npm does not give {PACKAGE}: {error}")
    return [(each["name"], payload) for each in events for payload in each["examples"]]


def _package() -> Path:
    """The package's file. Raises ``OSError`` or ``SubprocessError`` where npm does not give it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webhook-streams"
    file = cache / "webhooks-examples-7.6.1.tgz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            fetch = ["npm", "pack", "--silent", "--fetch-retries=0", "--pack-destination", directory, PACKAGE]
            subprocess.run(fetch, cwd=directory, check=True, capture_output=True, timeout=_FETCH_S)
            (fetched,) = Path(directory).glob("*.tgz")
            # Whoever comes second replaces it by the same.
            fetched.replace(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest == _SHA256, f"{file} is not {PACKAGE}; delete it"
    return file
