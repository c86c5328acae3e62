"""Two processes on two cores against one pinned to one core, for each thing that touches every row;
and the bytes that a step sends.

Each is timed inside the program, between two points that all processes have reached, after a first
time on a few rows. About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
import torch.distributed as dist

import datablame as db
from datablame import Dataset, Recipe
from datablame.base import processes

WAYS = {
    "one": ["taskset", "--cpu-list", "0", sys.executable],
    "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}
NET = {"model": "resnet9,width=0.5", "folds": 0, "lr": 0.05, "batch_size": 128, "precision": "fp32"}
NOTE = """Two processes of one thread each, under `torchrun`, against one process of one thread that is
pinned to a core: how many times as fast. Medians of {rounds} rounds, the two ways in turn. A step of
training sends {sent:,} bytes (statistics of BatchNorm, gradients), of which the gradients, the least
that can be sent, are {least:,}: {ratio:.3f} times as many; it has {calls} collectives."""


def timed(found: dict[str, float], name: str, work: Callable[[], object]) -> None:
    """Seconds of some work, from when all processes begin to when all have ended."""
    processes.wait()
    began = time.perf_counter()
    work()
    processes.wait()
    found[name] = time.perf_counter() - began


def photographs(folder: Path, count: int) -> Path:
    """A folder of JPEG files of 1,024 x 768 pixels in two classes, made by rank 0."""
    from PIL import Image

    if processes.rank() == 0:
        rng = np.random.default_rng(0)
        for row in range(count):
            path = folder / "photographs" / f"class{row % 2}" / f"{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 255, (48, 64, 3), dtype="uint8")
            Image.fromarray(coarse).resize((1024, 768)).save(path, quality=90)
    processes.wait()
    return folder / "photographs"


class Sent:
    """Counts bytes that collectives are given while it is entered."""

    def __enter__(self) -> Sent:
        self.bytes = self.calls = 0
        self.plain = dist.all_reduce

        def counted(tensor: torch.Tensor, *rest: Any, **more: Any) -> Any:
            self.bytes += tensor.nbytes
            self.calls += 1
            return self.plain(tensor, *rest, **more)

        dist.all_reduce = counted
        return self

    def __exit__(self, *_: object) -> None:
        dist.all_reduce = self.plain


def step(data: Dataset) -> dict[str, float]:
    """Bytes and collectives of one step of training, and bytes of its gradients."""
    from datablame.network.classifier import build
    from datablame.optimization.optimizers import optimizer
    from datablame.optimization.state import TrainingState
    from datablame.run import Run

    recipe = Recipe(**NET, epochs=1)
    with tempfile.TemporaryDirectory() as home:
        run = Run.create(data, recipe, None, processes.agree(home))
        model = build(recipe, data)
        descent = optimizer(model, recipe)
        state = TrainingState(run, [(model, descent)])
        images, labels = data.batch(processes.shard(torch.arange(128)))
        with Sent() as sent:
            loss = torch.nn.functional.cross_entropy(model.train()(images), labels, reduction="sum")
            state.step(model, descent, loss / 128)
        processes.wait()
    least = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    return {"sent": sent.bytes, "calls": sent.calls, "least": least}


def bare(data: Dataset, recipe: Recipe) -> float:
    """Seconds of an epoch of a plain loop, nothing recorded; several processes by torch's own
    DistributedDataParallel, BatchNorm of each one's part.
    """
    from datablame.network.classifier import build

    model: torch.nn.Module = build(recipe.but(batch_norm="apart"), data).train()
    rule = torch.optim.SGD(model.parameters(), 0.01, 0.9, nesterov=True, fused=True)
    if processes.size() > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
    times = []
    for epoch in range(3):
        processes.wait()
        began = time.perf_counter()
        for rows in torch.randperm(len(data), generator=torch.manual_seed(epoch)).split(128):
            images, labels = data.batch(processes.shard(rows))
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            rule.zero_grad()
            loss.backward()
            rule.step()
        processes.wait()
        times.append(time.perf_counter() - began)
    return float(np.mean(times[1:]))


def inner(home: Path, out: Path, few: bool) -> None:
    """Everything once, in this process and those beside it."""
    from datablame.analyses.attribute import attributed
    from datablame.inference import neighbours
    from datablame.inference.features import features
    from datablame.influence.factors import Factors, squares
    from datablame.influence.fisher import Fisher
    from datablame.influence.index import Index

    processes.start()
    home = home / str(processes.size())
    os.environ["DATABLAME_CACHE"] = str(home / "cache")
    rows = 500 if few else 2_000
    found: dict[str, float] = {}
    data = db.load(str(results.SHARED / "train.parquet"), limit=rows)
    if processes.size() > 1:
        found |= step(data)
    recipe = Recipe(**NET, epochs=3)
    found["a bare loop (under torch's DDP)"] = bare(data, recipe)
    for name, more in (("train, BatchNorm apart", {"batch_norm": "apart"}), ("train", {})):
        run = db.train(data, recipe=recipe.but(**more), out=home / "runs")
        found[name] = float(np.mean([line["seconds"] for line in run.log[1:]]))

    _ = run.model
    timed(found, "features", lambda: features(run))
    factors = Fisher(basis=rows // 2, eigenvalues=rows // 2)
    timed(found, "factors", lambda: Factors(run, factors).fit())
    timed(found, "self-influence", lambda: squares(run, factors))
    queries = data.take(torch.arange(64))
    how = f"influence,basis={rows // 2},eigenvalues={rows // 2}"
    timed(found, "explain, 64 queries", lambda: attributed(run, queries, how))
    timed(found, "index", lambda: Index(Factors(run, factors).fit(), 16).codes)

    space = np.random.default_rng(0).normal(size=(rows * 10, 384)).astype("float32")
    timed(found, "neighbours", lambda: neighbours.nearest(space, 50))
    labels = np.random.default_rng(1).integers(0, 10, len(space))
    space += np.eye(384, dtype="float32")[labels] * 4
    given = Dataset.from_features(space, labels)
    probe = Recipe(trainer="linear_probe", folds=0, weight_decay=0.01)
    head: list[db.Run] = []
    timed(
        found, "linear probe", lambda: head.append(db.train(given, recipe=probe, out=home / "runs"))
    )
    timed(found, "memorization of a head", lambda: db.score(head[0], "memorization"))
    folder = photographs(home, rows // 2)
    timed(found, "decode photographs", lambda: db.load(folder))
    if processes.rank() == 0:
        out.write_text(json.dumps(found))
    processes.wait()
    processes.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", action="store_true", help="a quarter of the rows, written nowhere")
    parser.add_argument("--inner", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inner:
        return inner(Path(asked.inner[0]), Path(asked.inner[1]), asked.few)
    every: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(asked.rounds):
        for way, launcher in WAYS.items():
            with tempfile.TemporaryDirectory() as home:
                out = Path(home) / "found.json"
                words = [*launcher, __file__, "--inner", home, str(out)]
                words += ["--few"] if asked.few else []
                environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
                subprocess.run(words, check=True, env=environment, stderr=subprocess.DEVNULL)
                every[way].append(json.loads(out.read_text()))
                print(way, every[way][-1], flush=True)
    middle = {
        way: {name: float(np.median([one[name] for one in found])) for name in found[0]}
        for way, found in every.items()
    }
    rows = [
        [name, f"{one:.2f} s", f"{middle['two'][name]:.2f} s", f"{one / middle['two'][name]:.2f}"]
        for name, one in middle["one"].items()
    ]
    table = results.table(["", "one process", "two", "times as fast"], rows)
    sent = middle["two"]
    note = NOTE.format(
        rounds=asked.rounds,
        sent=int(sent["sent"]),
        least=int(sent["least"]),
        ratio=sent["sent"] / sent["least"],
        calls=int(sent["calls"]),
    )
    if asked.few:
        print(f"{table}\n\n{note}")
    else:
        results.write("Two processes", f"{note}\n\n{table}")


if __name__ == "__main__":
    main()
