"""One million packed 32x32 images: seconds to open, and peak memory of an epoch of recording and of
all trace signals.

Needs 3.1 GB of disk for the packed array, which is removed at the end. About five minutes on two
cores.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import results

N = 1_000_000
TRACE = [
    "loss",
    "entropy",
    "aum",
    "forgetting",
    "datamap",
    "datamap,statistic=variability",
    "el2n",
    "csl",
]


def make(folder: Path) -> None:
    """Write the packed array and a saved Dataset over it."""
    import pyarrow as pa
    import torch

    from datablame.dataset import Dataset, Packed

    array = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype="uint8", shape=(N, 3, 32, 32)
    )
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, N)
    for start in range(0, N, 10_000):
        block = generator.integers(0, 128, (10_000, 3, 32, 32), dtype="uint8")
        array[start : start + 10_000] = (
            block + (labels[start : start + 10_000] * 12).astype("uint8")[:, None, None, None]
        )
    array.flush()
    images = Packed(
        np.load(folder / "images.npy", mmap_mode="c"), "synthetic", folder / "images.npy"
    )
    names = pa.array([f"train/{i:07d}" for i in range(N)])
    Dataset(
        images, torch.from_numpy(labels), tuple(map(str, range(10))), names, torch.arange(N)
    ).save(folder / "set")


def work(folder: Path, answers: multiprocessing.Queue) -> None:
    """In a process of its own: open, train one epoch while recording, run every signal of the
    trace.
    """
    from datablame import Recipe, score
    from datablame.dataset import Dataset
    from datablame.run import Run
    from datablame.training import auto
    from datablame.training.fit import fit

    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # noqa: E731 - GB, read four times
    facts = {"memory with torch loaded, GB": peak()}
    began = time.perf_counter()
    data = Dataset.restore(folder / "set")
    facts["opening, s"] = time.perf_counter() - began
    run = Run.create(
        data,
        auto.settle(Recipe(model="mlp,hidden=32", batch_size=1024, epochs=1, folds=0), data),
        None,
        folder / "runs",
    )
    began = time.perf_counter()
    fit(run)
    facts |= {"epoch of recording, s": time.perf_counter() - began, "peak after it, GB": peak()}
    began = time.perf_counter()
    for signal in TRACE:
        score(run, signal)
    facts |= {
        f"all {len(TRACE)} signals of the trace, s": time.perf_counter() - began,
        "peak after them, GB": peak(),
    }
    answers.put(facts)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        context = multiprocessing.get_context("spawn")
        maker = context.Process(target=make, args=(Path(name),))
        maker.start()
        maker.join()
        answers = context.Queue()
        worker = context.Process(target=work, args=(Path(name), answers))
        worker.start()
        facts = answers.get()
        worker.join()
    rows = [[what, f"{value:.2f}"] for what, value in facts.items()]
    results.write(
        "One million images",
        f"{N:,} synthetic 32x32 images, 3.1 GB packed; mlp of 32 hidden units.\n\n"
        + results.table(["", ""], rows),
    )


if __name__ == "__main__":
    main()
