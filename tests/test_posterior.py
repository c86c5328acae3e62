"""How many labels are wrong, which, and what they should be: counts, transitions, probabilities."""

import json

import numpy as np
import pytest
import torch
from conftest import TINY, blobs
from pyarrow import parquet

from datablame import InputError, Run, Scores, verbs
from datablame.base.methods import find
from datablame.data.noise_transition import transition
from datablame.label_quality.anchor_points import contradicted
from datablame.label_quality.posterior import _estimate as estimated
from datablame.label_quality.posterior import counted, platt, posterior, shifted
from datablame.methods.judges.posterior import _cut as cut
from datablame.verdict import ASK, DROP, FIX, Verdict


def pretend(rows=4000, classes=4, wrong=0.2, sure=6.0, pair=False, seed=0):
    """(given labels, right ones, log probabilities by a model that knows the right class as far as
    its Gaussian evidence goes).
    """
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, rows)
    evidence = generator.normal(size=(rows, classes)) + sure**0.5 * np.eye(classes)[truth]
    log = torch.tensor(evidence * sure**0.5).log_softmax(1).float()
    step = 1 if pair else generator.integers(1, classes, rows)
    given = np.where(generator.random(rows) < wrong, (truth + step) % classes, truth)
    return torch.from_numpy(given), torch.from_numpy(truth), log


@pytest.mark.parametrize("pair", [False, True])
def test_the_transition_that_made_the_labels_is_found(pair):
    labels, truth, log = pretend(pair=pair)
    found = transition(labels[:, None], [log])
    wrong = found.p_wrong(labels)
    real = labels != truth
    assert float(wrong.sum()) == pytest.approx(int(real.sum()), rel=0.1)
    expected = torch.full((4, 4), 0.2 / 3).fill_diagonal_(0.8)
    if pair:
        expected = 0.8 * torch.eye(4) + 0.2 * torch.eye(4).roll(1, 1)
    assert torch.allclose(found.matrices[0], expected, atol=0.04)
    assert found.accuracy == pytest.approx(float((log.argmax(1) == truth).float().mean()), abs=0.03)
    for low in (0.1, 0.5, 0.9):  # what is said to be wrong with some probability is, so often
        some = (wrong - low).abs() < 0.1
        assert float(real[some].float().mean()) == pytest.approx(
            float(wrong[some].mean()), abs=0.12
        )


def test_pairs_of_classes_lift_only_where_noise_is_of_pairs():
    labels, truth, log = pretend(pair=True)
    lift = transition(labels[:, None], [log]).lift(labels)
    assert lift[labels != truth].mean() > 0.5 > lift[labels == truth].mean()
    labels, _, log = pretend()
    assert transition(labels[:, None], [log]).lift(labels).abs().mean() < 0.25


def test_anchors_are_the_surest_of_each_class():
    """Fifty images of each of two classes by the opinion: of its ten surest, two and five labels
    contradict.
    """
    best = torch.arange(100) % 2
    sure = torch.linspace(0.99, 0.6, 100)
    opinion = torch.where(torch.eye(2)[best].bool(), sure[:, None], 1 - sure[:, None])
    labels = best.clone()
    labels[[0, 4]] = 1
    labels[[1, 3, 5, 7, 9]] = 0
    labels[80:] = 1 - labels[80:]  # not among the surest
    assert contradicted(labels, opinion) == pytest.approx(50 * 0.2 + 50 * 0.5)


def test_counts_that_agree_are_told_and_others_lie_between():
    count, low, high, told = counted([100.0, 120.0], 10_000)
    assert told
    assert count == pytest.approx(12_000**0.5)
    assert 60 < low < 100
    assert 120 < high < 190
    count, low, high, told = counted([10.0, 40.0, 400.0], 10_000)
    assert not told
    assert count == pytest.approx(4_000**0.5)
    assert counted([0.0, 5.0], 10_000)[1:] == (0.0, pytest.approx(12.4, abs=1), True), "hardly any"


def test_probabilities_sum_to_the_count_and_keep_the_ranking():
    values = torch.randn(500, generator=torch.Generator().manual_seed(0))
    target = (2 * values - 1).sigmoid()
    odds = platt(values, target)
    assert torch.allclose(odds.sigmoid(), target, atol=1e-3)
    assert float(shifted(odds, 42.0).sigmoid().sum()) == pytest.approx(42, abs=1e-2)
    against = platt(-values, target)
    assert against.std() < 1e-3, "scores that say the opposite say nothing"


