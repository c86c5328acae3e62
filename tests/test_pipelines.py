"""What others' pipelines call: the action, the hooks, a stage, trackers, and the image for Docker."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

from datablame.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "pipelines.md").read_text()
SMALL = "--no-retrain --limit 300 --epochs 4 --folds 2 --model mlp --noise pair --amount 0.2"


def shell(script, folder, **more):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", *script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | more,
    )


@pytest.fixture
def photos(tmp_path, png, monkeypatch):
    generator = np.random.default_rng(0)
    for row in range(24):
        folder = tmp_path / "photos" / ("cat", "dog")[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        colour = tuple(int(x) for x in generator.integers(0, 120, 3) + 120 * (row % 2))
        (folder / f"{row}.png").write_bytes(png(colour, (24, 24)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_action_fails_for_new_suspects_alone(tmp_path):
    """Its script, twice: the second time all suspects are known."""
    told = {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_OUTPUT": str(tmp_path / "out"),
    }
    words = {"SOURCE": "digits", "OPTIONS": SMALL, "FAIL_OVER": "1%"} | told
    first = shell([ROOT / "tools" / "action.sh"], tmp_path, **words)
    assert first.returncode == 3, first.stderr
    run = (tmp_path / "out").read_text().strip().removeprefix("run=")
    assert (tmp_path / run / "report.html").exists()
    assert "images are suspect" in (tmp_path / "summary").read_text()
    again = shell([ROOT / "tools" / "action.sh"], tmp_path, **words)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "summary").read_text().endswith("0 of them are new\n")
    bad = shell([ROOT / "tools" / "action.sh"], tmp_path, **words | {"SOURCE": "nowhere/"})
    assert bad.returncode == 2
    assert "nowhere" in bad.stderr


def test_the_action_names_what_is_there():
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    text = json.dumps(action)
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    assert used == set(action["inputs"])
    steps = {step["id"] for step in action["runs"]["steps"] if "id" in step}
    assert set(re.findall(r"steps\.(\w+)\.", text)) <= steps
    assert all(step.get("shell") or "uses" in step for step in action["runs"]["steps"])
    for script in re.findall(r"github\.action_path \}\}/([\w/.]+)", text):
        assert (ROOT / script).is_file()
    given = yaml.safe_load(re.search(r"```yaml\n(on: .*?)```", PAGE, re.DOTALL)[1])
    with_ = given["jobs"]["labels"]["steps"][1]["with"]
    assert set(with_) <= set(action["inputs"])


def test_the_hooks_run(photos, capsys):
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        words = [*shlex.split(hook["entry"])[1:], *hook["args"]]
        if hook["id"] == "datablame-audit":
            words = [*words[:-1], "100%", "--epochs", "2", "--folds", "2"]
        assert main(words) == 0, capsys.readouterr().err
    shutil.copy(photos / "photos" / "cat" / "0.png", photos / "photos" / "dog" / "again.png")
    look = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())[0]
    assert main(["look", *look["args"]]) == 3
    asked = yaml.safe_load(re.search(r"```yaml\n(repos:.*?)```", PAGE, re.DOTALL)[1])
    assert asked["repos"][0]["hooks"][0]["id"] == look["id"]


@pytest.mark.slow
def test_the_stage_of_dvc_runs(photos):
    stage = yaml.safe_load(re.search(r"```yaml\n(stages:.*?)```", PAGE, re.DOTALL)[1])["stages"][
        "audit"
    ]
    assert shell(["-c", stage["cmd"]], photos).returncode == 0
    for made in [*stage["outs"], *stage["metrics"][0]]:
        assert (photos / made).exists()
    assert json.loads((photos / "audit.json").read_text())["examples"] == 24


def test_trackers_get_the_curves(run, monkeypatch):
    """With stand-ins for the three: each is called by the names that it has."""
    said = []

    class Log:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            said.append("closed")

        def log(self, facts, step):
            said.append((step, facts))

        def log_artifact(self, path, name, type):
            assert Path(path).name == "report.html"

    fakes = {
        "wandb": types.SimpleNamespace(init=lambda project, name: Log()),
        "mlflow": types.SimpleNamespace(
            start_run=lambda run_name: Log(),
            log_metrics=lambda facts, step: said.append((step, facts)),
            log_artifact=lambda path: said.append(path),
        ),
        "trackio": types.SimpleNamespace(
            init=lambda project, name: None,
            log=lambda facts: said.append((facts.pop("epoch"), facts)),
            finish=lambda: said.append("closed"),
        ),
    }
    programs = re.findall(r"```text\n(# .*?)```", PAGE, re.DOTALL)
    assert len(programs) == len(fakes)
    monkeypatch.setattr(sys, "argv", ["program", str(run.path)])
    for program, (name, fake) in zip(programs, fakes.items(), strict=True):
        assert f"import {name}" in program
        assert len(program.splitlines()) <= 13
        monkeypatch.setitem(sys.modules, name, fake)
        said.clear()
        exec(compile(program, name, "exec"), {})
        curves = [each for each in said if isinstance(each, tuple)]
        assert [step for step, _ in curves] == [entry["epoch"] for entry in run.log]
        assert all(
            isinstance(value, (int, float)) for _, facts in curves for value in facts.values()
        )
        assert "closed" in said


@pytest.mark.slow
def test_the_image_has_what_it_copies(tmp_path):
    """The package is made of these files alone; each other line names what there is."""
    lines = [
        line.split(maxsplit=1)
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert next(word for word, _ in lines) == "FROM"
    copied = [shlex.split(rest) for word, rest in lines if word == "COPY"]
    for *sources, target in copied:
        for source in sources:
            place = tmp_path / (target if target != "./" else source)
            kind = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            kind(ROOT / source, place)
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "-w", tmp_path / "made", tmp_path], check=True, capture_output=True)
    assert len(list((tmp_path / "made").glob("datablame-*.whl"))) == 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = next(rest for word, rest in lines if word == "RUN" and "torch-backend" in rest)
    extras = re.search(r"\.\[([\w,]+)\]", installed)[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert json.loads(dict(lines)["ENTRYPOINT"])[0] in project["scripts"]
    assert dict(lines)["USER"] != "root"
