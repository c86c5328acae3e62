"""A first look: how many of planted defects are found, how many images are called so wrongly, and
how long it takes, beside cleanvision (of images by themselves) and imagededup (of copies) on the
same folder.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import results
from copies import KINDS, changed
from PIL import Image, ImageFilter

import datablame as db

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10"
SIDE = 96
"""Pixels that the pictures are enlarged to: real photographs are not at hand."""


def dimmed(image: Image.Image, factor: float, up: float) -> Image.Image:
    return Image.fromarray((np.asarray(image) * factor + up).clip(0, 255).astype("uint8"))


def colour(seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())


ODD = {
    "dark": lambda image, seed: dimmed(image, 0.14, 0),
    "bright": lambda image, seed: dimmed(image, 0.05, 240),
    "blank": lambda image, seed: Image.new("RGB", image.size, colour(seed)),
    "blurred": lambda image, seed: image.filter(ImageFilter.GaussianBlur(9)),
    "odd_shape": lambda image, seed: image.resize((4 * SIDE, SIDE)),
    "odd_size": lambda image, seed: image.resize((SIDE // 4,) * 2),
}
THEIRS = {
    "dark": ["is_dark_issue"],
    "bright": ["is_light_issue"],
    "blank": ["is_low_information_issue"],
    "blurred": ["is_blurry_issue"],
    "odd_shape": ["is_odd_aspect_ratio_issue"],
    "odd_size": ["is_odd_size_issue"],
}
PEER = """
import json, sys, time
from cleanvision import Imagelab
began = time.perf_counter()
lab = Imagelab(data_path=sys.argv[1])
kinds = ["dark", "light", "low_information", "blurry", "odd_aspect_ratio", "odd_size"]
lab.find_issues({kind: {} for kind in kinds}, n_jobs=2, verbose=False)
seconds = time.perf_counter() - began
flags = {name: [str(row) for row in lab.issues.index[lab.issues[name]]] for name in lab.issues if name.startswith("is_")}
began = time.perf_counter()
lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=2, verbose=False)
sets = [list(map(str, group)) for kind in ("exact_duplicates", "near_duplicates") for group in lab.info[kind]["sets"]]
print(json.dumps({"seconds": seconds, "flags": flags, "sets": sets, "copies": time.perf_counter() - began}))
"""
DEDUP = """
import json, sys, time
from imagededup.methods import PHash
began = time.perf_counter()
method = PHash(verbose=False)
codes = method.encode_images(sys.argv[1], recursive=True, num_enc_workers=2)
found = method.find_duplicates(encoding_map=codes, max_distance_threshold=10, num_dist_workers=2)
print(json.dumps({"seconds": time.perf_counter() - began, "pairs": [[a, b] for a, all in found.items() for b in all if a < b]}))
"""


def written(home: Path, count: int, each: int) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Pictures in class folders, some of them spoilt, and copies of others: (what is odd with each
    file, of each copy its kind and its original)."""
    table = parquet.read_table(sorted(SHARED.glob("train*.parquet"))[0], columns=["img", "label"])
    odd, copied = {}, {}
    for place, row in enumerate(table.slice(8000, count).to_pylist()):
        image = Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        folder = home / str(row["label"])
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{row['label']}/{place:05d}.png"
        if place < each * len(ODD):
            odd[name] = kind = list(ODD)[place % len(ODD)]
            image = ODD[kind](image, place)
        elif place < each * (len(ODD) + len(KINDS)):
            kind = KINDS[place % len(KINDS)]
            pixels = np.asarray(image).transpose(2, 0, 1)
            twin = Image.fromarray(changed(pixels, kind, place).transpose(1, 2, 0))
            other = f"{row['label']}/{place:05d}-copy.png"
            twin.save(home / other)
            copied[other] = (kind, name)
        image.save(home / name)
    return odd, copied


def peer(python: Path, script: str, home: Path) -> dict:
    done = subprocess.run([python, "-c", script, home], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(python: Path, count: int, each: int) -> str:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "set"
        odd, copied = written(home, count, each)
        files = sorted(str(path.relative_to(home)) for path in home.rglob("*.png"))
        began = time.perf_counter()
        found = db.look(home, encoder="none", out=Path(place) / "looks")
        seconds = time.perf_counter() - began
        columns = found.columns()
        ours = {
            name: set(said.split(", "))
            for name, said in zip(columns["name"], columns["issues"], strict=True)
        }
        copy_of = columns["copy_of"].tolist()
        cluster = dict(zip(columns["name"], copy_of, strict=True))
        theirs = peer(python, PEER, home)
        flags = {
            name: {
                str(Path(each).relative_to(home)) if Path(each).is_absolute() else each
                for each in some
            }
            for name, some in theirs["flags"].items()
        }
        dedup = peer(python, DEDUP, home)
        lines = []
        for kind in ODD:
            planted = {name for name, what in odd.items() if what == kind}
            natural = set(files) - set(odd)
            mine = {name for name in files if kind in ours[name]}
            other = set().union(*(flags[name] for name in THEIRS[kind]))
            lines.append(
                [
                    kind.replace("_", " "),
                    *(
                        f"{len(x & planted)} of {len(planted)}, {len(x & natural)} others"
                        for x in (mine, other)
                    ),
                ]
            )
        pairs = {frozenset(Path(name).name for name in pair) for pair in dedup["pairs"]}
        sets = [{Path(name).name for name in group} for group in theirs["sets"]]
        hits = {kind: [0, 0, 0, 0] for kind in KINDS}
        for twin, (kind, name) in copied.items():
            both = {Path(twin).name, Path(name).name}
            hits[kind][0] += 1
            hits[kind][1] += cluster[twin] == cluster[name] >= 0
            hits[kind][2] += any(both <= group for group in sets)
            hits[kind][3] += frozenset(both) in pairs
        copies = [
            [kind, *(f"{hit} of {total}" for hit in several)]
            for kind, (total, *several) in hits.items()
        ]
        right = {
            frozenset(Path(x).name for x in (twin, name)) for twin, (_, name) in copied.items()
        }
        blank = {Path(name).name for name, kind in odd.items() if kind == "blank"}
        wrong_pairs = sum(1 for pair in pairs - right if not pair & blank)
    return (
        f"A folder of {len(files):,} pictures of CIFAR-10 at {SIDE} pixels, {each} of each kind of defect planted, and a copy made of "
        f"{each} for each kind of copy. Others are images that were not spoilt, of {len(set(files) - set(odd)):,}, some of which may be so by "
        f"themselves; dark and bright ones that are missed are called blank. datablame {seconds:.1f} s for all; cleanvision {theirs['seconds']:.1f} s "
        f"without and {theirs['copies']:.1f} s for copies; imagededup (PHash, distance 10) {dedup['seconds']:.1f} s for copies, "
        f"and {wrong_pairs:,} pairs that were not planted (blank ones apart; some images of CIFAR-10 are there twice).\n\n"
        + results.table(["defect", "datablame", "cleanvision"], lines)
        + "\n\n"
        + results.table(["copy", "datablame", "cleanvision", "imagededup"], copies)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", type=Path, required=True, help="a Python that has cleanvision and imagededup"
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100)
    asked = parser.parse_args()
    results.write("A first look", measured(asked.python, asked.count, asked.each))
