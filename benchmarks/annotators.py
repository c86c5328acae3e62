"""Labels of several annotators: what they agree on, how many of these labels are wrong, how good
each annotator is, and what another label brings, beside CROWDLAB and ActiveLab of cleanlab.

People: the three columns of CIFAR-10N. Made: each annotator errs by itself, some leave gaps, one
guesses. The runs are linear probes on the encoder of `truth.py`, which learned from other rows.
Needs the extra `bench`.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass

import numpy as np
import results
import torch
import truth
from torch import Tensor

import datablame as db
from datablame.analyses import scoring
from datablame.data.annotators import annotated
from datablame.label_quality.out_of_sample import heldout
from datablame.label_quality.posterior import Posterior, posterior

HOME = results.OUT / "annotators"


@dataclass(frozen=True)
class Case:
    """A set and its annotators."""

    first: int
    rows: int
    people: tuple[int, ...] = ()
    """Columns of people's labels; else made ones."""
    made: tuple[tuple[str, float, float], ...] = ()
    """Of each made annotator: uniform, pair or guess; how often wrong; how often no label."""


SPAM = (
    ("uniform", 0.1, 0.5),
    ("uniform", 0.3, 0.5),
    ("pair", 0.3, 0.5),
    ("guess", 1.0, 0.5),
    ("uniform", 0.4, 0.5),
)
SPARSE = tuple(("uniform", 0.05 * (k + 1), 0.8) for k in range(10))
CHOSE = {
    "3 people": Case(24_500, 3000, (1, 2, 3)),
    "3 people, other rows": Case(27_500, 3000, (1, 2, 3)),
    "3 people, 300 images": Case(30_500, 300, (1, 2, 3)),
    "2 people": Case(32_000, 3000, (1, 2)),
    "5 made, one guesses": Case(33_000, 2000, made=SPAM),
    "10 made, 2 labels an image": Case(33_000, 2000, made=SPARSE),
    "3 made, 1 % wrong": Case(33_000, 2000, made=(("uniform", 0.01, 0.0),) * 3),
}
LAST = {
    "3 people, last rows": Case(35_000, 6000, (1, 2, 3)),
    "2 people, last rows": Case(41_000, 3000, (2, 3)),
    "1 and 3, last rows": Case(44_000, 3000, (1, 3)),
    "3 people, 300 last images": Case(47_000, 300, (1, 2, 3)),
    "3 made, pairs 25 %": Case(47_300, 2000, made=(("pair", 0.25, 0.0),) * 3),
    "4 made, 40 % wrong, gaps": Case(47_300, 2000, made=(("uniform", 0.4, 0.3),) * 4),
}
NOTE = """On the first sets the correlation of mistakes was chosen, that probabilities come of the
transitions alone, and by what another label is ranked; the others were looked at once. Wrong of
100: the labels of majority (ties by chance), Dawid-Skene, CROWDLAB with our held-out predictions,
and ours after the default verdict's likeliest class. ECE is of the probability that the consensus
is right, ours and CROWDLAB's of its own.
"""


def people(case: Case) -> Tensor:
    """All three labels of people for the rows of a case."""
    rows = case.first + np.arange(case.rows)
    return torch.stack([truth.cifar(f"random_label{m}").take(rows).labels for m in (1, 2, 3)], 1)


def votes_of(case: Case, right: Tensor) -> Tensor:
    if case.people:
        return people(case)[:, [m - 1 for m in case.people]]
    generator, columns = torch.Generator().manual_seed(case.first), []
    for kind, wrong, gaps in case.made:
        step = torch.randint(1, 10, right.shape, generator=generator)
        step = torch.ones_like(right) if kind == "pair" else step
        flip = torch.rand(right.shape, generator=generator) < wrong
        given = torch.where(flip, (right + step) % 10, right)
        if kind == "guess":
            given = torch.randint(10, right.shape, generator=generator)
        given[torch.rand(right.shape, generator=generator) < gaps] = -1
        columns.append(given)
    votes = torch.stack(columns, 1)
    nobody = (votes < 0).all(1)
    votes[nobody, 0] = right[nobody]
    return votes


def made(case: Case) -> db.Run:
    rows = case.first + np.arange(case.rows)
    base = truth.cifar("label").take(rows)
    data = dataclasses.replace(base, truth=base.labels)
    votes = votes_of(case, base.labels)
    data = annotated(data, votes, [f"annotator {m + 1}" for m in range(votes.shape[1])])
    recipe = db.Recipe(model=f"frozen:{truth.encoder()}", trainer="linear_probe")
    return db.train(data, recipe=recipe, reading=db.Reading(holdout=0.0), out=HOME / "runs")


def majority(votes: Tensor) -> Tensor:
    count = torch.zeros(len(votes), 10).scatter_add_(1, votes.clamp_min(0), (votes >= 0).float())
    noise = torch.rand(count.shape, generator=torch.Generator().manual_seed(0))
    return (count + 0.01 * noise).argmax(1)


