"""Influence beside kronfluence: agreement of the scores, for every kind of curvature.

`python benchmarks/influence_agreement.py` takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import warnings
from pathlib import Path

import results
from kronfluence_peer import EXACT, QUERIES, Ours, Peer, pearson, picked, sampled, trained

import datablame as db

ROWS = 128


def agreement_table(runs: dict[str, db.Run], count: int, folder: str) -> str:
    """Pearson correlation with the peer, of all pairs, of the worst row, and of self-influence."""
    lines = []
    for name, run in runs.items():
        rows, queries = sampled(run, count), picked(run, QUERIES)
        for kind in ("identity", "diagonal", "kfac", "ekfac"):
            mine = Ours(run, rows, queries, dataclasses.replace(EXACT, kind=kind)).fitted()
            peer = Peer(run, rows, queries, f"{folder}/{name}-{kind}")
            peer.fitted(kind)
            layers = kind == "kfac"
            theirs = [peer.scores(what, kind, modules=layers) for what in ("pairwise", "self")]
            if layers:
                own = mine.by_layer()
                pairs = [(own[layer][0], theirs[0][layer]) for layer in own]
                selves = [(own[layer][1], theirs[1][layer]) for layer in own]
            else:
                pairs = [(mine.pairwise(mine.hold()), next(iter(theirs[0].values())))]
                selves = [(mine.squares(), next(iter(theirs[1].values())))]
            worst = min(pearson(x, y) for a, b in pairs for x, y in zip(a.T, b.T, strict=True))
            lines.append(
                [
                    name,
                    kind + (", worst layer" if layers else ""),
                    f"{min(pearson(a, b) for a, b in pairs):.8f}",
                    f"{worst:.7f}",
                    f"{min(pearson(a, b) for a, b in selves):.8f}",
                ]
            )
    return results.table(["model", "curvature", "pairwise", "worst training row", "self"], lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="where the trained nets are kept")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    out = options.out or results.OUT
    digits = db.train(
        "digits",
        recipe=db.Recipe(model="mlp", epochs=10, folds=0),
        noise="uniform",
        amount=0.1,
        out=out,
    )
    runs = {"ResNet-9, half trained": trained(out, 6, 1.0, 5_120), "MLP on digits": digits}
    with tempfile.TemporaryDirectory() as folder:
        table = agreement_table(runs, ROWS, folder)
    results.write(
        "Influence compared with kronfluence 1.0.1: agreement",
        f"Pearson correlation on {ROWS} rows and {QUERIES} queries, empirical Fisher, fp32, damping "
        "10 % of the mean eigenvalue; K-FAC layer by layer, since its scale for convolutions "
        f"differs by design.\n\n{table}",
    )


if __name__ == "__main__":
    main()
