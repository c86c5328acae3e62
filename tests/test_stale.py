"""What a run tells is of what stands there now, and no option that was given is ignored."""

import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
import safetensors.torch
import torch
from conftest import TINY, blobs

import datablame as db
from datablame import InputError, Reading, Recipe, Run, verbs
from datablame.cli import main
from datablame.decisions import FILE, Decision, Decisions
from datablame.recipe import CODE, Experiment
from datablame.run import _name
from datablame.training import plan
from datablame.training.pace import encodes


def predicted(tmp_path, **more):
    data = blobs(90, wrong=(7, 30))
    p = 0.7 * np.eye(3)[data.truth.numpy()] + 0.1
    return db.Run.from_predictions(data.labels, p, out=tmp_path, **more)


def test_scores_that_are_called_like_a_judge_are_scores(tmp_path):
    run = predicted(tmp_path)
    verbs.score(run, "confident")
    verdict = verbs.judge(run, "confident")
    assert (verdict.by, verdict.scores) == ("posterior", "confident")
    assert verbs.judge(run, "mixture").by == "mixture", "no signal is called so"


def test_scores_are_written_under_the_name_that_was_given(tmp_path):
    run = predicted(tmp_path)
    mine = verbs.score(run, "confident", name="mine")
    assert torch.equal(mine.values, verbs.score(run, "confident").values)
    assert verbs.judge(run, "mine").scores == "mine"


def test_measures_are_of_the_verdict_that_stands(tmp_path):
    run = verbs.audit(blobs(), recipe=TINY, retrain=False, out=tmp_path)
    before = run.to_json()["roc_auc"]
    verbs.judge(run, np.arange(90.0))
    now = run.to_json()["roc_auc"]
    assert now != before
    verbs.measure(run)
    assert run.to_json()["roc_auc"] == now


def test_a_report_of_another_verdict_is_not_named(tmp_path):
    run = verbs.audit(blobs(), recipe=TINY, retrain=False, out=tmp_path)
    assert run.report == run.path / "report.html"
    verbs.judge(run, judge="top,share=0.1")
    assert "report     none of this verdict yet: datablame report" in run.card
    verbs.report(run)
    assert str(run.path / "report.html") in run.card
    kept = Decisions(run.path / FILE, run.data)
    kept.add(Decision(3, "drop", by="anna"))
    kept.close()
    assert run.report is None, "what was decided since is not on it"


def test_the_card_is_written_when_decisions_are_read(tmp_path):
    run = verbs.audit(blobs(), recipe=TINY, retrain=False, out=tmp_path)
    table = tmp_path / "said.csv"
    table.write_text(f"name,act,by\n{run.data.name(3)},drop,anna\n")
    verbs.decided(run, read=table)
    assert (run.path / "card.txt").read_text() == run.card


def test_retrain_removes_nothing_that_a_person_called_right(tmp_path, monkeypatch):
    run = verbs.audit(blobs(), recipe=TINY, retrain=False, out=tmp_path)
    scores = np.arange(90.0)
    verbs.score(run)
    kept = Decisions(run.path / FILE, run.data)
    kept.add(Decision(int(run.judged.suspicion.argmax()), "right", by="anna"))
    kept.close()
    seen = []
    monkeypatch.setattr(
        "datablame.evaluation.retraining.retraining", lambda *asked: seen.append(asked[1])
    )
    right = int(run.undecided.suspicion.argmax())
    verbs.retrain(run, remove=0.1)
    assert seen[0].act[right] == db.Act.KEEP
    assert int((seen[0].act == db.Act.DROP).sum()) == len(scores) // 10 - 1


def test_without_test_images_the_card_advises_no_retraining(tmp_path):
    run = verbs.audit(blobs(), recipe=TINY.but(folds=0), retrain=False, out=tmp_path)
    assert "datablame retrain" not in run.card
    assert run.card.splitlines()[-1].split() == [
        "datablame",
        "clean",
        str(run.path),
        "--out",
        "cleaned",
    ]


