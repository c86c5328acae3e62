"""What is read from a stranger: a run is data, and nothing leaves its folder."""

import json
import subprocess
import sys

import pytest
from conftest import TINY, blobs

from datablame import Recipe, Run, verbs
from datablame.base import methods
from datablame.base.errors import InputError
from datablame.cli import main

PAYLOAD = """
from pathlib import Path
Path({mark!r}).touch()

def net(shape):
    from datablame.methods.models.mlp import mlp
    return mlp(shape)
"""


@pytest.fixture
def foreign(run, tmp_path, monkeypatch):
    """A colleague's run whose recipe names the code that lies in it; `mark` appears when it runs."""
    import shutil

    home = tmp_path / "foreign"
    shutil.copytree(run.path, home)
    mark = tmp_path / "mark"
    (home / "payload.py").write_text(PAYLOAD.format(mark=str(mark)))
    about = json.loads((home / "run.json").read_text())
    about["recipe"]["model"] = "foreign.payload.net"
    (home / "run.json").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(methods, "TRUSTED", set())
    return home, mark


def test_opening_a_run_imports_nothing(foreign):
    home, mark = foreign
    for verb in (lambda: Run(home).recipe, lambda: verbs.explain(home, queries=1)):
        with pytest.raises(InputError, match=r"names code .*foreign\.payload\.net; .* --trust"):
            verb()
    done = subprocess.run(
        [sys.executable, "-m", "datablame", "explain", "foreign", "--method", "similarity"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "foreign.payload.net" in done.stderr
    assert not mark.exists()


def test_a_run_that_is_trusted_says_what_it_imports(foreign, capfd):
    home, mark = foreign
    assert Run(home, trust=True).recipe.model == "foreign.payload.net"
    assert "importing foreign.payload.net" in capfd.readouterr().err
    assert not mark.exists()
    assert Run(home).recipe.model == "foreign.payload.net", "trusted from here on"


def test_code_of_the_callers_own_needs_no_trust(tmp_path, monkeypatch):
    (tmp_path / "callers_lab.py").write_text(PAYLOAD.format(mark=str(tmp_path / "mark")))
    monkeypatch.syspath_prepend(str(tmp_path))
    run = verbs.train(blobs(), recipe=TINY.but(model="callers_lab.net", folds=0), out=tmp_path / "runs")
    assert Run(run.path).recipe.model == "callers_lab.net"


@pytest.mark.parametrize("field", ["model", "head", "trainer"])
def test_a_recipe_file_names_no_code(field, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{field}: strangers.lab.thing\n")
    with pytest.raises(InputError, match=r"strangers\.lab\.thing; if you trust it"):
        Recipe.read(path)


@pytest.mark.parametrize(
    ("room", "name", "message"),
    [
        ("heads", "math.gcd", "is not a function or class of Python"),
        ("heads", "os.kill", "is not a function or class of Python"),
        ("signals", "os.getcwd", "is not a function"),
        ("signals", "os.sep", "is not a function"),
        ("judges", "shutil.disk_usage", r"cannot be a judge, which is called with \(run, scores\)"),
        ("trainers", "shutil.disk_usage", r"cannot be a trainer, which is called with \(\)"),
        ("models", "nowhere.to_be_found", "cannot import"),
    ],
)
def test_what_is_called_fits_its_room(room, name, message):
    with pytest.raises(InputError, match=message):
        methods.find(room, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 1.5", "epochs must be a whole number; got 1.5"),
        ("epochs: yes", "epochs must be a whole number"),
        ("lr: words", "lr must be a number; got 'words'"),
        ("lr: .nan", "lr must be"),
        ("lr: .inf", "lr must be"),
        ("seed: 1" + 40 * "0", "seed must be"),
        ("model: [a, b]", "model must be text; got list"),
        ("epochs: 100000000000", "epochs must be at most"),
    ],
)
def test_nonsense_in_a_recipe_is_refused(text, message, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Recipe.read(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digits", "--epochs", "1.5"], "a whole number is expected, got '1.5'"),
        (["train", "digits", "--seed", "1.5"], "a whole number is expected, got '1.5'"),
        (["train", "digits", "--lr", "nan"], "a finite number is expected, got 'nan'"),
        (["train", "digits", "--weight-decay", "inf"], "a finite number is expected, got 'inf'"),
        (["train", "digits", "--epochs", "100000000"], "epochs must be at most 100,000"),
        (["load", "digits", "--limit", 20 * "9"], "limit must be at most 2,147,483,647"),
        (["load", "digits", "--split", "nope"], "no split 'nope'"),
        (["load", "digits", "--split", "../x"], "no split '../x'"),
        (["agree", "RUN", "tracin", "influence", "--rows", "-1"], "rows must be at least 1"),
        (["explain", "RUN", "--rerank", "-1"], "rerank must be at least 0"),
        (["judge", "RUN", "--judge", "mixture,sure=nan"], "sure must be a finite number"),
        (["judge", "RUN", "--judge", "mixture,sure=1.5"], "sure must be at most 1"),
        (["train", "digits", "--schedule", "step,at=2"], "steps are at shares of training"),
        (["load", ""], "name a source"),
        (["load", "/dev/null"], "is not a file or a folder"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(words, message, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [str(run.path) if word == "RUN" else word for word in words]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
