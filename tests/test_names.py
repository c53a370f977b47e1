"""`import pysmpc as sy`: what it shows, what type checkers know of it, and what a checkout that was not built says."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pysmpc as sy
from pysmpc import public

PACKAGE = Path(sy.__file__).parent


def test_names_are_in_one_order_and_all_there():
    assert sorted(sy.__all__) == sorted([*public.__all__, *sy._APART])
    for name in sy.__all__:
        assert getattr(sy, name) is not None
    assert dir(sy) == sorted([*sy.__all__, "__version__"])


def test_every_error_is_a_public_name():
    tree = ast.parse((PACKAGE / "errors.py").read_text())
    assert {node.name for node in tree.body if isinstance(node, ast.ClassDef)} <= set(sy.__all__)


def test_importing_imports_no_torch():
    program = "import sys, pysmpc; assert 'torch' not in sys.modules; pysmpc.encrypt; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("wanted", [True, False])
def test_importing_collects_no_garbage(wanted):
    program = f"""
import gc, torch, pysmpc
gc.set_threshold(1, 1000, 1000)
seen = []
gc.callbacks.append(lambda phase, info: seen.append('pysmpc.public' in __import__('sys').modules))
gc.{"enable" if wanted else "disable"}()
pysmpc.encrypt
assert gc.isenabled() is {wanted}
between = [loaded for loaded in seen if loaded]
assert len(between) < 100, len(between)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["encypt", "Any", "tape", "importlib"])
def test_what_is_no_name(name):
    with pytest.raises(AttributeError, match=name):
        getattr(sy, name)


def test_a_checkout_that_was_not_built_says_what_to_run(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "pysmpc", ignore=shutil.ignore_patterns("*.so", "__pycache__", "sample"))
    for program, start in (
        ("import pysmpc; pysmpc.virtual()", "ImportError: "),
        ("from pysmpc.cli import main; main(['info'])", "pysmpc info: error: "),
    ):
        # an editable install would find the modules of its own checkout
        alone = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
        done = subprocess.run([sys.executable, "-c", alone + program], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode != 0
        [line] = [line for line in done.stderr.splitlines() if line.startswith(start)]
        assert "make venv" in line
