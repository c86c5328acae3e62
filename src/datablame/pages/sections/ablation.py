"""What leaving out the most suspect shares did."""

from __future__ import annotations

from datablame.base import readers
from datablame.pages.ablation import draw
from datablame.pages.figures import Section
from datablame.pages.templating import rendered
from datablame.run import Run

FIGURES = ("ablation",)


def ablation(run: Run) -> Section | None:
    """Test accuracy against the share left out, by each signal and at random."""
    run = run.with_model
    path = run.path / "ablation.parquet"
    if not path.exists():
        return None
    figures = draw(run, readers.read_table(path).to_pylist())
    return Section("Leaving out the most suspect", rendered("ablation", figures=figures), 8)
