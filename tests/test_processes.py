"""Two processes equal one: the same commands under torchrun give the same trace, scores and
verdict, in one run.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import datablame as db
from datablame import Run
from datablame.base import hashing, processes

TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "--no-python",
]

SMALL = ["--epochs", "3", "--folds", "0", "--limit", "300"]

pytestmark = pytest.mark.slow


def said(launcher, *words):
    """A command in a process of its own, or in two."""
    done = subprocess.run(
        [*launcher, sys.executable, "-m", "datablame", *map(str, words)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def chained(launcher, *lines):
    """Commands one after the other, in one process or in two."""
    words = json.dumps([list(map(str, line)) for line in lines])
    done = subprocess.run(
        [*launcher, sys.executable, Path(__file__).with_name("chain.py"), words],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def audit(out, *launcher, model="mlp"):
    words = [
        "audit",
        "digits",
        "--epochs",
        "3",
        "--folds",
        "2",
        "--limit",
        "300",
        "--noise",
        "uniform",
    ]
    if model != "mlp":  # folds of so few images differ by rounding that steps multiply
        words += ["--holdout", "0.2"]
    return said(launcher, *words, "--model", model, "--precision", "fp32", "--out", out)


@pytest.mark.parametrize("model", ["mlp", "resnet9,width=0.125"])
def test_two_processes_equal_one(tmp_path, model):
    alone = audit(tmp_path / "one", model=model)
    both = audit(tmp_path / "two", *TORCHRUN, model=model)
    assert both.stdout.count("table ") == 1, "one card, not two"
    assert len(list((tmp_path / "two").glob("digits-*"))) == len(
        list((tmp_path / "one").glob("digits-*"))
    )
    name = alone.stdout.split()[1].split("/")[-2]
    one, two = Run(tmp_path / "one" / name), Run(tmp_path / "two" / name)
    for channel in ("loss", "margin", "entropy", "el2n"):
        mine, theirs = (run.trace[channel].astype("f4") for run in (one, two))
        assert np.allclose(mine[0], theirs[0], rtol=1e-3, atol=1e-3), "the first epoch is the same"
        assert all(np.corrcoef(a, b)[0, 1] > 0.999 for a, b in zip(mine, theirs, strict=True))
        if model == "mlp":  # no convolution, whose sums depend on the number of threads
            assert np.allclose(mine, theirs, rtol=0.02, atol=0.02), channel
    same = (one.trace["prediction"] == two.trace["prediction"]).mean(1)
    assert same[0] == 1
    assert same.mean() > (0.998 if model == "mlp" else 0.95), (
        "later epochs add up sums in another order, and steps multiply that"
    )
    for path in (one.path / "scores").glob("*.npy"):
        values, others = np.load(path), np.load(two.path / "scores" / path.name)
        assert np.corrcoef(values, others)[0, 1] > (0.999 if model == "mlp" else 0.99), path.name
        if model == "mlp":
            assert np.allclose(values, others, rtol=0.05, atol=0.05), path.name
    mine, theirs = one.verdict, two.verdict
    assert np.corrcoef(mine.suspicion, theirs.suspicion)[0, 1] > 0.999
    assert (mine.act == theirs.act).float().mean() > (0.99 if model == "mlp" else 0.95), (
        "rows at a border may fall to either side of it"
    )


def test_draws_depend_on_seed_and_row_alone():
    rows = torch.arange(100_000)
    whole = hashing.uniform(rows, "x", 1)
    assert torch.equal(whole[500:600], hashing.uniform(rows[500:600], "x", 1))
    assert not torch.equal(whole, hashing.uniform(rows, "x", 2))
    counts = (whole * 100).long().bincount(minlength=100)
    assert counts.min() > 850
    assert counts.max() < 1150
    assert abs(np.corrcoef(whole[:-1], whole[1:])[0, 1]) < 0.01


def test_a_shard_is_the_whole_batch_alone():
    assert torch.equal(processes.shard(torch.arange(5)), torch.arange(5))
    assert processes.agree("x") == "x"
    assert processes.size() == 1


def test_two_processes_work_together(tmp_path, monkeypatch):
    """The checks of collectives.py; and photographs that two decode are those that one does."""
    noise = np.random.default_rng(0)
    for row in range(257):  # one of 128 and 129
        path = tmp_path / "photographs" / f"class{row % 3}" / f"{row:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 255, (20, 120 + row % 5, 3), dtype="uint8")
        Image.fromarray(pixels).save(path)
    path.write_bytes(b"no picture")
    script = Path(__file__).with_name("collectives.py")
    done = subprocess.run(
        [*TORCHRUN, sys.executable, script, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "DATABLAME_CACHE": str(tmp_path / "two")},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("[01]")) == ["0", "1"]
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "one"))
    one = db.load(tmp_path / "photographs")
    assert len(one) == 256
    assert np.array_equal(one.pixels.array, np.load(tmp_path / "two.npy"))
    assert (tmp_path / "two.txt").read_text() == f"{one.fingerprint} {one.mean} {one.aside}"


def refused(folder, code):
    """What two processes say that run this code before the command line, and end by."""
    (folder / "program.py").write_text(
        f"import os, sys\nrank = int(os.environ['RANK'])\nwords = {SMALL!r}\n{code}\n"
        "from datablame.cli import main\nsys.exit(main(['train', 'digits', *words]))\n"
    )
    done = subprocess.run(
        [*TORCHRUN, sys.executable, folder / "program.py"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=folder,
    )
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if line.startswith("datablame: ")]


def test_processes_that_do_not_do_the_same_are_told_once(tmp_path):
    (said,) = refused(tmp_path, "words += ['--seed', str(rank)]")
    assert "--seed 0 at rank 0, and" in said
    assert "--seed 1 at rank 1" in said
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_of_one_process_ends_all_in_one_sentence(tmp_path):
    code = """
