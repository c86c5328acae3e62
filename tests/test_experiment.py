"""A whole experiment from its file: the run repeated, the steps taken, nothing trusted."""

import shlex

import pytest
from test_cli import call

import datablame as db
from datablame import InputError, Recipe, verbs
from datablame.recipe import Experiment, shipped

FILE = """
model: mlp,hidden=16
epochs: 2
folds: 0
train: {source: digits, limit: 300}
values: {amounts: 0.2 0.4, signal: aum}
steps:
  - score {run} {signal}
  - each: {noise: [uniform, pair], amount: "{amounts}"}
    steps:
      - train {source} --noise {noise} --amount {amount}
      - score {run} {signal}
  - report {first}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    return path


def test_steps_are_taken_in_their_order_on_their_runs(file, tmp_path):
    found = db.experiment(file, out=tmp_path / "runs", amounts="0.3", limit=200)
    words = [shlex.split(command) for command in found.commands]
    verbs_of = [each[0] for each in words]
    assert verbs_of == ["train", "score", "train", "score", "train", "score", "report"]
    trained = [
        result for result, verb in zip(found.results, verbs_of, strict=True) if verb == "train"
    ]
    assert [run.data.noise for run in trained] == [None, "uniform", "pair"]
    assert len(trained[0].data) == 160  # of 200, the option, a fifth held out
    assert [words[at][1] for at in (1, 3, 5)] == [str(run.path) for run in trained]
    assert words[6][1] == str(trained[0].path)
    assert trained[0].recipe.model == "mlp,hidden=16"
    assert float(trained[2].data.wrong.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert found.to_json()[found.commands[0]]["run"] == str(trained[0].path)


def test_a_dry_run_says_commands_that_run(file, tmp_path, capsys):
    code, out, _ = call(capsys, "run", file, "--dry-run", "--out", tmp_path / "runs")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 11
    assert lines[0].startswith("datablame train digits --model=mlp,hidden=16 --epochs=2 --folds=0")
    assert "--amount 0.4" in out
    assert not (tmp_path / "runs").exists()
    assert call(capsys, *shlex.split(lines[0])[1:])[0] == 0


@pytest.mark.parametrize("audited", [False, True])
def test_a_run_is_repeated_from_its_recipe_alone(tmp_path, audited):
    options = {"limit": 200, "epochs": 2, "noise": "uniform", "amount": 0.3, "seed": 3}
    if audited:
        options |= {"folds": 2, "judge": "mixture", "retrain": False, "signals": "aum"}
        first = db.audit("digits", out=tmp_path / "a", **options)
    else:
        first = db.train("digits", out=tmp_path / "a", examples=100, folds=0, **options)
    where = first.path if audited else first.path / "recipe.yaml"
    again = db.experiment(where, out=tmp_path / "b").results[0]
    assert again.path.name == first.path.name
    for name in ("verdict.csv",) if audited else ("model.safetensors", "trace/loss.npy"):
        assert (again.path / name).read_bytes() == (first.path / name).read_bytes()
    assert Recipe.read(first.path / "recipe.yaml") == first.recipe


def test_a_set_that_came_from_python_must_be_named(tmp_path):
    data = db.load("digits", limit=200)
    run = db.train(data, model="mlp", epochs=1, folds=0, out=tmp_path)
    with pytest.raises(InputError, match=r"names no data; name it: datablame run .* SOURCE"):
        db.experiment(run.path / "recipe.yaml", out=tmp_path / "b")
    again = db.experiment(run.path / "recipe.yaml", "digits", out=tmp_path / "b", limit=200)
    assert (again.results[0].data.labels == run.data.labels).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("score {run} {signal}", "clean {run}"), "no step 'clean'"),
        (("score {run} {signal}", "score {rum}"), "no word of a step 'rum'; did you mean run"),
        (("score {run} {signal}", "detector teach {run} --out /tmp/x"), "names a path"),
        (("score {run} {signal}", "detector teach {run} --out=../x"), "names a path"),
        (("score {run} {signal}", "retrain {run} --remve 0.1"), "the step 'retrain RUN --remve"),
        (("{source: digits, limit: 300}", "digits"), "train must be a mapping"),
        (
            ("steps:", "steps: 3\nextra:"),
            "steps must be a list",
        ),
        (("signal: aum", "signal: ../x"), "names a path"),
        (("[uniform, pair]", "[uniform, /tmp/x]"), "names a path"),
        (("score {run} {signal}", "detector teach {run} --out here.safetensors"), "names a path"),
        (("score {run} {signal}", "score {run} mylab.signal,k=3"), "names code .*: mylab.signal;"),
        (("signal: aum", "signal: mylab.signal"), "names code .*: mylab.signal;"),
        (("[uniform, pair]", "[uniform, mylab.noise]"), "names code .*: mylab.noise;"),
        (("limit: 300", "limit: 300, noise: mylab.noise"), "names code .*: mylab.noise;"),
        (("limit: 300", "limit: 300, model: mylab.net"), "names code .*: mylab.net;"),
        (("epochs: 2", "epoch: 2"), "no field of a recipe 'epoch'; did you mean epochs"),
        (("values:", "audit: {source: digits}\nvalues:"), "begins with train or audit"),
        (("  - report {first}", "  - {each: {a: [1]}}"), "a step is a command"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_made(file, tmp_path, change, words):
    file.write_text(FILE.replace(*change, 1))
    with pytest.raises(InputError, match=words):
        db.experiment(file, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_option_that_no_command_has_is_refused(file, tmp_path, capsys):
    code, _, err = call(capsys, "run", file, "--lmit", "200", "--out", tmp_path / "runs")
    assert code == 2
    assert "lmit" in err
    assert not (tmp_path / "runs").exists()


def test_the_experiments_that_are_shipped_are_of_known_words(tmp_path):
    whole = [name for name in shipped() if Experiment.read(verbs.experimenting.Path(name)).steps]
    assert len(whole) >= 4
    for name in whole:
        commands = db.experiment(name, "digits", out=tmp_path, dry_run=True).commands
        assert len(commands) > 3


def test_memory_wrap_is_compared_with_its_baselines_by_one_command(tmp_path):
    found = db.experiment(
        "wrap_small", out=tmp_path, model="mlp,hidden=16", epochs=1, augment="none", examples=100,
        repeats=2, heads="memory_wrap linear",
    )  # fmt: skip
    test = found.results[-2]
    assert len(test.runs) == 4
    assert found.commands[-1].startswith("memory show")


def test_a_run_within_minutes_says_how_it_was_asked_for(tmp_path):
    run = db.train("digits", limit=200, folds=0, model="mlp,hidden=16", minutes=5, out=tmp_path)
    known = Experiment.read(run.path / "recipe.yaml")
    assert known.data == {"source": "digits", "limit": 200}
    assert known.recipe == run.recipe
