"""Systems that no test runs on: what they lack is taken away, and the paths for them are run."""

import os
import subprocess
import sys

import pytest
import torch

from datablame.base import devices
from datablame.influence.factors import Factors
from datablame.influence.fisher import Fisher

WINDOWS = """
import os, sys, types
import torch, matplotlib.figure, pyarrow.parquet  # what others do elsewhere is theirs
import datablame.cli
from datablame.base import arrays, files
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("sysconf", "posix_fallocate", "sched_getaffinity", "getuid", "fork", "mkfifo"):
    delattr(os, name)
def kill(*_):
    raise AssertionError("a signal would end the process there")
os.kill = kill
files.sys = arrays.sys = types.SimpleNamespace(platform="win32")
whole = open
def opened(path, *more, **named):
    if str(path).startswith("/proc/meminfo"):
        raise FileNotFoundError(path)
    return whole(path, *more, **named)
import builtins
builtins.open = opened
sys.exit(datablame.cli.main(sys.argv[1:]))
"""
SMALL = ["digits", "--model", "mlp", "--epochs", "2", "--folds", "0", "--limit", "300"]


def run(program, *words, **more):
    return subprocess.run(
        [sys.executable, *program, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | more,
    )


def test_without_what_windows_lacks(tmp_path):
    """Locks, memory, signals: two commands on one run, beside a file that a killed one left."""
    out = ["--out", str(tmp_path)]
    for _ in range(2):
        done = run(["-c", WINDOWS], "train", *SMALL, *out)
        assert done.returncode == 0, done.stderr
        (folder,) = tmp_path.glob("digits-*")
        (folder / ".x.npy.00000000-1.part").touch()
    done = run(["-c", WINDOWS], "score", str(folder), "aum")
    assert done.returncode == 0, done.stderr
    done = run(["-c", WINDOWS], "doctor")
    assert done.returncode == 0, done.stderr
    assert "unknown" in done.stdout


@pytest.mark.parametrize("words", [["methods"], ["train", *SMALL, "--out", "größer"]])
def test_a_narrow_terminal_ends_nothing(tmp_path, monkeypatch, words):
    """Words that it cannot show are shown as they can be."""
    monkeypatch.chdir(tmp_path)
    done = run(["-m", "datablame"], *words, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr


def test_what_a_device_lacks_the_cpu_does(monkeypatch):
    """Eigenvectors and inverses, as if there were none here."""
    square = torch.randn(3, 5, 5)
    square = square @ square.mT
    wanted = torch.linalg.eigh(square)
    monkeypatch.setattr(devices, "LACKING", ("cpu",))
    assert all(map(torch.equal, devices.eigenvectors(square), wanted))
    assert devices.capable(torch.linalg.inv, square).equal(torch.linalg.inv(square))


def test_factors_ask_for_eigenvectors_that_way(run, monkeypatch):
    """Of each layer's two matrices."""
    asked = []
    real = devices.eigenvectors
    monkeypatch.setattr(
        devices, "eigenvectors", lambda square: asked.append(square.shape) or real(square)
    )
    factors = Factors(run, Fisher(kind="kfac", basis=100))
    factors.gather("basis")
    factors.finish()
    assert len(asked) == 2 * len(factors.layers.every)
