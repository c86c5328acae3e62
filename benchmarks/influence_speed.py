"""Influence beside kronfluence: seconds and memory of each stage as ratios in one run, interleaved.

`python benchmarks/influence_speed.py` takes about ten minutes on two cores, which should have
nothing else to do.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import results
import torch
from kronfluence_peer import BATCH, EXACT, LOW, QUERIES, Cost, Ours, Peer, picked, sampled, trained
from torch import Tensor
from torch.nn.functional import cross_entropy

import datablame as db
from datablame.influence.index import Index

WIDE, WIDE_ROWS = 1_000, 512
"""2,000 queries of 9 MB are met in two passes, with half of 24 GB to hold them."""
MANY, MANY_ROWS = 256, 1_024
"""Queries and rows for the peer's product of the two: what a pair costs shows against what a
query and a row cost alone."""
STAGES = ("covariances", "eigenvectors", "eigenvalues", "self", "pairwise")
INDEX_NUMBERS = 31_040
"""Numbers an example in an index of 64 x 64 blocks of this net."""


def forward_backward(run: db.Run, rows: Tensor) -> None:
    """One plain training pass over the rows, weight gradients included: the unit `fb`."""
    model = copy.deepcopy(run.model).train()
    for index in rows.split(BATCH):
        images, labels = run.data.batch(index)
        cross_entropy(model(images), labels, reduction="sum").backward()


def timed(
    run: db.Run, count: int, rounds: int, folder: str
) -> tuple[dict[str, Cost], dict[str, Cost]]:
    """Seconds and memory of every stage of ours and of the peer, taken in turns."""
    rows = everything = sampled(run, count)
    queries = picked(run, QUERIES)
    ours: dict[str, Cost] = {}
    theirs: dict[str, Cost] = {}

    def note(costs: dict[str, Cost], name: str, work: Callable[[], Any]) -> Any:
        return costs.setdefault(name, Cost()).run(work)

    peer, brief = (
        Peer(run, rows, queries, f"{folder}/whole"),
        Peer(run, rows[:BATCH], queries, f"{folder}/brief"),
    )
    many = sampled(run, WIDE_ROWS)
    for turn in range(rounds + 1):
        rows = everything[:BATCH] if not turn else everything  # the first warms up
        note(ours, "fb", lambda rows=rows: forward_backward(run, rows))
        for name, fisher in (("exact", EXACT), ("low", LOW)):
            mine = Ours(run, rows, queries, fisher)
            note(ours, f"{name} covariances", lambda mine=mine: mine.gather("basis"))
            note(ours, f"{name} eigenvectors", mine.finish)
            note(ours, f"{name} eigenvalues", lambda mine=mine: mine.gather("eigenvalues"))
            mine.finish()
            mine.damp()
            note(ours, f"{name} self", mine.squares)
            held = note(ours, f"{name} queries", mine.hold)
            note(ours, f"{name} pass", lambda mine=mine, held=held: mine.pairwise(held))
            if name == "low":
                wide = [[layer.repeat(WIDE // QUERIES + 1, 1)[:WIDE] for layer in held[0]]]
                note(ours, "wide pass", lambda mine=mine, wide=wide: mine.inner().score(wide, many))
                del wide
                index = note(ours, "index cut", lambda mine=mine: Index(mine.factors))
                note(
                    ours,
                    "index",
                    lambda index=index, rows=rows: [
                        index.rows(part) for part in rows.split(index.batch)
                    ],
                )
                note(ours, "index query", lambda index=index: index.asked(queries, "margin"))
            del held, mine
        for name in STAGES:
            note(theirs, f"{name}, {BATCH} rows", brief.stage(name))
            if turn:
                note(theirs, name, peer.stage(name))
    for cost in ours.values():
        del cost.seconds[0], cost.extra[0]
    passes = {
        (asked, size): Peer(run, sampled(run, size), picked(run, asked), f"{folder}/whole").stage(
            "pairwise"
        )
        for asked, size in itertools.product((QUERIES, MANY), (BATCH, MANY_ROWS))
    }
    mine = Ours(run, everything, queries, EXACT).fitted()
    held = mine.hold()
    for _ in range(rounds):
        note(ours, f"pass {MANY_ROWS}", lambda: mine.inner().score(held, sampled(run, MANY_ROWS)))
        for (asked, size), work in passes.items():
            note(theirs, f"pairs {asked} {size}", work)
    return ours, theirs


def speed_table(ours: dict[str, Cost], theirs: dict[str, Cost], count: int) -> str:
    """The stages beside the peer's, then whole jobs put together of them."""
    fb = ours["fb"].median / count
    row = {name: cost.median / count for name, cost in ours.items()}
    peer = {
        name: (theirs[name].median - theirs[f"{name}, {BATCH} rows"].median) / (count - BATCH)
        for name in STAGES
    }
    t = {
        (q, size): theirs[f"pairs {q} {size}"].median
        for q in (QUERIES, MANY)
        for size in (BATCH, MANY_ROWS)
    }
    fewer, more = (
        (t[MANY, size] - t[QUERIES, size]) / (MANY - QUERIES) for size in (BATCH, MANY_ROWS)
    )
    peer_pair = (more - fewer) / (MANY_ROWS - BATCH)
    peer_query = fewer - BATCH * peer_pair
    passed = (t[QUERIES, MANY_ROWS] - t[QUERIES, BATCH]) / (MANY_ROWS - BATCH)
    peer_pass = passed - QUERIES * peer_pair
    lines = []

    def line(
        what: str, mine: float, other: float, a: Cost | None = None, b: Cost | None = None
    ) -> None:
        memory = f"{a.megabytes:.0f} / {b.megabytes:.0f}" if a and b else ""
        lines.append(
            [what, f"{mine / fb:.2f}", f"{other / fb:.2f}", f"1/{other / mine:.1f}", memory]
        )

    for kind in ("exact", "low"):
        tag = "" if kind == "exact" else f", rank {LOW.rank}"
        for name in ("covariances", "eigenvalues", "self"):
            if kind == "low" and name == "covariances":
                continue
            line(
                f"{name}{tag}",
                row[f"{kind} {name}"],
                peer[name],
                ours[f"{kind} {name}"],
                theirs[name],
            )
        line(f"a query{tag}", ours[f"{kind} queries"].median / QUERIES, peer_query)
    line(
        f"pairwise, a pass with {QUERIES} queries",
        ours[f"pass {MANY_ROWS}"].median / MANY_ROWS,
        passed,
        ours["exact pass"],
        theirs["pairwise"],
    )
    line("building the index (against a plain training step)", row["index"], fb)
    eigen = ours["low eigenvectors"].median, theirs["eigenvectors"].median
    lines.append(
        [
            "eigenvectors, seconds in all",
            f"{eigen[0]:.1f} s",
            f"{eigen[1]:.1f} s",
            f"1/{eigen[1] / eigen[0]:.1f}",
            "",
        ]
    )

    n, q = 10_000, 2_000
    factors = 2_000 * row["low covariances"] + eigen[0] + 2_000 * row["low eigenvalues"]
    peer_factors = n * (peer["covariances"] + peer["eigenvalues"]) + eigen[1]
    peer_whole = peer_factors + q * peer_query + n * (2 * peer_pass + q * peer_pair)
    jobs = {
        "defaults: factors and self-influence of 10,000 rows": (
            factors + n * row["low self"],
            peer_factors + n * peer["self"],
        ),
        "defaults: factors and 2,000 queries against 10,000 rows": (
            factors
            + q * ours["low queries"].median / QUERIES
            + n * (q / WIDE) * ours["wide pass"].median / WIDE_ROWS,
            peer_whole,
        ),
        "index: factors, index and 2,000 queries against 10,000 rows": (
            factors + n * row["index"] + q * ours["index query"].median / QUERIES + search(n, q),
            peer_whole,
        ),
    }
    for what, (mine, other) in jobs.items():
        lines.append([what, f"{mine:.0f} s", f"{other:.0f} s", f"1/{other / mine:.1f}", ""])
    ours_pair = (ours["wide pass"].median / WIDE_ROWS - row["low pass"]) / (WIDE - QUERIES)
    lines.append(
        [
            "a query times a row, us",
            f"{1e6 * ours_pair:.1f}",
            f"{1e6 * peer_pair:.1f}",
            f"1/{peer_pair / ours_pair:.1f}",
            "",
        ]
    )
    head = ["stage (fb a row)", "ours", "kronfluence", "ratio", "extra MB, ours / theirs"]
    return f"fb = {1e3 * fb:.2f} ms. {results.table(head, lines)}".replace("ms. ", "ms.\n\n")


