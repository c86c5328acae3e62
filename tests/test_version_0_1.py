"""What version 0.1 wrote opens under the names of today: a run folder, a recipe, specs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datablame import InputError, Recipe, Run, Verdict, verbs
from datablame.base.methods import current, find
from datablame.dynamics.detector import Detector
from datablame.verdict import FIX

OLD = Path(__file__).parent / "version_0_1"


@pytest.fixture
def old(tmp_path):
    """The run that version 0.1 left, its images put where its description says."""
    shutil.copytree(OLD / "run", tmp_path / "run")
    for path in (tmp_path / "run" / "data").glob("*.json"):
        about = json.loads(path.read_text())
        about["images"]["path"] = str(OLD / "images.npy")
        path.write_text(json.dumps(about))
    return Run(tmp_path / "run")


def test_a_recipe_opens():
    recipe = Recipe.read(OLD / "recipe.yaml")
    assert (recipe.lr, recipe.weight_decay, recipe.batch_size) == (0.1, 1e-4, 10)
    assert (recipe.record, recipe.top_k, recipe.trainer) == ("eval", 2, "data_parameters,lr=0.5")


def test_a_run_opens_and_is_worked_on(old):
    assert old.finished
    assert old.recipe == Recipe.read(OLD / "recipe.yaml")
    assert old.model(old.data.batch(torch.arange(3))[0]).shape == (3, 3)
    assert old.trace["prediction"].shape == old.trace["temperature"].shape == (6, 40)
    assert {"prediction", "temperature"} <= set(old.trace)
    assert np.array_equal(old.trace["temperature"], np.load(old.path / "trace" / "sigma.npy"))
    assert not Verdict.edited(old.path / "verdict.csv")
    verdict = Verdict.read(old.path / "verdict.csv", old.data)
    assert verdict.estimate == (2.0, 2.0, 2.0)
    assert (verdict.act == FIX).nonzero()[:, 0].tolist() == [7, 20]
    assert verdict.probability[20] == 1
    found = verbs.score(old, "sigma")
    assert found.values.tolist() == np.load(old.path / "scores" / "sigma.npy").tolist()
    assert torch.allclose(verbs.score(old, "temperature").values, found.values)
    assert verbs.judge(old, judge="trajectory", by="temperature").count(0, 1, 2) == 40
    assert "Worst suspects" in verbs.report(old).read_text()


@pytest.mark.parametrize(
    ("room", "before", "now"),
    [
        (
            "trainers",
            "temper,of=class,class_rate=0.1,most=9",
            "data_parameters,level=class,class_lr=0.1,max=9",
        ),
        ("trainers", "newton", "linear_probe"),
        ("signals", "sigma,epoch=3", "temperature,epoch=3"),
        ("signals", "heat,of=cooling", "temperature_curve,statistic=fall"),
        ("signals", "datamap,of=variability", "datamap,statistic=variability"),
        ("attributors", "influence,of=loss", "influence,measure=loss"),
        ("signals", "knn,k=3", "knn,k=3"),
        ("signals", "lstm,detector=many", "detector,file=shipped"),
        ("signals", "lstm,detector=own.safetensors", "detector,file=own.safetensors"),
    ],
)
def test_specs_are_read(room, before, now):
    assert current(room, before) == now
    assert find(room, before).func.__name__ == now.partition(",")[0]


def test_a_detector_is_to_be_taught_again():
    with pytest.raises(InputError, match=r"taught by an earlier version of datablame.*teach it"):
        Detector.load(OLD / "few.safetensors")


def test_noise_by_the_name_of_the_papers_program():
    """Jia et al.'s scripts call pairs that are swapped `flip`."""
    data = verbs.load("digits", limit=200)
    one, other = (verbs.corrupt(data, name, amount=0.2, seed=3) for name in ("flip", "pair"))
    assert one.labels.equal(other.labels)
    assert one.noise == other.noise
