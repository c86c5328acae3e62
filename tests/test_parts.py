"""Shares of work for arrays of jobs: together they are the whole, and nobody does another's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, blobs

from datablame import Run, verbs
from datablame.analyses import attribute
from datablame.base import files, folders
from datablame.base.errors import InputError
from datablame.base.parts import Part
from datablame.influence.products import GradientProducts


@pytest.fixture
def mine(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "runs" / run.path.name)
    return Run(tmp_path / "runs" / run.path.name)


def test_shares_are_all_and_none_twice():
    every = [Part.read(f"{number}/3").mine(range(10)) for number in (1, 2, 3)]
    assert sorted(item for share in every for item in share) == list(range(10))
    assert list(Part.read("3/3").mine(range(2))) == []


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "a/b", "1/3/5", "1.5/3", ""])
def test_a_share_outside_its_range_is_refused(text):
    with pytest.raises(InputError, match="from 1 to N of N shares, as 3/8"):
        Part.read(text)


def test_parts_of_a_sweep_are_the_whole_sweep(mine, monkeypatch):
    monkeypatch.setattr(attribute, "BLOCK", 20)
    monkeypatch.setattr(attribute, "_group", lambda attributor, queries: 3)
    whole = verbs.explain(mine, queries=5)
    values = np.array(whole.values)
    shutil.rmtree(whole.path)
    found = [verbs.explain(mine, queries=5, part=f"{number}/3") for number in (1, 3)]
    assert [each["done"] for each in found] == [4, 3]
    assert found[0]["of"] == 10  # two groups of queries, five blocks of rows
    met = []
    score = GradientProducts.score
    monkeypatch.setattr(
        GradientProducts,
        "score",
        lambda self, held, rows: met.append(len(rows)) or score(self, held, rows),
    )
    again = verbs.explain(mine, queries=5)
    assert len(met) == 3, "what the missing part would have done"
    assert np.array_equal(again.values, values)
    assert not list(mine.path.glob("attributions/*parts*")), "its blocks are not needed any more"


def test_a_part_that_was_done_is_not_done_again(mine, monkeypatch):
    first = verbs.explain(mine, queries=5, part="1/1")
    monkeypatch.setattr(GradientProducts, "score", lambda *_: 1 / 0)
    assert verbs.explain(mine, queries=5, part="1/1").to_json() == first.to_json()


def test_parts_that_were_made_in_another_way_are_left_aside(mine, capsys):
    """An array on a device with bf16, put together on one without: nothing of it is lost."""
    bf16 = f"influence,{','.join(f'{each}=bf16' for each in ('factors', 'gradients', 'scores'))}"
    verbs.explain(mine, queries=5, method=bf16, part="1/1")
    (folder,) = mine.path.glob("attributions/*parts*")
    folder.rename(folder.with_name(folder.name.replace(bf16, "influence")))
    exact = verbs.explain(mine, queries=5)
    assert "was made in another way (precision), so it is left aside" in capsys.readouterr().err
    (left,) = mine.path.glob("attributions/*parts*")
    assert list(left.glob("*.npy"))
    shutil.rmtree(exact.path)
    shutil.rmtree(left)
    assert np.array_equal(verbs.explain(mine, queries=5).values, exact.values)


def test_a_part_has_nothing_to_do_where_the_whole_is_there(mine):
    verbs.explain(mine, queries=5)
    assert verbs.explain(mine, queries=5, part="1/2")["of"] == 0
    assert not list(mine.path.glob("attributions/*parts*"))


def test_jobs_leave_each_others_files_alone(tmp_path):
    """Whoever holds a folder deletes what was left by a program that is no more, and that alone."""
    here = files._part(tmp_path / "x.npy").name
    mine = here.replace(str(os.getpid()), str(os.getppid()))  # of another job that is at work
    dead = here.replace(str(os.getpid()), "999999999")
    away = ".y.npy.0badcafe-17.part"
    for name in (mine, dead, away, f"old{away}"):
        (tmp_path / name).touch()
    (tmp_path / f"old{away}").rename(tmp_path / f".old{away}")
    os.utime(tmp_path / f".old{away}", (0, 0))
    with folders.alone(tmp_path):
        assert {path.name for path in tmp_path.glob("*.part")} == {mine, away}


def test_what_a_killed_program_left_of_an_output_goes_with_its_next_writing(mine, tmp_path):
    home = tmp_path / "out"
    dead = files._part(home / "set.parquet").name.replace(str(os.getpid()), "999999999")
    other = dead.replace("set", "other")
    (home / dead).mkdir(parents=True)
    (home / dead / "half").touch()
    (home / other).touch()
    verbs.judge(mine)
    verbs.export(mine, home / "set.parquet")
    assert {path.name for path in home.iterdir()} == {"set.parquet", other}


@pytest.mark.parametrize("verb", ["retrain", "train"])
def test_a_part_of_so_many_minutes_is_refused(mine, verb):
    verbs.score(mine, "aum")
    verbs.judge(mine, "aum")
    given = {"recipe": TINY} if verb == "train" else {}
    with pytest.raises(InputError, match="each job would"):
        getattr(verbs, verb)(blobs() if given else mine, minutes=5, part="1/2", **given)


def test_a_block_of_another_size_is_damaged(mine):
    (path,) = verbs.explain(mine, queries=5, part="1/1")["written"]
    np.save(path, np.zeros((2, 2), "float32"))
    with pytest.raises(InputError, match="is damaged"):
        verbs.explain(mine, queries=5)


def test_jobs_share_an_ablation(mine):
    verbs.score(mine, "aum")
    words = {"shares": (0.0, 0.2), "seeds": (0, 1)}
    found = [verbs.ablate(mine, "aum", **words, part=f"{number}/2") for number in (1, 2)]
    trained = [path for each in found for path in each["written"]]
    # the whole set is trained once a seed: with the first, that is the run itself
    assert len(trained) == len(set(trained)) == found[0]["of"] == 5
    before = {
        path: path.stat().st_mtime_ns for path in mine.path.parent.glob("*/model.safetensors")
    }
    rows = verbs.ablate(mine, "aum", **words).rows
    after = {path: path.stat().st_mtime_ns for path in mine.path.parent.glob("*/model.safetensors")}
    assert before == after, "the command itself trains nothing any more"
    assert len(rows) == 8


def test_heads_are_not_shared(mine):
    vars(mine)["recipe"] = mine.recipe.but(trainer="linear_probe")
    with pytest.raises(InputError, match="fitted all at once"):
        verbs.ablate(mine, "aum", part="1/2")


def test_jobs_share_a_retraining(mine):
    verbs.score(mine, "aum")
    verbs.judge(mine, "aum")
    every = [verbs.retrain(mine, seeds=2, part=f"{number}/3") for number in (1, 2, 3)]
    assert sum(each["done"] for each in every) == every[0]["of"]
    before = set(mine.path.parent.glob("*"))
    verbs.retrain(mine, seeds=2)
    assert set(mine.path.parent.glob("*")) == before


def test_jobs_share_seeds(tmp_path):
    words = {"recipe": TINY.but(folds=0, epochs=2), "test": blobs(30, 1, ()), "out": tmp_path}
    found = [verbs.train(blobs(), seeds=3, part=f"{number}/2", **words) for number in (1, 2)]
    assert [each["done"] for each in found] == [2, 1]
    verbs.train(blobs(), seeds=3, **words)
    assert len(list(tmp_path.glob("*/run.json"))) == 3


SBATCH = """#!/bin/sh
# a scheduler: all tasks of the array at once
last=$(sed -n 's/^#SBATCH --array=1-//p' "$1")
for task in $(seq "$last"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$last bash "$1" >"$1.$task" 2>&1 &
    jobs="$jobs $!"
done
for job in $jobs; do wait "$job" || exit 1; done
"""


@pytest.mark.slow
def test_the_script_of_the_documents_runs_as_an_array(mine, tmp_path):
    """At once, on one run: the jobs wait for each other where they must."""
    page = (Path(__file__).parents[1] / "docs" / "scale.md").read_text()
    script = re.search(r"```bash\n(.*?)```", page, re.DOTALL)[1]
    (tmp_path / "ablate.sh").write_text(script.replace("--array=1-8", "--array=1-2"))
    (tmp_path / "sbatch").write_text(SBATCH)
    environment = os.environ | {"RUN": str(mine.path), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    subprocess.run(["sh", tmp_path / "sbatch", tmp_path / "ablate.sh"], check=True, env=environment)
    said = [(tmp_path / f"ablate.sh.{task}").read_text() for task in (1, 2)]
    done = [int(re.search(r"done +(\d+)", each)[1]) for each in said]
    assert sum(done) == int(re.search(r"of +(\d+)", said[0])[1])
    trained = set(mine.path.parent.glob("*/model.safetensors"))
    verbs.ablate(mine, "loss", "aum", shares=(0.0, 0.1, 0.2))
    assert set(mine.path.parent.glob("*/model.safetensors")) == trained
