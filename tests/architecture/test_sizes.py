"""Small modules, small functions, few parameters: what does not fit has two reasons to change."""

import ast
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, modules, name, parse

MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6

ALL = modules(*PACKAGES, "tests")


@pytest.mark.parametrize("path", ALL, ids=name)
def test_module_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_MODULE_LINES, f"{lines} lines, at most {MAX_MODULE_LINES}: split it by reason"
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            long = (node.end_lineno or node.lineno) - node.lineno + 1
            assert long <= MAX_FUNCTION_LINES, f"{node.name} in line {node.lineno} has {long} lines"


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_functions_take_few_parameters(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_command(node):
            continue
        given = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([each for each in given if each not in ("self", "cls")])
        assert count <= MAX_PARAMETERS, f"{node.name} in line {node.lineno} takes {count}"


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A subcommand has one parameter for each of its options: its signature is the command line."""
    if any(".command(" in ast.unparse(each) for each in node.decorator_list):
        return True
    annotations = [each.annotation for each in (*node.args.args, *node.args.kwonlyargs) if each.annotation]
    return any("typer.Option" in ast.unparse(each) or "typer.Argument" in ast.unparse(each) for each in annotations)
