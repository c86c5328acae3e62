"""Pages of the site that are not in docs/: the README, what lies beside it, each method
(method_pages.py), and the verbs and objects; a hook of mkdocs.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import method_pages
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
BESIDE = {
    "results.md": "benchmarks/RESULTS.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages, and the files that they are."""
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Source"
]


def on_config(config: Any) -> Any:
    """Each method's page under its room."""
    config.nav = method_pages.unfolded(config.nav)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    made = {page: (ROOT / path).read_text(encoding="utf-8") for page, path in BESIDE.items()}
    made |= method_pages.pages()
    made["api.md"] = _interface()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are from there."""
    name = page.file.src_uri
    if name.startswith("methods/"):
        return markdown
    if name == "index.md":
        markdown = (ROOT / "README.md").read_text(encoding="utf-8")
    here = Path(BESIDE.get(name, "README.md" if name == "index.md" else f"docs/{name}")).parent
    relative = r"(\]\(|^\[[^]]+\]: )(?!\w+:|#)([^)#\s]+)"
    return re.sub(relative, lambda found: _link(found, here), markdown, flags=re.MULTILINE)


def _link(found: re.Match[str], here: Path) -> str:
    """A link of a file of that folder to another page, or to the public repository."""
    path = (ROOT / here / found[2]).resolve().relative_to(ROOT).as_posix()
    pages = {file: page for page, file in BESIDE.items()} | {"README.md": "index.md"}
    if path in pages:
        return found[1] + pages[path]
    inside = path.removeprefix("docs/")
    return found[1] + (inside if inside != path else f"{SOURCE}/blob/main/{path}")


def _interface() -> str:
    """The names of the package, verbs before objects."""
    import datablame

    verbs, objects = [], []
    for name in datablame.__all__:
        thing = getattr(datablame, name)
        if not callable(thing):
            continue
        home = f"{thing.__module__}.{thing.__qualname__}"
        (objects if isinstance(thing, type) else verbs).append(f"::: {home}\n")
    head = "# Verbs and objects\n\nAs `import datablame as db` has them.\n"
    return "\n".join([head, "## Verbs\n", *verbs, "## Objects\n", *objects])
