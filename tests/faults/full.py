"""All faults: `python tests/faults/full.py` takes about an hour on two cores and writes its
counts into benchmarks/RESULTS.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "benchmarks")]

from faults import cases  # noqa: E402
from faults.harness import Base, Said, command, damaged, digests, mutated, parts  # noqa: E402


@dataclass
class Count:
    """Trials of one kind, and what was wrong with some."""

    trials: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def saw(self, said: Said, *, refused: bool = False, what: object = "") -> None:
        """Count a command; `refused`: it must have said no."""
        self.trials += 1
        text = " ".join(word[:60] for word in said.words)
        if said.fault:
            self.faults.append(f"{said.fault}: {text} {what}")
        elif refused and said.code != 2:
            self.faults.append(f"accepted, exit {said.code}: {text} {what}")


MARKS = (".lock", ".holder", "profile.txt", "review.sqlite-wal", "review.sqlite-shm")
"""Files of a run that say who works on it, and how long that took."""


def bad_options(base: Base, part: int = 1) -> Count:
    """Every command with numbers and words that mean nothing; one in `part` of them."""
    count = Count()
    there = digests(base.run)
    for words in cases.options()[::part]:
        before = set(base.home.iterdir())
        count.saw(base(*(base.run if word == "RUN" else word for word in words)), refused=True)
        if left := set(base.home.iterdir()) - before:
            count.faults.append(f"left {left}: {' '.join(words)[:80]}")
            for path in left:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    now = digests(base.run)
    changed = {name for name in there | now if there.get(name) != now.get(name)}
    if {name for name in changed if Path(name).name not in MARKS}:
        count.faults.append(f"changed: {changed}")
    return count


def bad_sources(base: Base, part: int = 1) -> Count:
    """Folders and files that are no sets."""
    count = Count()
    home = base.home / "sources"
    if home.exists():
        shutil.rmtree(home)
    home.mkdir()
    for path in cases.sources(home)[::part]:
        for words in (("load", path), ("train", path, "--epochs", 1, "--out", base.home / "out")):
            count.saw(base(*words), refused=True)
    if (base.home / "out").exists():
        count.faults.append("something was written")
    return count


def bad_recipes(base: Base) -> Count:
    """Recipe files that are none."""
    count = Count()
    for text in cases.RECIPES:
        (base.home / "recipe.yaml").write_bytes(text.encode())
        words = (
            "train",
            "digits",
            "--limit",
            40,
            "--recipe",
            "recipe.yaml",
            "--out",
            base.home / "out",
        )
        count.saw(base(*words), refused=True, what=text[:40])
    for name in ("out", "mark"):
        if (base.home / name).exists():
            count.faults.append(f"{name} was made")
    return count


def mutated_run(base: Base, turns: int, generator: np.random.Generator) -> Count:
    """Files of the runs, each in turn where there are turns enough, with one change, met by what
    reads it.
    """
    count = Count()
    files = base.files()
    for turn in range(turns):
        drawn = turn % len(files) if turns >= len(files) else int(generator.integers(len(files)))
        run, name = files[drawn]
        content = mutated((run / name).read_bytes(), generator)
        readers = base.runs[run]
        some = tuple(readers[int(k)] for k in generator.permutation(len(readers))[:3])
        count.trials += 1
        count.faults += damaged(base, run, name, content, some)
    return count


def mutated_inputs(base: Base, turns: int, generator: np.random.Generator) -> Count:
    """Files from outside of every kind, each in turn: sets, recordings, detectors, decisions, sheets."""
    count, home = Count(), base.home / "inputs"
    found = base.inputs | {
        base.home / "set.parquet": ("load", base.home / "set.parquet"),
        base.home / "recording.npz": ("import", base.home / "recording.npz", "--out", home / "out"),
        base.home / "own.safetensors": (
            "score", base.run, f"detector,file={base.home / 'own.safetensors'}"),
        base.home / "decisions.csv": ("decided", "RUN", "--read", base.home / "decisions.csv"),
        base.home / "sheet.csv": ("certify", "RUN", "--answers", base.home / "sheet.csv"),
        base.home / "experiment.yaml": (
            "run", base.home / "experiment.yaml", "--dry-run", "--out", home / "out"),
    }  # fmt: skip
    order = [list(found)[int(k)] for k in generator.permutation(len(found))]
    for turn in range(turns):
        words = found[path := order[turn % len(order)]]
        content = path.read_bytes()
        try:
            path.write_bytes(mutated(content, generator))
            run = base.copy() if "RUN" in words else base.run
            said = base(*(run if word == "RUN" else word for word in words))
            count.saw(said, what=path.name)
        finally:
            path.write_bytes(content)
        shutil.rmtree(home / "out", ignore_errors=True)
    return count


WRITERS = (
    ("train", "digits", "--limit", 150, "--epochs", 3, "--folds", 2, "--model", "mlp,hidden=8", "--out", "OUT"),
    ("corrupt", "digits", "--limit", 150, "--out", "OUT.parquet"),
    ("corrupt", "digits", "--limit", 60, "--out", "OUT"),
    ("score", "RUN", "aum,since=0.2", "knn,k=3", "loss,epoch=1"),
    ("judge", "RUN", "--judge", "top,share=0.2"),
    ("report", "RUN"),
    ("explain", "RUN", "--queries", 3),
    ("index", "RUN", "--block", 6),
    ("retrain", "RUN"),
    ("export", "RUN", "--to", "OUT.csv"),
    ("export", "RUN", "--to", "OUT.npz"),
    ("export", "RUN", "--to", "OUT"),
    ("clean", "RUN", "--out", "OUT.parquet"),
    ("ablate", "RUN", "aum", "--shares", 0.1, "--seeds", 0),
    ("detector", "teach", "RUN", "--start", "shipped", "--epochs", 2, "--out", "OUT.safetensors"),
    ("look", "digits", "--limit", 150, "--encoder", "none", "--out", "OUT"),
    ("certify", "RUN", "--draw", 9, "--out", "OUT.parquet"),
    ("certify", "RUN", "--draw", 9, "--out", "OUT"),
    ("decided", "RUN", "--read", "HOME/decisions.csv"),
    ("decided", "RUN", "--out", "OUT.json"),
    ("export", "RUN", "--to", "OUT", "--form", "huggingface"),
    ("train", "HOME/inputs/photos-gztar.tar.gz", "--epochs", 2, "--folds", 0, "--out", "OUT"),
    ("run", "HOME/experiment.yaml", "--out", "OUT"),
)  # fmt: skip


def killed(base: Base, kills: int, generator: np.random.Generator) -> Count:
    """SIGKILL at a random moment in every verb that writes; then the same command to its end."""
    count, lengths = Count(), {}
    for turn in range(kills):
        which = (
            int(generator.integers(len(WRITERS))) if kills < len(WRITERS) else turn % len(WRITERS)
        )
        run, out = base.copy(), base.home / "killed"
        words = [
            str(word)
            .replace("OUT", str(out))
            .replace("RUN", str(run))
            .replace("HOME", str(base.home))
            for word in WRITERS[which]
        ]

        def clear(out: Path = out) -> None:
            for path in base.home.glob("killed*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            (base.home / "metadata.pth").unlink(missing_ok=True)

        clear()
        if which not in lengths:
            began = time.monotonic()
            said = base(*words)
            lengths[which] = time.monotonic() - began
            if said.code != 0:
                count.faults.append(f"exit {said.code}: {words} {said.err[-200:]}")
            clear()
            run = base.copy()
        count.trials += 1
        first = command(*words, home=base.home, kill=float(generator.random()) * lengths[which])
        if first.fault not in (None, "hangs"):
            count.faults.append(f"{first.fault}: {words}")
        if first.code == 0:
            continue
        again = base(*words)
        there = ("was not written by datablame", "is there and not empty")  # it had been done
        if again.code != 0 and not any(words in again.err for words in there):
            count.faults.append(f"not resumed, exit {again.code}: {words} {again.err[-200:]}")
        if parts(run):
            count.faults.append(f"half-written {parts(run)}: {words}")
        for home in [run, *out.glob("*/run.json")]:
            checked = base("doctor", home if home.is_dir() else home.parent)
            if checked.code != 0:
                count.faults.append(
                    f"damaged after {words}: {checked.out[-300:]}{checked.err[-200:]}"
                )
    return count


def full_disk(base: Base, sizes: tuple[int, ...]) -> Count | None:
    """A disk of so many kilobytes, filled by a whole audit; then more room, and the same command.
    None where none can be mounted.
    """
    count, disk = Count(), base.home / "disk"
    for size in sizes:
        disk.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return None
        try:
            words = (
                "audit",
                "digits",
                "--limit",
                150,
                "--epochs",
                2,
                "--model",
                "mlp,hidden=8",
                "--out",
                disk,
            )
            said = base(*words)
            count.saw(said, what=f"{size} kB")
            if said.code == 1 and "the disk is full" not in said.err:
                count.faults.append(f"{size} kB: {said.err[-200:]}")
            if parts(disk):
                count.faults.append(f"{size} kB: half-written {parts(disk)}")
            more = ["mount", "-o", "remount,size=100m", str(disk)]
            subprocess.run(more, capture_output=True, check=True)
            again = base(*words)
            if again.code != 0:
                count.faults.append(f"{size} kB, then room: exit {again.code} {again.err[-200:]}")
        finally:
            subprocess.run(["umount", str(disk)], capture_output=True, check=False)
    return count


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    os.environ["DATABLAME_CACHE"] = str(home / "cache")
    import torch

    torch.set_num_threads(1)
    base = Base(home)
    generator = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    jobs = {
        "options and words that mean nothing": lambda: bad_options(base),
        "folders and files that are no sets": lambda: bad_sources(base),
        "recipes that are none": lambda: bad_recipes(base),
        "mutated files of a run": lambda: mutated_run(base, 400, generator),
        "mutated files from outside, of each kind that is read": lambda: mutated_inputs(
            base, 300, generator
        ),
        "SIGKILL in every verb that writes": lambda: killed(base, 200, generator),
        "a disk that fills": lambda: full_disk(base, tuple(range(100, 1100, 100))),
    }
    lines = []
    for name, job in jobs.items():
        began = time.monotonic()
        found = job()
        if found is None:
            lines.append([name, "not mounted", "", ""])
            continue
        for fault in found.faults:
            print(f"{name}: {fault}", flush=True)
        seconds = time.monotonic() - began
        lines.append([name, f"{found.trials:,}", f"{len(found.faults):,}", f"{seconds:.0f} s"])
        print(lines[-1], flush=True)
    import results

    results.write(
        "Faults",
        "Each trial is a command that must end within a minute, in a sentence and without a "
        "traceback, leave nothing half-written and change nothing of the user's; a damaged file must "
        "be refused, made again, or found by `datablame doctor RUN`; a killed command must end well "
        f"when it is run again.\n\n{results.table(['kind', 'trials', 'faults', 'took'], lines)}",
    )
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
