"""One trial: a command in a process of its own, in a folder of its own, with a time limit."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faults.inputs import everything

LIMIT = 60.0
"""Seconds after which a command counts as hanging."""


@dataclass(frozen=True)
class Said:
    """How a command ended: its exit code (None: it was still at work), output and errors."""

    words: tuple[str, ...]
    code: int | None
    out: str
    err: str

    @property
    def fault(self) -> str | None:
        """What is wrong with how it ended, whatever it was asked; None where nothing is."""
        if self.code is None:
            return "hangs"
        if "Traceback" in self.err or "Traceback" in self.out:
            return "traceback"
        if "unexpected " in self.err and "this is a bug" in self.err:
            return "unexpected: " + self.err.strip().splitlines()[-1][:200]
        if self.code not in (0, 1, 2, 3):
            return f"exit code {self.code}"
        if self.code in (1, 2) and "datablame: " not in self.err and "damaged" not in self.out:
            return "no sentence"
        if "allow_pickle" in self.err:
            return "bad advice"
        return None


def command(*words: object, home: Path, kill: float | None = None) -> Said:
    """A command, forked off this process so that nothing heavy is imported again; `kill`: SIGKILL
    after so many seconds.
    """
    told = [home / f"said-{os.getpid()}.out", home / f"said-{os.getpid()}.err"]
    child = os.fork()
    if child == 0:
        os.setsid()
        for number, path in enumerate(told, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(home)
        code = 1
        try:
            from datablame.cli import main

            code = main([str(word) for word in words])
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    until = time.monotonic() + (LIMIT if kill is None else kill)
    code: int | None = None
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.005)
    else:
        for end in (os.kill, os.killpg):  # its own group, once it has one
            with contextlib.suppress(ProcessLookupError):
                end(child, signal.SIGKILL)
        os.waitpid(child, 0)
    out, err = (path.read_text(errors="replace") if path.exists() else "" for path in told)
    for path in told:  # a child that was killed at once has not made them
        path.unlink(missing_ok=True)
    return Said(tuple(map(str, words)), code, out, err)


def digests(folder: Path) -> dict[str, str]:
    """Of every file in a folder, by its name there."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def parts(folder: Path) -> list[Path]:
    """Files that were begun and not finished."""
    return list(folder.rglob(".*.part"))


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """Bytes with one change: a bit, a block of zeros, noise, a cut, a block left out or twice; half
    of the changes are in the first 300 bytes, where headers are.
    """
    size = len(content)
    if not size:
        return b"\0"
    top = min(size, 300) if generator.random() < 0.5 else size
    place = int(generator.integers(top))
    length = int(generator.integers(1, max(2, min(64, size - place))))
    block = content[place : place + length]
    changes: list[Callable[[], bytes]] = [
        lambda: (
            content[:place]
            + bytes([content[place] ^ 1 << int(generator.integers(8))])
            + content[place + 1 :]
        ),
        lambda: content[:place] + bytes(len(block)) + content[place + len(block) :],
        lambda: content[:place] + generator.bytes(len(block)) + content[place + len(block) :],
        lambda: content[:place],
        lambda: content[:place] + content[place + length :],
        lambda: content[: place + length] + block + content[place + length :],
    ]
    return changes[int(generator.integers(len(changes)))]()


READERS = (
    ("report", "RUN"),
    ("judge", "RUN"),
    ("score", "RUN", "aum", "knn", "confident"),
    ("explain", "RUN", "--method", "similarity", "--queries", 2),
    ("explain", "RUN", "--queries", 2, "--keep", 2),
    ("explain", "RUN", "--queries", 1, "--index", "only"),
    ("export", "RUN", "--to", "new.csv"),
    ("clean", "RUN", "--out", "new.parquet"),
    ("measure", "RUN"),
    ("compare", "RUN", "RUN"),
    ("decided", "RUN"),
    ("certify", "RUN", "--draw", 12, "--out", "new.csv"),
    ("export", "RUN", "--to", "new.parquet", "--form", "cleanlab"),
    ("judge", "RUN", "--baseline", "RUN", "--fail-over", "90%"),
)
"""What is asked of a run with a damaged file; each file meets those that read it among them."""
WRAPPED = (
    ("memory", "show", "RUN", "--queries", 2, "--heatmaps", "none"),
    ("memory", "test", "RUN", "--memories", 2),
    ("score", "RUN", "attention", "temperature"),
    ("classes", "RUN"),
    ("ablate", "RUN", "aum", "--shares", 0, "--seeds", 0),
    ("report", "RUN"),
)
"""The same of a run with a memory and with temperatures."""
PROBED = (
    ("memorization", "RUN", "--top-k", 3),
    ("score", "RUN", "memorization", "loo"),
    ("ablate", "RUN", "memorization", "--shares", 0, 0.2, "--seeds", 0, "--noises", "pixel_normal",
     "--strengths", 0.5),
    ("report", "RUN"),
)  # fmt: skip
"""The same of a linear probe over a frozen encoder."""


EXPERIMENT = """model: mlp,hidden=8
epochs: 1
folds: 0
train: {source: digits, limit: 150}
steps:
  - score {run} aum
  - each: {noise: [uniform, pair]}
    steps:
      - train {source} --noise {noise} --amount 0.2
  - report {first}
"""


