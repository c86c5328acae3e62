"""Memorization: seconds and memory of leaving every example out in closed form, beside the first
code's iterative solve; and what leaving out the most memorised images does.

`python benchmarks/memorization.py --out DIR` takes more than an hour on one core, most of it for
50,000 x 2,048: fewer `--rows` take less.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import results
import torch
import traces
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

import datablame as db
from datablame.linear_probe.leverage import SOLVED, Leverage
from datablame.linear_probe.optimum import Basis, Problem, optimum
from datablame.verbs.reading import planted

SIGNALS = (
    "loo",
    "memorization",
    "self_influence,how=head",
    "loss",
    "aum",
    "knn",
    "memorization,how=original",
)
NOISES = ("pixel_normal", "pixel_uniform")
SIZES = ((512, 10), (2048, 10), (2048, 100), (2048, 1000))


def features(rows: int, dim: int, classes: int) -> tuple[np.ndarray, torch.Tensor]:
    """Positive features of falling spread, as a ReLU leaves them, in half precision; labels that
    follow them but for one in twenty.
    """
    generator = torch.Generator().manual_seed(0)
    spread = 1 / torch.arange(1, dim + 1).float().sqrt()
    mix = torch.randn(dim, dim, generator=generator) / dim**0.5
    parts, labels = [], []
    centre = torch.randn(classes, dim, generator=generator)
    for part in torch.arange(rows).split(5_000):
        given = torch.randint(classes, (len(part),), generator=generator)
        x = (
            (torch.randn(len(part), dim, generator=generator) + 0.6 * centre[given]) * spread @ mix
        ).relu()
        struck = torch.rand(len(part), generator=generator) < 0.05
        labels.append(
            torch.where(struck, torch.randint(classes, (len(part),), generator=generator), given)
        )
        parts.append((4 * x).half())
    return torch.cat(parts).numpy(), torch.cat(labels)


def iterative(
    problem: Problem, theta: torch.Tensor, count: int, hidden: int, steps: int = 1_002
) -> float:
    """Seconds an example of the first code's recursion: one random image a step, by double
    differentiation; its head of two layers if `hidden`.
    """
    x, labels = torch.from_numpy(problem.features[: 10 * count].astype("float32")), problem.labels
    dim = x.shape[1]
    layers = [torch.nn.Linear(dim, hidden), torch.nn.ReLU()] if hidden else []
    head = torch.nn.Sequential(*layers, torch.nn.Linear(hidden or dim, problem.classes))
    weights = list(head.parameters())

    def loss(row: int) -> torch.Tensor:
        return cross_entropy(head(x[row : row + 1]), labels[row : row + 1]) + 5e-3 * sum(
            w.square().sum() for w in weights
        )

    began = time.perf_counter()
    for row in range(count):
        v = torch.autograd.grad(loss(row), weights)
        h = [each.clone() for each in v]
        for step in range(steps):
            slope = torch.autograd.grad(loss((row + step) % len(x)), weights, create_graph=True)
            bent = torch.autograd.grad(slope, weights, h)
            h = [a + (1 - 5e-3) * b - c / 1e4 for a, b, c in zip(v, h, bent, strict=True)]
    return (time.perf_counter() - began) / count


def speed(rows: int) -> str:
    lines = []
    for dim, classes in SIZES:
        x, labels = features(rows, dim, classes)
        problem = Problem(x, labels, classes, 1e-2)
        began = time.perf_counter()
        basis = Basis.of(problem)
        theta = optimum(problem, basis=basis)
        fitted = time.perf_counter() - began
        spent, scores, energy = {}, {}, 0.0
        for directions in (None, 0) if classes <= SOLVED else (0,):
            began = time.perf_counter()
            lever = Leverage.of(problem, theta, basis, directions)
            scores[directions] = lever.left_out()
            spent[directions] = time.perf_counter() - began
            energy = lever.energy if directions is None else energy
            del lever
        both = len(scores) == 2
        agreed = (
            spearmanr(*(each[:, 0] - each[:, 1] for each in scores.values()))[0] if both else None
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        line = [
            f"{dim:,} x {classes}",
            f"{fitted:.0f} s",
            f"{spent[None]:.0f} s" if both else "",
            f"{energy:.1%}" if both else "",
            f"{spent[0]:.1f} s",
            f"{agreed:.4f}" if both else "",
            f"{peak:.1f} GB",
        ]
        if classes == 10:
            each = iterative(problem, theta, 20, 0)
            line.append(
                f"{each:.2f} s x {rows:,} = {each * rows / 3600:,.0f} h, "
                f"1/{each * rows / spent[None]:,.0f}"
            )
        else:
            line.append("")
        lines.append(line)
        if (dim, classes) == (2048, 10):
            own = iterative(problem, theta, 1, dim)
            lines.append(
                [
                    "its own head of two layers",
                    "",
                    "",
                    "",
                    "",
                    "",
                    "",
                    (
                        f"{own:.0f} s x {rows:,} = {own * rows / 86400:,.0f} days, "
                        f"1/{own * rows / spent[None]:,.0f}"
                    ),
                ]
            )
    head = [
        "features x classes",
        "fitting the head",
        "leaving out, as exact as fits",
        "exact",
        "EK-FAC",
        "Spearman of the two",
        "peak memory so far",
        "the iterative solve (20 examples, scaled)",
    ]
    return results.table(head, lines)


def finding(out: Path, epochs: int) -> tuple[str, str]:
    """An encoder trained on other rows, a head on the first 10,000: who is found, and what
    leaving out does.
    """
    whole, test = traces.cifar(), db.load(str(results.SHARED / "test.parquet"))
    recipe = db.Recipe(
        model="resnet9,width=0.5", epochs=epochs, batch_size=128, folds=0, precision="bf16"
    )
    first = db.train(whole.take(torch.arange(10_000, 30_000)), recipe=recipe, test=test, out=out)
    probe = db.Recipe(
        model=f"frozen:{first.path}", trainer="linear_probe", epochs=12, weight_decay=1e-3, folds=0
    )
    sets = {
        "uniform 10 %": planted(whole.take(torch.arange(10_000)), "uniform", 0.1, 0),
        "`aggre_label`": traces.cifar("aggre_label").take(torch.arange(10_000)),
        "`worse_label`": traces.cifar("worse_label").take(torch.arange(10_000)),
    }
    runs = {name: db.train(data, recipe=probe, test=test, out=out) for name, data in sets.items()}
    found = results.found(runs, SIGNALS)
    clean = db.train(whole.take(torch.arange(10_000)), recipe=probe, test=test, out=out)
    began = time.perf_counter()
    db.ablate(clean, "memorization", noises=NOISES)
    first_time = time.perf_counter() - began
    from pyarrow import parquet

    table = parquet.read_table(clean.path / "ablation.parquet").to_pylist()
    looks = list(dict.fromkeys((row["noise"], row["strength"]) for row in table))
    lines = []
    for look in looks:
        for signal in ("memorization", "random"):
            mine = [
                row
                for row in table
                if (row["noise"], row["strength"], row["signal"]) == (*look, signal)
            ]
            shares = sorted({row["share"] for row in mine})
            each = [
                results.told([100 * r["test_accuracy"] for r in mine if r["share"] == share], 2)
                for share in shares
            ]
            lines.append(
                [f"{look[0]} {look[1]:g}" if look[0] != "none" else "as they are", signal, *each]
            )
    shares = [f"{share:.0%} out" for share in sorted({row["share"] for row in table})]
    located = db.memorization(clean, top_k=400)
    text = (
        "Test accuracy, % (seeds 0, 1, 2, 3, 42; behind ± the half width of a 95 % "
        "interval), clean test accuracy of the encoder's own run "
        f"{first.about['test_accuracy']:.2%}:\n\n"
        f"{results.table(['test images', 'left out by', *shares], lines)}\n\nThe whole "
        f"ablation took {first_time:.0f} s, the features of eleven test sets among them. "
        "Masking a tenth of the cells of the 400 most memorised images takes "
        f"{located['lost_by_masking_a_tenth']:.1%} of their score, a tenth at random "
        f"{located['lost_at_random']:.1%}; "
        f"the largest relative error of a matrix's sum is {located['largest_error']:.1e}."
    )
    return found, text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=results.OUT)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    spent = speed(options.rows)
    found, left = finding(options.out, options.epochs)
    results.write(
        "Memorization in closed form",
        f"Synthetic features of {options.rows:,} examples, decay 0.01; memory is that of "
        f"the whole process:\n\n{spent}\n\n"
        "CIFAR-10, first 10,000 rows, a linear head on a frozen resnet9,width=0.5 that "
        "was trained on 20,000 other rows:\n\n"
        f"{found}\n\n{left}",
    )


if __name__ == "__main__":
    main()
