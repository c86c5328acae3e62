"""The first hour: 1,200 photographs from a folder to a verdict with its proof, before and after.

`python benchmarks/first_hour.py [--before CHECKOUT]`: a checkout of an earlier commit is tried in the
same call, on the same photographs. Photographs are rows of CIFAR-10 enlarged to 224 pixels, six
classes, 8 % of the labels wrong, twenty odd files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import results

ROWS, WRONG = 1200, 0.08
HOME = results.OUT / "first-hour"
CLASSES = ("airplane", "automobile", "bird", "english springer", "frog", "ship")


def photographs(home: Path) -> Path:
    """A folder of class folders, its wrong labels, and odd files: cut, empty, of other formats."""
    import io

    from PIL import Image
    from pyarrow import parquet

    if home.exists():
        return home
    table = parquet.read_table(results.SHARED / "train.parquet", columns=["img", "label"])
    labels = table["label"].to_numpy()
    generator = np.random.default_rng(0)
    kinds = (0, 1, 2, 5, 6, 8)
    rows = np.concatenate([np.flatnonzero(labels == kind)[: ROWS // 6] for kind in kinds])
    for place, row in enumerate(rows.tolist()):
        k = kinds.index(int(labels[row]))
        told = k if generator.random() > WRONG else int((k + generator.integers(1, 6)) % 6)
        picture = Image.open(io.BytesIO(table["img"][row].as_py()["bytes"]))
        path = home / CLASSES[told] / f"{CLASSES[k]}-{place:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC).save(path, quality=92)
    for number, path in enumerate(sorted(home.rglob("*.jpg"))[:: ROWS // 5][:5]):
        (path.parent / f"cut {number}.jpg").write_bytes(path.read_bytes()[:300])
    for name in ("notes.txt", "frog/a.svg", "frog/empty.jpg", "ship/Thumbs.db", "loose.jpg"):
        (home / name).write_bytes(b"")
    (home / "violin").mkdir()
    return home


def wrong(name: str) -> bool:
    """Whether a photograph lies in a folder that is not its own: its name says what it is."""
    folder, _, file = name.rpartition("/")
    return not file.startswith(folder)


def spent() -> float:
    """Processor seconds of all programs that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def audited(source: object, out: Path, checkout: Path, *words: object) -> tuple[float, dict, str]:
    """Seconds, the JSON and the messages of a default audit by a checkout."""
    if out.exists():
        shutil.rmtree(out)
    home = os.environ | {
        "PYTHONPATH": str(checkout / "src"),
        "DATABLAME_CACHE": str(HOME / f"cache-{checkout.name}"),
    }
    command = [sys.executable, "-m", "datablame", "audit", source, "--out", out, "--json", *words]
    began = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), env=home, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began, json.loads(done.stdout), done.stderr


def average_precision(out: Path) -> float:
    """Of the ranking, by the names of the files."""
    from pyarrow import parquet
    from sklearn.metrics import average_precision_score

    table = parquet.read_table(next(out.glob("*/examples.parquet")))
    known = [wrong(name) for name in table["name"].to_pylist()]
    return float(average_precision_score(known, -np.array(table["rank"].to_pylist())))


def photographs_table(checkouts: dict[str, Path], *words: str) -> list[list[str]]:
    lines = []
    source = photographs(HOME / "photos")
    readable = sum(
        path.suffix == ".jpg" and path.stat().st_size > 400 and path.parent != source
        for path in source.rglob("*.jpg")
    )
    for name, checkout in checkouts.items():
        out = HOME / f"photos-{name}"
        before = spent()
        seconds, facts, said = audited(source, out, checkout, *words)
        work = spent() - before
        run = next(out.glob("*/verdict.csv")).parent
        kept = HOME / f"cleaned-{name}"
        shutil.rmtree(kept, ignore_errors=True)
        command = [sys.executable, "-m", "datablame", "clean", run, "--out", kept]
        home = os.environ | {"PYTHONPATH": str(checkout / "src")}
        subprocess.run(list(map(str, command)), env=home, check=True, capture_output=True)
        written, dropped = len(list(kept.rglob("*.jpg"))), facts["acts"]["drop"]
        comparison = facts["comparison"]
        gain, low, high = (100 * x for x in comparison["gain"])
        planned = re.search(r"to prove: about (?:(\d+) min )?(?:(\d+) s)?", said)
        told = 60 * int(planned[1] or 0) + int(planned[2] or 0) if planned else None
        lines.append(
            [
                name,
                f"{seconds:.0f} s",
                f"{work:.0f} s",
                f"{told} s" if told else "not told",
                f"{facts['examples']:,} of {readable:,}",
                f"{written:,} + {dropped:,}",
                f"{average_precision(out):.3f}",
                f"{comparison['test_images']:,}",
                f"{gain:+.2f} ({low:+.2f} to {high:+.2f})",
            ]
        )
        print(lines[-1], flush=True)
    return lines


