"""A broad ``except`` hides bugs; it stands only where an exception of any kind has one known meaning."""

import ast
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, modules, name, parse

NAMED_PLACES = {
    "streams/engine/guard.py",  # whatever a handler raises is an outcome
    "handlers/registry.py",  # a broken plugin is listed as broken
    "streams/cli/main.py",  # the last word to the user
    "streams/web/problems.py",  # an error becomes a 500 without its text
    "streams/background.py",  # what escapes ends the role
}

_BROAD = {"Exception", "BaseException"}


def broad_handlers(tree: ast.Module) -> list[int]:
    """Lines that catch everything: bare, Exception or BaseException, in ``except`` and in ``suppress``."""
    found: list[int] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or _names(node.type) & _BROAD):
            found.append(node.lineno)
        if isinstance(node, ast.Call) and _names(node.func) & {"suppress"}:
            found += [node.lineno for argument in node.args if _names(argument) & _BROAD]
    return found


def _names(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Tuple):
        return {found for element in node.elts for found in _names(element)}
    if isinstance(node, ast.Attribute):
        return {node.attr}
    return {node.id} if isinstance(node, ast.Name) else set()


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_no_broad_except_elsewhere(path: Path) -> None:
    lines = broad_handlers(parse(path))
    assert not lines or name(path) in NAMED_PLACES, f"catches everything in lines {lines}: name what can happen"


@pytest.mark.parametrize(
    "source",
    [
        "try: pass\nexcept: pass",
        "try: pass\nexcept Exception: pass",
        "try: pass\nexcept (ValueError, BaseException): pass",
        "with contextlib.suppress(Exception): pass",
        "with suppress(builtins.Exception): pass",
    ],
)
def test_the_check_sees_every_form(source: str) -> None:
    assert broad_handlers(ast.parse(source))
    assert not broad_handlers(
        ast.parse(
            source.replace("except:", "except OSError:")
            .replace("BaseException", "OSError")
            .replace("Exception", "OSError")
        )
    )
