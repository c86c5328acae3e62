"""What leaving out the most suspect shares did."""

from __future__ import annotations

from datablame.faces import ablated
from datablame.faces.figures import Section
from datablame.run import Run


def ablation(run: Run) -> Section | None:
    """Test accuracy against the share left out, by each signal and at random."""
    from pyarrow import parquet

    path = run.path / "ablation.parquet"
    if not path.exists():
        return None
    note = "<p>Each point is the mean over the seeds of models trained anew without that share; the band is two standard errors. "
    note += "Below it stands how much of the score the share holds.</p>"
    return Section("Leaving out the most suspect", note + ablated.draw(run, parquet.read_table(path).to_pylist()), 8)