class Base:
    """Runs that have everything, made once, and copies of them to damage."""

    def __init__(self, home: Path):
        self.home = home
        self.inputs = everything(home / "inputs", np.random.default_rng(0))
        rows = ("digits", "--limit", 200, "--noise", "uniform")
        net = ("--model", "mlp,hidden=16", "--epochs", 3)
        more = ("--folds", 2, "--checkpoints", 2, "--top-k", 2)
        self.run = self._kept("base", "audit", *rows, *net, *more)
        self._made(
            ("score", self.run, "aum", "loss"),
            ("explain", self.run, "--queries", 2, "--keep", 2),
            ("index", self.run, "--block", 4),
            ("export", self.run, "--to", home / "table.csv"),
            ("export", self.run, "--to", home / "recording.npz"),
            ("corrupt", "digits", "--limit", 200, "--out", home / "set.parquet"),
            (
                "detector",
                "teach",
                self.run,
                "--start",
                "shipped",
                "--epochs",
                1,
                "--out",
                home / "own.safetensors",
            ),
        )
        self._answered()
        levels = ("--trainer", "data_parameters,level=both", "--head", "memory_wrap", "--folds", 0)
        wrapped = self._kept("wrapped", "train", *rows, *net, *levels)
        self._made(*_of(wrapped, WRAPPED))
        encoder = ("--model", "frozen:resnet18,weights=none,size=32", "--folds", 0)
        probed = self._kept("probed", "train", *rows, *encoder, "--trainer", "linear_probe")
        self._made(*_of(probed, PROBED))
        self.runs = {self.run: READERS, wrapped: WRAPPED, probed: PROBED}

    def _answered(self) -> None:
        """Decisions and a certificate of the run, their files, and an experiment's."""
        decisions, sheet = self.home / "decisions.csv", self.home / "sheet.csv"
        with (self.home / "table.csv").open(newline="") as file:
            names = [row["name"] for row in csv.DictReader(file)][:12]
        acts = (("wrong", ""), ("right", ""), ("", "3"), ("unsure", ""))
        rows = [(name, *acts[k % 4], "me") for k, name in enumerate(names)]
        with decisions.open("w", newline="") as file:
            csv.writer(file).writerows([("name", "act", "label", "by"), *rows])
        self._made(
            ("certify", self.run, "--draw", 12, "--out", sheet),
            ("decided", self.run, "--read", decisions),
        )
        with sheet.open(newline="") as file:
            asked = list(csv.DictReader(file))
        with sheet.open("w", newline="") as file:
            writer = csv.DictWriter(file, asked[0].keys())
            writer.writeheader()
            writer.writerows(row | {"answer": "right"} for row in asked)
        self._made(("certify", self.run, "--answers", sheet))
        (self.home / "experiment.yaml").write_text(EXPERIMENT)

    def __call__(self, *words: object) -> Said:
        return command(*words, home=self.home)

    def _made(self, *commands: tuple) -> None:
        for words in commands:
            said = self(*words)
            assert said.code == 0, said

    def _kept(self, name: str, *words: object) -> Path:
        """The run that a command makes, moved to a short name."""
        self._made((*words, "--out", self.home / "runs"))
        made = [path.parent for path in self.home.glob("runs/*/run.json")]
        made = [path for path in made if len(made) == 1 or (path / "verdict.csv").exists()]
        assert len(made) == 1
        shutil.move(made[0], self.home / name)
        shutil.rmtree(self.home / "runs")
        return self.home / name

    def copy(self, run: Path | None = None, name: str = "trial") -> Path:
        """A fresh copy of a run."""
        path = self.home / name
        if path.exists():
            shutil.rmtree(path)
        shutil.copytree(run or self.run, path)
        return path

    def files(self) -> list[tuple[Path, str]]:
        """Every file of the runs that something reads: the run, and its name there."""
        left = re.compile(
            r"(.*/)?(\.lock|\.holder|report\.html|figures/.*|profile\.txt|card\.txt|said-.*)"
        )
        return [
            (run, name)
            for run in self.runs
            for path in sorted(run.rglob("*"))
            if path.is_file() and not left.fullmatch(name := str(path.relative_to(run)))
        ]


def _of(run: Path, readers: tuple) -> list[tuple]:
    return [tuple(run if word == "RUN" else word for word in words) for words in readers]


def damaged(base: Base, run: Path, name: str, content: bytes, readers: tuple) -> list[str]:
    """Faults of the commands that meet a copy of a run whose file `name` holds this content."""
    trial = base.copy(run)
    (trial / name).write_bytes(content)
    found = []
    for words in _of(trial, readers):
        said = base(*words)
        if said.fault:
            found.append(f"{said.fault}: {' '.join(map(str, words))} with {name}")
        for path in (base.home / "new.csv", base.home / "new.parquet"):
            path.unlink(missing_ok=True)
    if parts(trial):
        found.append(f"half-written: {parts(trial)}")
    if not found and not free(name):
        found += unseen(base, run, trial, name, content)
    return found


def free(name: str) -> bool:
    """Files that no digest holds: what a person may edit, and what holds no figures."""
    return name.endswith((".csv", ".yaml", ".jsonl", "run.json", "manifest.json"))


def _told(base: Base, run: Path) -> bytes:
    """What a run's decisions are."""
    path = base.home / "told.csv"
    path.unlink(missing_ok=True)
    base("decided", run, "--out", path)
    return path.read_bytes() if path.exists() else b""


def unseen(base: Base, run: Path, trial: Path, name: str, content: bytes) -> list[str]:
    """Damage that nobody noticed: the file is as it was damaged, and the doctor finds it sound."""
    path = trial / name
    if not path.exists() or path.read_bytes() != content or content == (run / name).read_bytes():
        return []
    if path.name == "review.sqlite" and _told(base, trial) == _told(base, run):
        return []  # in what SQLite does not use: it says what it said
    said = base("doctor", trial)
    seen = (said.code == 1 and path.name in said.out) or said.code == 2
    return [] if seen else [f"unseen: {name}"]
