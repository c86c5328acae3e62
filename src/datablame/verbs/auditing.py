"""The verb that does everything, from images to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.ground.errors import InputError
from datablame.reading import AMOUNT, Reading, splits
from datablame.recipe import Recipe
from datablame.verbs.holding import Source, held
from datablame.verbs.judging import judged, measure, score
from datablame.verbs.making import train
from datablame.verbs.proving import prove
from datablame.verbs.showing import report

if TYPE_CHECKING:
    from datablame.evidence.tuning import Estimate
    from datablame.run import Run
else:
    Estimate = Run = Any


def audit(
    source: Source,
    *,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    reading: Reading = Reading(),
    signals: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
    judge: str = "mixture",
    seeds: int = 1,
    minutes: float | None = None,
    retrain: bool = True,
    noise: str | None = None,
    amount: float = AMOUNT,
    out: Path = Path("runs"),
    dry_run: bool = False,
) -> Run | Estimate:
    """Find the wrong labels of an image set: train, score, judge, clean, retrain, compare, report.

    Parameters
    ----------
    source
        `digits`, a folder of class folders, a Parquet file, a preset (`datablame methods`), or a name on the Hugging Face hub.
    signals
        What to score by; names from `datablame methods`. Without it, the blend that was chosen by measurement.
    judge
        mixture, confident or top,share=0.05.
    seeds
        How many times to retrain before, after and with a random control.
    minutes
        Pick epochs and width of the net so that the whole audit takes about this long.
    retrain
        Retrain on the cleaned set and compare.
    noise
        Plant label noise for a trial: uniform, pair, instance, asym_cifar10.
    amount
        Share of wrong labels that --noise plants; --seed says which.
    out
        Folder under which the run's own folder is made.
    dry_run
        Only say what it would take: minutes, memory, disk.
    """
    from datablame.evidence import tuning
    from datablame.faces import card
    from datablame.ground import plug

    if seeds < 1:
        raise InputError(f"--seeds must be at least 1; {seeds} was asked (--no-retrain leaves the comparison out)")
    for room, names in (("signals", signals), ("judges", [judge])):
        for name in names:
            plug.find(room, name)
    data, test = splits(source, reading, noise, amount, recipe.seed)
    again = seeds if retrain else 0
    recipe = tuning.within(minutes, recipe, data, test, again, Path(out)) if minutes else tuning.settle(recipe, data)
    if dry_run:
        return tuning.estimate(recipe, data, test, again)
    with held(train(data, recipe=recipe, out=out, test=test)) as run:
        score(run, *signals)
        verdict = judged(run, judge, signals[0] if len(signals) == 1 else "blend")
        if run.data.wrong is not None and run.data.wrong.any():
            measure(run)
        if retrain:
            prove(run, seeds=seeds)
        report(run)
        card.write(run, verdict)
    return run
