"""No file names a machine, a registry, or a secret of one installation."""

import re

from tests.architecture.source import name, tracked

# Put together here so that this file does not hold them.
HOSTS = [
    "pypi" + ".org",
    "files.python" + "hosted.org",
    "repo1." + "maven",
    "repo.maven" + ".apache",
    "registry.np" + "mjs",
]
PATHS = re.compile(r"(?<![\w.~-])/(?:root|home|Users|work|opt/wheels)/\w")
OPTIONS = re.compile(r"--(?:extra-)?index-url[ =]|--find-links[ =]|--trusted-host[ =]")
SECRETS = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----|gh[pousr]_[A-Za-z0-9]{36}")


def _texts() -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in tracked():
        try:
            texts[name(path)] = path.read_text()
        except UnicodeDecodeError:
            continue
    return texts


def test_no_registry_host_and_no_machine_path() -> None:
    for where, text in _texts().items():
        for host in HOSTS:
            assert host not in text, f"{where} names {host}"
        for pattern in (PATHS, OPTIONS, SECRETS):
            found = pattern.findall(text)
            assert found == [], where


def test_the_check_sees_a_path() -> None:
    assert PATHS.search("see " + "/home" + "/me/project")
    assert not PATHS.search("webhook_streams/work/order and https://example.org/home/page")
