"""What bf16 costs influence in accuracy: each stage and all of them, against fp32 on the same net, with
factors of many rows and of few. Speed is another matter: a CPU without instructions for bf16 emulates
the same arithmetic, slowly.

About six minutes on two cores.
"""

from __future__ import annotations

import itertools
import tempfile

import results
import torch

import datablame as db
from datablame import Recipe

ROWS, FEW = 2_000, 96
STAGES = {
    "gradients": ("gradients",),
    "gradients, scores": ("gradients", "scores"),
    "factors": ("factors",),
    "factors, gradients, scores (`auto`)": ("factors", "gradients", "scores"),
    "all four (`half=yes`)": ("activations", "factors", "gradients", "scores"),
}


def spec(method: str, rank: str, rows: int, narrow: tuple[str, ...]) -> str:
    """A method whose stages are in bf16 where they are named, in fp32 elsewhere."""
    kinds = {
        stage: "bf16" if stage in narrow else "fp32"
        for stage in ("activations", "factors", "gradients", "scores")
    }
    told = ",".join(f"{stage}={kind}" for stage, kind in kinds.items())
    return f"{method},rank={rank},basis={rows},eigenvalues={rows},{told}"


def main() -> None:
    data = db.load(str(results.SHARED / "train.parquet"))
    some = data.take(torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:4_000])
    noisy = db.corrupt(some, "uniform", amount=0.1, seed=0)
    home = tempfile.mkdtemp(prefix="half-")
    run = db.train(noisy, recipe=Recipe(model="resnet9,width=0.25", epochs=8, folds=0), out=home)
    run = run.with_model
    table = []
    for rank, rows in itertools.product(("256", "none"), (ROWS, FEW)):
        pairs = [spec("influence", rank, rows, each) for each in ((), *STAGES.values())]
        own = [
            spec("self_influence", rank, rows, each) for each in ((), *list(STAGES.values())[-2:])
        ]
        of_pairs = db.agree(run, *pairs, rows=256).to_json()
        of_own = db.agree(run, *own).to_json()
        for name, pair, self in zip(STAGES, pairs[1:], [None] * 3 + own[1:], strict=True):
            found = [of_pairs[pair]] + ([of_own[self]] if self else [])
            table.append(
                [rank, f"{rows:,}", name]
                + [f"{each['pearson']:.4f} / {each['spearman']:.4f} / {each['top10']:.2f}" for each in found]
                + [""] * (2 - len(found))
            )  # fmt: skip
    head = ["rank", "rows of the factors", "in bf16", "pairs", "self-influence"]
    results.write(
        "Influence in bf16",
        "Pearson / Spearman correlation with fp32 and share of the same top ten; a quarter-width ResNet-9, 8 "
        f"epochs on {len(run.data):,} CIFAR images with 10 % wrong labels; pairs of test queries with 256 rows. Before the "
        "mend of differences of like numbers, on a half-width net with factors of 2,000 rows: .957 / .834 / .77, "
        "and .07 with factors of 96 rows (gradients alone).\n\n" + results.table(head, table),
    )


if __name__ == "__main__":
    main()
