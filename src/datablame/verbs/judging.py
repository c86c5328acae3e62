"""Verbs that find wrong labels: score, judge, measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.base.errors import InputError
from datablame.base.methods import JUDGE
from datablame.verbs.opening import RunLike, SignalLike, flat, held

if TYPE_CHECKING:
    from datablame.evaluation.metrics import Measures
    from datablame.run import Run
    from datablame.scores import Scores
    from datablame.verdict import Verdict

    ScoresLike = str | Scores | Any
else:
    Measures = Run = Scores = Verdict = Any
    ScoresLike = str


def score(run: RunLike, *signals: SignalLike, name: str | None = None) -> Scores:
    """Score every training example by one or more signals, and blend them.

    Returns the scores of the signal, or of the blend of several. Raises InputError for a signal
    that there is not, or that needs what this run has not recorded.

    Parameters
    ----------
    run
        Folder of a run.
    signals
        Names from `datablame methods`, with options: aum,since=0.5 knn,k=10; in Python also
        functions `run -> [N]`. By default, those of the default blend.
    name
        Name of the scores; by default that of a single signal, `blend` for the default signals, and
        `blend(aum+loss)` for others.
    """
    from datablame.analyses import scoring

    with held(run) as run:
        return scoring.blended(run, flat(signals), name)


def judge(
    run: RunLike,
    by: ScoresLike = "blend",
    *,
    judge: str = JUDGE,
    at: str = "",
    oracle: bool = False,
) -> Verdict:
    """Decide what should be done with every example, and write verdict.csv and examples.parquet.

    Returns the verdict. A verdict.csv that a person has edited is not overwritten: move it away to
    judge anew. Raises InputError then, and for scores or a judge that there are not.

    Parameters
    ----------
    run
        Folder of a run.
    by
        The scores to judge by: a name that `score` gave; the default blend is made if it is not
        there. In Python also Scores, or numbers [N], higher for more suspect.
    judge
        posterior, mixture, confident, top,share=0.05; remove,share=0.2 drops and relabel,share=0.1
        relabels so many without asking.
    at
        Where posterior cuts: precision=0.9, recall=0.9 or f1 (where F1 is expected to be greatest:
        a longer list, to look through), or a probability that the label is wrong, such as 0.7.
    oracle
        Give every example that is to be dropped or fixed the label that is known to be right: what
        a person would do, for trials.
    """
    from datablame.analyses import scoring
    from datablame.base import methods, progress
    from datablame.evaluation.oracle import truthful
    from datablame.exchange import tables
    from datablame.label_quality.posterior import posterior
    from datablame.verdict import Verdict

    judges = set(methods.names("judges")) - set(methods.names("signals"))
    if isinstance(by, str) and judge == JUDGE and methods.parse(by)[0] in judges:
        by, judge = "blend", by  # judge(run, "mixture")
    judge = with_cut(judge, at)
    method = methods.find("judges", judge)
    with held(run) as run, progress.stage(f"judge {judge}"):
        path = run.path / "verdict.csv"
        if Verdict.edited(path):
            raise InputError(f"{path} was edited by hand; move it away to judge anew")
        scores = scores_of(run, by)
        together = run.data.votes is not None and methods.parse(judge)[0] == JUDGE
        if together and scores.name != scoring.BLEND:
            progress.say(
                f"labels of several annotators are judged together: {scores.name} has no part in it"
            )
        verdict = method(run, scores)
        if verdict.p_wrong is None:
            verdict = dataclasses.replace(verdict, p_wrong=posterior(run, scores).p_wrong)
        if verdict.by == methods.parse(judge)[0]:
            verdict = dataclasses.replace(verdict, by=judge)  # with its options
        verdict = truthful(verdict, run.data) if oracle else verdict
        verdict.save(path, run.data)
        tables.examples(run, verdict)
        if (run.path / "measures.json").exists():
            measured(run)
    return verdict


def find(
    labels: Any,
    pred_probs: Any,
    features: Any = None,
    *,
    images: Any = None,
    classes: Any = None,
    names: Any = None,
    out: Path | str | None = None,
) -> Run:
    """Find wrong labels by predictions that you have, without training.

    `labels` [N], numbers or words, or [N,M] of several annotators, who may have left gaps;
    `pred_probs` [N,K] by a model that did not train on the example, a column a class (of words in
    sorted order, unless `classes` names another); `features` [N,D], for neighbours; `images` uint8
    [N,C,H,W], for pictures. Without `out` it lies in a temporary folder. Returns the run, judged:
    `run.issues` has a row an example. Raises InputError where shapes do not fit or rows are not
    probabilities.
    """
    from datablame.verbs.explaining import annotators

    run = predicted(
        labels, pred_probs, features, images=images, classes=classes, names=names, out=out
    )
    judge(run)
    if run.data.votes is not None:
        annotators(run)
    return run


def predicted(
    labels: Any, pred_probs: Any, features: Any = None, *, classes: Any = None, **more: Any
) -> Run:
    """The run of `find`, not judged yet: labels may be words."""
    from datablame.data.objects import numbered
    from datablame.run import Run

    numbers, words = numbered(labels, classes)
    known = words if classes is None else classes
    return Run.from_predictions(numbers, pred_probs, features, classes=known, **more)


def with_cut(judge: str, at: str) -> str:
    """A judge with the cut that was asked for. Raises InputError for one that has none."""
    from datablame.base import methods

    if not at:
        return judge
    if methods.parse(judge)[0] != JUDGE:
        raise InputError(f"--at says where {JUDGE} cuts, not {judge}; leave out one of them")
    return f"{judge},{at if '=' in at else 'f1=yes' if at == 'f1' else f'at={at}'}"


def scores_of(run: Run, by: ScoresLike) -> Scores:
    """Scores by name, as they are, or of numbers [N].

    Raises InputError where they are not one per example.
    """
    import torch

    from datablame.analyses import scoring
    from datablame.data.predictions import tensor
    from datablame.scores import Scores

    if isinstance(by, str):
        return scoring.wanted(run, by)
    values = by.values if isinstance(by, Scores) else tensor(by).float()
    if values.shape != (len(run.data),):
        raise InputError(
            f"a run of {len(run.data)} examples needs one score per example; got "
            f"{list(values.shape)}"
        )
    return by if isinstance(by, Scores) else Scores("given", values.to(torch.float32))


def judged(run: Run, method: str, by: str) -> Verdict:
    """Judge a run, or keep the verdict that a person has edited."""
    from datablame.base import progress
    from datablame.exchange import tables
    from datablame.verdict import Verdict

    path = run.path / "verdict.csv"
    if not Verdict.edited(path):
        return judge(run, by, judge=method)
    progress.say(f"keeping {path}, which was edited by hand")
    verdict = Verdict.read(path, run.data)
    tables.examples(run, verdict)
    return verdict


def measure(
    *runs: RunLike,
    signals: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
) -> Measures:
    """Compare every score of a run with the truth, or of several runs, with mean and standard
    deviation.

    ROC-AUC, average precision, F1 and accuracy at one half (for signals that are probabilities),
    the share of the wrong labels missed when an equal number is inspected, and the shares found in
    the most suspect 10 % and 20 %. Returns the table. Raises InputError where the truth is not
    known.

    Parameters
    ----------
    runs
        Folders of runs whose truth is known.
    signals
        Score these first; by default, what has been scored is measured.
    """
    from datablame.analyses import scoring
    from datablame.evaluation.metrics import Measures

    if not runs:
        raise InputError("name one run or more")
    tables = []
    for each in runs:
        with held(each) as run:
            for signal in flat(signals):
                scoring.scored(run, signal)
            tables.append(measured(run))
    return tables[0] if len(tables) == 1 else Measures.over(tables)


def measured(run: Run) -> Measures:
    """The metrics of every score of a run, kept in measures.json."""
    from datablame.analyses import scoring
    from datablame.base import files
    from datablame.evaluation.metrics import Measures, against_truth

    found = scoring.rankings(run)
    rows = {name: against_truth(scores, run.data) for name, scores in found.items()}
    files.write_json(run.path / "measures.json", rows)
    return Measures(rows)
