"""Influence beside kronfluence: the seed's whole task, one job after the other, nothing extrapolated.

`python benchmarks/influence_whole.py` takes 1,000 images and 100 queries, some minutes on two
cores; `--full` is the task itself, for a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import results
import torch
from kronfluence_peer import EXACT, LOW, Cost, Ours, Peer, pearson, picked, trained
from torch import Tensor

import datablame as db
from datablame.influence.factors import Factors
from datablame.influence.fisher import Fisher
from datablame.influence.index import Index


def whole_task(run: db.Run, queries: int, folder: str) -> str:
    """Factors of all rows, and so many queries against all rows: ours and the peer one after the
    other, nothing extrapolated.
    """
    rows, asked = torch.arange(len(run.data)), picked(run, queries)
    narrow = {name: "bf16" for name in ("activations", "gradients", "scores")}

    def ours(fisher: Fisher, sampled: bool = False) -> Tensor:
        mine = Ours(run, rows, asked, fisher)
        if sampled:  # the basis and the eigenvalues on as many rows as the defaults take
            mine.factors = Factors(run, fisher)
        return mine.fitted().pairwise(mine.hold())

    def index() -> Index:
        mine = Ours(run, rows, asked, LOW)
        mine.factors = Factors(run, LOW)
        built = Index(mine.fitted().factors)
        for part in rows.split(built.batch):
            built.rows(part)
        return built

    def theirs(half: bool) -> Tensor:
        peer = Peer(run, rows, asked, f"{folder}/{'bf16' if half else 'fp32'}", half)
        peer.fitted("ekfac")
        return next(iter(peer.scores("pairwise", "ekfac").values()))

    jobs = {
        "kronfluence, fp32": lambda: theirs(False),
        "kronfluence, bf16": lambda: theirs(True),
        "exact": lambda: ours(EXACT),
        "exact, bf16": lambda: ours(dataclasses.replace(EXACT, **narrow)),
        "defaults": lambda: ours(LOW, sampled=True),
        "factors and index, no queries": index,
    }
    exact, lines, first = None, [], 0.0
    for name, job in jobs.items():
        cost = Cost()
        found = cost.run(lambda job=job: synchronised(job))
        first = first or cost.median
        agreement = ""
        if isinstance(found, Tensor):
            exact = found.cpu() if exact is None else exact
            agreement = f"{pearson(exact, found.cpu()):.5f}"
        lines.append([name, f"{cost.median:.1f} s", f"1/{first / cost.median:.1f}", agreement])
    return results.table(["job", "seconds", "against kronfluence, fp32", "Pearson with it"], lines)


def synchronised(job: Callable[[], Any]) -> Any:
    """What the job returns once the device has done it."""
    found = job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="where the trained nets are kept")
    parser.add_argument("--full", action="store_true", help="50,000 images and 2,000 queries")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    images, queries, epochs = (50_000, 2_000, 25) if options.full else (1_000, 100, 6)
    net = trained(options.out or results.OUT, epochs, 1.0, images)
    with tempfile.TemporaryDirectory() as folder:
        table = whole_task(net, queries, folder)
    results.write(
        "Influence compared with kronfluence 1.0.1: the whole task",
        f"The seed's ResNet-9, {len(net.data):,} training images, {queries:,} queries, factors of "
        f"all rows included, one job after the other; empirical Fisher.\n\n{table}",
    )


if __name__ == "__main__":
    main()
