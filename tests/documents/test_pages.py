"""Pages of docs/: links lead somewhere, tests that are named exist, and every field of a file is described."""

import ast
import re
import sys
from pathlib import Path

import pytest

from pysmpc.remote.config import Bounds, Data, DriverConfig, Rule, WorkerConfig
from pysmpc.remote.limits import Limits

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ABOUT_CONSENT = ("consent", "remote", "remote-measurements", "threat-model", "dealing")


def anchors(text):
    """Of the headings of a page."""
    found = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def named(text):
    """(file, test) of the tests that a page names."""
    for file, test in re.findall(r"`((?:tests|attacks)/[\w/]+\.py)(?:::(\w+))?`", text):
        yield ROOT / file.replace("attacks/", "tests/security/attacks/", 1) if file[0] == "a" else ROOT / file, test


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for path, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text.replace("\n", " ")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text()), f"{path}#{anchor}"


@pytest.mark.parametrize("name", ABOUT_CONSENT)
def test_tests_that_a_page_names_exist(name):
    for file, test in named((ROOT / "docs" / f"{name}.md").read_text()):
        assert file.exists(), file
        functions = {each.name for each in ast.parse(file.read_text()).body if isinstance(each, ast.FunctionDef)}
        assert not test or test in functions, f"{file}::{test}"


def test_decisions_are_numbered_once():
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. ")


def test_places_that_the_architecture_names_exist():
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Where to look")[1].split("\n## ")[0]
    places = re.findall(r"`([\w/]+\.py): (\w+)`", text)
    assert len(places) >= 12
    for file, name in places:
        defined = ast.parse((ROOT / "pysmpc" / file).read_text()).body
        assert name in {getattr(each, "name", None) for each in defined}, f"{file}: {name}"


def test_every_claim_of_protection_names_a_test():
    text = (ROOT / "docs" / "threat-model.md").read_text()
    table = text.split("| claim | test |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    assert len(table) > 30
    for row in table:
        assert any(test for _, test in named(row)), row


def test_every_attack_is_in_a_file_that_a_claim_names():
    text = (ROOT / "docs" / "threat-model.md").read_text()
    for path in (ROOT / "tests" / "security" / "attacks").glob("test_*.py"):
        assert path.name == "test_honest.py" or f"attacks/{path.name}::" in text, path.name


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        (WorkerConfig, ""), (DriverConfig, ""), (Rule, "open.NAME."), (Data, "data.NAME."), (Bounds, "data.NAME."),
        (Limits, "limits."),
    ],
)  # fmt: skip
def test_every_field_of_a_file_is_in_a_table(kind, prefix):
    text = (ROOT / "docs" / "remote.md").read_text()
    cells = " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    known = {name.rsplit(".", 1)[-1] if name[0] == "." else name for name in re.findall(r"`([\w.]+)`", cells)}
    for name in kind.__struct_fields__:
        if name in ("data", "limits"):
            assert any(each.startswith(f"{name}.") for each in known)
        elif name == "arrays":
            assert "data.NAME.arrays.KEY" in known
        else:
            assert prefix + name in known or name in known, name


@pytest.mark.parametrize("name", ABOUT_CONSENT)
def test_code_of_a_page_can_be_read(name):
    for language, code in re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(), re.S):
        if language == "python":
            ast.parse(code)
        else:
            assert language == "toml"
            assert tomllib.loads(code)
