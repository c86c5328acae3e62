"""1.28 million rows, 1,000 classes, 100 epochs, synthetic: disk, seconds and memory of the trace, of
its signals, of attribution and of the index; and, apart, the neighbours of rows of 384 numbers.

Each stage is a process of its own, so that its memory is its own. About twelve minutes on two cores,
`--neighbours` more than an hour; `--rows` takes fewer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import results

ROWS, CLASSES, EPOCHS, WIDTH = 1_280_000, 1_000, 100, 64
SEEN = 3
"""Epochs whose logits are made and looked at; the others are written from numbers that are there."""
TRACE = ["loss", "entropy", "aum", "forgetting", "datamap", "el2n", "csl"]
QUERIES, KEEP, BLOCK = 32, 100, 16


def made(rows: int, width: int):
    """Features about a centre for each class, and labels of which a tenth are wrong."""
    import datablame as db

    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, rows)
    centres = rng.normal(size=(CLASSES, width)).astype("float32")
    space = centres[truth]
    for low in range(0, rows, 1 << 16):
        part = space[low : low + (1 << 16)]
        part += rng.normal(size=part.shape).astype("float32")
    labels = np.where(rng.random(rows) < 0.1, rng.integers(0, CLASSES, rows), truth)
    return db.Dataset.from_features(space, labels)


def trace(home: Path, rows: int) -> dict[str, str]:
    """Record 100 epochs."""
    import torch

    import datablame as db

    data = made(rows, WIDTH)
    run = db.Run.record(data, EPOCHS, home)
    pool = torch.randn(4096, CLASSES)
    began = time.perf_counter()
    for epoch in range(SEEN):
        for some in torch.arange(rows).split(4096):
            logits = pool[: len(some)].clone()
            logits[torch.arange(len(some)), data.labels[some]] += 2 + epoch
            run.observe(epoch, some, logits, data.labels[some])
    observed = (time.perf_counter() - began) / SEEN
    assert run.recorder is not None
    began = time.perf_counter()
    for epoch in range(SEEN - 1, EPOCHS):
        run.recorder.seen[:] = True
        run.recorder._observe()
        run.recorder.write(epoch)
        run.recorder.held["loss"].mul_(0.97)
    written = (time.perf_counter() - began) / (EPOCHS - SEEN + 1)
    run.recorder.flush()
    run.epoch = EPOCHS - 1
    run.recorder.seen[:] = True
    run.finish()
    disk = sum(path.stat().st_size for path in (run.path / "trace").glob("*.npy"))
    return {
        "an epoch observed": f"{observed:.1f} s",
        "its row written": f"{written:.2f} s",
        "on disk, all epochs": f"{disk / 1e9:.2f} GB",
    }


def scores(home: Path, rows: int) -> dict[str, str]:
    """All signals of the trace."""
    import datablame as db

    run = db.Run(next(home.glob("*-own-*")))
    began = time.perf_counter()
    db.score(run, *TRACE)
    return {f"{len(TRACE)} signals and their blend": f"{time.perf_counter() - began:.1f} s"}


def attribution(home: Path, rows: int) -> dict[str, str]:
    """A head of 1,000 classes on the features: trained, indexed, asked."""
    import datablame as db
    from datablame.analyses.attribute import attributed, index_of

    data = made(rows, WIDTH)
    net = db.Recipe(model="mlp,hidden=64", epochs=1, folds=0, batch_size=4096, lr=0.1)
    began = time.perf_counter()
    run = db.train(data, recipe=net, out=home / "runs")
    found = {"an epoch of an mlp": f"{time.perf_counter() - began:.0f} s"}
    method = "influence,basis=10000,eigenvalues=10000"
    began = time.perf_counter()
    index, _ = index_of(run, method, BLOCK)
    assert index is not None
    size = index.codes.nbytes
    found["the index, with its factors"] = f"{time.perf_counter() - began:.0f} s"
    found["the index on disk"] = f"{size / 1e9:.2f} GB"
    began = time.perf_counter()
    attributed(run, data.take(np.arange(QUERIES)), method, KEEP)
    found[f"{QUERIES} queries against all rows"] = f"{time.perf_counter() - began:.0f} s"
    return found


def neighbours(home: Path, rows: int) -> dict[str, str]:
    """The 50 nearest of each by an index."""
    import logging

    import torch

    from datablame.inference.neighbours import nearest

    said: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logging.getLogger("datablame").addHandler(Heard())
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(64, 384, generator=generator)
    space = torch.empty(rows, 384)
    for low in range(0, rows, 1 << 16):
        part = space[low : low + (1 << 16)]
        part[:] = torch.randn(len(part), 64, generator=generator) @ plane
        part += 0.3 * torch.randn(part.shape, generator=generator)
    began = time.perf_counter()
    nearest(space.numpy(), 50)
    recall = next(line for line in said if "are found" in line)
    return {f"50 nearest of each ({recall})": f"{time.perf_counter() - began:.0f} s"}


def alone(stage: Callable, home: Path, rows: int, answers: multiprocessing.Queue) -> None:
    """A stage in a process of its own, and the most memory that it held."""
    found = stage(home, rows)
    most = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    answers.put((found, int(most[1]) / 1e6 if most else float("nan")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neighbours", action="store_true")
    parser.add_argument("--rows", type=int, default=ROWS)
    asked = parser.parse_args()
    stages = [neighbours] if asked.neighbours else [trace, scores, attribution]
    spawn, table = multiprocessing.get_context("spawn"), []
    with tempfile.TemporaryDirectory() as home:
        for stage in stages:
            answers: multiprocessing.Queue = spawn.Queue()
            child = spawn.Process(target=alone, args=(stage, Path(home), asked.rows, answers))
            child.start()
            found, most = answers.get(timeout=3600)
            child.join()
            table += [
                [stage.__name__, what, value, f"{most:.1f} GB"] for what, value in found.items()
            ]
            print(table[-len(found) :], flush=True)
    text = results.table(["stage", "what", "", "memory of the stage"], table)
    if asked.neighbours:
        note = (
            f"{asked.rows:,} synthetic rows of 384 numbers, on a plane of 64 with noise about it."
        )
        results.write("Neighbours of many rows", f"{note}\n\n{text}")
    elif asked.rows == ROWS:
        note = f"{asked.rows:,} synthetic rows; {EPOCHS} epochs, of which {SEEN} were observed; for attribution a fifth is held out."
        results.write("1.28 million rows of 1,000 classes", f"{note}\n\n{text}")
    else:
        print(text)


if __name__ == "__main__":
    main()
