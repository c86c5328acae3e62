"""Judges, verdicts, metrics and comparisons: hand-made numbers and order relations."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from conftest import TINY, blobs

from datablame import InputError, Run, Scores, Verdict, verbs
from datablame.base.methods import find
from datablame.dataset import Dataset
from datablame.evaluation.comparison import Tried, comparison, interval
from datablame.evaluation.metrics import Measures, against_truth, at_half, metrics
from datablame.scores import name_of, place
from datablame.verdict import ASK, DROP, FIX, KEEP, decide


def predicted(n=600, wrong=60, sure=0.9, seed=0, hard=0):
    """A run from predictions: `wrong` labels that held-out predictions contradict, `hard` right
    ones they doubt.
    """
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(n) % 3
    labels = truth.clone()
    labels[:wrong] = (labels[:wrong] + 1) % 3
    logits = torch.randn(n, 3, generator=generator) * 0.5
    logits[torch.arange(n), truth] += 5 * sure
    doubt = slice(wrong, wrong + hard)
    logits[doubt] = torch.randn(hard, 3, generator=generator) * 0.1
    logits[torch.arange(n)[doubt], truth[doubt]] += 0.4
    return Run.from_predictions(labels.numpy(), logits.softmax(1).numpy()), labels != truth


def test_mixture_finds_its_own_cut():
    run, wrong = predicted()
    verdict = find("judges", "mixture")(run, verbs.score(run))
    held = torch.isin(verdict.act, torch.tensor([DROP, FIX]))
    assert torch.equal(held, wrong)
    assert verdict.estimate[1] <= 60 <= verdict.estimate[2]
    assert verdict.estimate[2] - verdict.estimate[1] < 60
    assert set(verdict.suspects.tolist()) == set(wrong.nonzero()[:, 0].tolist())
    right = (run.data.labels - 1) % 3
    assert torch.equal(verdict.proposed[wrong], right[wrong])


def test_hard_images_are_not_called_wrong():
    run, _ = predicted(hard=60)
    verdict = find("judges", "top,share=0.2")(run, verbs.score(run, "confident"))
    hard = slice(60, 120)
    assert (verdict.act[:60] >= DROP).all()
    assert (verdict.act[hard] <= ASK).float().mean() > 0.9
    assert (verdict.act[hard] == ASK).float().mean() > 0.5


def test_a_clean_set_is_left_alone():
    run, _ = predicted(wrong=0)
    verdict = find("judges", "mixture")(run, verbs.score(run))
    assert verdict.count(DROP, FIX) <= 6


def test_the_confident_joint_counts_as_cleanlab_does():
    """Off-diagonal counts of a joint worked out by hand: see the docstring's equation 2."""
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9], [0.85, 0.15]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    run = Run.from_predictions(labels, p)
    verdict = find("judges", "confident")(run, verbs.score(run, "confident"))
    # thresholds: class 0 (.9+.8+.1)/3 = .6, class 1 (.8+.9+.15)/3 = .617; every row is above one:
    # joint [[2,1],[1,2]]
    assert verdict.estimate[0] == 2
    assert verdict.act.tolist() == [KEEP, KEEP, FIX, KEEP, KEEP, FIX]


def test_decide_tells_wrong_from_hard():
    data = Dataset.from_arrays(None, [0, 0, 0, 1], ("a", "b"))
    opinion = torch.tensor([[0.1, 0.9], [0.45, 0.55], [0.8, 0.2], [0.9, 0.1]])
    suspect = torch.tensor([True, True, True, False])
    verdict = decide(
        data,
        Scores("x", torch.tensor([4.0, 3.0, 2.0, 1.0])),
        suspect,
        opinion,
        0.6,
        "me",
        (2.0, 1.0, 3.0),
    )
    assert verdict.act.tolist() == [FIX, DROP, ASK, KEEP]
    assert verdict.proposed.tolist() == [1, 1, -1, 0]
    cleaned = verdict.apply(data)
    assert cleaned.labels.tolist() == [1, 0, 1]
    assert cleaned.names.to_pylist() == ["train/000000", "train/000002", "train/000003"]


