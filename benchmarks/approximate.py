"""What the defaults of influence cost in accuracy: low rank, few rows for the factors, and the
index, against exact EK-FAC.

`python benchmarks/approximate.py` takes about 25 minutes on two cores once the nets are trained.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import results
import torch
from kronfluence_peer import BATCH, pearson, picked, trained
from torch import Tensor

import datablame as db
from datablame.base import hashing
from datablame.influence import factors as fitting
from datablame.influence.factors import Factors
from datablame.influence.fisher import Fisher
from datablame.influence.index import Index, found, spearman
from datablame.influence.products import GradientProducts

QUERIES, SELF = 32, 768
VARIANTS = [
    (0, None, None, 2_000),
    (2_000, None, None, 2_000),
    (2_000, 128, None, 2_000),
    (2_000, 256, None, 2_000),
    (2_000, 256, 128, 2_000),
    (2_000, 256, 64, 2_000),
    (2_000, 256, None, 500),
]
"""(basis rows, 0 for all; rank; outputs; rows for the eigenvalues)."""


def fitted(run: db.Run, fisher: Fisher, basis: dict[str, dict[str, Tensor]]) -> Factors:
    """Factors of this rank in a basis that was fitted before."""
    factors = Factors(run, fisher)
    for layer, curvature in factors.curvature.items():
        curvature.cut(basis[layer.name])
    with torch.no_grad():
        factors.gather("eigenvalues")
    factors.finish()
    for curvature in factors.curvature.values():
        curvature.damp(fisher.damping_of(curvature.mean))
    return factors


def basis_of(run: db.Run, rows: int) -> dict[str, dict[str, Tensor]]:
    factors = Factors(run, Fisher(kind="kfac", basis=rows))
    with torch.no_grad():
        factors.gather("basis")
    factors.finish()
    return {layer.name: curvature.kept for layer, curvature in factors.curvature.items()}


def selves(factors: Factors, rows: Tensor) -> Tensor:
    parts = []
    for index in rows.split(BATCH):
        images, labels = factors.run.data.batch(index)
        with torch.no_grad():
            parts.append(factors.squares(images, fitting.weigher(fitting.loss, labels)))
    return torch.cat(parts)


def pairs(factors: Factors, rows: Tensor) -> Tensor:
    queries = picked(factors.run, QUERIES)
    inner = GradientProducts(factors.run, queries, [(1 / len(factors.run.data), factors)], "margin")
    return inner.score(inner.prepare(torch.arange(QUERIES)), rows)


def mean_spearman(a: Tensor, b: Tensor) -> float:
    return float(np.mean([spearman(x, y) for x, y in zip(a, b, strict=True)]))


def table(run: db.Run) -> str:
    """Self-influence and pairwise scores of each approximation against exact EK-FAC with factors
    of all rows; then the index.
    """
    rows = hashing.permutation(len(run.data), "approximate")[:SELF]
    every = torch.arange(len(run.data))
    bases = {count: basis_of(run, count) for count in (len(every), 2_000)}
    exact = fitted(run, Fisher(rank=None, eigenvalues=len(every)), bases[len(every)])
    own, all_pairs = selves(exact, rows), pairs(exact, every)
    top = all_pairs.topk(10, 1).indices
    lines = []
    for count, rank, outputs, eigenvalues in VARIANTS:
        count = count or len(every)
        factors = fitted(
            run, Fisher(rank=rank, outputs=outputs, eigenvalues=eigenvalues), bases[count]
        )
        self_scores, pair_scores = selves(factors, rows), pairs(factors, rows)
        numbers = sum(factors.widths) / factors.size
        line = [
            f"{count:,}",
            f"{eigenvalues:,}",
            str(rank or "all"),
            str(outputs or "all"),
            f"{numbers:.0%}",
            f"{pearson(own, self_scores):.4f} / {spearman(own, self_scores):.4f}",
            (
                f"{pearson(all_pairs[:, rows], pair_scores):.4f} / "
                f"{mean_spearman(all_pairs[:, rows], pair_scores):.4f}"
            ),
            f"{found(pair_scores.topk(10, 1).indices, all_pairs[:, rows].topk(10, 1).indices):.1%}",
        ]
        print(line, flush=True)
        lines.append(line)
    head = [
        "basis rows",
        "eigenvalue rows",
        "rank",
        "outputs",
        "numbers a query",
        "self: Pearson / Spearman",
        "pairs: Pearson / Spearman of a query",
        "same top 10",
    ]
    first = results.table(head, lines)
    lines = []
    default = fitted(run, Fisher(), bases[2_000])
    for block in (8, 16, 32, 64):
        index = Index(default, block)
        codes = torch.cat([index.rows(part) for part in every.split(256)])
        vars(index)["codes"] = codes.numpy()
        scores = index.scores(index.asked(picked(run, QUERIES), "margin"))
        share = [
            found(scores.topk(max(10, round(p * len(every))), 1).indices, top) for p in (0.01, 0.04)
        ]
        lines.append(
            [
                f"{block} x {block}",
                f"{codes.shape[1] / 1000:.1f} kB",
                f"{pearson(all_pairs, scores):.3f} / {mean_spearman(all_pairs, scores):.3f}",
                f"{found(scores.topk(10, 1).indices, top):.1%}",
                *(f"{each:.1%}" for each in share),
            ]
        )
    head = [
        "index",
        "an example",
        "Pearson / Spearman",
        "exact top 10 in its top 10",
        "in its top 1 %",
        "in its top 4 %",
    ]
    return f"{first}\n\n{results.table(head, lines)}"


NETS = {"converged": (30, 0.5, 5_120), "half trained": (6, 1.0, 5_120)}
"""(epochs, width, rows)."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="where the trained nets are kept")
    parser.add_argument("--net", default="", choices=["", *NETS])
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="approximate-"))
    for state, (epochs, width, limit) in NETS.items():
        if options.net not in ("", state):
            continue
        run = trained(out, epochs, width, limit)
        results.write(
            f"What the defaults of influence cost in accuracy: {state}",
            f"{run.recipe.model}, {epochs} epochs on {limit:,} CIFAR images with 10 % "
            f"wrong labels; training error at the end {run.log[-1]['train_error']:.1%}. "
            "Against exact EK-FAC "
            "whose basis and eigenvalues come from all rows; labels sampled, damping 10 "
            f"%. Self-influence and pairs on {SELF:,} rows, {QUERIES} test images; the "
            "index on all rows.\n\n" + table(run),
        )


if __name__ == "__main__":
    if results.SHARED.exists():
        main()
    else:
        print("CIFAR-10 is not here; nothing to measure")
