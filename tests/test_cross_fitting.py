"""An audit without a test set: every image is judged, and the proof stays honest."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, blobs

from datablame import InputError, Run, verbs
from datablame.evaluation.comparison import Tried, comparison
from datablame.evaluation.retraining import STANDING, _judge_of
from datablame.inference import predictions
from datablame.label_quality.out_of_sample import heldout
from datablame.training.cross_validation import folds
from datablame.verdict import DROP, FIX, Verdict

WRONG = tuple(range(0, 120, 6))


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    return verbs.audit(blobs(120, 0, WRONG), recipe=TINY, out=tmp_path_factory.mktemp("runs"))


def test_every_image_is_judged_by_models_that_saw_it_and_one_that_did_not(audited):
    run, every = audited, folds(audited)
    assert run.cross_fitted
    assert run.test is None
    assert sorted(torch.cat([fold.rows for fold in every]).tolist()) == list(range(120))
    for fold in every:
        assert not set(fold.run.data.names.to_pylist()) & set(fold.run.test.names.to_pylist())
        assert np.allclose(heldout(run)[fold.rows], predictions.on_test(fold.run))
    margin = torch.stack([_placed(run, fold, "margin") for fold in every]).nanmean(0)
    kept = torch.from_numpy(run.trace["margin"].astype("float32"))
    assert torch.allclose(kept, margin, atol=0.02)
    following = [*every[1:], every[0]]
    for fold, other in zip(every, following, strict=True):
        theirs = _placed(run, other, "prediction")[:, fold.rows]
        assert np.array_equal(run.trace["prediction"][:, fold.rows.numpy()], theirs.numpy())
    assert len(run.log) == TINY.epochs
    assert run.log[-1]["loss"] == pytest.approx(
        np.mean([fold.run.log[-1]["loss"] for fold in every]), abs=1e-4
    )


def _placed(run, fold, channel):
    """A fold's channel [T,N], not a number where its model was not trained."""
    whole = torch.full((TINY.epochs, len(run.data)), torch.nan)
    whole[:, fold.rest] = torch.from_numpy(fold.run.trace[channel].astype("float32"))
    return whole


@pytest.mark.parametrize("signal", ["aum", "knn", "gradnorm"])
def test_scores_are_the_mean_over_the_folds_that_trained_on_an_image(audited, signal):
    total, count = torch.zeros(120), torch.zeros(120)
    for fold in folds(audited):
        total[fold.rest] += verbs.score(fold.run, signal).values
        count[fold.rest] += 1
    assert torch.allclose(verbs.score(audited, signal).values, total / count, atol=1e-3)


def test_functions_of_the_callers_own_are_given_the_whole_run(audited):
    found = verbs.score(
        audited, lambda run: -torch.from_numpy(run.trace["margin"][-1].astype("f4"))
    )
    assert len(found.values) == 120


def test_no_image_that_is_tested_on_had_a_part_in_the_verdict(audited, tmp_path):
    """What the fold's run alone gives, with everything else out of reach, is what was proved."""
    fold = folds(audited)[0]
    proved = _judge_of(audited, audited.verdict)(fold)
    shutil.copytree(fold.run.path, tmp_path / "alone")
    for path in (tmp_path / "alone" / "scores").glob("*"):
        path.unlink()
    alone = verbs.judge(Run(tmp_path / "alone"))
    assert torch.equal(alone.act, proved.act)
    after = verbs.opening.opened(audited.comparison["runs"]["after"][0])
    assert after.data.fingerprint == proved.apply(fold.run.data).fingerprint
    assert not set(after.data.names.to_pylist()) & set(fold.run.test.names.to_pylist())


def test_the_proof_is_on_both_folds_together(audited):
    facts, every = audited.comparison, folds(audited)
    assert facts["test_images"] == sum(len(fold.rows) for fold in every[:2])
    runs = [facts["runs"][kind] for kind in ("before", "after", "control")]
    assert [str(fold.run.path) for fold in every[:2]] == runs[0]
    again = comparison(
        *(Tried(*([Run(path)] for path in each)) for each in zip(*runs, strict=True))
    )
    assert again.gain == tuple(facts["gain"])
    assert facts["by_truth"]
    assert "by their right labels" in facts["sentence"]


def test_without_a_truth_labels_that_are_not_in_doubt_are_told_apart(tmp_path):
    data = dataclasses.replace(blobs(120, 0, WRONG), truth=None)
    run = verbs.audit(data, recipe=TINY, proof=1, judge="mixture", out=tmp_path)
    count, before, after = run.comparison["undoubted"]
    fold, other = folds(run)[:2]
    verdict = _judge_of(run, run.verdict)(other)
    place = torch.searchsorted(other.rest, fold.rows)
    sure = ~torch.isin(verdict.act[place], torch.tensor([DROP, FIX]))
    assert count == int(sure.sum()) < len(fold.rows)
    right = predictions.on_test(fold.run).argmax(1) == fold.run.test.labels.numpy()
    assert before == pytest.approx(right[sure.numpy()].mean(), abs=1e-5)
    assert f"on the {count} whose labels are not in doubt" in run.comparison["sentence"]
    assert after >= 0