def test_a_verdict_survives_the_table_and_a_persons_edits(tmp_path):
    data = Dataset.from_arrays(None, [0, 0, 1], ("=cat", "dog"), names=["a", "+b", "c,d"])
    verdict = Verdict(
        torch.tensor([3, 0, 1]),
        torch.tensor([1, -1, 0]),
        torch.tensor([0.7, 0, 0.4]),
        torch.tensor([2.5, -1, 0.5]),
        "mixture",
        1.0,
        (1.0, 0.0, 2.0),
    )
    path = verdict.save(tmp_path / "verdict.csv", data)
    text = path.read_text()
    assert "'=cat" in text
    assert "'+b" in text
    back = Verdict.read(path, data)
    for field in ("act", "proposed", "suspicion", "probability"):
        assert torch.allclose(
            getattr(back, field).float(), getattr(verdict, field).float(), atol=1e-3
        ), field
    assert (back.by, back.cut, back.estimate) == ("mixture", 1.0, (1.0, 0.0, 2.0))
    path.write_text(text.replace('"fix"', '"drop"'))
    assert Verdict.read(path, data).act.tolist() == [DROP, KEEP, ASK]
    for old, new, words in (
        ('"fix"', '"fixx"', "did you mean fix"),
        ('"dog"', '"dgo"', "did you mean dog"),
        ('"c,d"', '"zzz"', "line 3"),
        ('"dog"', '""', "line 2: 'fix' needs a proposed label"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=words):
            Verdict.read(path, data)
    path.write_text("hello\n")
    with pytest.raises(InputError, match="is not a verdict"):
        Verdict.read(path, data)


def test_metrics_by_hand():
    values = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    wrong = torch.tensor([1, 0, 1, 0, 0, 0, 0, 0, 0, 0], dtype=torch.bool)
    m = metrics(values, wrong)
    assert m["roc_auc"] == pytest.approx(15 / 16)
    assert m["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert m["fnr_at_noise_rate"] == pytest.approx(0.5)
    assert m["found_at_10"] == pytest.approx(0.5)
    assert m["found_at_20"] == pytest.approx(0.5)
    assert [m[f"found_at_{share}"] for share in range(30, 100, 10)] == [1.0] * 7
    with pytest.raises(InputError, match="no label is wrong"):
        metrics(values, torch.zeros(10, dtype=torch.bool))
    with pytest.raises(InputError, match="every label is wrong"):
        metrics(values, torch.ones(10, dtype=torch.bool))
    with pytest.raises(InputError, match="--truth"):
        against_truth(Scores("aum", values[:2]), Dataset.from_arrays(None, [0, 1]))
    half = at_half(values, wrong)
    assert half["f1_at_half"] == pytest.approx(2 * 2 / (4 + 2))
    assert half["precision_at_half"] == pytest.approx(2 / 4)
    assert half["recall_at_half"] == 1.0
    assert at_half(values - 1, wrong)["precision_at_half"] == 0
    printed = str(Measures({"aum": m | half}))
    assert "found_at_20" in printed
    assert "found_at_30" not in printed, "all are in the table and in --json"
    assert "found_at_90" in Measures({"aum": m | half}).columns()
    assert half["accuracy_at_half"] == pytest.approx(0.8)
    assert (
        against_truth(
            Scores("aum", values), Dataset.from_arrays(None, wrong.long(), truth=[0] * 10)
        )["f1_at_half"]
        is None
    )


def test_metrics_over_runs():
    one = {"aum": {"roc_auc": 0.8, "f1_at_half": None}, "knn": {"roc_auc": 0.5}}
    two = {"aum": {"roc_auc": 0.9, "f1_at_half": None}}
    table = Measures.over([Measures(one), Measures(two)]).rows
    assert list(table) == ["aum"]
    assert table["aum"]["roc_auc"] == pytest.approx({"mean": 0.85, "sd": 0.05 * 2**0.5})
    assert table["aum"]["f1_at_half"] is None


@pytest.mark.slow
def test_the_interval_covers_what_it_should():
    """Of 100 intervals of a known mean difference at least 88 hold it."""
    held = 0
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        difference = torch.randint(-1, 2, (1, 300), generator=generator).float()
        _, low, high = interval(difference)
        held += low <= 0 <= high
    assert held >= 88


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    out = tmp_path_factory.mktemp("pair")
    test = blobs(60, 3, ())
    clean = verbs.train(blobs(wrong=()), recipe=TINY, out=out, test=test)
    noisy = blobs(wrong=tuple(range(0, 90, 3)) + tuple(range(1, 60, 3)))
    return verbs.train(noisy, recipe=TINY.but(epochs=1, lr=0.001), out=out, test=test), clean


def test_a_comparison_says_what_helped(pair):
    bad, good = pair
    better = verbs.compare(bad.path, good.path)
    assert better.conclusion == "helped"
    assert better.gain[1] > 0
    assert "helped: test accuracy" in better.sentence
    assert verbs.compare(good, bad).conclusion == "hurt"
    same = comparison(Tried([good], [good], [good]))
    assert same.conclusion == "no difference shown"
    assert same.over_random == (0, 0, 0)


def test_runs_of_other_test_sets_are_not_compared(pair, tmp_path):
    other = verbs.train(blobs(), recipe=TINY, out=tmp_path, test=blobs(60, 8, ()))
    with pytest.raises(InputError, match="different images"):
        verbs.compare(pair[0], other)


def test_predictions_of_ones_own_are_judged_without_training(tmp_path):
    run, wrong = predicted()
    verdict = verbs.judge(run, verbs.score(run))
    assert (run.path / "examples.parquet").exists()
    assert verdict.count(FIX, DROP) == int(wrong.sum())
    assert verbs.report(run).exists()
    features = torch.randn(600, 4).numpy()
    with_features = Run.from_predictions(
        run.data.labels.numpy(), np.full((600, 3), 1 / 3), features, out=tmp_path
    )
    assert verbs.score(with_features, "knn").values.shape == (600,)
    with pytest.raises(InputError, match="has no model"):
        verbs.score(run, "knn")


@pytest.mark.parametrize(
    ("labels", "p", "words"),
    [
        ([0, 1], np.ones((2, 2)), "sum to 1 in each row; row 0"),
        ([0, 1, 0], np.full((2, 2), 0.5), "for 3 labels"),
        ([0, 1], np.array([[0.5, 0.5], [np.nan, 1]]), "must be probabilities"),
        ([0, 5], np.full((2, 2), 0.5), "outside the 2 classes"),
    ],
)
def test_predictions_are_checked(labels, p, words):
    with pytest.raises(InputError, match=words):
        Run.from_predictions(labels, p)


def test_a_loop_of_ones_own_is_judged(tmp_path):
    data = blobs()
    run = Run.record(data, 2, tmp_path)
    logits = torch.nn.functional.one_hot(data.truth, 3).float() * 4
    for epoch in range(2):
        for index in torch.arange(90).split(32):
            run.observe(epoch, index, logits[index], data.labels[index])
    run.finish()
    verdict = verbs.judge(run, verbs.score(run, "aum"), judge="top,share=0.011")
    assert verdict.suspects.tolist() == [7]
    assert int(verdict.proposed[7]) == int(data.truth[7])


def test_asking_for_scores_that_are_not_there(run):
    with pytest.raises(InputError, match=r"datablame score|there is: "):
        verbs.judge(run, by="nothing")


def test_the_default_blend_is_made_for_whoever_judges(tmp_path):
    run = verbs.train(blobs(), recipe=TINY.but(folds=0), out=tmp_path, test=blobs(30, 1, ()))
    assert f"test accuracy {run.about['test_accuracy']:.2%}" in run.card
    assert verbs.judge(run).suspects.tolist()[0] == 7


def test_scores_stay_in_the_folder_of_their_run(run):
    with pytest.raises(InputError, match="not the name of a file"):
        verbs.score(run, "aum", "loss", name="../../evil")
    for name in ("detector,file=../../a.safetensors", "detector,file=a%2Fb", "aum,since=0.5"):
        assert place(run.path, name).parent == run.path / "scores"
        assert name_of(place(run.path, name)) == name


def test_what_is_dropped_is_called_dropped(tmp_path):
    run = verbs.train(blobs(), recipe=TINY.but(folds=0), out=tmp_path, test=blobs(30, 1, ()))
    verbs.score(run, "aum")
    verbs.judge(run, judge="remove,share=0.1", by="aum")
    page = verbs.report(run).read_text()
    assert re.search(r"</s>\s+dropped", page)
    assert not re.search(r"</s>\s+kept", page)
    assert not re.search(r"right \(\d", page), "nobody is taken for the last class"


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        ("knn,k=0", "k must be at least 1"),
        ("aum,since=2", "since is a share of the training"),
        ("memorization,directions=-1", "directions must be at least 0"),
    ],
)
def test_options_out_of_range_are_told(run, signal, words):
    with pytest.raises(InputError, match=words):
        verbs.score(run, signal)


