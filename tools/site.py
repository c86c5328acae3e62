"""Pages of the site that are not in docs/: the README, what lies beside it, each room of methods,
and the verbs and objects; a hook of mkdocs.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
BESIDE = {
    "results.md": "benchmarks/RESULTS.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages, and the files that they are."""
ROOMS = {
    "signals": "A signal gives every image a number, the higher the more suspect.",
    "judges": "A judge says how many labels are wrong, which, and what is to be done with each.",
    "attributors": "An attributor says how much each training image has to do with an answer.",
    "curvature": "What influence divides gradients by.",
    "trainers": "How the weights are found.",
    "models": "Encoders: what makes features of images.",
    "heads": "What makes answers of features.",
    "noises": "What is planted for a trial.",
    "sources": "What a set is read from.",
}
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Source"
]


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    made = {page: (ROOT / path).read_text(encoding="utf-8") for page, path in BESIDE.items()}
    made |= {f"methods/{room}.md": _room(room, what) for room, what in ROOMS.items()}
    made["api.md"] = _interface()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are from there."""
    name = page.file.src_uri
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


def _room(room: str, what: str) -> str:
    """All methods of a room, each as its file tells of it."""
    from datablame.base import methods

    parts = [f"# {room.capitalize()}\n\n{what} `datablame methods` lists them.\n"]
    for name in methods.names(room):
        module = f"datablame.methods.{room}.{name}"
        text = Path(ROOT, "src", *module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        head = re.match(r'"""(.*?)"""', text, re.DOTALL)
        parts.append(
            f"## {name}\n\n{head[1] if head else ''}\n\n::: {module}.{name}\n    options: {{show_root_heading: false}}\n"
        )
    return "\n".join(parts)


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
