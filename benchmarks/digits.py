"""The whole audit of `digits` with 10 % uniform noise, by defaults, over five seeds: seconds,
ranking, accuracy after cleaning.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

import numpy as np
import results
import torch

SEEDS = 5


def main() -> None:
    rows, before, after, control, rights = [], [], [], [], []
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as out:
            words = [
                "audit",
                "digits",
                "--noise",
                "uniform",
                "--amount",
                "0.1",
                "--seed",
                str(seed),
                "--out",
                out,
                "--json",
            ]
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "datablame", *words],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds = time.perf_counter() - began
            facts = json.loads(done.stdout)
            aum = facts["signals"]["aum"]["roc_auc"]
            accuracies = [facts["comparison"][kind][0] for kind in ("before", "after", "control")]
            rights.append(paired(facts["comparison"]["runs"]))
        for kept, value in zip((before, after, control), accuracies, strict=True):
            kept.append(value)
        numbers = [f"{facts[name]:.4f}" for name in ("roc_auc", "average_precision")] + [
            f"{aum:.4f}"
        ]
        estimate = (
            f"{facts['wrong_estimate']:.0f} ({facts['wrong_low']:.0f} to {facts['wrong_high']:.0f})"
        )
        rows.append(
            [
                str(seed),
                f"{seconds:.1f}",
                *numbers,
                estimate,
                *(f"{100 * value:.2f}" for value in accuracies),
            ]
        )
    from datablame.evaluation.comparison import interval

    gain, low, high = interval(torch.tensor(rights, dtype=torch.float32))
    means = [f"{100 * np.mean(kept):.2f}" for kept in (before, after, control)]
    rows.append(
        [
            "mean",
            f"{np.mean([float(row[1]) for row in rows]):.1f}",
            *(f"{np.mean([float(row[i]) for row in rows]):.4f}" for i in (2, 3, 4)),
            "",
            *means,
        ]
    )
    head = [
        "seed",
        "seconds",
        "ROC-AUC",
        "average precision",
        "AUM alone",
        "estimate (144 wrong)",
        "accuracy before",
        "after",
        "as many removed at random",
    ]
    text = f"`datablame audit digits --noise uniform --amount 0.1 --seed S`, the whole command with its start.\n\n{results.table(head, rows)}\n\n"
    text += f"After minus before, five seeds resampled together with their test images: {100 * gain:+.2f} points (95 % {100 * low:+.2f} to {100 * high:+.2f})."
    results.write("digits, 10 % uniform noise", text)


def paired(runs: dict[str, list[str]]) -> list[float]:
    """After minus before, an image each: 1 mended, -1 broken, 0 as it was."""
    from datablame import Run
    from datablame.evaluation.comparison import rights

    was, now = (rights([Run(runs[kind][0])])[0].float() for kind in ("before", "after"))
    return (now - was).tolist()


if __name__ == "__main__":
    main()
