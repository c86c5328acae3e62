"""Audits of random small sets in one process for an hour: `python tests/faults/soak.py [MINUTES]`
writes whether memory, open files and threads stay as they were into benchmarks/RESULTS.md.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


def folder(home: Path, generator: np.random.Generator) -> Path:
    """A set of photographs of random number, size, kind and classes, with a few odd files."""
    from PIL import Image

    classes, edge = int(generator.integers(2, 7)), int(generator.integers(8, 49))
    means = generator.integers(0, 256, (classes, 1, 1, 3))
    for row in range(int(generator.integers(40, 301))):
        label = row % classes
        told = label if generator.random() > 0.1 else int(generator.integers(classes))
        pixels = np.clip(means[label] + generator.normal(0, 60, (edge, edge, 3)), 0, 255)
        ending = ("png", "jpg", "webp", "gif")[int(generator.integers(4))]
        path = home / f"class {told}" / f"{row}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype("uint8")).save(path)
        if generator.random() < 0.02:
            path.write_bytes(path.read_bytes()[:40])
    return home


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def state() -> dict[str, float]:
    """Megabytes in memory, open files and threads of this process; what is in use is what is left
    when garbage is collected and freed memory given back, as the C library does when it likes to.
    """
    held = resident()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return {
        "memory held (MB)": held,
        "memory in use (MB)": resident(),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "threads of the system": len(os.listdir("/proc/self/task")),
    }


def one(home: Path, generator: np.random.Generator) -> str:
    """An audit with random options, its clean set, and an explanation; what it was."""
    import datablame as db

    model = ("mlp,hidden=16", "resnet9,width=0.125")[int(generator.integers(2))]
    head = ("linear", "memory_wrap,size=16")[int(generator.random() < 0.2)]
    run = db.audit(
        folder(home / "photos", generator),
        model=model,
        head=head,
        epochs=int(generator.integers(1, 4)),
        out=home / "runs",
    )
    if head == "linear":
        db.explain(run, queries=2)
    db.export(run, to=home / "table.csv")
    return f"{model} {head}"


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    home = Path(tempfile.mkdtemp(prefix="soak-"))
    os.environ["DATABLAME_CACHE"] = str(home / "cache")
    tempfile.tempdir = str(home / "temporary")
    (home / "temporary").mkdir()
    generator = np.random.default_rng(0)
    states, refused, began = [], [], time.monotonic()
    while time.monotonic() - began < 60 * minutes:
        trial = home / f"trial-{len(states)}"
        try:
            what = one(trial, generator)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            refused.append(what)
        shutil.rmtree(trial)
        shutil.rmtree(home / "cache", ignore_errors=True)
        states.append(state())
        print(len(states), f"{time.monotonic() - began:.0f} s", what, states[-1], flush=True)
    tenth = max(1, len(states) // 10)
    spans = {"after a tenth": states[tenth : 2 * tenth], "half way": states[-5 * tenth :][:tenth]}
    spans["at the end"] = states[-tenth:]
    rows = [
        [kind, *(f"{np.median([each[kind] for each in span]):,.0f}" for span in spans.values())]
        for kind in states[0]
    ]
    rest = sorted(path.name for path in (home / "temporary").iterdir())
    import results

    results.write(
        "An hour of audits",
        f"{len(states)} audits in one process, {minutes:.0f} minutes: folders of 40 to 300 pictures of "
        "random size, format and classes, a tenth of the labels wrong and some files cut, with a "
        f"perceptron or a small ResNet-9; {len(refused)} ended in an error"
        f"{': ' + '; '.join(sorted(set(refused))[:3]) if refused else ''}; "
        f"left in the folder of temporary files: {', '.join(rest) or 'nothing'}. Medians over a tenth of the audits:\n\n"
        + results.table(["", *spans], rows),
    )
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
