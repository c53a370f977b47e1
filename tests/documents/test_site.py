"""The site is built without a warning, its links lead somewhere, and a browser shows every page.

With SITE_PICTURES=folder the pictures that the browser takes are left there, to be looked at.
"""

import importlib.util
import os
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser
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


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if browser.found() is None:
        pytest.skip(f"no browser is installed ({', '.join(browser.NAMES)})")
    try:
        opened = browser.Browser(tmp_path_factory.mktemp("profile"))
    except (EOFError, BrokenPipeError):  # as where a process may have little address space
        pytest.skip("the browser of this machine does not start")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(site):
    with browser.served(site) as found:
        yield found


LINKS = "[...document.links].map(link => link.href)"
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.timeout(900)
def test_a_browser_opens_every_page(site, page, address):
    page.size(1280, 900)
    seen, waiting = set(), [f"{address}/index.html"]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        page.open(here)
        assert not page.complaints(), here
        assert page.run("document.querySelectorAll('article h1').length") == 1, here
        assert page.run(TOO_WIDE) <= 0, here
        broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.src)"
        assert not page.run(broken), here
        links = {target.partition("#")[0] for target in page.run(LINKS)}
        waiting += sorted(target for target in links if target.startswith(address) and target.endswith(".html"))
    pages = {f"{address}/{path.relative_to(site).as_posix()}" for path in site.rglob("*.html")}
    assert seen == pages - {f"{address}/404.html"}


def test_links_can_be_clicked(page, address):
    page.size(1280, 900)
    page.open(f"{address}/index.html")
    page.click("article a[href='quickstart.html']")
    page.click("article a[href^='layers.html']")
    page.click("article a[href^='coverage.html']")
    assert page.run("location.pathname") == "/coverage.html"
    assert not page.complaints()


def test_the_search_finds(page, address):
    page.size(1280, 900)
    page.open(f"{address}/index.html")
    page.run("document.querySelector('[data-md-toggle=search]').click()")
    page.run("document.querySelector('[data-md-component=search-query]').focus()")
    page.ask("Input.insertText", text="Newton")
    page.until("document.querySelectorAll('.md-search-result__link').length > 0")
    found = page.run("[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)")
    assert any("functions.html" in target for target in found)
    assert not page.complaints()


@pytest.mark.parametrize(
    ("name", "width", "height"), [("index", 1280, 1000), ("functions", 1280, 1000), ("quickstart", 390, 840)]
)
def test_pictures(page, address, tmp_path, name, width, height):
    page.size(width, height)
    page.open(f"{address}/{name}.html")
    assert page.run(TOO_WIDE) <= 0
    folder = Path(os.environ.get("SITE_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    picture = page.picture()
    (folder / f"{name}.png").write_bytes(picture)
    assert struct.unpack(">II", picture[16:24]) == (width, height)
    assert len(picture) > 25_000  # a blank window takes less
    assert not page.complaints()
