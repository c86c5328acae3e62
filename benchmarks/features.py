"""Signals on features: which of the labels are wrong, by features that are given.

The sets are those of truth.py; features are of a net that learned from other rows, and the pixels
of digits. All methods get the same features; those that need held-out probabilities get ours.
SimiFeat (Zhu et al., 2022, arXiv:2110.06283), WANN (Jorge et al., 2024, arXiv:2408.14358) and the
relation graph (Kim et al., 2023, arXiv:2301.12321) are written after their papers.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import results
import torch
from torch import Tensor
from torch.nn.functional import normalize
from truth import CHOSE, LAST, Case, made, precision, space, wrong_of

import datablame as db
from datablame.label_quality.out_of_sample import heldout

HOME = results.OUT / "features"
NOTE = """Average precision on the same features `[N,D]`.
The blend's part `knn,k=100,trust=3` (how near counts, and three rounds) was chosen on the first six;
nothing was chosen on the others. A relation graph takes the better of raw and of centred features.
"""


def simifeat(space: Tensor, labels: Tensor, classes: int, k: int = 10) -> Tensor:
    """One minus the cosine of the neighbours' mean label and the own (SimiFeat-R)."""
    votes = _votes(space, labels, classes, k)
    return 1 - votes[torch.arange(len(labels)), labels] / votes.norm(dim=1).clamp_min(1e-9)


def wann(space: Tensor, labels: Tensor, classes: int) -> Tensor:
    """One minus the share of the own label among neighbours, each counting by its reliability: one
    over the fewest neighbours, from 11 to 51, of which most have its label.
    """
    near = _near(space, 51)
    reach = torch.full((len(labels),), 51)
    for k in range(51, 10, -2):
        votes = _counted(torch.ones(len(labels), k), labels[near[:, :k]], classes)
        reach[votes.argmax(1) == labels] = k
    weight = 1 / reach.float()[near]
    inside = torch.arange(51)[None] < reach[:, None]
    votes = _counted(weight * inside, labels[near], classes)
    return 1 - votes[torch.arange(len(labels)), labels] / votes.sum(1)


def relation_graph(space: Tensor, labels: Tensor, p: Tensor, rounds: int = 5) -> Tensor:
    """Minus the relations to the others: a kernel of features and of predictions, positive where
    labels agree; examples that contradict the most count less in each round.
    """
    kernel = (space @ space.T).clamp_min(0) ** 4 * (normalize(p) @ normalize(p).T)
    relation = kernel * (2.0 * (labels[:, None] == labels) - 1)
    relation.fill_diagonal_(0)
    score = -relation.sum(1)
    for _ in range(rounds):
        score = -(relation * torch.sigmoid((score.mean() - score) / score.std())).sum(1)
    return score


def _near(space: Tensor, k: int) -> Tensor:
    cosine = space @ space.T
    cosine.fill_diagonal_(-2)
    return cosine.topk(k, 1).indices


def _votes(space: Tensor, labels: Tensor, classes: int, k: int) -> Tensor:
    near = _near(space, k)
    return _counted(torch.ones(len(near), k), labels[near], classes) / k


def _counted(weight: Tensor, labels: Tensor, classes: int) -> Tensor:
    return torch.zeros(len(labels), classes).scatter_add_(1, labels, weight)