def test_cleaning_keeps_the_images_shared():
    data = blobs()
    verdict = Verdict(
        torch.full((90,), KEEP),
        torch.full((90,), -1),
        torch.zeros(90),
        torch.zeros(90),
        "me",
        0.0,
        (0.0, 0.0, 0.0),
    )
    struck = dataclasses.replace(verdict, act=verdict.act.index_fill(0, torch.tensor([3, 4]), DROP))
    assert struck.apply(data).images is data.images
    assert len(struck.apply(data)) == 88


def test_smoothed_predictions_are_judged(tmp_path):
    """Equal confidences of 0.9: a threshold summed in half the digits would lie above them all."""
    labels = np.arange(200) % 2
    p = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    labels[:10] = 1 - labels[:10]
    run = Run.from_predictions(labels, p, out=tmp_path)
    for judge in ("mixture", "confident"):
        assert sorted(verbs.judge(run, verbs.score(run), judge=judge).suspects.tolist()) == list(
            range(10)
        )


def test_a_persons_edits_are_kept(tmp_path):
    run = verbs.audit(blobs(), recipe=TINY, retrain=False, out=tmp_path)
    path = run.path / "verdict.csv"
    edited = path.read_text().replace('"keep"', '"drop"', 1)
    path.write_text(edited)
    with pytest.raises(InputError, match="was edited by hand"):
        verbs.judge(run)
    verbs.audit(blobs(), recipe=TINY, retrain=False, out=tmp_path)
    assert path.read_text() == edited
    assert Verdict.read(path, run.data).by == "posterior, edited by hand"


