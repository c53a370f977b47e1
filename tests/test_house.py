"""The layout of the package: one module of each name, and folders that introduce themselves."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import pysmpc

PACKAGE = Path(pysmpc.__file__).parent


def test_no_two_modules_have_one_name():
    names = Counter(path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    assert not [name for name, times in names.items() if times > 1]


FOLDERS = sorted(path for path in [PACKAGE, *PACKAGE.rglob("*")] if any(path.glob("*.py")))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(PACKAGE.parent).as_posix())
def test_a_folder_says_what_is_in_it(folder):
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


LINES = 400  # of a module
BODY = 60  # lines of a function, its docstring apart
TABLES = {"mpc/functions/fits.py", "mpc/functions/piecewise_fits.py"}  # numbers that tools/fit_functions.py writes


def place(path):
    return path.relative_to(PACKAGE).as_posix()


def lengths_of_functions(tree):
    """Name and lines of every function, without its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = node.body[0] if ast.get_docstring(node) is not None else None
            yield node.name, node.end_lineno - node.lineno + 1 - (said.end_lineno - said.lineno + 1 if said else 0)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=place)
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    if place(path) not in TABLES:
        assert len(text.splitlines()) <= LINES
    found = [name for name, lines in lengths_of_functions(ast.parse(text)) if lines > BODY]
    assert not found


def test_exceptions_are_still_needed():
    for name in TABLES:
        assert len((PACKAGE / name).read_text().splitlines()) > LINES
