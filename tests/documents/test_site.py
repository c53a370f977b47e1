"""The site is built without a warning, and its links lead to pages, files and headings that are there."""

import importlib.util
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
pytest.importorskip("material", reason="the extra `docs` is not installed")
pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Links, and what may be linked to."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name in ("id", "name") and value:
                self.names.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme's word on its successor
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_links_of_the_site(site):
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 40
    checked = 0
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert there.is_relative_to(site), f"{path.relative_to(site)}: {target}"
            assert there.exists(), f"{path.relative_to(site)}: {target}"
            if parts.fragment and there in pages and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in pages[there].names, f"{path.relative_to(site)}: {target}"
            checked += 1
    assert checked > 1000


def test_nothing_is_fetched_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        for start in ('<script src="http', '<link rel="stylesheet" href="http', "fonts.googleapis"):
            assert start not in text, path


def test_every_page_is_reached_from_the_first(site):
    seen, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for target in Page(path.read_text()).targets:
            parts = urlsplit(target)
            if not parts.scheme and parts.path.endswith(".html"):
                waiting.append((path.parent / unquote(parts.path)).resolve())
    assert seen == {path for path in site.rglob("*.html") if path.name != "404.html"}


def test_notebooks_are_pages():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "tools" / "site.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    for path in (ROOT / "notebooks").glob("*.py"):
        text = hooks.notebook_page(path)
        assert text.startswith("# ")
        assert "```python" in text
        assert "jupytext:" not in text
