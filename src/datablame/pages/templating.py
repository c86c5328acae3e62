"""Parts of the page from templates, with every value escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["count"] = "{:,}".format
    found.filters["percent"] = lambda share, digits=0: f"{share:.{digits}%}"
    found.filters["signed"] = "{:+.3g}".format
    return found


def rendered(template: str, **values: Any) -> Markup:
    """A template with these values, as HTML that is not escaped again."""
    return Markup(_environment().get_template(f"{template}.html").render(**values))


def script() -> Markup:
    """The script of the page: what opens, sorts, filters and draws maps."""
    return Markup((TEMPLATES / "report.js").read_text(encoding="utf-8"))


def policy() -> str:
    """The page's Content-Security-Policy: its own script and style, embedded pictures, nothing
    else.
    """
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
