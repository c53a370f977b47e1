"""Hooks of mkdocs: pages of the notebooks, the list of decisions, links out of docs/ as addresses of the project."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^)#:\s]+)(#[\w-]+)?\)")


def cells(source):
    """(is prose, text) of each cell of a notebook in jupytext's percent format."""
    for part in re.split(r"^# %%", source, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        prose = "[markdown]" in head
        yield prose, re.sub(r"^# ?", "", body, flags=re.M).strip() if prose else body.strip()


def notebook_page(path):
    """A notebook as a page: its prose and code, without results."""
    parts = [text if prose else f"```python\n{text}\n```" for prose, text in cells(path.read_text()) if text]
    head, rest = parts[0].partition("\n")[::2]
    return f"{head}\n\nRun it with `jupytext --to ipynb notebooks/{path.name}` and Jupyter.\n{rest}\n\n" + "\n\n".join(
        parts[1:]
    )


def decisions():
    """The index of docs/decisions."""
    lines = ["# Decisions", "", "Why things are as they are, each with what was considered and measured.", ""]
    for path in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        title = path.read_text().partition("\n")[0].lstrip("# ").strip()
        lines.append(f"* [{title}]({path.name})")
    return "\n".join(lines) + "\n"


def on_files(files, config):
    """Add the pages that are made here."""
    made = {"decisions/index.md": decisions()}
    made |= {f"tutorials/{p.stem}.md": notebook_page(p) for p in sorted((ROOT / "notebooks").glob("*.py"))}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to files of the project outside docs/ lead to its repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def changed(match):
        path = posixpath.normpath(posixpath.join("docs", folder, match[2]))
        if (path.startswith("docs/") and (ROOT / path).is_file()) or files.get_file_from_path(path[5:]):
            return match[0]
        if path.startswith("notebooks/") and path.endswith(".py"):
            return f"{match[1]}{posixpath.relpath(f'tutorials/{Path(path).stem}.md', folder)})"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{match[1]}{config.repo_url.rstrip('/')}/{kind}/main/{path}{match[3] or ''})"

    parts = re.split(r"(```.*?```)", markdown, flags=re.S)
    return "".join(part if part.startswith("```") else LINK.sub(changed, part) for part in parts)