def test_a_lone_weak_opinion_cannot_tell(tmp_path):
    labels, _, log = pretend(rows=1200, classes=10, wrong=0.05, sure=1.5)
    weak = Run.from_predictions(labels, log.exp(), out=tmp_path / "weak")
    verdict = verbs.judge(weak)
    assert not verdict.told
    assert verdict.estimate[1] == 0
    assert "cannot be told" in weak.card
    labels, truth, log = pretend(rows=4000, classes=10, wrong=0.1, sure=12.0)
    strong = verbs.judge(Run.from_predictions(labels, log.exp(), out=tmp_path / "strong"))
    assert strong.told
    assert strong.estimate[1] <= int((labels != truth).sum()) <= strong.estimate[2]


def test_scores_whose_humps_stand_apart_are_counted_there(tmp_path):
    """A run without folds, as those that prove a verdict: one label in five is wrong."""
    data = blobs(200, 0, tuple(range(0, 200, 5)))
    verdict = verbs.judge(verbs.train(data, recipe=TINY.but(folds=0), out=tmp_path, holdout=0.0))
    assert verdict.told
    assert verdict.estimate[1] <= 40 <= verdict.estimate[2]
    assert sorted(verdict.suspects.tolist()) == list(range(0, 200, 5))


def test_neighbours_alone_count_though_they_cannot_tell():
    labels, truth, log = pretend(rows=2000)
    count, low, high = estimated({"neighbours": log}, [transition(labels[:, None], [log])], labels)
    assert low == 0
    assert count == pytest.approx(int((labels != truth).sum()), rel=0.2)
    assert high > count
    count, low, _ = estimated(
        {"heldout": log.roll(1, 1)}, [transition(labels[:, None], [log])], labels
    )
    assert (count, low) == (0.05 * 2000, 0), "an opinion that agrees with no label knows nothing"


def test_a_clean_set_with_a_weak_model_stays_clean(tmp_path):
    """All labels are right, and the model agrees with two thirds of them."""
    for seed in range(3):
        labels, _, log = pretend(rows=1500, classes=10, wrong=0.0, sure=2.5, seed=seed)
        assert 0.5 < float((log.argmax(1) == labels).float().mean()) < 0.8
        run = Run.from_predictions(labels, log.exp(), out=tmp_path / str(seed))
        assert len(verbs.judge(run).suspects) < 0.03 * 1500


def test_labels_that_no_opinion_agrees_with_are_not_all_held_wrong(tmp_path):
    labels, _, log = pretend(rows=400, wrong=0.85)
    verdict = verbs.judge(Run.from_predictions(labels, log.exp(), out=tmp_path))
    assert not verdict.told
    assert float(verdict.p_wrong.sum()) <= 0.05 * 400 + 1


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    labels, truth, log = pretend(rows=3000, pair=True)
    run = Run.from_predictions(labels, log.exp(), out=tmp_path_factory.mktemp("told"))
    return run, truth


def test_the_cut_is_at_one_half_or_where_it_is_asked(told):
    run, truth = told
    wrong = run.data.labels != truth
    half = verbs.judge(run)
    assert torch.equal(half.p_wrong > 0.5, torch.isin(half.act, torch.tensor([DROP, FIX])))
    assert torch.equal(half.act == ASK, (half.p_wrong > 0.25) & (half.p_wrong <= 0.5))
    assert half.cut == pytest.approx(0)
    assert torch.allclose(half.suspicion.sigmoid(), half.p_wrong)
    for kind, wanted in (("precision", 0.95), ("recall", 0.95)):
        verdict = verbs.judge(run, at=f"{kind}={wanted}")
        expected = verdict.expected[kind == "recall"]
        assert wanted <= expected < wanted + 0.01
        held = verdict.suspects
        real = (
            wrong[held].float().mean() if kind == "precision" else wrong[held].sum() / wrong.sum()
        )
        assert float(real) == pytest.approx(wanted, abs=0.05)
        assert verdict.by == f"posterior,{kind}={wanted}"
    assert len(verbs.judge(run, at="0.9").suspects) < len(half.suspects)


def test_the_cut_of_f1_is_half_of_the_f1_that_is_expected(told):
    """No other number of suspects is expected to do better."""
    run, _ = told
    verdict = verbs.judge(run, at="f1")
    assert verdict.by == "posterior,f1=yes"
    p = verdict.p_wrong.double().sort(descending=True).values
    expected = 2 * p.cumsum(0) / (torch.arange(1, len(p) + 1) + p.sum())
    assert len(verdict.suspects) == int(expected.argmax()) + 1
    assert float(torch.tensor(verdict.cut).sigmoid()) == pytest.approx(float(expected.max()) / 2)
    half = verbs.judge(run)
    assert set(half.suspects.tolist()) < set(verdict.suspects.tolist())


def test_the_cut_of_f1_holds_nothing_where_probably_nothing_is_wrong():
    p = torch.full((100,), 1e-3)
    assert cut(p, 0, 0) == 0.5, "nothing is wrong by a chance of nine tenths: nobody is asked"
    p[0] = 0.9
    assert (p > cut(p, 0, 0)).nonzero().tolist() == [[0]]


