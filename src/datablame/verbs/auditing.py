"""The verb that does everything, from images to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.base.errors import InputError, at_least
from datablame.base.methods import JUDGE
from datablame.base.options import JUDGED, Amount, Judge, Noise, Proof, Signals
from datablame.recipe import Experiment, Recipe
from datablame.verbs import reviewing
from datablame.verbs.explaining import annotators
from datablame.verbs.judging import judged, measured, predicted, score, with_cut
from datablame.verbs.opening import Source, fields_as_keywords, flat, held
from datablame.verbs.reading import AMOUNT, Reading, named, refuse, splits
from datablame.verbs.reporting import report
from datablame.verbs.training import made

if TYPE_CHECKING:
    from datablame.run import Run
    from datablame.training.plan import Estimate
else:
    Estimate = Run = Any


USUAL = {
    "noise": None, "minutes": None, "dry_run": False, "judge_test": False, "seeds": 1, "proof": 2
}  # fmt: skip
"""What options of a training are, where they are not given."""


@fields_as_keywords
def audit(
    source: Source,
    *,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    reading: Reading = Reading(),
    signals: Signals = (),
    judge: Judge = JUDGE,
    at: Judge = "",
    judge_test: Annotated[bool, Parameter(group=JUDGED)] = False,
    seeds: Proof = 1,
    minutes: float | None = None,
    retrain: bool = True,
    review: bool = False,
    proof: Proof = 2,
    noise: Noise = None,
    amount: Amount = AMOUNT,
    out: Path = Path("runs"),
    dry_run: bool = False,
) -> Run | Estimate:
    """Find the wrong labels of an image set: train, score, judge, clean, retrain, compare, report.

    Returns the run; with `dry_run`, an estimate of what it would take. Raises InputError for a
    source, method or option that does not fit, before anything is trained.

    Parameters
    ----------
    source
        `digits`, a folder of class folders, a table of paths and labels (.csv, .tsv, .jsonl), a
        Parquet file, boxes (a COCO file; a folder of YOLO or
        Pascal VOC), a preset (`datablame methods`), or hub:owner/name, a set of the Hugging Face
        hub; features (.npz, .npy, Parquet); or predictions.npz (or Parquet) with labels and
        pred_probs, which are judged without training. In Python also a Dataset, (images, labels),
        torch and Hugging Face datasets, a frame of paths and labels.
    signals
        What to score by; names from `datablame methods`. By default, the blend that was chosen by
        measurement.
    judge
        posterior, mixture, confident or top,share=0.05.
    at
        Where posterior cuts: precision=0.9, recall=0.9 or f1 (where F1 is expected to be greatest:
        a longer list, to look through), or a probability that the label is wrong, such as 0.7.
    judge_test
        Judge the labels of the test images too, by models that learn from them alone; a job of its
        own, in the run's folder `test`, by which nothing is chosen.
    seeds
        How many times to retrain before, after and with a random control.
    minutes
        Choose epochs and width of the net so that the whole audit takes about this long;
        --judge-test comes on top.
    review
        Wait for people to settle the suspects on a page of this machine before retraining.
    retrain
        Retrain on the cleaned set and compare.
    proof
        Without a test set, on how many of the folds the cleaned set is tried: their images are the
        test images.
    noise
        Plant label noise for a trial: uniform, pair, instance, asym_cifar10.
    amount
        Share of wrong labels that --noise plants; --seed says which.
    out
        Folder under which the run's own folder is made.
    dry_run
        Only say what it would take: minutes, memory, disk.
    """
    from datablame.analyses.duplicates import duplicates
    from datablame.analyses.look import look_at
    from datablame.base import files, methods, progress, remote
    from datablame.evaluation.retraining import retraining
    from datablame.evaluation.test_labels import judged_apart
    from datablame.exchange.objects import predictions
    from datablame.network.classifier import ready
    from datablame.run import Run
    from datablame.training.auto import settle
    from datablame.training.plan import Plan, announced, estimate, within

    if seeds < 1:
        raise InputError(
            f"--seeds must be at least 1; got {seeds} (--no-retrain leaves the comparison out)"
        )
    if seeds > 1 and not retrain:
        raise InputError("--seeds says how often to retrain: leave out --no-retrain, or --seeds")
    at_least(1, 1000, seeds=seeds)
    at_least(1, proof=proof)
    files.refuse_inside(out, source)
    signals, judge = flat(signals), with_cut(judge, at)
    for room, names in (("signals", signals), ("judges", [judge])):
        for name in names:
            if isinstance(name, str):
                methods.find(room, name)
    if isinstance(source, (str, Path)) and (given := predictions(remote.local(source))):
        asked = vars(recipe) | vars(reading) | {
            "noise": noise, "minutes": minutes, "dry_run": dry_run, "judge_test": judge_test,
            "seeds": seeds, "proof": proof,
        }  # fmt: skip
        usual = vars(Recipe()) | vars(Reading()) | USUAL
        refuse(asked, usual, f"{source} holds predictions, which are judged without training")
        with held(predicted(**given, out=out)) as run:
            _shown(run, signals, judge, review)
            report(run)
        return run
    ready(recipe.model)
    data, test = splits(source, reading, noise, amount, recipe.seed, holdout=0.0)
    if retrain and test is None and recipe.folds == 0:
        raise InputError(
            "without folds and without a test set there is nothing to try the cleaned set on: use "
            "--folds 4, --test, --holdout 0.2, or --no-retrain"
        )
    if judge_test and test is None:
        raise InputError(
            "there are no test images whose labels could be judged; name a test set with --test"
        )
    again = seeds if retrain else 0

    def planned(settled: Recipe) -> Plan:
        return Plan(settled, len(data), len(test or ()), again, proof)

    settled = settle(recipe, data, test is not None)
    if minutes is not None:
        asked = recipe.but(folds=settled.folds)
        settled = within(minutes, asked, data, Path(out), planned)
    if dry_run:
        return estimate(planned(settled), data)
    asked = named(
        source, reading, signals=[name for name in signals if isinstance(name, str)], judge=judge,
        judge_test=judge_test, seeds=seeds, retrain=retrain, proof=proof,
        **({"noise": noise, "amount": amount} if noise else {}),
    )  # fmt: skip
    known = Experiment(settled, "audit", asked)
    there = Run.there(data, settled, test, out)
    done = there is not None and (not retrain or there.comparison is not None)
    with (
        announced(planned(settled), data, done),
        held(made(settled, data, test, out, known)) as run,
    ):
        if data.images is not None:
            known = look_at(run.path, duplicates(run))
            known.keep()
            progress.say(known.sentence)
        _shown(run, signals, judge, review)
        if retrain:
            retraining(run, run.judged, seeds, proof)
        if judge_test and test is not None:
            how = recipe.but(model=settled.model, epochs=settled.epochs)
            inner = {"recipe": how, "signals": signals, "judge": judge, "retrain": False}
            judged_apart(run, audit(test, **inner, out=run.path / "test"))  # type: ignore[arg-type]  # a run
        report(run)
    return run


def _shown(run: Run, signals: Sequence[Any], judge: str, review: bool) -> None:
    """Score, judge, measure where the truth is known, and have people settle what was found."""
    by = score(run, *signals).name
    judged(run, judge, by)
    if run.data.votes is not None:
        annotators(run)
    if run.data.wrong is not None and run.data.wrong.any():
        measured(run)
    if review:
        reviewing.review(run)
