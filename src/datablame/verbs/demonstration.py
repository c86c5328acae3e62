"""A small trained run that comes with the package: `datablame memory show demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datablame.run import Run

NAME = "demo"
HOME = Path(__file__).parents[1] / "demo"


def demonstration() -> Run:
    """The run of Memory Wrap on digits, in the user's cache; made there from the package's weights
    and trace where it is not, without training.
    """
    from datablame.base import environment, files
    from datablame.recipe import Recipe
    from datablame.run import Run
    from datablame.verbs.reading import Reading, splits

    data, test = splits("digits", Reading())
    recipe = Recipe.read(HOME / "recipe.yaml")
    run = Run.create(data, recipe, test, environment.cache() / NAME, name="digits")
    if not run.finished:
        for source in sorted(HOME.rglob("*.*")):
            if source.suffix in (".npy", ".safetensors", ".jsonl"):
                files.write_bytes(run.path / source.relative_to(HOME), source.read_bytes())
        run.finish()
    return run