def test_nobody_is_asked_about_what_lies_far_below_the_cut():
    p = torch.cat([torch.full((9,), 0.99), torch.full((91,), 1e-6)])
    for precision, recall in ((0, 0), (0.9, 0), (0, 0.95)):
        assert 0.4 < cut(p, precision, recall) < 0.6


def test_a_label_is_fixed_where_the_new_one_is_likely_right(told):
    run, truth = told
    verdict = verbs.judge(run)
    fixed = verdict.act == FIX
    assert fixed.sum() > 50
    assert (verdict.probability[fixed] >= 0.8).all()
    assert float((verdict.proposed == truth)[fixed].float().mean()) >= 0.8
    assert (verdict.probability[verdict.act == DROP] < 0.8).all()


def test_classes_and_pairs_are_counted(told):
    run, truth = told
    verdict = verbs.judge(run)
    wrong = run.data.labels != truth
    known = run.to_json()
    for k, (name, row) in enumerate(known["wrong_by_class"].items()):
        assert name == str(k)
        assert row["low"] <= int((wrong & (run.data.labels == k)).sum()) <= row["high"]
    first = known["confusions"][0]
    assert int(first["given"]) == (int(first["right"]) + 1) % 4, "each class is taken for the next"
    assert float(verdict.matrix.sum()) == pytest.approx(float(verdict.p_wrong.sum()), rel=1e-3)


def test_what_is_believed_is_kept(told):
    run, _ = told
    verdict = verbs.judge(run)
    back = Verdict.read(run.path / "verdict.csv", run.data)
    assert torch.allclose(back.p_wrong, verdict.p_wrong, atol=1e-4)
    assert torch.equal(back.matrix, verdict.matrix)
    table = parquet.read_table(run.path / "examples.parquet")
    assert np.allclose(table["p_wrong"].to_numpy(), verdict.p_wrong.numpy())
    facts = json.loads((run.path / "verdict.json").read_text())
    assert facts["estimate"][0] == pytest.approx(float(verdict.p_wrong.sum()), rel=1e-3)


def test_an_older_verdict_has_no_probabilities(told):
    run, _ = told
    verbs.judge(run)
    path = run.path / "verdict.csv"
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    assert Verdict.read(path, run.data).p_wrong is None
    path.unlink()


def test_other_judges_have_probabilities_too(told):
    run, _ = told
    verdict = verbs.judge(run, judge="top,share=0.1")
    assert len(verdict.p_wrong) == 3000
    assert verdict.suspects[0] == verdict.suspicion.argmax()


def test_scores_alone_are_judged_by_a_mixture(tmp_path):
    run = verbs.train(blobs(90), recipe=TINY.but(folds=0), out=tmp_path)
    values = torch.cat([torch.randn(60), 12 + torch.randn(len(run.data) - 60)])
    for name in ("features.npy", "model.safetensors"):
        (run.path / name).unlink(missing_ok=True)
    found = posterior(run, Scores("s", values))
    assert found.p_wrong[60:].min() > 0.9 > 0.1 > found.p_wrong[:60].max()


def test_bad_cuts_are_sentences(told):
    run, _ = told
    for at, words in (
        ("precision=2", "at most 1"),
        ("often", "at"),
        ("precision=.9,recall=.9", "by one of precision, recall and f1"),
        ("recall=.9,f1=yes", "by one of precision, recall and f1"),
    ):
        with pytest.raises(InputError, match=words):
            verbs.judge(run, at=at)
    with pytest.raises(InputError, match="--at says where posterior cuts, not mixture"):
        verbs.judge(run, judge="mixture", at="0.7")


def test_large_sets_are_judged_on_a_sample(monkeypatch):
    """T and the weights come of some rows, and all are judged."""
    import datablame.data.noise_transition as other

    labels, _, log = pretend(rows=4000)
    whole = transition(labels[:, None], [log])
    monkeypatch.setattr(other, "SAMPLE", 1000)
    part = transition(labels[:, None], [log])
    assert part.belief.shape == whole.belief.shape
    assert (part.p_wrong(labels) - whole.p_wrong(labels)).abs().mean() < 0.02
    assert not torch.equal(part.matrices, whole.matrices)


def test_the_only_example_of_a_class_is_asked_about(tmp_path):
    labels, _, log = pretend(rows=400)
    wide = torch.cat([log, torch.full((400, 1), -9.0)], 1).softmax(1)
    labels[5] = 4
    run = Run.from_predictions(labels, wide, out=tmp_path)
    verdict = find("judges", "posterior")(run, verbs.score(run))
    assert verdict.p_wrong[5] > 0.5
    assert verdict.act[5] == ASK, "nothing would be left of its class"