def test_without_images_a_table_of_labels_is_written(tmp_path, capsys):
    run = predicted(tmp_path / "runs")
    verbs.judge(run)
    assert run.to_json()["cleaned"] == "cleaned.parquet"
    with pytest.raises(InputError, match="has no images for a folder"):
        verbs.clean(run, out=tmp_path / "cleaned")
    assert not (tmp_path / "cleaned").exists()
    verbs.clean(run, out=tmp_path / "cleaned.parquet")
    table = parquet.read_table(tmp_path / "cleaned.parquet")
    assert table.column_names == ["name", "label"]
    assert table["label"].to_pylist() == [str(k % 3) for k in range(90)]


def pictures(home, png, sign=0):
    for name, red in (("ant", 200), ("bee", 40)):
        (home / name).mkdir(parents=True)
        for i in range(8):
            (home / name / f"{i}.png").write_bytes(png((red, 9 * i, 20 + sign), (20, 20)))


def test_a_run_learns_where_its_images_are_now(tmp_path, png):
    """The same pictures in another place, and beside them a file that is none."""
    pictures(tmp_path / "one" / "photos", png)
    how = {"recipe": TINY.but(folds=0, epochs=1), "out": tmp_path / "runs"}
    first = verbs.train(tmp_path / "one" / "photos", **how)
    assert not (first.path / "unreadable.csv").exists()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "photos").rename(tmp_path / "two" / "photos")
    (tmp_path / "two" / "photos" / "notes.txt").write_text("no picture")
    again = verbs.train(tmp_path / "two" / "photos", **how)
    assert again.path == first.path
    found = Run(first.path)
    assert found.data.root == str(tmp_path / "two" / "photos")
    assert found.data.not_read == {"no picture": 1} or sum(found.data.not_read.values()) == 1
    assert "notes.txt" in (found.path / "unreadable.csv").read_text()
    (tmp_path / "two" / "photos" / "notes.txt").unlink()
    verbs.train(tmp_path / "two" / "photos", **how)
    assert not (found.path / "unreadable.csv").exists()


def test_other_weights_in_the_same_file_are_another_run(tmp_path):
    data = blobs()
    names = []
    for value in (0.0, 1.0):
        safetensors.torch.save_file({"w": torch.full((3,), value)}, tmp_path / "w.safetensors")
        recipe = Recipe(model=f"resnet18,weights={tmp_path / 'w.safetensors'}")
        names.append(_name(data, recipe, data.fingerprint))
    assert names[0] != names[1]


def test_a_runs_recipe_says_that_it_was_not_retrained(tmp_path):
    run = verbs.audit("digits", limit=120, recipe=TINY, retrain=False, out=tmp_path)
    assert Experiment.read(run.path / "recipe.yaml").data["retrain"] is False


def test_files_of_methods_are_no_code():
    assert CODE.findall("detector,file=mine.safetensors") == []
    assert CODE.findall("frozen:timm/x,weights=mine.safetensors") == []
    assert CODE.findall("mylab.Net,weights=mine.safetensors") == ["mylab.Net"]
    assert CODE.findall("mylab.Net,profile=my.code") == ["mylab.Net", "my.code"]


def test_minutes_hold_for_epochs_that_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "step_cost", lambda *_: (1e-3, 1))

    def planned(recipe):
        return plan.Plan(recipe, 90, 90, 1)

    recipe = TINY.but(epochs=90)
    with pytest.raises(InputError, match="minutes are too few: 90 epochs of"):
        plan.within(0.2, recipe, blobs(), tmp_path, planned)
    assert plan.within(60, recipe, blobs(), tmp_path, planned).epochs == 90


def test_minutes_count_what_an_encoder_looks_at_once(tmp_path):
    run = verbs.train(blobs(), recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "runs")
    recipe = Recipe(model=f"frozen:{run.path}", trainer="linear_probe", augment="none")

    def planned(recipe):
        return plan.Plan(recipe, 90, 90, 1)

    settled = plan.settle(recipe, blobs())
    assert encodes(settled)
    need = plan.estimate(planned(settled), blobs()).minutes
    assert plan.within(2 * need + 1, recipe, blobs(), tmp_path, planned) == settled
    with pytest.raises(InputError, match=r"minutes are too few: frozen:.* needs about"):
        plan.within(need / 9, recipe, blobs(), tmp_path, planned)


