"""README.md, also as it stands on an index of packages: short, absolute links to files that exist, code that runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BASE = re.search(r'^Source = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
RAW = BASE.replace("https://github.example/", "https://raw.github.example/") + "/main/"


def links(text):
    """Every target: of inline links and of references."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.M)


def test_it_is_short():
    assert len(README.splitlines()) <= 90


def test_links_are_absolute_and_lead_to_files_of_the_project():
    found = links(README)
    assert len(found) > 10
    for target in found:
        assert target.startswith("https://"), target
        for start in (f"{BASE}/blob/main/", f"{BASE}/tree/main/", RAW):
            if target.startswith(start):
                assert (ROOT / target.removeprefix(start).partition("#")[0]).exists(), target
                break
        else:
            pytest.fail(f"{target} leads out of the project, whose address is {BASE} (pyproject.toml)")


def test_references_are_defined():
    body = re.sub(r"```.*?```", "", README, flags=re.S)
    defined = set(re.findall(r"^\[([^\]]+)\]: ", body, re.M))
    used = set(re.findall(r"\]\[([^\]]+)\]", body)) | set(re.findall(r"(?<!\])\[([^\]]+)\](?![:(\[])", body))
    used = {" ".join(name.split()) for name in used}
    assert defined <= used
    assert used <= defined | {name for name in used if f"[{name}][" in " ".join(body.split())}


@pytest.mark.parametrize("file", ["SECURITY.md", "CITATION.cff", "mkdocs.yml", "CHANGELOG.md"])
def test_the_project_has_one_address(file):
    found = set(re.findall(r"https://github\.example/[\w.-]+/[\w.-]+", (ROOT / file).read_text()))
    assert found == {BASE}


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_code_runs(name, tmp_path):
    code = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S)
    assert code
    for number, text in enumerate(code):
        path = tmp_path / f"{number}.py"
        path.write_text(text)
        done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_figures_are_those_of_the_benchmarks():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    table = README.split("## Six figures")[1].split("How they were measured")[0]
    numbers = re.findall(r"\d+\.\d+", table)
    assert len(numbers) >= 8
    missing = [number for number in numbers if number not in page]
    assert not missing