def test_a_comparison_of_another_verdict_is_not_shown(tmp_path):
    run = verbs.audit(blobs(), recipe=TINY, out=tmp_path)
    assert run.comparison is not None
    verbs.judge(run, judge="top,share=0.3")
    assert run.comparison is None
    assert "cleaning   not retrained" in run.card


def test_the_headline_is_of_the_scores_that_judged(tmp_path):
    run = verbs.audit(
        blobs(),
        recipe=TINY,
        signals=("datamap,statistic=variability",),
        judge="mixture",
        retrain=False,
        out=tmp_path,
    )
    known = run.to_json()
    assert known["roc_auc"] == known["signals"]["datamap,statistic=variability"]["roc_auc"]
    with pytest.raises(InputError, match="give the scores another name"):
        verbs.score(run, "aum", "loss", name="aum")


def test_recording_again_makes_another_run(tmp_path):
    data = Dataset.from_arrays(None, [0, 1, 0, 1])
    first, second = (Run.record(data, 1, tmp_path) for _ in range(2))
    assert first.path != second.path
    for run, sign in ((first, 1), (second, -1)):
        run.observe(
            0, torch.arange(4), sign * torch.tensor([[2.0, 0.0], [0.0, 2.0]] * 2), data.labels
        )
        run.finish()
    assert torch.equal(verbs.score(first, "aum").values, -verbs.score(second, "aum").values)


def test_the_control_removes_as_many_as_cleaning_does():
    from datablame.evaluation.retraining import thinned

    data = blobs()
    verdict = Verdict(
        torch.tensor([FIX] * 4 + [DROP] * 6 + [KEEP] * 80),
        torch.full((90,), 1),
        torch.ones(90),
        torch.zeros(90),
        "me",
        0.0,
        (10.0, 9.0, 11.0),
    )
    assert len(thinned(data, verdict, 0)) == len(verdict.apply(data)) == 84


def test_a_small_test_set_shows_little():
    from datablame.evaluation.comparison import Comparison

    assert (
        "cannot be shown"
        in Comparison([1.0], [1.0], [], (0, 0, 0), None, 2 / 18, 18, "no difference shown").sentence
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["a", "b"]}, "whole numbers"),
        ({"labels": [0.5, 1]}, "whole numbers"),
        ({"classes": np.array(["only one"])}, "2 columns, but there are 1 classes"),
        ({"names": ["x", "x"]}, "one of a kind"),
        ({"features": np.array([1.0, np.inf])[:, None]}, "features must be finite"),
        ({"pred_probs": "words"}, "array of numbers|must be"),
    ],
)
def test_odd_predictions_are_refused(changes, words):
    given = {
        "labels": torch.tensor([0, 1]),
        "pred_probs": torch.full((2, 2), 0.5, requires_grad=True),
    } | changes
    with pytest.raises(InputError, match=words):
        Run.from_predictions(**given)


def test_truth_that_is_known_for_some():
    data = Dataset.from_arrays(None, [0, 1, 0, 1], truth=[0, 0, -1, 1])
    assert data.wrong.tolist() == [False, True, False, False]
    m = against_truth(Scores("loss", torch.tensor([0.0, 1.0, 9.0, 0.0])), data)
    assert m["roc_auc"] == 1.0