def test_a_verdict_that_was_edited_is_tried_as_it_stands_and_said(audited, tmp_path):
    shutil.copytree(audited.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    path = run.path / "verdict.csv"
    path.write_text(path.read_text().replace('"keep"', '"ask"', 1))
    found = verbs.retrain(run, proof=1)
    assert found.caveat == STANDING
    assert STANDING in found.sentence
    fold = folds(run)[0]
    after = Run(json.loads((run.path / "comparison.json").read_text())["runs"]["after"][0])
    standing = Verdict.read(path, run.data).take(fold.rest)
    assert after.data.fingerprint == standing.apply(fold.run.data).fingerprint


def test_judges_that_need_held_out_predictions_are_tried_as_they_stand(audited, tmp_path):
    shutil.copytree(audited.path, tmp_path / "run")
    verbs.judge(tmp_path / "run", judge="confident")
    assert verbs.retrain(tmp_path / "run", proof=1).caveat == STANDING
    verbs.judge(tmp_path / "run", np.arange(120.0), judge="top,share=0.1")
    assert verbs.retrain(tmp_path / "run", proof=1).caveat == STANDING
    verbs.score(tmp_path / "run", "aum", "loss")
    verbs.judge(tmp_path / "run", "blend(aum+loss)", judge="top,share=0.1")
    assert verbs.retrain(tmp_path / "run", proof=1).caveat == ""


def test_what_needs_a_model_takes_the_first_folds(audited, capsys):
    found = verbs.explain(audited, queries=2)
    assert found.data.fingerprint == folds(audited)[0].run.data.fingerprint
    assert "has a model for each fold" in capsys.readouterr().err
    with pytest.raises(InputError, match="a model for each fold and none of all images; open"):
        audited.model  # noqa: B018 - asked for
    page = verbs.report(audited).read_text()
    assert "Why the model answers so" in page


def test_two_audits_are_compared_on_their_folds(audited, tmp_path):
    weak = verbs.audit(
        blobs(120, 0, WRONG), recipe=TINY.but(epochs=1, lr=1e-4), retrain=False, out=tmp_path
    )
    found = verbs.compare(weak, audited)
    assert found.test_images == 120
    assert found.gain[0] > 0


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 0, 1], "has 3 images; each is judged by a model that learned from others"),
        ([0, 1, 2, 3, 4], "every class of arrays has one image"),
        ([0, 0, 0, 0, 0], "one class only"),
    ],
)
def test_sets_that_cannot_be_judged_say_what_is_needed(labels, words, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (len(labels), 1, 8, 8), "uint8")
    with pytest.raises(InputError, match=words):
        verbs.audit((images, labels), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_classes_with_fewer_images_than_folds_are_judged_with_care(tmp_path):
    """Two images of one class, one of another: the only one is never called wrong."""
    data = blobs(60)
    labels = data.labels.clone()
    labels[labels == 2] = 0
    labels[:2], labels[2] = 2, 3
    data = dataclasses.replace(data, labels=labels, truth=None, classes=(*data.classes, "rare"))
    run = verbs.audit(
        data, recipe=TINY.but(folds=4), retrain=False, judge="top,share=1", out=tmp_path
    )
    assert run.verdict.act[2] not in (DROP, FIX)
    assert len(run.verdict.act) == 60


def test_no_folds_and_no_test_set_leave_nothing_to_prove_on(tmp_path):
    with pytest.raises(InputError, match="nothing to try the cleaned set on"):
        verbs.audit(blobs(60), recipe=TINY.but(folds=0), out=tmp_path)
    run = verbs.audit(blobs(60), recipe=TINY.but(folds=0), retrain=False, out=tmp_path)
    assert len(run.verdict.act) == 60
    with pytest.raises(InputError, match="neither test images nor folds"):
        verbs.retrain(run)


def test_a_held_out_part_is_asked_for(tmp_path):
    run = verbs.audit(blobs(60), recipe=TINY, holdout=0.2, retrain=False, out=tmp_path)
    assert (len(run.data), len(run.test), run.cross_fitted) == (48, 12, False)


def test_a_line_of_the_log_that_lacks_a_number_is_damage(audited, tmp_path):
    shutil.copytree(audited.path, tmp_path / "run")
    path = tmp_path / "run" / "log.jsonl"
    path.write_text(path.read_text().replace('"train_error"', '"train_errr"', 1))
    with pytest.raises(InputError, match=r"log\.jsonl is damaged \('train_error' is missing"):
        verbs.report(tmp_path / "run")


def test_test_labels_are_judged_apart(tmp_path):
    test = blobs(60, 1, (4, 9))
    plain = verbs.audit(blobs(), recipe=TINY, test=test, retrain=False, out=tmp_path / "plain")
    run = verbs.audit(
        blobs(), recipe=TINY, test=test, retrain=False, judge_test=True, out=tmp_path / "both"
    )
    assert torch.equal(run.verdict.act, plain.verdict.act), "nothing is chosen by it"
    facts = run.to_json()["test_labels"]
    own = Run(Path(facts["table"]).parent)
    assert own.path.parent == run.path / "test"
    assert own.cross_fitted
    assert own.data.labels.tolist() == run.test.labels.tolist()
    doubted = torch.isin(own.verdict.act, torch.tensor([DROP, FIX]))
    assert facts["suspects"] == int(doubted.sum()) > 0
    right = predictions.on_test(run).argmax(1) == run.test.labels.numpy()
    assert facts["accuracy_undoubted"] == pytest.approx(right[~doubted.numpy()].mean(), abs=1e-5)
    assert "test labels are in doubt, judged apart" in run.card
    with pytest.raises(InputError, match="no test images whose labels"):
        verbs.audit(blobs(), recipe=TINY, judge_test=True, out=tmp_path / "none")
