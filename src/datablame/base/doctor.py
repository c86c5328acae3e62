"""Doctor: does this machine have what it takes?"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from datablame.base import environment, files, progress
from datablame.base.readers import LOST, MANIFEST, REMEDY, manifest, read_json

ROUNDS = 4
"""Of what is timed, the first of which sets things up."""
SIDE = 512
"""Of matrices that are multiplied to see what a precision costs."""


def doctor() -> dict[str, Any]:
    """Versions, devices, memory, disk; `problems` is empty where all is well."""
    import torch

    from datablame.base import devices

    problems = []
    if clash := _torchvision_clash():
        problems.append(clash)
    free = shutil.disk_usage(files.nearest(Path.cwd())).free
    if free < 2e9:
        problems.append(
            f"only {files.human(free)} of disk are free here; runs and decoded images need some"
        )
    packages = {
        name: _known(name)
        for name in (
            "datablame",
            "torch",
            "torchvision",
            "numpy",
            "pyarrow",
            "scikit-learn",
            "datasets",
        )
    }
    return packages | {
        "python": platform.python_version(),
        "device": str(devices.device())
        + (f" ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else ""),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": files.human(known) if (known := devices.installed()) else "unknown",
        "disk free here": files.human(free),
        "cache": f"{environment.cache()}",
        "problems": problems or "none",
    }


def examine(run: Path, *more: str) -> dict[str, Any]:
    """Compare every file of a run with the size and digest that were noted when it was written;
    `more` is damage that was found otherwise.

    `damaged` names those that differ, and what to do; `missing` those that are gone: what is not
    among the run's data, trace and weights is made again when it is asked for. Raises InputError
    where run.json itself is damaged.
    """
    read_json(run / "run.json", format=int, recipe=dict, fingerprint=str)
    damaged, missing, count = list(more), [], 0
    homes = sorted(path.parent for path in run.rglob("run.json"))  # its folds, and its proof
    for home in homes:
        if (home / MANIFEST).exists() and not manifest(home):
            damaged.append(f"{home / MANIFEST}: the other files of this folder cannot be checked")
        for name, (size, digest) in manifest(home).items():
            path = home / name
            if not path.exists():
                missing.append(str(path))
            elif path.stat().st_size != size or files.digest_of(path) != digest:
                primary = name.startswith(("data/", "trace/")) or name == "model.safetensors"
                damaged.append(f"{path}: {LOST if primary else REMEDY}")
            count += 1
    return {
        "run": str(run),
        "files": count,
        "damaged": damaged or "none",
        "missing": missing or "none",
        "not listed": [str(home) for home in homes if not (home / MANIFEST).exists()] or "none",
    }


def fastest(work: Callable[[], object]) -> float:
    """Seconds that some work takes on the device: the fastest of a few rounds."""
    from datablame.base import devices

    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        devices.synchronise()
        taken.append(time.perf_counter() - began)
    return min(taken)


def product_seconds(precision: str, side: int) -> float:
    """Of the product of two square matrices on the device."""
    import torch

    from datablame.base import devices

    left = torch.ones(side, side, dtype=devices.KINDS[precision], device=devices.device())
    return fastest(lambda: left @ left)


@functools.cache
def mention_emulated() -> None:
    """Say once in a process what bf16 costs, where the processor only emulates it."""
    from datablame.base import devices

    if not devices.has_bf16():
        price = product_seconds("bf16", SIDE) / product_seconds("fp32", SIDE)
        progress.say(
            f"bf16 was asked for, and this machine's {devices.device().type} only emulates it: "
            f"a product takes {price:.1f} times as long as in fp32"
        )


def _known(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _torchvision_clash() -> str | None:
    """What is wrong with torchvision, if it does not fit its torch."""
    wanted = next(
        (need for need in requires("torchvision") or [] if need.startswith("torch==")), ""
    ).partition("==")[2]
    have = version("torch")
    fix = "reinstall both together: pip install --force-reinstall torch torchvision"
    if wanted and have.partition("+")[0] != wanted:
        return (
            f"torchvision {version('torchvision')} was built for torch {wanted}, "
            f"but torch {have} is installed; {fix}"
        )
    try:
        import torchvision  # noqa: F401 - does it load?
    except Exception as error:  # a mismatched build fails in many ways
        return f"torchvision does not load ({error}); {fix}"
    return None
