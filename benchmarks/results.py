"""RESULTS.md: each benchmark owns one section, stamped with machine, versions and date, and
replaces it when it runs.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path

PATH = Path(__file__).parent / "RESULTS.md"
OUT = Path(tempfile.gettempdir()) / "datablame-benchmarks"
"""Where benchmarks keep their runs, unless told, so that a second call goes on."""
SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10"


def machine() -> str:
    import torch

    if torch.cuda.is_available():
        chip = torch.cuda.get_device_name()
    else:
        names = (
            re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
            if Path("/proc/cpuinfo").exists()
            else []
        )
        chip = f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{chip}; Python {platform.python_version()}, torch {version('torch')}, datablame {version('datablame')}"


def write(title: str, text: str) -> None:
    """Put `text` under `## title`, in the place of what stood there, or at the end."""
    stamp = f"<sub>{datetime.date.today()}; {machine()}</sub>"
    section = f"## {title}\n\n{stamp}\n\n{text.strip()}\n"
    old = (
        PATH.read_text()
        if PATH.exists()
        else "# Results\n\nWritten by the scripts next to this file; each section by one of them.\n"
    )
    parts = re.split(r"(?m)^(?=## )", old)
    kept = [part.strip() + "\n" for part in parts]
    place = next((i for i, part in enumerate(kept) if part.startswith(f"## {title}\n")), None)
    if place is None:
        kept.append(section)
    else:
        kept[place] = section
    PATH.write_text("\n".join(kept))
    print(f"## {title}\n\n{text}")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def told(values: list[float], digits: int = 4) -> str:
    """Mean, and its 95 % interval by Student's t where there are several."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def gain(before: list, after: list) -> list[str]:
    """Two cells: how many points of accuracy runs have more than those before them, and the 95 %
    interval (images and seeds resampled).
    """
    from datablame.evaluation.comparison import Tried, comparison

    mean, low, high = comparison(Tried(before, after)).gain
    return [f"{100 * mean:+.2f}", f"{100 * low:+.2f} to {100 * high:+.2f}"]


def found(runs: dict, signals: tuple[str, ...]) -> str:
    """What each signal finds of the wrong labels of each run."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    import datablame as db

    lines = []
    for name, run in runs.items():
        wrong = run.data.wrong.numpy()
        for signal in signals:
            values = db.score(run, signal).values
            measures = (
                measure(wrong, values) for measure in (roc_auc_score, average_precision_score)
            )
            lines.append([name, f"`{signal}`", *(f"{value:.4f}" for value in measures)])
    return table(["labels", "signal", "ROC-AUC", "average precision"], lines)