def search(rows: int, queries: int) -> float:
    """Seconds of looking so many queries up in an index of so many rows, at its default block."""
    k = INDEX_NUMBERS
    codes, asked = torch.randint(-127, 127, (2048, k), dtype=torch.int8), torch.randn(queries, k)
    began = time.perf_counter()
    torch.mm(asked, codes.float().T)
    return (time.perf_counter() - began) * rows / 2048


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the trained nets are kept")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    half = trained(options.out or results.OUT, 6, 1.0, 5_120)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = timed(half, options.rows, options.rounds, folder)
    results.write(
        "Influence compared with kronfluence 1.0.1: speed",
        "The seed's ResNet-9 (2.27 million weights in 9 layers), 6 epochs on 5,120 CIFAR "
        f"images with 10 % wrong labels; batches of {BATCH} for kronfluence, of 24 (the "
        "default on a CPU) for ours; "
        f"empirical Fisher, fp32, damping 10 % of the mean eigenvalue; {options.rows} rows "
        f"and {QUERIES} queries, medians of {options.rounds} rounds in turns, "
        f"after one of {BATCH} rows to warm up. fb: a plain forward and backward pass with "
        "weight gradients over the same rows. kronfluence has costs that do not grow with "
        "the rows (it loads and saves factors), "
        f"so what a row costs it is the difference between {options.rows} and {BATCH} "
        f"rows; what a query, a row and a pair cost it comes from {MANY} and {QUERIES} "
        f"queries on {MANY_ROWS:,} and {BATCH} rows. Whole jobs are put together from the "
        "stages: ours fits the "
        "basis and the eigenvalues on 2,000 rows each (its default at 10,000), and makes "
        f"{2_000 // WIDE} passes of {WIDE:,} queries, as many as half of 24 GB hold, each "
        f"as measured on {WIDE_ROWS} rows; "
        f"kronfluence uses all rows and two query batches as in its example.\n\n{speed_table(ours, theirs, options.rows)}",
    )


if __name__ == "__main__":
    main()
