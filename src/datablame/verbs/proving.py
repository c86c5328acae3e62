"""Verbs that prove: retrain and compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.ground.errors import InputError, at_least
from datablame.verbs.holding import RunLike, held, opened
from datablame.verbs.judging import judge

if TYPE_CHECKING:
    from datablame.proof.comparison import Comparison
else:
    Comparison = Any


def prove(run: RunLike, *, seeds: int = 1, remove: float | None = None, by: str = "blend") -> Comparison:
    """Retrain on the cleaned set, and on as many examples removed at random, and compare on the test set.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    seeds
        How many seeds to train each with.
    remove
        Judge first: drop this most suspect share, and nothing else.
    by
        The scores that --remove goes by: a file name in the run's scores folder, without .npy.
    """
    from datablame.proof.retraining import retraining
    from datablame.verdict import Verdict

    at_least(1, seeds=seeds)
    if remove is None and by != "blend":
        raise InputError("--by goes with --remove; without it the verdict that stands there is proved")
    with held(run) as run:
        if remove is not None:
            judge(run, judge=f"remove,share={remove}", by=by)
        return retraining(run, Verdict.read(run.path / "verdict.csv", run.data), seeds)


def ablate(
    run: RunLike,
    *signals: str,
    shares: Annotated[Sequence[float], Parameter(consume_multiple=True, negative=())] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    seeds: Annotated[Sequence[int], Parameter(consume_multiple=True, negative=())] = (0, 1, 2, 3, 42),
    noises: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
    strengths: Annotated[Sequence[float], Parameter(consume_multiple=True, negative=())] = (0.1, 0.2, 0.5, 0.7, 1.0),
) -> dict[str, dict[str, float]]:
    """Leave out the most suspect share by a signal, or as many at random, retrain, and draw what becomes of the test accuracy.

    One table (ablation.csv, ablation.parquet) and a figure, one more for each noise and strength; models that are trained already are not
    trained again. Heads of a frozen encoder (--trainer newton) are fitted all at once.

    Parameters
    ----------
    run
        Folder of a run.
    signals
        Names from `datablame methods`.
    shares
        Shares of the training set that are left out.
    seeds
        Seeds of the retrained models.
    noises
        Noises on the pixels of the test images to try the models under: pixel_normal, pixel_uniform.
    strengths
        Strengths of these noises.
    """
    from datablame.faces import ablated
    from datablame.ground import clock
    from datablame.proof import ablation

    with held(run) as run:
        with clock.stage("ablate"):
            table = ablation.ablation(run, signals, shares, seeds, noises, strengths)
        ablated.draw(run, table)
    return ablation.summary(table)


def compare(before: RunLike, after: RunLike) -> Comparison:
    """Compare the test accuracy of two runs, paired on the same test images.

    Parameters
    ----------
    before
        Folder of the first run.
    after
        Folder of the second run.
    """
    from datablame.proof.comparison import comparison

    return comparison([opened(before)], [opened(after)])
