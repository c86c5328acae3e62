"""Kill an audit with SIGKILL at 20 random moments, resume it each time, and compare every byte
of the scores.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results

MOMENTS = 20
WORDS = [
    sys.executable,
    "-m",
    "datablame",
    "audit",
    "digits",
    "--noise",
    "uniform",
    "--amount",
    "0.1",
    "--epochs",
    "12",
    "--out",
]


def contents(out: Path) -> dict[str, bytes]:
    """Scores, traces, verdict and weights of every run under `out`."""
    wanted = (
        "scores/*.npy",
        "verdict.csv",
        "model.safetensors",
        "trace/*.npy",
        "heldout.npy",
        "comparison.json",
    )
    files = {str(path.relative_to(out)): path for want in wanted for path in out.rglob(want)}
    return {name: path.read_bytes().replace(str(out).encode(), b"") for name, path in files.items()}


def stage(out: Path) -> str:
    """How far an interrupted audit had come."""
    marks = {
        "reporting": "digits-*/comparison.json",
        "retraining": "digits-*/verdict.csv",
        "scoring": "digits-*/heldout.npy",
        "folds": "digits-*/folds/*",
        "training": "digits-*/run.json",
    }
    return next((name for name, mark in marks.items() if list(out.glob(mark))), "starting")


def main() -> None:
    random.seed(0)
    with tempfile.TemporaryDirectory() as whole:
        began = time.perf_counter()
        subprocess.run([*WORDS, whole], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        expected = contents(Path(whole))
    same, stages = 0, []
    for moment in sorted(random.uniform(0.1, 0.98) for _ in range(MOMENTS)):
        with tempfile.TemporaryDirectory() as out:
            process = subprocess.Popen(
                [*WORDS, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(moment * seconds)
            process.kill()
            process.wait()
            stages.append(stage(Path(out)))
            subprocess.run([*WORDS, out], check=True, capture_output=True)
            same += contents(Path(out)) == expected
    counts = ", ".join(f"{stages.count(name)} in {name}" for name in dict.fromkeys(stages))
    text = f"{same} of {MOMENTS} audits of `digits`, killed with SIGKILL at random moments ({counts}) and started again, ended with the same bytes in all "
    results.write(
        "Killed and resumed",
        text + f"{len(expected)} files of scores, traces, held-out predictions, verdicts, "
        "comparisons and weights as one that was never interrupted.",
    )
    sys.exit(same != MOMENTS)


if __name__ == "__main__":
    main()