def cleanlab(labels: np.ndarray, p: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    """Datalab's label issues by held-out probabilities, and by features alone."""
    from cleanlab import Datalab  # type: ignore[import-not-found]  # of the extra `bench`

    found = {}
    for name, given in (
        ("by predictions", {"pred_probs": p}),
        ("by features", {"features": features}),
    ):
        lab = Datalab(data={"y": labels}, label_name="y", verbosity=0)
        lab.find_issues(**given, issue_types={"label": {}})  # type: ignore[arg-type]  # an array of either kind
        found[name] = 1 - lab.get_issues("label")["label_score"].to_numpy()
    return found


def compared(case: Case) -> tuple[dict[str, float], float]:
    """Average precision of each method, and the seconds that ours took."""
    run = made(case)
    features, labels, wrong = space(run.data, case), run.data.labels, wrong_of(run)
    data = db.Dataset.from_features(features, labels, run.data.classes)
    began = time.perf_counter()
    ours = db.train(data, reading=db.Reading(holdout=0.0), out=HOME)
    blend = db.score(ours)
    verdict = db.judge(ours, blend)
    took = time.perf_counter() - began
    p = np.array(heldout(ours), "float64")
    p /= p.sum(1, keepdims=True)
    unit, classes = normalize(torch.from_numpy(features).float()), len(run.data.classes)
    centred = normalize(torch.from_numpy(features - features.mean(0)).float())
    probabilities = torch.from_numpy(p).float()
    graphs = [relation_graph(each, labels, probabilities) for each in (unit, centred)]
    values = {
        "p_wrong": verdict.suspicion.numpy(),
        "blend": blend.values.numpy(),
        "knn,k=100,trust=3": db.score(ours, "knn,k=100,trust=3").values.numpy(),
        "knn": db.score(ours, "knn").values.numpy(),
        "SimiFeat": simifeat(unit, labels, classes).numpy(),
        "WANN": wann(unit, labels, classes).numpy(),
    } | {f"cleanlab {name}": x for name, x in cleanlab(labels.numpy(), p, features).items()}
    found = {name: precision(wrong, each) for name, each in values.items()}
    return found | {"relation graph": max(precision(wrong, each.numpy()) for each in graphs)}, took


OURS = ("p_wrong", "blend", "knn,k=100,trust=3", "knn")


def fifty_thousand() -> str:
    """Seconds of scoring, judging and reporting 50,000 rows of 384 features, and of neighbours
    beside a product of matrices of the same size.
    """
    from datablame.inference.neighbours import nearest

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 50_000)
    centre = generator.normal(size=(10, 384))
    features = (centre[labels] + 3 * generator.normal(size=(50_000, 384))).astype("float32")
    given = np.where(generator.random(50_000) < 0.1, (labels + 1) % 10, labels)
    data = db.Dataset.from_features(features, given)
    began = time.perf_counter()
    run = db.train(data, reading=db.Reading(holdout=0.0), out=HOME / f"speed-{time.time():.0f}")
    trained = time.perf_counter() - began
    db.judge(run, db.score(run))
    judged = time.perf_counter() - began - trained
    db.report(run)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    nearest(features, 50)
    search = time.perf_counter() - began
    left, right = torch.from_numpy(features[:1342]), torch.from_numpy(features).T.contiguous()
    products = []
    for _ in range(5):
        began = time.perf_counter()
        _ = left @ right
        products.append((time.perf_counter() - began) * 50_000 / len(left))
    return (
        f"50,000 rows of 384 features: trained in {trained:.0f} s (four folds), scored and judged in "
        f"{judged:.0f} s, {whole:.0f} s with the report. The 50 nearest of each in {search:.1f} s: "
        f"{min(products) / search:.2f} of the arithmetic peak of the product of matrices, which takes "
        f"{min(products):.1f} s."
    )


def many(rows: int = 250_000, dim: int = 384) -> str:
    """Seconds of neighbours among many rows by an index, and by comparing all, from a part."""
    from datablame.inference import neighbours

    generator = np.random.default_rng(0)
    centre = generator.normal(size=(100, 48)).astype("float32")
    inner = centre[generator.integers(0, 100, rows)] + generator.normal(size=(rows, 48))
    features = inner @ generator.normal(size=(48, dim)) + 2 * generator.normal(size=(rows, dim))
    features = features.astype("float32")
    began = time.perf_counter()
    found = neighbours.nearest(features, 50)[1]
    took = time.perf_counter() - began
    some = torch.arange(5000)
    unit = normalize(torch.from_numpy(features))
    began = time.perf_counter()
    right = neighbours._exact(unit, some, 50)[1]
    exact = (time.perf_counter() - began) * rows / len(some)
    recall = float((found[some, :, None] == right[:, None]).any(2).float().mean())
    return (
        f"The 50 nearest of each of {rows:,} rows of {dim} features by an index: {took:.0f} s, with "
        f"{recall:.1%} of them found (of {len(some):,} rows); by comparing all, reckoned from these "
        f"rows: {exact:.0f} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=["signals", "speed", "index"])
    asked = parser.parse_args()
    if "signals" in asked.only:
        lines, table, names = [], [], [""]
        for name, case in (CHOSE | LAST).items():
            if not (case.probe or case.of != "cifar"):
                continue
            found, took = compared(case)
            print(name, found, f"{took:.1f} s", flush=True)
            if np.isfinite(list(found.values())).all():
                table.append(list(found.values()))
                lines.append([name, *(f"{value:.3f}" for value in found.values())])
                names = list(found)
        every = np.array(table)
        means = every.mean(0)
        lines.append(["mean", *(f"{value:.3f}" for value in means)])
        theirs = np.array([name not in OURS for name in names])
        best = np.where(theirs, means, 0).argmax()
        more = every[:, 0] - every[:, theirs].max(1)
        said = (
            f"`p_wrong` is {means[0] - means[best]:.3f} above the best peer on the mean "
            f"({names[best]}), and from {more.min():+.3f} to {more.max():+.3f} from the best peer "
            "of each set."
        )
        head = ["set", *names]
        results.write("Signals on features", f"{NOTE}\n{said}\n\n{results.table(head, lines)}")
    if "speed" in asked.only:
        results.write("50,000 rows of features", fifty_thousand())
    if "index" in asked.only:
        results.write("Neighbours by an index", many())


if __name__ == "__main__":
    main()
