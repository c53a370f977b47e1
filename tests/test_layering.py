"""Only some modules of `pysmpc.ring` touch the compiled modules, which import-linter cannot see."""

import ast
from pathlib import Path

import pytest

import pysmpc

PACKAGE = Path(pysmpc.__file__).parent
NATIVE = {"_ring", "_beaver"}
CALLERS = {
    PACKAGE / "ring" / f"{name}.py"
    for name in (
        "z2k", "integer_functions", "product_kernels", "affine_kernels", "reopen_kernels", "comparison_kernels",
        "threshold_kernels", "power_kernels", "fss_keys", "odd_ring", "z2k_128", "prg",
    )
}  # fmt: skip


def native_imports(source):
    """Names of compiled modules that `source` imports, in whatever form."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        else:
            continue
        found |= NATIVE & {part for name in names for part in name.split(".")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_compiled_modules_have_few_callers(path):
    assert path in CALLERS or not native_imports(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "import pysmpc._ring",
        "from pysmpc import _beaver as b",
        "from . import _ring",
        "from pysmpc._ring import add",
        "import pysmpc; pysmpc._ring.add()",
    ],
)
def test_the_check_sees_every_form(source):
    assert native_imports(source)
