"""Ours beside peers on the same sets, traces, held-out predictions and features, with intervals.

The sets are those of truth.py, whose trainings are kept. A difference is of the same examples, drawn
again with replacement; the rows that we lose come first.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import results
import torch
import truth
from features import relation_graph, simifeat, wann
from torch.nn.functional import normalize

import datablame as db
from datablame.label_quality.out_of_sample import heldout

DRAWS, SEED = 1000, 20_261_129
"""The seed is none that noise is drawn by: samples by the same numbers would be no samples."""
TRACED = {
    "AUM, on the same trace": "aum",
    "loss at the end, on the same trace": "loss",
    "data maps, on the same trace": "datamap",
    "forgetting, on the same trace": "forgetting",
}
"""Pleiss et al., 2020; Arpit et al., 2017; Swayamdipta et al., 2020; Toneva et al., 2019: by
their formulas, since they are no libraries."""
AQUA = {
    f"AQuA, {noise} {share:.0%}".replace("%", " %"): truth.Case(f"{kind} {share}", first)
    for kind, noise, share, first in (
        ("uniform", "uniform", 0.1, 38_000),
        ("uniform", "uniform", 0.4, 41_000),
        ("pair", "asymmetric", 0.1, 44_000),
        ("pair", "asymmetric", 0.4, 47_000),
    )
}
"""Its planted noise on CIFAR-10, evenly or always the next class, on rows that chose nothing; sets of
LAST are made of the same images with other noise.
"""
ENOUGH = 8
"""Sets, for an interval of their mean."""
FILTERS = ("prune_by_noise_rate", "prune_by_class", "confident_learning", "both")
RANKS = ("self_confidence", "normalized_margin")


@dataclass(frozen=True)
class Row:
    """One figure of ours beside a peer's, and the difference with its interval."""

    what: str
    peer: str
    case: str
    ours: float
    theirs: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        return self.ours - self.theirs

    @property
    def says(self) -> str:
        return "lost" if self.high < 0 else "won" if self.low > 0 else "even"


