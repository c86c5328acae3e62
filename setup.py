"""What pyproject.toml cannot say: the text of the package's page is the README, with links and
pictures that lead somewhere from there.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
SOURCE = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Source"
]


def page() -> str:
    """The README, whose relative links are those of this version in the public repository."""
    code = (HERE / "src" / "datablame" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.+)"', code)
    tag = f"v{version[1]}" if version else "main"
    text = (HERE / "README.md").read_text(encoding="utf-8")
    pictures = f"{SOURCE.replace('github.com', 'raw.githubusercontent.com')}/{tag}/"
    text = re.sub(r"(!\[[^]]*\]\()(?!\w+:)", rf"\1{pictures}", text)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?!\w+:|#)", rf"\1{SOURCE}/blob/{tag}/", text)


setup(long_description=page(), long_description_content_type="text/markdown")
