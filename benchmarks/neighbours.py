"""The nearest neighbours of all rows among 50,000, exactly: beside faiss's exact search with as many
threads, and beside the bare product of matrices; medians of interleaved rounds. About four minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import faiss
import numpy as np
import results
import torch
from torch.nn.functional import normalize

from datablame.inference.neighbours import BLOCK, _exact

ROWS, WIDTH, NEAR, ROUNDS = 50_000, 384, 50, 3


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(64, WIDTH, generator=generator)
    rows = torch.randn(ROWS, 64, generator=generator) @ plane
    space = normalize(rows + 0.3 * torch.randn(ROWS, WIDTH, generator=generator))
    every = torch.arange(ROWS)
    faiss.omp_set_num_threads(torch.get_num_threads())

    def theirs() -> np.ndarray:
        index = faiss.IndexFlatIP(WIDTH)
        index.add(space.numpy())
        return index.search(space.numpy(), NEAR + 1)[1]

    def product() -> None:
        for some in every.split(BLOCK // ROWS):
            _ = space[some] @ space.T

    kinds: dict[str, Callable[[], object]] = {
        "here": lambda: _exact(space, every, NEAR)[1],
        "faiss, exact": theirs,
        "the product alone": product,
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    found = {}
    for turn in range(ROUNDS):
        for kind in list(kinds) if turn % 2 else list(kinds)[::-1]:
            began = time.perf_counter()
            found[kind] = kinds[kind]()
            taken[kind].append(time.perf_counter() - began)
    middle = {kind: float(np.median(each)) for kind, each in taken.items()}
    ours = np.asarray(found["here"])
    same = np.mean([np.isin(ours[row], found["faiss, exact"][row]).mean() for row in range(1_000)])
    lines = [
        [kind, f"{spent:.1f} s", f"{spent / middle['here']:.2f}"] for kind, spent in middle.items()
    ]
    results.write(
        "Exact neighbours",
        f"The {NEAR} nearest of each of {ROWS:,} rows of {WIDTH} numbers, medians of {ROUNDS} rounds in turns; "
        f"{same:.2%} of ours are faiss's (of 1,000 rows).\n\n"
        + results.table(["", "seconds", "of ours"], lines),
    )


if __name__ == "__main__":
    main()
