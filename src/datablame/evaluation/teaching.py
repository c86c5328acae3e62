"""Teaching a detector on runs whose wrong labels are known; the only other place than measuring
that reads the truth.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from datablame.base import devices, hashing, progress
from datablame.base.errors import InputError
from datablame.base.hashing import batches
from datablame.base.shapes import Bool, Float
from datablame.dynamics.config import DetectorTraining
from datablame.dynamics.detector import Detector
from datablame.dynamics.views import Seen
from datablame.run import Run

SOFT = 0.3
"""Sigmoid temperature of the smooth rank."""
MOST = 300
"""Wrong labels whose ranks are compared in a step."""
PARTS = (1.0, 0.6, 0.3)
"""Shares of each trace that the reader is taught on: a net that has learned a set by heart and one
that has not are told apart by what came before."""
LR, LEARNED = 0.01, 1.2
"""Peak rate where none is named; and how many times the share of wrong labels the average precision
on what was held out must be, for anything to have been learned."""


@dataclass(frozen=True, eq=False)
class _TaughtRun:
    """One run's examples: what is seen of its first PARTS, whether the label is wrong, which teach
    and which are held out; neither where the truth is not known.
    """

    parts: list[Seen]
    wrong: Bool[Tensor, " n"]
    taught: Bool[Tensor, " n"]
    held: Bool[Tensor, " n"]

    @classmethod
    def of(cls, run: Run, detector: Detector, seed: int) -> _TaughtRun:
        """Raises InputError where the truth is not known, or where no label, or every one, is
        wrong.
        """
        data = run.data
        if data.truth is None or data.wrong is None:
            raise InputError(
                f"the truth of {run.path} is not known, and a detector is taught by it; "
                "plant noise with --noise, or name its column with --truth"
            )
        known = data.truth >= 0
        wrong = data.wrong[known]
        if not wrong.any() or wrong.all():
            raise InputError(
                f"{run.path} has {'only' if wrong.any() else 'no'} wrong labels: there is "
                "nothing to tell apart"
            )
        held = hashing.uniform(torch.arange(len(data)), "held", seed) < 0.1
        shares = PARTS if detector.config.net == "reader" else PARTS[:1]
        parts = [Seen.of(run, detector.config, share) for share in shares]
        return cls(parts, data.wrong, known & ~held, known & held)


def teach(runs: Sequence[Run], detector: Detector, training: DetectorTraining) -> Detector:
    """Teach a detector, fresh or taught before, on runs whose truth is known; the epoch is chosen
    on a tenth held out.

    `about` says afterwards what it was taught on and how well it did on the held-out tenth. Raises
    InputError for no runs.
    """
    training = dataclasses.replace(training, lr=training.lr or LR)
    if not runs:
        raise InputError("a detector is taught on one run or more")
    with progress.stage("look at traces"):
        taught = [_TaughtRun.of(run, detector, training.seed) for run in runs]
    net = detector.to(devices.device()).train()
    optimizer = torch.optim.AdamW(net.parameters(), training.lr)
    total = training.epochs * len(_shuffled(taught, training, 0))
    schedules = torch.optim.lr_scheduler
    rate = (
        schedules.OneCycleLR(optimizer, training.lr, total, pct_start=0.1, cycle_momentum=False)
        if training.one_cycle
        else schedules.ConstantLR(optimizer, 1.0)
    )
    best, weights, measures = -1.0, copy.deepcopy(net.state_dict()), {}
    ticker = progress.Ticker(total, "teaching", "steps")
    with progress.stage("teach"):
        for epoch in range(training.epochs):
            net.train()
            for one, part, rows in _shuffled(taught, training, epoch):
                seen, wrong = one.parts[part], one.wrong[rows].to(devices.device())
                whole = detector.config.net == "reader"
                seen = (seen if whole else seen.take(rows)).to(devices.device())
                optimizer.zero_grad()
                for member in net.members:
                    odds = member(seen)
                    for stage in odds[:, rows.to(odds.device)] if whole else odds:
                        misjudged(stage, wrong, training.loss).backward(retain_graph=whole)
                    torch.nn.utils.clip_grad_norm_(member.parameters(), 1.0)
                optimizer.step()
                rate.step()
                ticker.tick(f"epoch {epoch + 1} of {training.epochs}")
            found = _examined(net, taught)
            if found[training.select] > best:
                best, weights, measures = (
                    found[training.select],
                    copy.deepcopy(net.state_dict()),
                    found,
                )
    ticker.close()
    net.load_state_dict(weights)
    detector.about = {
        "taught_on": [_facts(run) for run in runs],
        "epochs": sorted({run.trace.epochs for run in runs}),
        "training": dataclasses.asdict(training),
        "held_out": {name: round(value, 4) for name, value in measures.items()},
    }
    return detector.eval()


def check_learned(detector: Detector) -> None:
    """Raises InputError for a detector that ranked what was held out no better than by lot; where
    no wrong label was held out, nobody can tell.
    """
    held, lr = detector.about["held_out"], detector.about["training"]["lr"]
    if held["wrong"] and held["average_precision"] <= LEARNED * held["wrong"]:
        raise InputError(
            f"the detector learned nothing: on the tenth that was held out its average precision "
            f"is {held['average_precision']:.3f}, and {held['wrong']:.3f} of the labels are wrong; "
            f"teach at a lower rate than {lr:g} (--lr), for more epochs, or on more runs"
        )


def _shuffled(
    taught: Sequence[_TaughtRun], training: DetectorTraining, epoch: int
) -> list[tuple[_TaughtRun, int, Tensor]]:
    """Every example that teaches, of each part of its trace, in batches of one run each, in an
    order of this epoch.
    """
    steps = []
    for turn, one in enumerate(taught):
        for part in range(len(one.parts)):
            rows = one.taught.nonzero()[:, 0]
            rows = rows[hashing.permutation(len(rows), "teach", training.seed, epoch, turn, part)]
            steps += [(one, part, batch) for batch in batches(rows, training.batch_size)]
    return [
        steps[i] for i in hashing.permutation(len(steps), "steps", training.seed, epoch).tolist()
    ]


def misjudged(odds: Float[Tensor, " B"], wrong: Bool[Tensor, " B"], how: str) -> Float[Tensor, ""]:
    """Cross-entropy of log-odds, and for a ranking one minus smooth average precision.

    Brown et al., 2020 (eq. 5). arXiv:2007.12163
    """
    loss = binary_cross_entropy_with_logits(odds, wrong.to(odds))
    if how == "cross_entropy" or not wrong.any() or wrong.all():
        return loss
    among = odds[wrong][:MOST]  # batches are shuffled
    above = torch.sigmoid((odds[None] - among[:, None]) / SOFT)  # how far each is ranked before it
    itself = 0.5
    place = 1 + above.sum(1) - itself
    those = 1 + above[:, wrong].sum(1) - itself
    return loss + 1 - (those / place).mean()


@torch.inference_mode()
def _examined(net: Detector, taught: Sequence[_TaughtRun]) -> dict[str, float]:
    """Average precision, accuracy and the share of wrong labels on the held-out examples, the mean
    over the runs that have any.
    """
    from sklearn.metrics import average_precision_score

    net.eval()
    found: dict[str, list[float]] = {"average_precision": [], "accuracy": [], "wrong": []}
    for one in taught:
        odds = net(one.parts[0].to(devices.device())).cpu()
        probability = odds.sigmoid().nan_to_num(0.5)[one.held]  # of weights that ran away
        wrong = one.wrong[one.held]
        if wrong.any():
            found["average_precision"].append(
                float(average_precision_score(wrong.numpy(), probability.numpy()))
            )
            found["wrong"].append(float(wrong.float().mean()))
        found["accuracy"].append(float(((probability > 0.5) == wrong).float().mean()))
    return {name: sum(values) / max(1, len(values)) for name, values in found.items()}


def _facts(run: Run) -> dict[str, Any]:
    """What a detector's file says of a run that it was taught on."""
    data, recipe = run.data, run.recipe
    wrong = data.wrong
    share = round(float(wrong.float().mean()), 4) if wrong is not None else None
    return {
        "source": data.source,
        "rows": len(data),
        "classes": len(data.classes),
        "wrong": share,
        "noise": data.noise,
        "model": recipe.model,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
    }
