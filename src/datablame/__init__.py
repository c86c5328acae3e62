"""git blame for training data.

    import datablame as db
    run = db.audit("photos/")
    print(run.card)

Names are imported when they are first used, so that `import datablame` and `datablame --help`
answer at once; type checkers and editors see them below.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datablame.attribution import Attribution
    from datablame.base.errors import InputError, RunError
    from datablame.base.progress import quiet
    from datablame.data.subset import Subset
    from datablame.dataset import Dataset
    from datablame.dynamics.config import DetectorConfig, DetectorTraining
    from datablame.network.memory_wrap import MemoryWrap
    from datablame.recipe import Recipe
    from datablame.run import Run
    from datablame.scores import Scores, blend
    from datablame.verbs import (
        ablate,
        agree,
        annotators,
        audit,
        certify,
        classes,
        clean,
        compare,
        corrupt,
        decided,
        detector,
        encoders,
        experiment,
        explain,
        export,
        fetch,
        figures,
        find,
        import_dynamics,
        index,
        judge,
        load,
        look,
        measure,
        memorization,
        memory,
        report,
        retrain,
        review,
        score,
        train,
    )
    from datablame.verbs.reading import Reading
    from datablame.verdict import Act, Verdict

__version__ = "0.2.0"

__all__ = [
    "Act",
    "Attribution",
    "Dataset",
    "DetectorConfig",
    "DetectorTraining",
    "InputError",
    "MemoryWrap",
    "Reading",
    "Recipe",
    "Run",
    "RunError",
    "Scores",
    "Subset",
    "Verdict",
    "ablate",
    "agree",
    "annotators",
    "audit",
    "blend",
    "certify",
    "classes",
    "clean",
    "compare",
    "corrupt",
    "decided",
    "detector",
    "encoders",
    "experiment",
    "explain",
    "export",
    "fetch",
    "figures",
    "find",
    "import_dynamics",
    "index",
    "judge",
    "load",
    "look",
    "measure",
    "memorization",
    "memory",
    "quiet",
    "report",
    "retrain",
    "review",
    "score",
    "train",
]

HOMES = {
    "Act": "verdict",
    "Attribution": "attribution",
    "Dataset": "dataset",
    "DetectorConfig": "dynamics.config",
    "DetectorTraining": "dynamics.config",
    "InputError": "base.errors",
    "MemoryWrap": "network.memory_wrap",
    "Reading": "verbs.reading",
    "Recipe": "recipe",
    "Run": "run",
    "RunError": "base.errors",
    "Scores": "scores",
    "Subset": "data.subset",
    "Verdict": "verdict",
    "blend": "scores",
    "quiet": "base.progress",
}
"""Where the names live that are no verbs."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'datablame' has no attribute '{name}'")
    return getattr(import_module(f"datablame.{HOMES.get(name, 'verbs')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
