"""How well a ranking finds the labels that are known to be wrong."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from datablame.dataset import Dataset
from datablame.ground import store
from datablame.ground.errors import InputError
from datablame.run import Run

NAMES = ("roc_auc", "average_precision", "fnr_at_noise_rate", "found_at_10", "found_at_20")


def metrics(values: Float[Tensor, " N"], wrong: Bool[Tensor, " N"]) -> dict[str, float]:
    """ROC-AUC and average precision; the false-negative rate when as many are inspected as are wrong; the share of the wrong
    found when the most suspect 10 % and 20 % are inspected.

    Raises InputError where no label is wrong, or every one: nothing can be ranked then.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    bad = int(wrong.sum())
    if bad in (0, len(wrong)):
        raise InputError(
            f"{'no label is' if not bad else 'every label is'} wrong by the truth: a ranking cannot be measured"
        )
    order = wrong[values.argsort(descending=True, stable=True)].float()

    def found(count: int) -> float:
        return order[:count].sum().item() / bad

    return {
        "roc_auc": float(roc_auc_score(wrong.numpy(), values.numpy())),
        "average_precision": float(average_precision_score(wrong.numpy(), values.numpy())),
        "fnr_at_noise_rate": 1 - found(bad),
        "found_at_10": found(round(len(wrong) * 0.1)),
        "found_at_20": found(round(len(wrong) * 0.2)),
    }


def against_truth(values: Float[Tensor, " N"], data: Dataset) -> dict[str, float]:
    """The metrics over the examples whose truth is known. Raises InputError where no truth is known."""
    if data.truth is None or data.wrong is None:
        raise InputError("the truth is not known here; name its column with --truth, or plant noise with --noise")
    known = data.truth >= 0
    return metrics(values[known], data.wrong[known])


def headline(run: Run) -> dict[str, float] | None:
    """The metrics of the scores that the run was judged by, where they were measured."""
    measures, judged = run.path / "measures.json", run.path / "verdict.json"
    return (
        store.read_json(measures).get(store.read_json(judged)["scores"])
        if measures.exists() and judged.exists()
        else None
    )