def frame(votes: Tensor):
    import pandas

    return pandas.DataFrame(votes.numpy()).where(lambda cells: cells >= 0)


def believed(run: db.Run) -> Posterior:
    return posterior(run, scoring.wanted(run, "blend"))


def errors(name: str, case: Case) -> list[str]:
    """Wrong labels by each consensus, the estimate, and the intervals of the annotators."""
    from cleanlab.multiannotator import get_label_quality_multiannotator  # type: ignore[import-not-found]  # of the extra `bench`

    run = made(case)
    db.judge(run)
    right, votes, labels = run.data.truth, run.data.votes, run.data.labels
    assert right is not None
    assert votes is not None
    found = believed(run)
    peer = get_label_quality_multiannotator(frame(votes), np.array(heldout(run)), verbose=False)
    quality = peer["label_quality"]
    theirs = torch.from_numpy(quality["consensus_label"].to_numpy())
    ours = found.belief(labels).argmax(1)
    wrong = [f"{100 * float((each != right).float().mean()):.2f}"
             for each in (majority(votes), labels, theirs, ours)]  # fmt: skip
    calibrated = [
        truth.calibration(found.p_wrong.double().numpy(), (labels != right).numpy()),
        truth.calibration(
            1 - quality["consensus_quality_score"].to_numpy(), (theirs != right).numpy()
        ),
    ]
    estimate, low, high = found.estimate
    count, rows = int((labels != right).sum()), db.annotators(run).rows.values()
    inside, off = 0, []
    for row, given in zip(rows, votes.T, strict=True):
        real = float((given == right)[given >= 0].float().mean())
        inside += row["low"] <= real <= row["high"]
        off.append(abs(row["right"] - real))
    verdict = db.judge(run)
    fixed = verdict.act == db.Act.FIX
    good = int((fixed & (verdict.proposed == right)).sum())
    return [
        name, *wrong, str(count), f"{estimate:,.0f} ({low:,.0f} to {high:,.0f})",
        *(f"{each:.3f}" for each in calibrated), f"{int(fixed.sum())}, {good}",
        f"{inside} of {len(off)}", f"{100 * max(off):.1f}",
    ]  # fmt: skip


def another(name: str, case: Case) -> list[str] | None:
    """What the third person's label brings where it is asked first: as foretold, ours, ActiveLab's
    choice, and a random one.
    """
    from cleanlab.multiannotator import get_active_learning_scores  # type: ignore[import-not-found]  # of the extra `bench`

    if len(case.people) != 2:
        return None
    run = made(case)
    right, votes = run.data.truth, run.data.votes
    assert votes is not None
    labels, third = run.data.labels, next(m for m in (1, 2, 3) if m not in case.people)
    more = people(case)[:, third - 1]
    before = believed(run).belief(labels).argmax(1) == right
    found = db.annotators(run)
    scores, _ = get_active_learning_scores(frame(votes), np.array(heldout(run)))
    chance = torch.randperm(len(votes), generator=torch.Generator().manual_seed(0))
    orders = [found.order, torch.from_numpy(np.argsort(scores, kind="stable")), chance]
    cells, data = [name], run.data
    for share, foretold in found.gains.items():
        count, gained = round(float(share) * len(votes)), []
        for order in orders:
            asked = torch.full((len(votes),), -1)
            asked[order[:count]] = more[order[:count]]
            more_votes = torch.cat([votes, asked[:, None]], 1)
            vars(run)["data"] = dataclasses.replace(data, votes=more_votes)
            gained.append(int((believed(run).belief(labels).argmax(1) == right).sum()))
        vars(run)["data"] = data
        ours, theirs, random = (each - int(before.sum()) for each in gained)
        cells.append(f"{count} asked: {foretold:.0f} foretold, {ours} / {theirs} / {random}")
    return cells


def main() -> None:
    warnings.filterwarnings("ignore")
    head = ["set", "majority", "Dawid-Skene", "CROWDLAB", "ours", "wrong in the consensus",
            "estimate", "ECE", "CROWDLAB's", "fixed, rightly", "annotators in their interval",
            "furthest off, points"]  # fmt: skip
    text = NOTE
    for title, cases in {"Chosen on": CHOSE, "Looked at once": LAST}.items():
        lines = [errors(name, case) for name, case in cases.items()]
        text += f"\n### {title}\n\n{results.table(head, lines)}\n"
    asked = [line for name, case in (CHOSE | LAST).items() if (line := another(name, case))]
    text += "\nAnother label: how many more are right, ours / ActiveLab's choice / at random.\n\n"
    text += results.table(["set", "1 %", "5 %", "10 %"], asked)
    results.write("Several annotators", text)


if __name__ == "__main__":
    main()