def test_a_probe_has_no_use_for_momentum(run):
    recipe = Recipe(model=f"frozen:{run.path}", trainer="linear_probe", momentum=0.5)
    with pytest.raises(InputError, match="linear_probe has no use for momentum"):
        verbs.train(blobs(), recipe=recipe)


def test_choices_that_objects_cannot_make_are_refused():
    data = blobs()
    assert len(db.load(data, limit=10)) == 10
    pair = (data.pixels.array[data.rows.numpy()], data.labels.numpy())
    assert len(db.load(pair, limit=10)) == 10
    for source in (data, pair):
        with pytest.raises(InputError, match="cannot choose this: leave out --label --truth"):
            db.load(source, label="a", truth="b")
    with pytest.raises(InputError, match="leave out --size"):
        db.load(data, size=8)
    with pytest.raises(InputError, match="names of its classes"):
        db.load(data, classes="names.txt")


def test_choices_of_the_training_set_are_not_asked_of_another_test_set(tmp_path, png):
    pictures(tmp_path / "tests", png, sign=50)
    pictures(tmp_path / "imgs", png)
    rows = [f"{k}/{i}.png,{k}" for k in ("ant", "bee") for i in range(8)]
    (tmp_path / "t.csv").write_text("path,worse\n" + "\n".join(rows) + "\n")
    reading = Reading(label="worse", root=str(tmp_path / "imgs"), test=str(tmp_path / "tests"))
    how = {"recipe": TINY.but(folds=0, epochs=1), "reading": reading, "out": tmp_path / "runs"}
    run = verbs.train(str(tmp_path / "t.csv"), **how)
    assert (len(run.data), len(run.test)) == (16, 16)
    assert run.test.source == "tests"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["audit", "digits", "--no-retrain", "--seeds", "3"], "leave out --no-retrain, or --seeds"),
        (["train", "digits", "--seeds", "2", "--holdout", "0", "--folds", "0"], "on test images"),
        (["retrain", "RUN", "--minutes", "5", "--seeds", "3"], "leave out --seeds"),
        (["explain", "RUN", "--label", "left"], "--label is the class of pictures"),
        (["explain", "RUN", "x.png", "--queries", "3"], "leave out --queries and --pick"),
        (
            ["memory", "show", "RUN", "x.png", "--pick", "mistakes"],
            "leave out --queries and --pick",
        ),
        (["look", "digits", "--keep-leaks"], "leaves none out: leave out --keep-leaks"),
        (
            ["corrupt", "digits", "--test-limit", "3"],
            "one set, without test images: leave out --test",
        ),
        (["import", "x.npz", "--limit", "3"], "without --data there are labels alone: leave out"),
        (["index", "RUN", "--block", "0"], "block must be at least 1"),
    ],
)
def test_options_without_effect_are_refused(run, capsys, words, told):
    assert main([str(run.path) if word == "RUN" else word for word in words]) == 2
    assert told in capsys.readouterr().err


def test_an_answer_ranked_again_otherwise_is_another_answer(tmp_path):
    run = verbs.train(blobs(), recipe=TINY.but(folds=0), out=tmp_path)
    verbs.index(run, block=4)
    how = {"queries": run.data.take([0, 1]), "index": "only"}
    first, more = (verbs.explain(run, **how, rerank=count) for count in (12, 40))
    assert first.path != more.path
    assert json.loads((more.path / "attribution.json").read_text())["keep"] == 10


def test_scores_have_no_part_where_several_annotators_judge(tmp_path, capsys):
    data = blobs(90)
    votes = torch.stack([data.labels, data.truth, data.truth], 1)
    run = db.find(votes, 0.7 * np.eye(3)[data.truth.numpy()] + 0.1, out=tmp_path)
    capsys.readouterr()
    verbs.judge(run, "confident")
    assert "confident has no part in it" in capsys.readouterr().err
    verbs.judge(run, np.arange(90.0))
    assert "given has no part in it" in capsys.readouterr().err
    verbs.judge(run)
    assert "no part" not in capsys.readouterr().err