def digits_table(checkouts: dict[str, Path], rounds: int = 3) -> list[list[str]]:
    """Seconds of `audit digits`, in turns."""
    took: dict[str, list[float]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            took[name].append(audited("digits", HOME / f"digits-{name}", checkout)[0])
    first = np.median(next(iter(took.values())))
    return [
        [name, ", ".join(f"{x:.1f}" for x in each), f"{np.median(each) / first:.2f}"]
        for name, each in took.items()
    ]


def demo_table(seeds: range) -> list[list[str]]:
    """What `make demo` shows, with other seeds."""
    lines = []
    here = Path(__file__).parents[1]
    for seed in seeds:
        words = ("--noise", "pair", "--amount", 0.2, "--seed", seed)
        facts = audited("digits", HOME / "demo", here, *words)[1]["comparison"]
        gain, low, high = (100 * x for x in facts["gain"])
        lines.append([str(seed), f"{gain:+.2f}", f"{low:+.2f} to {high:+.2f}", facts["conclusion"]])
    return lines


def plan_table(trials: int) -> tuple[list[list[str]], int]:
    """What was said at the start and what it took, with another program running beside."""
    here, lines, near = Path(__file__).parents[1], [], 0
    beside = "import numpy as n\nwhile True: n.ones((400, 400)) @ n.ones((400, 400))"
    generator = np.random.default_rng(0)
    for _ in range(trials):
        epochs, limit = int(generator.integers(10, 60)), int(generator.integers(600, 1798))
        other = subprocess.Popen(
            [sys.executable, "-c", beside], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        try:
            out = HOME / "plan"
            words = ("--epochs", epochs, "--limit", limit)
            seconds, _, said = audited("digits", out, here, *words)
        finally:
            other.kill()
        found = re.search(r"to prove: about (?:(\d+) min )?(?:(\d+) s)?", said)
        assert found
        told = 60 * int(found[1] or 0) + int(found[2] or 0)
        near += abs(told / seconds - 1) <= 0.25
        lines.append(
            [f"{limit:,} x {epochs}", f"{told} s", f"{seconds:.0f} s", f"{told / seconds:.2f}"]
        )
        print(lines[-1], flush=True)
    return lines, near


WAYS = {
    "whole and folds, bf16, 40": ("bf16", 40, True),
    "folds alone, bf16, 40": ("bf16", 40, False),
    "folds alone, fp32, 40": ("fp32", 40, False),
    "folds alone, bf16, 25": ("bf16", 25, False),
    "folds alone, bf16, 15": ("bf16", 15, False),
}
"""Precision, epochs, and whether a model learned from all images beside those of the folds."""


def ranking_table(draws: int) -> list[list[str]]:
    """Average precision of the default blend and its parts, and what it cost, over draws of 1,200
    rows of CIFAR-10 that chose nothing here: uniform noise of 8 % and human labels in turns.
    """
    import dataclasses

    import datablame as db
    from datablame.analyses.scoring import DEFAULT, blended
    from datablame.evaluation.metrics import metrics

    where = results.SHARED / "train.parquet"
    human = db.load(where, label="random_label1", truth="label", limit=17_200)
    plain = db.load(where, label="label", limit=17_200)
    tests = dataclasses.replace(db.load(results.SHARED / "test.parquet", limit=500), split="test")
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for draw in range(draws):
        rows = np.arange(ROWS) + 10_000 + draw * ROWS
        data = human.take(rows)
        if draw % 2 == 0:
            data = db.corrupt(plain.take(rows), noise="uniform", amount=WRONG, seed=draw)
        for name, (precision, epochs, whole) in WAYS.items():
            recipe = db.Recipe(precision=precision, epochs=epochs, folds=4, seed=draw)
            run = db.train(
                data,
                recipe=recipe,
                reading=db.Reading(holdout=0.0),
                test=tests if whole else None,
                out=HOME / "ranking",
            )
            scores = [blended(run, ()), *(db.score(run, signal) for signal in DEFAULT)]
            wrong, held = run.data.wrong, run.heldout_agreement
            assert wrong is not None
            assert held is not None
            each = [metrics(score.values, wrong)["average_precision"] for score in scores]
            agrees = held["agreement"]
            found[name].append([float(x) for x in (*each, agrees)])
            print(draw, name, [f"{x:.3f}" for x in found[name][-1]], flush=True)
    first = np.array(next(iter(found.values())))
    lines = []
    for name, cells in found.items():
        table = np.array(cells)
        ahead = (
            results.told(list(table[:, 0] - first[:, 0]), 3) if name != next(iter(found)) else ""
        )
        means = [f"{x:.3f}" for x in table.mean(0)]
        lines.append([name, *means[:1], ahead, *means[1:]])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="checkout of an earlier commit")
    parser.add_argument(
        "--only", nargs="*", default=["photographs", "ranking", "digits", "demo", "plan"]
    )
    asked = parser.parse_args()
    checkouts = {"before": asked.before.resolve()} if asked.before else {}
    checkouts["now"] = Path(__file__).parents[1].resolve()
    HOME.mkdir(parents=True, exist_ok=True)
    if "photographs" in asked.only:
        head = ["", "took", "processor", "plan", "judged of readable", "kept + dropped", "average precision",
                "test images", "gain, points (95 %)"]  # fmt: skip
        results.write(
            "The first hour: photographs", results.table(head, photographs_table(checkouts))
        )
    if "ranking" in asked.only:
        head = ["models, precision, epochs", "blend", "against the first", "`aum`",
                "`aum,since=0.5`", "`knn`", "`confident`", "right held out"]  # fmt: skip
        results.write("The first hour: the ranking", results.table(head, ranking_table(4)))
    if "digits" in asked.only:
        head = ["", "`audit digits`, seconds in turns", "of before"]
        results.write("The first hour: digits", results.table(head, digits_table(checkouts)))
    if "demo" in asked.only:
        head = ["seed", "gain, points", "95 %", "says"]
        results.write("The first hour: the demo", results.table(head, demo_table(range(5))))
    if "plan" in asked.only:
        lines, near = plan_table(10)
        head = ["rows x epochs", "plan", "took", "ratio"]
        text = f"Within 25 % in {near} of {len(lines)} trials, with another program beside.\n\n"
        results.write("The first hour: the plan", text + results.table(head, lines))


if __name__ == "__main__":
    main()
