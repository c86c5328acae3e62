"""Copies among images: how many of those that are planted are found, and how long it takes."""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import results
import torch
from PIL import Image
from sklearn.datasets import load_digits

import datablame as db
from datablame.inference.copies import copies

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10"
KINDS = ("half the size", "JPEG, quality 50", "cropped by 5 %", "mirrored")
SEEN = 8000
"""Images by which the borders were chosen: none of them is copied here."""


def changed(image: np.ndarray, kind: str, place: int) -> np.ndarray:
    """A copy of an image `[C,H,W]`, of its own size."""
    side = image.shape[1]
    picture = Image.fromarray(image.transpose(1, 2, 0))
    if kind == "half the size":
        picture = picture.resize((side // 2,) * 2, Image.Resampling.BICUBIC)
        picture = picture.resize((side,) * 2, Image.Resampling.BICUBIC)
    elif kind.startswith("JPEG"):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=50)
        picture = Image.open(file)
    elif kind.startswith("cropped"):  # by turns a corner, or the middle
        cut = 0.05 * side
        left, top = [(0, cut), (cut, 0), (cut / 2, cut / 2)][place % 3]
        box = (left, top, left + side - cut, top + side - cut)
        picture = picture.resize((side,) * 2, Image.Resampling.BICUBIC, box)
    else:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture).transpose(2, 0, 1)


def groups(images: np.ndarray) -> torch.Tensor:
    return copies(lambda rows: images[rows.numpy()], len(images))


def planted(count: int, each: int) -> str:
    """Recall by kind, precision, seconds."""
    data = db.load(SHARED, limit=count)
    images = np.asarray(data.pixels.array[data.rows.numpy()])
    began = time.perf_counter()
    own = groups(images)
    seconds = time.perf_counter() - began
    rows = SEEN + np.random.default_rng(1).permutation(count - SEEN)[: each * len(KINDS)]
    made = [changed(images[row], KINDS[k // each], k) for k, row in enumerate(rows)]
    every = groups(np.concatenate([images, np.stack(made)]))
    lines, right = [], 0
    for k, kind in enumerate(KINDS):
        some = slice(k * each, (k + 1) * each)
        hits = int((every[rows[some]] == every[count:][some]).sum())
        right += hits
        lines.append([kind, f"{hits:,} of {each:,}", f"{hits / each:.3f}"])
    # a copy that is called a copy of something else, which its original is not
    joined = int((every[:count] != own).sum())
    stray = sum(int(every[count + k]) != count + k for k in range(len(rows))) - right
    precision = right / max(1, right + joined + stray)
    natural = int((own != torch.arange(count)).sum())
    digits = (
        (np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, 8, 8) * 16)
        .clip(0, 255)
        .astype("uint8")[:, None]
    )
    alike = int((groups(digits) != torch.arange(len(digits))).sum())
    return (
        f"Of {count:,} images of CIFAR-10, {each:,} of each kind copied; the borders were chosen on "
        f"the first {SEEN:,}, of which none was copied here. {seconds:.0f} s for the {count:,} by "
        f"themselves, among which {natural:,} are copies already. {joined + stray} wrong ones: "
        f"precision {precision:.4f}. Of {len(digits):,} different digits of 8 pixels, with "
        f"{len(digits) * (len(digits) - 1) // 2:,} pairs, {alike} are called copies.\n\n"
        + results.table(["copy", "found", "recall"], lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--each", type=int, default=1000)
    given = parser.parse_args()
    results.write("Copies among images", planted(given.images, given.each))


if __name__ == "__main__":
    main()
