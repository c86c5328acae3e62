"""The labels of the test images, judged as a job of their own: what accuracy is where they are not
in doubt.
"""

from __future__ import annotations

from typing import Any

import torch

from datablame.base import files
from datablame.evaluation.comparison import rights
from datablame.run import Run
from datablame.verdict import DROP, FIX

NAME = "test_labels.json"


def judged_apart(run: Run, own: Run) -> dict[str, Any]:
    """Suspects among the test labels by `own`, a run of the test images alone, and the accuracy of
    the run's model on all and on those not in doubt, by the labels as given; kept in the run's
    folder.

    Nothing is chosen by them.
    """
    verdict, test = own.verdict, run.test
    assert verdict is not None
    assert test is not None
    right = rights([run])[0]
    doubted = torch.isin(verdict.act, torch.tensor([DROP, FIX]))
    sure = right[~doubted]
    facts = {
        "images": len(test),
        "suspects": int(doubted.sum()),
        "estimate": list(verdict.estimate),
        "accuracy": float(right.float().mean()),
        "accuracy_undoubted": float(sure.float().mean()) if len(sure) else None,
        "table": str(own.path / "examples.parquet"),
    }
    files.write_json(run.path / NAME, facts)
    return facts
