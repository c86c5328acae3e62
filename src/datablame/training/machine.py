"""What this machine can do, timed, and what `auto` makes of it."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from datablame.base import arrays, decode, devices, doctor, environment, files, progress
from datablame.dataset import Dataset
from datablame.network.encoders import BEST, here
from datablame.recipe import Recipe
from datablame.training import auto
from datablame.training.pace import step_cost

KINDS = ("fp32", "bf16")
SIDE = {"cpu": 1024, "cuda": 8192, "mps": 2048}
"""Of the matrices that are multiplied, by device."""
STEP, STEPPED = 128, 1.0
"""Images of a training step, and seconds that steps of one kind are timed at most."""
WRITTEN = 128 << 20
"""Bytes written to the cache's disk."""
IMAGES = {"small": (32, 32, 2_000), "photographs": (500, 375, 120)}
"""Width, height and number of the pictures that are decoded: as large as they are, or to 128."""


def bench() -> dict[str, str]:
    """Products of matrices, pictures decoded, images trained and bytes written a second, and what
    `auto` chooses, and why. Under 20 seconds.
    """
    with progress.stage("bench"):
        side = SIDE[devices.device().type]
        rates = {kind: 2 * side**3 / doctor.product_seconds(kind, side) for kind in KINDS}
        known = {f"product, {kind}": f"{rate / 1e9:,.0f} GFLOP/s" for kind, rate in rates.items()}
        known |= {f"decode, {name}": f"{_decoded(*IMAGES[name]):,.0f} images/s" for name in IMAGES}
        trained = _trained()
        for (kind, count), rate in trained.items():
            known[f"train, {kind} by {count}"] = f"{rate:,.0f} images/s"
        known["disk"] = f"{files.human(_written())}/s"
    return known | {f"auto: {what}": why for what, why in chosen(trained).items()}


def chosen(trained: dict[tuple[str, int], float]) -> dict[str, str]:
    """What `auto` takes here, and why, by images a second in training: by precision and number of
    threads.
    """
    device, most, has = devices.device(), torch.get_num_threads(), devices.has_bf16()
    gain = trained["bf16", most] / trained["fp32", most]
    encoder = here()
    found = {
        "device": f"{device}" + ("" if device.type == "cuda" else ", as there is no CUDA device"),
        "precision": f"bf16: {gain:.1f} times as fast"
        if has
        else f"fp32: bf16 is emulated here, and takes {1 / gain:.1f} times as long",
        "small images": f"a {auto.SMALL_NET[device.type == 'cuda']} that trains on them alone",
        "photographs": f"frozen:{encoder}, whose weights are on this machine"
        if encoder
        else f"a net that trains on them alone; better: datablame fetch {BEST[0]}",
    }
    if device.type == "cpu":
        by = max(1, most, key=lambda count: trained["bf16" if has else "fp32", count])
        found["threads"] = f"{by} for such a net; tried for each set, as tiny nets want one"
    return found


def _decoded(width: int, height: int, count: int) -> float:
    """JPEG pictures of noise decoded a second, by all cores: small ones as they are, others to 128
    pixels.
    """
    side = width if max(width, height) <= decode.SMALL else 128
    drawn = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype="uint8")
    content = decode.encoded(decode.picture(drawn), "jpeg")

    def some(rows: range) -> None:
        for _ in rows:
            decode.decode(content, 3, side, side)

    parts = [range(k, min(k + 60, count)) for k in range(0, count, 60)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return count / doctor.fastest(lambda: list(pool.map(some, parts)))


def _trained() -> dict[tuple[str, int], float]:
    """Images of 32x32 a second through a training step of the net that `auto` takes for them, by
    precision and number of threads.
    """
    most, draw = torch.get_num_threads(), np.random.default_rng(0)
    data = Dataset.from_arrays(
        draw.integers(0, 256, (4 * STEP, 3, 32, 32), dtype="uint8"), draw.integers(0, 10, 4 * STEP)
    )
    recipe = Recipe(batch_size=STEP, epochs=1, folds=0, precision="fp32")
    recipe, found = auto.settle(recipe, data), {}
    for count in dict.fromkeys((1, most)):
        for kind in KINDS:
            with devices.threads(count):
                cost, _ = step_cost(recipe.but(precision=kind), data, STEPPED)
            found[kind, count] = 1 / cost
    return found


def _written() -> float:
    """Bytes a second to the disk of the cache, until they are safe there."""
    path = environment.cache() / f"bench-{os.getpid()}.npy"
    block = np.random.default_rng(0).integers(0, 256, WRITTEN, dtype="uint8")
    began = time.perf_counter()
    try:
        arrays.write(path, block)
        return WRITTEN / (time.perf_counter() - began)
    finally:
        files.remove(path)
