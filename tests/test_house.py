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
