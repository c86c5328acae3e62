"""Features of photographs, made straight from the user's files: beside a bare loop of the same
decoder, resize and encoder; and loading alone, beside a bare loop of two threads.

Photographs of 500x375 are cut from scikit-learn's two; the encoder's weights are random, since only
its speed matters here.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import results
import safetensors.torch
import torch

import datablame as db
from datablame.base import devices
from datablame.inference.features import encoded
from datablame.network.classifier import build, view_of

HOME = results.OUT / "photographs"
NAME = "mobilenetv3_large_100.ra_in1k"
BATCH = 64


def photographs(count: int) -> Path:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    home = HOME / f"photos-{count}"
    if home.exists():
        return home
    whole = [Image.fromarray(each) for each in load_sample_images().images]
    generator = np.random.default_rng(0)
    for number in range(count):
        image = whole[number % 2]
        wide = int(generator.integers(300, 560))
        left = int(generator.integers(0, image.width - wide))
        top = int(generator.integers(0, image.height - wide * 3 // 4 + 1))
        cut = image.crop((left, top, left + wide, top + wide * 3 // 4))
        folder = home / ("china", "flower")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        cut.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number:05d}.jpg")
    return home


def weights() -> Path:
    import timm

    path = HOME / "weights" / f"{NAME}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        state = timm.create_model(NAME, pretrained=False).state_dict()
        safetensors.torch.save_file({key: x.contiguous() for key, x in state.items()}, path)
    return path.parent


def bare(
    paths: list[Path], size: int, resize: int, pool: ThreadPoolExecutor
) -> Iterator[torch.Tensor]:
    """Batches of decoded pictures, without this package."""
    from PIL import Image

    def one(path: Path) -> np.ndarray:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            rgb = image.convert("RGB")
        short = min(rgb.size)
        wide, high = (int(resize * side / short) for side in rgb.size)
        rgb = rgb.resize((wide, high), Image.Resampling.BICUBIC)
        left, top = round((wide - size) / 2), round((high - size) / 2)
        return np.asarray(rgb.crop((left, top, left + size, top + size))).transpose(2, 0, 1)

    for start in range(0, len(paths), BATCH):
        yield torch.from_numpy(np.stack(list(pool.map(one, paths[start : start + BATCH]))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    os.environ["DATABLAME_WEIGHTS"] = str(weights())
    os.environ["DATABLAME_CACHE"] = tempfile.mkdtemp(dir=HOME)  # nothing is kept of another call
    model = f"frozen:timm/{NAME}"
    view = view_of(model)
    assert view is not None
    source = photographs(asked.count)
    data = db.load(source).looked_at(view)
    net = build(db.Recipe(model=model, augment="none"), data).eval()
    paths = [source / data.name(row) for row in range(len(data))]
    seconds: dict[str, list[float]] = {
        name: [] for name in ("encode", "bare encode", "load", "bare load")
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool, torch.inference_mode():
        for turn in range(asked.rounds):
            began = time.perf_counter()
            for _ in bare(paths, view.size, view.resize, pool):
                pass
            seconds["bare load"].append(time.perf_counter() - began)
            began = time.perf_counter()
            for index in torch.arange(len(data)).split(BATCH):
                data.batch(index)
            seconds["load"].append(time.perf_counter() - began)
            began = time.perf_counter()
            for batch in bare(paths, view.size, view.resize, pool):
                net.features(batch.to(devices.device()))
            seconds["bare encode"].append(time.perf_counter() - began)
            with torch.no_grad():
                net.mean += 1e-6 * (turn + 1)  # other weights: nothing is kept of the last round
            began = time.perf_counter()
            encoded(net, data)
            seconds["encode"].append(time.perf_counter() - began)
            print({name: round(each[-1], 1) for name, each in seconds.items()}, flush=True)
    lines = []
    for what, name in (("decoded and resized", "load"), ("features", "encode")):
        best, ours = (min(seconds[key]) for key in (f"bare {name}", name))
        lines.append(
            [what, f"{len(data) / best:.1f}", f"{len(data) / ours:.1f}", f"{best / ours:.2f}"]
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    head = ["", "bare loop, images/s", "here, images/s", "ratio"]
    text = (
        f"{len(data):,} JPEG files of 500x375, {NAME} at {view.size} pixels; the best of "
        f"{asked.rounds} rounds, one after the other. {peak:.2f} GB of memory at most in all."
    )
    results.write("Features of photographs", f"{text}\n\n{results.table(head, lines)}")


if __name__ == "__main__":
    main()