from datablame.base import files
plain = os.replace
def full(old, new):
    if rank == 0 and str(new).endswith("log.jsonl"):
        raise OSError(28, "No space left on device")
    plain(old, new)
os.replace = full
"""
    (said,) = refused(tmp_path, code)
    assert said.startswith("datablame: the disk is full: could not write ")


def test_influence_of_two_processes_equals_one(tmp_path):
    audit(tmp_path / "made")
    name = next((tmp_path / "made").glob("digits-mlp-*/scores")).parent
    for number, launcher in (("one", []), ("two", TORCHRUN)):
        shutil.copytree(name, tmp_path / number)
        chained(
            launcher,
            ["score", tmp_path / number, "self_influence,eigenvalues=100"],
            ["explain", tmp_path / number, "--queries", "5"],
            ["explain", tmp_path / number, "--queries", "5", "--keep", "7"],
            ["index", tmp_path / number, "--block", "8"],
        )
    paths = [
        path.relative_to(tmp_path / "one")
        for path in (tmp_path / "one").glob("folds/0/attributions/*/*.npy")
    ]
    assert len(paths) == 3
    for path in [*paths, Path("scores") / "self_influence,eigenvalues=100.npy"]:
        one, two = np.load(tmp_path / "one" / path), np.load(tmp_path / "two" / path)
        if path.name == "rows.npy":
            assert (one == two).mean() > 0.9
        else:
            assert np.allclose(one, two, rtol=0.01, atol=0.005 * np.abs(one).max()), path
    products = []  # an eigenvector's sign is nobody's choice, so products of rows are compared and not the codes
    for number in ("one", "two"):
        codes = np.load(next((tmp_path / number).glob("folds/0/index/*/codes.npy")))
        k = codes.shape[1] - 4 * 3
        layers = (
            codes[:, :k].reshape(len(codes), 3, -1)
            * codes[:, k:].copy().view("float32")[:, :, None]
        )
        products.append(np.einsum("nlk,mlk->lnm", layers, layers))
    # half a step of an example's 254 may be rounded to either side
    assert np.allclose(*products, rtol=0.01, atol=0.01 * np.abs(products[0]).max())


def pair(out, *words, then=()):
    """The run that a command makes in one process, and the one that it makes in two; `then` are
    commands on it, in which RUN stands for the run, and OUT for its folder.
    """
    for number, launcher in (("one", []), ("two", TORCHRUN)):
        places = {"RUN": out / number / "digits-*", "OUT": out / number}
        more = [[places.get(word, word) for word in line] for line in then]
        chained(launcher, [*words, *SMALL, "--out", out / number], *more)
        yield next((out / number).glob("digits-*"))


def same(one, two):
    """Are arrays alike that are not constant?"""
    one, two = (np.load(path).astype("f4") for path in (one, two))
    return one.std() > 0.001 and np.allclose(one, two, rtol=0.01, atol=1e-4)


def test_temperatures_of_two_processes_equal_those_of_one(tmp_path):
    one, two = pair(
        tmp_path, "train", "digits", "--trainer", "data_parameters,level=both,lr=0.05,init=1"
    )
    for path in ("trace/temperature.npy", "class_temperature.npy"):
        assert same(one / path, two / path), path


def test_two_processes_fit_the_same_head(tmp_path):
    said([], "train", "digits", "--model", "mlp,hidden=32", *SMALL, "--out", tmp_path / "base")
    encoder = next((tmp_path / "base").glob("digits-*"))
    words = [
        "train",
        "digits",
        "--trainer",
        "linear_probe",
        "--weight-decay",
        "0.01",
        "--model",
        f"frozen:{encoder}",
    ]
    scores = ("memorization", "loo,directions=10", "knn")
    runs = list(pair(tmp_path, *words, then=[["score", "RUN", *scores]]))
    for path in ("trace/loss.npy", *(f"scores/{name}.npy" for name in scores)):
        assert same(*(run / path for run in runs)), path


def test_two_processes_draw_and_encode_the_same_memories(tmp_path):
    words = [
        "train",
        "digits",
        "--model",
        "resnet9,width=0.125",
        "--head",
        "memory_wrap,size=21,keep=30",
        "--precision",
        "fp32",
    ]
    then = [
        ["score", "RUN", "attention,memories=2"],
        ["memory", "replace", "RUN", "--size", "20", "--choose", "balanced"],
        ["memory", "test", "OUT", "--memories", "2"],
    ]
    runs = list(pair(tmp_path, *words, then=then))
    for each in (runs, [run.with_name(f"{run.name}-balanced-20") for run in runs]):
        assert (each[0] / "memory.npy").read_bytes() == (each[1] / "memory.npy").read_bytes()
        found = [json.loads((run / "evaluation-2.json").read_text()) for run in each]
        assert found[0]["accuracy"] == pytest.approx(found[1]["accuracy"], abs=0.05)
    one, two = (np.load(run / "trace" / "loss.npy").astype("f4") for run in runs)
    assert np.allclose(one[0], two[0], rtol=0.002)  # later epochs differ by rounding that grows
    assert np.corrcoef(one[1:].ravel(), two[1:].ravel())[0, 1] > 0.99
    one, two = (np.load(run / "scores" / "attention,memories=2.npy") for run in runs)
    assert np.corrcoef(one, two)[0, 1] > 0.98


def _started(out):
    """A long training in two processes, once both have begun: (launcher, its workers' ids)."""
    words = ["train", "digits", "--epochs", "3000", "--folds", "0", "--out", str(out)]
    launcher = subprocess.Popen(
        [*TORCHRUN, sys.executable, "-m", "datablame", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(out.glob("*/trace/loss.npy")):
        time.sleep(0.2)
    listed = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    workers = [int(child) for child in listed if b"datablame" in _command(int(child))]
    assert len(workers) == 2
    return launcher, workers


def _command(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _gone(processes, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(b"datablame" in _command(each) for each in processes):
        time.sleep(0.2)
    return not any(b"datablame" in _command(each) for each in processes)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_process_dies_the_other_ends_too(tmp_path, rank):
    launcher, workers = _started(tmp_path)
    os.kill(workers[rank], signal.SIGKILL)
    assert _gone(workers, 60)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    ours = [line for line in said.splitlines() if line.startswith("datablame: ")]
    assert len(ours) <= 1
    assert all(line == f"datablame: {processes.PEER}" for line in ours), ours


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_when_the_launcher_dies_its_workers_end(tmp_path):
    launcher, workers = _started(tmp_path)
    launcher.kill()
    assert _gone(workers, 60)
    _, said = launcher.communicate(timeout=60)
    assert "Traceback" not in said
    assert processes.LAUNCHER in said or processes.PEER in said
