"""Verbs that find wrong labels: score, judge, measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.ground.errors import InputError
from datablame.verbs.holding import RunLike, held

if TYPE_CHECKING:
    from datablame.run import Run
    from datablame.scores import Scores
    from datablame.verdict import Verdict
else:
    Run = Scores = Verdict = Any


def score(run: RunLike, *signals: str, name: str = "blend") -> Scores:
    """Score every training example by one or more signals, and blend them.

    Parameters
    ----------
    run
        Folder of a run.
    signals
        Names from `datablame methods`, with options: aum,since=0.5 knn,k=10. None means those of the default blend.
    name
        Name of the blend, where there are several signals.
    """
    from datablame import scoring

    with held(run) as run:
        return scoring.blended(run, signals, name)


def judge(
    run: RunLike,
    scores: Annotated[Scores | None, Parameter(parse=False)] = None,
    *,
    judge: str = "mixture",
    by: str = "blend",
    oracle: bool = False,
) -> Verdict:
    """Decide what should be done with every example, and write verdict.csv and examples.parquet.

    A verdict.csv that a person has edited is not overwritten: move it away to judge anew.

    Parameters
    ----------
    run
        Folder of a run.
    scores
        The scores to judge by; without them those that `by` names.
    judge
        mixture, confident, top,share=0.05; remove,share=0.2 drops and relabel,share=0.1 relabels so many without asking.
    by
        The scores to judge by: a file name in the run's scores folder, without .npy; the default blend is made if it is not there.
    oracle
        Whoever is to be dropped or fixed gets the label that is known to be right: what a person would do, for trials.
    """
    from datablame import exporting, scoring
    from datablame.ground import clock, plug, store
    from datablame.proof.oracle import truthful
    from datablame.verdict import Verdict

    method = plug.find("judges", judge)
    with held(run) as run, clock.stage(f"judge {judge}"):
        path = run.path / "verdict.csv"
        if Verdict.edited(path):
            raise InputError(f"{path} was edited by hand; move it away to judge anew")
        verdict = method(run, scores or scoring.wanted(run, by))
        verdict = truthful(verdict, run.data) if oracle else verdict
        verdict.save(path, run.data)
        exporting.examples(run, verdict)
        store.remove(run.path / "card.txt")
    return verdict


def judged(run: Run, method: str, by: str) -> Verdict:
    """Judge a run, or keep the verdict that a person has edited."""
    from datablame import exporting
    from datablame.ground import clock
    from datablame.verdict import Verdict

    path = run.path / "verdict.csv"
    if not Verdict.edited(path):
        return judge(run, judge=method, by=by)
    clock.say(f"keeping {path}, which was edited by hand")
    verdict = Verdict.read(path, run.data)
    exporting.examples(run, verdict)
    return verdict


def measure(
    *runs: RunLike, signals: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = ()
) -> dict[str, Any]:
    """Compare every score of a run with the truth, or of several runs, with mean and standard deviation over them.

    ROC-AUC, average precision, F1 and accuracy at one half (for signals that are chances), the share missed when as many are
    inspected as are wrong, and the shares found in the most suspect 10 % and 20 %.

    Parameters
    ----------
    runs
        Folders of runs whose truth is known.
    signals
        Score these first; without it, what has been scored is measured.
    """
    from datablame import scoring
    from datablame.ground import store
    from datablame.proof.metrics import against_truth, over

    if not runs:
        raise InputError("name one run or more")
    tables = []
    for each in runs:
        with held(each) as run:
            for signal in signals:
                scoring.scored(run, signal)
            table = {name: against_truth(scoring.kept(run, name), run.data) for name in scoring.names(run)}
            store.write_json(run.path / "measures.json", table)
            tables.append(table)
    return tables[0] if len(tables) == 1 else over(tables)