def precisions(wrong: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision under each row of weights `[B,N]`; equal values share a threshold."""
    order = np.argsort(-values, kind="stable")
    falling, hit, w = values[order], wrong[order], weights[:, order]
    last = np.searchsorted(-falling, -falling, side="right") - 1
    hits, total = (w * hit).cumsum(1), w.cumsum(1)
    at = hits[:, last] / np.maximum(total[:, last], 1e-12)
    return (w * hit * at).sum(1) / (w * hit).sum(1)


def areas(wrong: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve under each row of weights; equal values count half."""
    order = np.argsort(values, kind="stable")
    rising, hit, w = values[order], wrong[order], weights[:, order]
    first = np.searchsorted(rising, rising, side="left")
    last = np.searchsorted(rising, rising, side="right")
    below = np.concatenate([np.zeros((len(w), 1)), (w * ~hit).cumsum(1)], 1)
    beaten = (below[:, first] + below[:, last]) / 2
    return (w * hit * beaten).sum(1) / ((w * hit).sum(1) * (w * ~hit).sum(1))


def f1s(wrong: np.ndarray, held: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F1 under each row of weights."""
    return 2 * weights @ (wrong & held) / np.maximum(weights @ (wrong * 1 + held * 1), 1e-12)


def weighted(wrong: np.ndarray, held: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AQuA's figure (Goswami et al., 2023, arXiv:2306.09467): F1 of the wrong and of the right, the
    mean weighted by how many there are.
    """
    share = weights @ wrong / weights.sum(1)
    return share * f1s(wrong, held, weights) + (1 - share) * f1s(~wrong, ~held, weights)


def drawn(count: int) -> np.ndarray:
    """How often each example counts: once, and in DRAWS samples with replacement."""
    generator = np.random.default_rng(SEED)
    samples = generator.multinomial(count, np.full(count, 1 / count), DRAWS)
    return np.concatenate([np.ones((1, count), int), samples])


def compared(
    case: str,
    wrong: np.ndarray,
    ours: np.ndarray,
    peers: dict[str, np.ndarray],
    what: str,
    figure: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> list[Row]:
    weights = drawn(len(wrong))
    mine = figure(wrong, ours, weights)
    rows = []
    for name, theirs in peers.items():
        other = figure(wrong, theirs, weights)
        low, high = np.quantile((mine - other)[1:], (0.025, 0.975))
        rows.append(Row(what, name, case, float(mine[0]), float(other[0]), float(low), float(high)))
    return rows


def peers_of(run: db.Run, features: np.ndarray | None) -> tuple[dict, dict]:
    """Scores and sets of issues of cleanlab from the run's held-out probabilities; and, where the
    features are one space, of those that go by features.
    """
    from cleanlab import Datalab  # type: ignore[import-not-found]  # of the extra `bench`
    from cleanlab.filter import find_label_issues  # type: ignore[import-not-found]
    from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found]

    p, labels = np.array(heldout(run), "float64"), run.data.labels.numpy()
    p /= p.sum(1, keepdims=True)
    scores = {
        f"cleanlab {name}, on the same predictions": -get_label_quality_scores(
            labels, p, method=name
        )
        for name in RANKS
    }
    held = {
        f"cleanlab {name}, on the same predictions": find_label_issues(
            labels, p, filter_by=name, n_jobs=1
        )
        for name in FILTERS
    }
    held["nothing held wrong"] = np.zeros(len(labels), bool)
    if features is not None:
        unit = normalize(torch.from_numpy(features).float())
        given, classes = run.data.labels, len(run.data.classes)
        on = "on the same features"
        scores[f"SimiFeat-R, {on}"] = simifeat(unit, given, classes).numpy()
        scores[f"WANN, {on}"] = wann(unit, given, classes).numpy()
        centred = normalize(torch.from_numpy(features - features.mean(0)).float())
        guesses = torch.from_numpy(p).float()
        graphs = [relation_graph(each, given, guesses).numpy() for each in (unit, centred)]
        wrong = truth.wrong_of(run)
        better = max(graphs, key=lambda each: truth.precision(wrong, each))
        scores[f"relation graph, the better of two, {on}"] = better
        held["vote of 10 neighbours, on the same features"] = voted(features, labels)
        lab = Datalab({"label": labels}, label_name="label", verbosity=0)
        lab.find_issues(features=features, issue_types={"label": {}})
        found = lab.get_issues("label")
        name = "Datalab, on the same features"
        scores[name] = -found["label_score"].to_numpy()
        held[name] = found["is_label_issue"].to_numpy()
    return scores, held


def voted(features: np.ndarray, labels: np.ndarray, k: int = 10) -> np.ndarray:
    """Whose label has fewer votes than another's among the `k` nearest by cosine, itself among
    them: SimiFeat's vote (Zhu et al., 2022, arXiv:2110.06283) without its augmented repeats.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    near = np.argpartition(-(unit @ unit.T), k, axis=1)[:, :k]
    counts = np.stack([(labels[near] == c).sum(1) for c in range(int(labels.max()) + 1)], 1)
    return counts.max(1) > counts[np.arange(len(labels)), labels]


def rows_of(name: str, case: truth.Case) -> list[Row]:
    """Every comparison on one set."""
    run = truth.made(case)
    wrong, verdict = truth.wrong_of(run), db.judge(run)
    one = case.probe or case.of != "cifar"
    scores, held = peers_of(run, truth.space(run.data, case) if one else None)
    if not case.probe:
        scores |= {peer: db.score(run, signal).values.numpy() for peer, signal in TRACED.items()}
    believed = verdict.suspicion.numpy()
    rows = [
        *compared(name, wrong, believed, scores, "ranking: AP", precisions),
        *compared(name, wrong, believed, scores, "ranking: ROC-AUC", areas),
    ]
    for how, each in (("as it stands", verdict), ("--at f1", db.judge(run, at="f1"))):
        ours = np.isin(each.act.numpy(), (int(db.Act.DROP), int(db.Act.FIX)))
        rows += compared(name, wrong, ours, held, f"{how}: F1", f1s)
        rows += compared(name, wrong, ours, held, f"{how}: AQuA's F1", weighted)
    return rows


def summary(rows: list[Row]) -> list[list[str]]:
    """By peer: on how many sets it beats us, and the mean difference, worst first."""
    kinds = dict.fromkeys((row.what, row.peer) for row in rows)
    lines = []
    for what, peer in kinds:
        some = [row for row in rows if (row.what, row.peer) == (what, peer)]
        gains = np.array([row.gain for row in some])
        counts = [sum(row.says == word for row in some) for word in ("lost", "even", "won")]
        generator = np.random.default_rng(SEED)
        means = gains[generator.integers(0, len(gains), (DRAWS, len(gains)))].mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        span = f" ({low:+.3f} to {high:+.3f})" if len(some) >= ENOUGH else ""
        cells = [what, peer, str(len(some)), *map(str, counts), f"{gains.mean():+.3f}{span}"]
        lines.append((gains.mean(), cells))
    return [line for _, line in sorted(lines)]


def against_best(rows: list[Row]) -> list[list[str]]:
    """By set: the best of the peers, picked with the truth; those that we lose first."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row.what, row.case
        if key not in best or row.theirs > best[key].theirs:
            best[key] = row
    order = {"lost": 0, "even": 1, "won": 2}
    return [
        [row.says, row.case, row.what, f"{row.ours:.3f}", f"{row.theirs:.3f}", row.peer,
         f"{row.gain:+.3f} ({row.low:+.3f} to {row.high:+.3f})"]
        for row in sorted(best.values(), key=lambda row: (order[row.says], row.gain))
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="for a GPU: four times the images")
    parser.add_argument("--leave", default="-", help="leave out the sets that begin with this word")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", module="cleanlab")
    torch.manual_seed(0)
    rows: list[Row] = []
    for name, case in (truth.CHOSE | truth.LAST | AQUA).items():
        if case.noise == "none" or name.startswith(asked.leave):
            continue  # nothing to find: how many each holds wrong is told by truth.py
        rows += rows_of(name, truth.larger(case) if asked.full else case)
        print(name, [(row.peer, round(row.gain, 3), row.says) for row in rows[-3:]], flush=True)
    left = (
        f"Left out here: the sets that begin with '{asked.leave}'.\n" if asked.leave != "-" else ""
    )
    of_peers = ["what", "peer", "sets", "lost", "even", "won", "ours minus theirs, mean of sets"]
    of_sets = ["", "set", "what", "ours", "theirs", "the best of them there", "difference"]
    results.write(
        "Beside peers, on the same traces, predictions and features",
        f"{NOTE}{left}\n{results.table(of_peers, summary(rows))}\n\n"
        f"Set by set, beside the peer that is best there, picked with the truth, as nobody can in "
        f"practice:\n\n{results.table(of_sets, against_best(rows))}",
    )


NOTE = """`python benchmarks/peers.py`. The sets of "How many are wrong, which ones, and what they should
be" that have wrong labels, and four with noise as AQuA makes it. Those that are called there "chosen
on" chose things of ours, none chose anything of the peers, whose defaults are used. Ours is the
default: a run, `datablame judge`, its order and what it drops or fixes; and what it holds wrong with
`--at f1`, which was added when the table without it had been seen, and has nothing to choose. Peers get the run's own
held-out probabilities, its traces (where a net was trained), or
the features of its encoder (digits: pixels). cleanlab and its Datalab are the libraries; the others
are written after their papers. Lost, even and won are by the 95 % interval of the difference on the
same examples, drawn again 1,000 times; an interval of a mean draws the sets again, as if none had
images of another, and is not told for fewer than eight. On clean sets there is nothing to find: what
each holds wrong there is in that section.
"""


if __name__ == "__main__":
    main()
