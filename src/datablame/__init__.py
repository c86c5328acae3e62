"""git blame for training data.

    import datablame as db
    run = db.audit("photos/")
    print(run.card)

Names are imported when they are first used, so that `import datablame` and `datablame --help` answer at once.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

HOMES = {
    "verbs": "ablate adopt agree apply audit compare corrupt enrich evaluate explain export index judge load locate measure prove recall remember repeat report score teach train",
    "reading": "Reading",
    "wrap": "MemoryWrap",
    "dataset": "Dataset",
    "recipe": "Recipe",
    "lesson": "Lesson Sight",
    "subset": "Subset",
    "run": "Run",
    "scores": "Scores blend",
    "pairs": "Links",
    "verdict": "Verdict",
    "ground.errors": "InputError RunError",
}
WHERE = {name: home for home, names in HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module 'datablame' has no attribute '{name}'")
    return getattr(import_module(f"datablame.{WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*WHERE, "__version__"]
