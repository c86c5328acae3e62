"""The package as a stranger meets it: the wheel's size, what it needs, how fast it answers, how long
the site takes, and, with `--clean PYTHON`, an environment of its own up to the first report.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import results

ROOT = Path(__file__).parents[1]


def seconds(*words: str, cwd: Path = ROOT, **more: str) -> float:
    """Of a program."""
    began = time.perf_counter()
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | more
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")
    return time.perf_counter() - began


def median(*words: str) -> float:
    return statistics.median(seconds(*words) for _ in range(9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", help="a Python to make the environment with")
    asked = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = [need.partition(">")[0] for need in project["dependencies"]]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        seconds(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT))
        (wheel,) = home.glob("*.whl")
        rows.append(["wheel", f"{wheel.stat().st_size / 1e6:.2f} MB", "1 MB"])
        others = [name for name in core if name not in ("torch", "torchvision")]
        rows.append(["packages beyond torch and torchvision", str(len(others)), "15"])
        empty = median(sys.executable, "-c", "pass")
        took = median(sys.executable, "-c", "import datablame") - empty
        rows.append(["`import datablame`, beside Python's own start", f"{took:.3f} s", "0.1 s"])
        took = median(sys.executable, "-m", "datablame", "--help")
        rows.append(["`datablame --help`", f"{took:.2f} s", "at once"])
        site = ["-m", "mkdocs", "build", "-q", "--site-dir", f"{folder}/site"]
        took = seconds(sys.executable, *site, NO_MKDOCS_2_WARNING="1")
        rows.append(["the site", f"{took:.0f} s", "60 s"])
        if asked.clean:
            began = time.perf_counter()
            seconds(asked.clean, "-m", "venv", f"{folder}/clean")
            python = f"{folder}/clean/bin/python"
            version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
            seconds(python, "-m", "pip", "install", "-q", str(wheel), cwd=home)
            made = time.perf_counter() - began
            audit = ["audit", "digits", "--noise", "pair", "--amount", "0.2"]
            took = seconds(python, "-m", "datablame", *audit, cwd=home)
            assert list(home.glob("runs/*/report.html"))
            rows.append([f"{version.stdout.strip()}: installed, with torch", f"{made:.0f} s", ""])
            rows.append(["first report", f"{took:.0f} s", "5 minutes beside the download"])
    text = results.table(["what", "", "asked"], rows)
    results.write("The package", f"Core: {', '.join(core)}.\n\n{text}")


if __name__ == "__main__":
    main()
