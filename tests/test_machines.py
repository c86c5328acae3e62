"""Two machines, as network namespaces with two processes each."""

import contextlib
import io
import os
import signal
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from machines import cable, launched, unplugged

import datablame as db
from datablame.base import processes

SMALL = [
    "train",
    "digits",
    "--folds",
    "0",
    "--limit",
    "300",
    "--model",
    "mlp",
    "--precision",
    "fp32",
]
SCRIPT = """
import sys
from datablame.base import files, processes
files.SEEN, processes.LOST = 2.0, 8.0
from datablame.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The command line with less patience, on machines that are connected."""
    with cable() as laid:
        if not laid:
            pytest.skip("network namespaces need Linux, `ip` and root")
        path = tmp_path_factory.mktemp("machines") / "program.py"
        path.write_text(SCRIPT)
        yield path


def ended(launchers, seconds=100):
    """(exit code, what our program said) of each launcher."""
    found = []
    for launcher in launchers:
        _, said = launcher.communicate(timeout=seconds)
        assert "src/datablame" not in said, said  # no traceback of ours
        found.append((launcher.returncode, [x for x in said.splitlines() if "[c10d]" not in x]))
    return found


def sentences(found):
    return [line for _, lines in found for line in lines if line.startswith("datablame: ")]


def workers(launcher):
    """The processes that a launcher has started."""
    listed = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return [worker for worker in map(int, listed) if alive(worker)]


def alive(worker):
    """Whether it is at work: not gone, and no zombie."""
    try:
        return b"train" in Path(f"/proc/{worker}/cmdline").read_bytes()
    except OSError:
        return False


def begun(out, launchers):
    """Wait until a training has been kept once: its folder."""
    until = time.monotonic() + 60
    while not (kept := list(out.glob("*/progress.safetensors"))):
        assert time.monotonic() < until
        assert all(launcher.poll() is None for launcher in launchers)
        time.sleep(0.1)
    return kept[0].parent


def test_a_machine_without_the_folder_is_told_before_anything_is_computed(script, tmp_path):
    words = [*SMALL, "--epochs", "3", "--out", str(tmp_path)]
    found = ended([launched(0, script, *words), launched(1, script, *words, hidden=tmp_path)])
    assert [code for code, _ in found] == [1, 1]
    sentence, *others = sentences(found)
    assert not others
    assert sentence.endswith("after 2 seconds; do all machines share this folder?")
    assert not list(tmp_path.glob("*/trace"))


def test_a_full_disk_of_one_machine_ends_all_with_a_sentence(script, tmp_path, monkeypatch):
    """Of the other machine, whose processes unpack the third shard and the fourth."""
    noise = np.random.default_rng(0)
    for number in range(4):
        with tarfile.open(tmp_path / f"some-{number}.tar.gz", "w:gz") as packed:
            for name, content in (("0.png", noise.bytes(200_000)), ("0.cls", b"1")):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                packed.addfile(about, io.BytesIO(content))
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("DATABLAME_CACHE", str(cache))
    words = ["train", str(tmp_path), "--model", "mlp", "--out", str(tmp_path.parent / "runs")]
    first = launched(0, script, *words)
    found = ended([first, launched(1, script, *words, hidden=cache, room="100k")])
    assert [code for code, _ in found] == [1, 1]
    (sentence,) = sentences(found)
    assert "the disk is full: could not write" in sentence
    assert "some" not in "".join(path.name for path in cache.rglob("*"))
    assert not list(cache.rglob("*.part"))


def test_two_machines_train_what_one_process_does_though_a_rank_was_killed(script, tmp_path):
    """The launchers start all of them again, and these go on."""
    words = [*SMALL, "--epochs", "60", "--out", str(tmp_path / "two")]
    launchers = [launched(n, script, *words, restarts=2) for n in (0, 1)]
    run = begun(tmp_path / "two", launchers)
    os.kill(workers(launchers[1])[0], signal.SIGKILL)
    found = ended(launchers)
    assert [code for code, _ in found] == [0, 0], found
    assert any("resuming" in line and "of 60" in line for _, lines in found for line in lines)
    assert len(db.Run(run).log) == 60
    how = db.Recipe(model="mlp", precision="fp32", folds=0, epochs=60)
    one = db.train("digits", recipe=how, limit=300, out=tmp_path / "one").trace
    two = db.Run(run).trace
    assert np.allclose(one["loss"][:3], two["loss"][:3], rtol=0.02, atol=0.02)
    assert np.corrcoef(one["margin"].ravel(), two["margin"].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("how", ["cable", "launcher"])
def test_a_lost_machine_is_noticed(script, tmp_path, how):
    """Nobody says good-bye where a cable is pulled: only silence tells."""
    words = [*SMALL, "--epochs", "4000", "--out", str(tmp_path)]
    launchers = [launched(n, script, *words) for n in (0, 1)]
    begun(tmp_path, launchers)
    theirs, began = workers(launchers[1]), time.monotonic()
    with unplugged() if how == "cable" else contextlib.nullcontext(launchers[1].kill()):
        (code, lines), *_ = ended(launchers[:1], 60)
        assert time.monotonic() - began < 30
        assert code == 1
        assert sentences([(code, lines)]) in ([], [f"datablame: {processes.PEER}"])
        while any(alive(worker) for worker in theirs):  # on the other machine
            assert time.monotonic() - began < 60
            time.sleep(0.2)
    launchers[1].kill()
    _, there = launchers[1].communicate()
    both = sentences([(1, lines), (1, there.splitlines())])
    assert both
    assert set(both) <= {f"datablame: {why}" for why in (processes.PEER, processes.LAUNCHER)}


if sys.platform != "linux":
    pytest.skip("processes are looked up in /proc", allow_module_level=True)
