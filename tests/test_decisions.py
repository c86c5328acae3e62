"""Decisions that every user meets, each pinned by numbers made by hand."""

import dataclasses
import re
import sys

import numpy as np
import pytest
import torch
from conftest import TINY, blobs

from datablame import Dataset, Run, Scores, Verdict, blend, verbs
from datablame.base import arrays, processes
from datablame.base.errors import InputError
from datablame.data.label_flips import flipped
from datablame.dynamics.config import DetectorConfig
from datablame.dynamics.detector import Detector
from datablame.dynamics.views import Seen
from datablame.evaluation import comparison as comparing
from datablame.evaluation.comparison import Comparison
from datablame.inference import approximate, neighbours
from datablame.inference.neighbours import class_votes, nearest, votes_of
from datablame.inference.predictions import on_test
from datablame.label_quality.confident_joint import off_diagonal, thresholds, wrong_by_class
from datablame.label_quality.gaussian_mixture import GaussianMixture
from datablame.label_quality.gaussian_mixture import fit as fitted
from datablame.methods.judges.mixture import mixture
from datablame.methods.judges.top import top
from datablame.methods.signals.confident import confident
from datablame.methods.signals.detector import detector
from datablame.methods.signals.el2n import el2n
from datablame.methods.signals.entropy import entropy
from datablame.methods.signals.loss import loss
from datablame.trace import Recorder
from datablame.verdict import ASK, DROP, FIX, KEEP, decide


def test_one_wild_score_counts_four_deviations_in_a_blend():
    wild = torch.zeros(100)
    wild[3] = 1e6
    calm = torch.arange(100.0)
    assert Scores("wild", wild).standard()[3] == 4
    z = (calm - 49.5) / np.sqrt(np.mean((np.arange(100) - 49.5) ** 2))
    rest = (0 - 1e4) / (1e4 * np.sqrt(99))  # of the others in `wild`: minus the mean, by the spread
    expected = (z + rest) / 2
    expected[3] = (z[3] + 4) / 2
    assert torch.allclose(
        blend([Scores("wild", wild), Scores("calm", calm)]).values, expected.float(), atol=1e-5
    )


def test_a_row_that_two_processes_saw_is_the_mean(tmp_path, monkeypatch):
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    recorder = Recorder(tmp_path, 1, 2)
    recorder.put(torch.arange(2), logits, labels)
    monkeypatch.setattr(
        processes, "total", lambda tensor: 2 * tensor
    )  # another process saw the same
    recorder.write(0)
    assert np.load(tmp_path / "margin.npy")[0].tolist() == [2.0, -1.0]


def test_nearer_neighbours_count_more():
    space = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 0, 1])
    for k, last in ((2, 0.6), (3, 0.0)):
        cosine, index = nearest(space.numpy(), k)
        assert index[0].tolist() == [1, 2, 3][:k]
        assert cosine[0, -1].item() == pytest.approx(last, abs=1e-6)
        found = votes_of(cosine, labels[index], 2)[0, 1].item()
        assert found == pytest.approx(0.8 / (0.8 + 0.6), abs=1e-4), "another label, and the same"


def test_neighbours_whose_own_labels_are_doubted_count_less(tmp_path):
    """Twelve examples in two groups; one of the first has a wrong label, another stands between the
    groups: the wrong one no longer speaks for it.
    """
    generator = torch.Generator().manual_seed(0)
    turn = torch.cat([torch.zeros(6), torch.full((6,), 1.2)])
    turn = turn + 0.02 * torch.rand(12, generator=generator)
    turn[5] = 0.5
    labels = [0, 0, 0, 0, 1, 0, *[1] * 6]
    space = torch.stack([turn.cos(), turn.sin()], 1)
    run = Run.from_predictions(labels, torch.full((12, 2), 0.5), space, out=tmp_path)
    plain, once, twice = (class_votes(run, 5, trust)[5, 1] for trust in (0, 1, 3))
    assert twice < once < plain
    assert class_votes(run, 5, 3)[4].argmax() == 0
    near = nearest(space.numpy(), 5)
    close = (-4 * (near[0][:, :1] - near[0]) / (near[0][:, :1] - near[0][:, -1:])).exp()
    first = votes_of(close, torch.tensor(labels)[near[1]], 2)
    own = first[torch.arange(12), torch.tensor(labels)]
    second = votes_of(close * (own[near[1]] + 0.02), torch.tensor(labels)[near[1]], 2)
    assert torch.allclose(torch.tensor(class_votes(run, 5, 1)).float(), second, atol=1e-3)
    with pytest.raises(InputError, match="trust"):
        class_votes(run, 5, -1)


def test_neighbours_are_searched_for_once(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    space = torch.randn(150, 4, generator=generator)
    labels = torch.arange(150) % 3
    p = torch.full((150, 3), 1 / 3)
    asked = []
    search = neighbours.nearest
    monkeypatch.setattr(
        neighbours, "nearest", lambda *given: asked.append(given[1]) or search(*given)
    )
    run = Run.from_predictions(labels, p, space, out=tmp_path / "one")
    few, many = class_votes(run, 5), class_votes(run, 20, 2)
    assert asked == [100]
    class_votes(run, 120)
    assert asked == [100, 120]
    monkeypatch.setattr(neighbours, "HELD", 0)
    other = Run.from_predictions(labels, p, space, out=tmp_path / "two")
    assert np.array_equal(class_votes(other, 5), few)
    assert np.array_equal(class_votes(other, 20, 2), many)
    assert asked[2:] == [5, 20]


def test_an_index_finds_nearly_all_neighbours(monkeypatch, capsys):
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(2)
    centre = 3 * torch.randn(12, 16, generator=generator)
    space = centre[torch.arange(3000) % 12] + torch.randn(3000, 16, generator=generator)
    space[7] = space[1000]  # the same features twice: each is the other's nearest
    right = nearest(space.numpy(), 20)
    monkeypatch.setattr(approximate, "ROWS", 2999)
    cosine, index = nearest(space.numpy(), 20)
    told = capsys.readouterr().err
    assert re.search(r"by an index: (9[89]\.\d|100\.0)% of the 20 nearest are found", told)
    assert not (index == torch.arange(3000)[:, None]).any()
    assert all(len(set(row)) == 20 for row in index.tolist())
    found = (index[:, :, None] == right[1][:, None]).any(2).float().mean()
    assert found > 0.97
    assert (cosine.diff(dim=1) <= 1e-6).all()
    assert torch.allclose(cosine[:, 0], right[0][:, 0], atol=1e-5)
    assert (int(index[7, 0]), int(index[1000, 0])) == (1000, 7)
    monkeypatch.setattr(approximate.importlib.util, "find_spec", lambda name: None)
    again = nearest(space.numpy(), 20)
    assert "pip install 'datablame[index]'" in capsys.readouterr().err
    assert torch.equal(again[1], right[1])


@pytest.fixture
def four(tmp_path):
    """A run of two examples and four epochs whose trace is written by hand."""
    run = Run.record(Dataset.from_arrays(None, [0, 1]), 4, tmp_path)
    for epoch in range(4):
        run.observe(epoch, torch.arange(2), torch.zeros(2, 2), run.data.labels)
    run.finish()
    table = np.array([[1.0, 0.2], [0.8, 0.4], [0.1, 0.9], [0.0, 1.0]], "float16")
    for name in ("el2n", "entropy"):
        arrays.write(run.path / "trace" / f"{name}.npy", table)
    return run


def test_el2n_is_of_the_first_half(four):
    assert el2n(four).tolist() == pytest.approx([0.9, 0.3], abs=1e-3)
    assert el2n(four, until=1.0).tolist() == pytest.approx([0.475, 0.625], abs=1e-3)


def test_entropy_is_of_all_epochs(four):
    assert entropy(four).tolist() == pytest.approx([0.475, 0.625], abs=1e-3)


def test_confident_compares_each_class_with_its_usual_confidence():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    run = Run.from_predictions([0, 0, 1, 1], p)
    usual = thresholds(torch.tensor(p).float(), torch.tensor([0, 0, 1, 1]))
    assert usual.tolist() == pytest.approx([0.75, 0.6])
    ratio = np.log(p / [0.75, 0.6])
    expected = [
        ratio[0, 1] - ratio[0, 0],
        ratio[1, 1] - ratio[1, 0],
        ratio[2, 0] - ratio[2, 1],
        ratio[3, 0] - ratio[3, 1],
    ]
    assert confident(run).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_heavier_rows_are_flipped_more_often(exact):
    data = Dataset.from_arrays(None, [0, 1] * 4000)
    weight = torch.ones(8000)
    weight[4000:] = 3.0
    noisy = flipped(data, 1 - data.labels, 0.1, 0, exact, weight)
    light, heavy = (
        int((noisy.labels != data.labels)[part].sum())
        for part in (slice(0, 4000), slice(4000, None))
    )
    assert heavy / light == pytest.approx(3.0, rel=0.25)
    assert light + heavy == (800 if exact else pytest.approx(800, rel=0.15))


def test_never_more_suspects_than_the_estimate():
    """Half of the scores are high, but held-out predictions contradict three labels of a
    hundred.
    """
    labels = np.arange(100) % 2
    p = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    p[:3] = p[:3, ::-1]
    run = Run.from_predictions(labels, p)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(100, generator=generator) * 0.1 + (torch.arange(100) < 50) * 5.0
    values[:3] += 1
    verdict = mixture(run, Scores("made", values))
    assert verdict.estimate[0] == pytest.approx(3, abs=1e-3)
    assert verdict.count(ASK, DROP, FIX) == 3
    assert verdict.count(FIX) == 3
    assert verdict.act[:3].tolist() == [FIX] * 3


def test_a_tie_is_no_contradiction():
    data = Dataset.from_arrays(None, [0, 0, 1, 1])
    opinion = torch.tensor([[0.5, 0.5], [0.49, 0.51], [0.1, 0.9], [0.9, 0.1]])
    suspect = torch.tensor([True, True, False, True])
    verdict = decide(
        data, Scores("s", torch.arange(4.0)), suspect, opinion, 0.8, "me", (3.0, 3.0, 3.0)
    )
    assert verdict.act.tolist() == [ASK, DROP, KEEP, FIX]
    assert verdict.proposed.tolist() == [-1, 1, -1, 0]
    assert verdict.probability.tolist() == pytest.approx([0.0, 0.51, 0.0, 0.9])
    assert verdict.cut == 1.0, "the lowest score among those judged mislabelled"


def test_the_interval_of_a_mixture_holds_95_of_100_draws():
    """Two components far apart: their weights are those of a binomial, whose spread is known."""
    generator = torch.Generator().manual_seed(0)
    values = torch.cat(
        [torch.randn(1600, generator=generator), 20 + torch.randn(400, generator=generator)]
    )
    found = GaussianMixture.of(values, draws=2000)
    share, low, high = found.share
    assert share == pytest.approx(0.2, abs=1e-3)
    assert high - low == pytest.approx(2 * 1.96 * (0.2 * 0.8 / 2000) ** 0.5, rel=0.08)


def test_predictions_are_the_mean_of_an_image_and_its_mirror_image(tmp_path):
    recipe = TINY.but(augment="flip", folds=0, epochs=2)
    run = verbs.train(blobs(), recipe=recipe, out=tmp_path, test=blobs(30, 1, ()))
    images = run.test.batch(torch.arange(30))[0]
    with torch.no_grad():
        straight, mirrored = (run.model(x).softmax(1) for x in (images, images.flip(3)))
    assert np.allclose(on_test(run), ((straight + mirrored) / 2).numpy(), atol=1e-5)
    assert not np.allclose(on_test(run), straight.numpy(), atol=1e-3)


def test_every_class_of_two_keeps_one_on_each_side():
    data = Dataset.from_arrays(None, [0] * 50 + [1] * 2 + [2])
    train, test = data.holdout(0.04)
    assert test.labels.bincount(minlength=3).tolist() == [2, 1, 0]
    assert train.labels.bincount(minlength=3).tolist() == [48, 1, 1]
    most, rest = data.holdout(0.99)
    assert most.labels.bincount(minlength=3).tolist() == [1, 1, 1]
    assert rest.labels.bincount(minlength=3).tolist() == [49, 1, 0]


def test_the_joint_is_calibrated_to_the_size_of_each_class():
    joint = torch.tensor([[8.0, 2.0], [0.0, 5.0]])
    assert off_diagonal(joint, torch.tensor([20.0, 10.0])).tolist() == [4.0, 0.0]


class Tried(Run):
    """A run that is known by what it got right alone."""

    test = None

    def __init__(self, test, right):
        self.test, self.right = test, right


@pytest.mark.parametrize(("spread", "conclusion"), [(0.1, "no difference shown"), (0.0, "helped")])
def test_a_gain_below_the_spread_over_seeds_is_none(monkeypatch, spread, conclusion):
    """Two seeds gain two points each on 1,000 images; they are told apart from luck only where
    seeds agree.
    """

    def right(shares):
        return torch.stack([torch.arange(1000) < round(1000 * share) for share in shares])

    before = right([0.8 - spread / 2, 0.8 + spread / 2])
    after = right([0.82 - spread / 2, 0.82 + spread / 2])
    monkeypatch.setattr(comparing, "rights", lambda runs: runs[0].right)
    data = Dataset.from_arrays(None, [0, 1] * 500)
    runs = [[Tried(data, each)] * 2 for each in (before, after)]
    found = comparing.comparison(comparing.Tried(*runs))
    assert found.gain[0] == pytest.approx(0.02, abs=1e-6)
    assert found.gain[1] > 0
    assert found.conclusion == conclusion
    assert found.detectable >= spread / 2**0.5 - 1e-6


def test_a_comparison_says_its_numbers():
    facts = Comparison(
        [0.8, 0.7],
        [0.85, 0.75],
        [0.75, 0.65],
        (0.05, 0.01, 0.09),
        (0.1, 0, 0.2),
        0.03,
        1500,
        "helped",
    )
    assert facts.sentence == (
        "helped: test accuracy 75.00 % before, 80.00 % after (+5.00 points, 95 % interval +1.00 to "
        "+9.00; 2 seeds, 1,500 test images); 70.00 % after removing an equal number at random"
    )
    one = Comparison([0.5], [0.5], [], (0.0, -0.02, 0.02), None, 0.025, 300, "no difference shown")
    assert one.sentence == (
        "no difference shown: test accuracy 50.00 % before, 50.00 % after (+0.00 points, 95 % "
        "interval -2.00 to +2.00; 1 seed, 300 test images). A gain under 2.5 points cannot be shown "
        "with this test set; use more test images or --seeds"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.conclusion = "helped"


def test_scores_show_the_most_suspect_first():
    facts = Scores("s", torch.arange(30.0)).to_json()
    assert facts["most_suspect_rows"] == list(range(29, 9, -1))
    assert facts["their_scores"][0] == 29
    assert Scores("s", torch.tensor([3.0])).ranks().tolist() == [0.0]
    assert Scores("s", torch.tensor([3.0, 1.0, 3.0])).ranks().tolist() == [0.75, 0.0, 0.75]


def test_epochs_count_from_either_end(four):
    values = np.arange(8, dtype="float16").reshape(4, 2)
    arrays.write(four.path / "trace" / "loss.npy", values)
    assert loss(four).tolist() == loss(four, epoch=3).tolist() == [6.0, 7.0]
    assert loss(four, epoch=-4).tolist() == [0.0, 1.0]
    for epoch in (4, -5):
        with pytest.raises(InputError, match=f"epochs 0 to 3; got epoch {epoch}"):
            loss(four, epoch=epoch)


def test_a_class_of_one_has_its_own_confidence_as_the_usual_one():
    p = torch.tensor([[0.2, 0.8, 0.0], [0.4, 0.6, 0.0]])
    assert thresholds(p, torch.tensor([0, 1])).tolist() == pytest.approx([0.2, 0.6, 1.0])
    with_none = torch.tensor([[0.2, 0.8], [0.4, 0.6]])
    assert thresholds(with_none, torch.tensor([0, 0])).tolist() == pytest.approx([0.3, 1.0])


def test_a_probability_of_nothing_has_a_score():
    """Cut at a millionth: log 0 would be no number."""
    run = Run.from_predictions([0, 1], np.array([[0.0, 1.0], [0.5, 0.5]]))
    usual = np.log([1e-6, 0.5])  # mean probability of the given label, cut as well
    expected = (np.log(1.0) - usual[1]) - (np.log(1e-6) - usual[0])
    assert confident(run)[0].item() == pytest.approx(expected, abs=1e-4)


def test_the_interval_of_the_joint_holds_95_of_100_draws():
    """Off the diagonal stand 100 of 1,000: a Poisson count, whose spread is known."""
    labels = np.arange(1000) % 2
    p = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    p[:100] = p[:100, ::-1]
    each, (count, low, high) = wrong_by_class(Run.from_predictions(labels, p))
    assert each.tolist() == pytest.approx([50.0, 50.0])
    assert count == pytest.approx(100)
    spread = (100 * 0.9) ** 0.5  # calibrated to the size of each class: a share of a fixed number
    assert (count - low) / spread == pytest.approx(1.96, abs=0.5)
    assert (high - count) / spread == pytest.approx(1.96, abs=0.5)


def test_the_mixture_counts_what_lies_in_the_upper_component():
    generator = torch.Generator().manual_seed(1)
    values = torch.cat(
        [torch.randn(900, generator=generator), 9 + torch.randn(100, generator=generator)]
    )
    found = GaussianMixture.of(values)
    estimate, low, high = found.count(1000)
    assert low < estimate < high
    assert (estimate, low, high) == tuple(1000 * share for share in found.share)
    assert estimate == pytest.approx(100, abs=2)
    assert found.spread == pytest.approx(1.0, abs=0.05)
    ends = found.probability(torch.tensor([-50.0, float(values.min()), float(values.max()), 50.0]))
    assert ends.tolist() == pytest.approx([0, 0, 1, 1], abs=1e-3)
    middle = found.probability(torch.tensor([3.0, 5.5]))
    assert middle[0] < 0.05
    assert middle[1] > 0.5


def test_the_mixture_judge_takes_the_smaller_estimate_and_the_wider_interval(monkeypatch):
    module = sys.modules[mixture.__module__]
    run = Run.from_predictions([0, 1] * 50, np.full((100, 2), 0.5))
    monkeypatch.setattr(module, "wrong_by_class", lambda _: (None, (8.0, 3.0, 99.0)))
    values = (torch.arange(100) < 20) * 9.0 + torch.randn(
        100, generator=torch.Generator().manual_seed(0)
    )
    verdict = mixture(run, Scores("s", values))
    assert verdict.estimate == (8.0, 3.0, 99.0)
    monkeypatch.setattr(module, "wrong_by_class", lambda _: (None, (80.0, 70.0, 90.0)))
    estimate, low, high = mixture(run, Scores("s", values)).estimate
    assert estimate == pytest.approx(20, abs=1)
    assert low < estimate
    assert high == 90.0


def test_top_takes_a_tenth_and_fixes_where_the_opinion_is_sure():
    p = np.full((20, 2), [0.21, 0.79])
    p[1] = [0.19, 0.81]
    run = Run.from_predictions([0, 0] + [1] * 18, p)
    verdict = top(run, Scores("s", -torch.arange(20.0)))
    assert verdict.act.tolist() == [DROP, FIX] + [KEEP] * 18
    assert verdict.estimate == (2.0, 2.0, 2.0)
    assert verdict.by == "top,share=0.1"


def test_a_verdict_needs_both_of_its_files(tmp_path):
    data = Dataset.from_arrays(None, [0, 1])
    (tmp_path / "verdict.csv").write_text("x")
    with pytest.raises(InputError, match="no verdict at"):
        Verdict.read(tmp_path / "verdict.csv", data)


def test_a_verdict_says_its_share():
    suspect = torch.tensor([True, True, False, False])
    opinion = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
    data = Dataset.from_arrays(None, [0, 0, 0, 1])
    verdict = decide(data, Scores("s", torch.arange(4.0)), suspect, opinion, 0.8, "me", (2, 1, 3))
    facts = verdict.to_json()
    assert (facts["suspects"], facts["suspect_share"]) == (2, 0.5)


def test_the_gain_itself_is_held_against_the_spread_over_seeds(monkeypatch):
    """Gains of 3 points, whose interval ends above the spread over seeds, 4.2 points: no proof."""
    before = torch.stack([torch.arange(300) < 231, torch.arange(300) < 249])
    after = torch.stack([torch.arange(300) < 240, torch.arange(300) < 258])
    monkeypatch.setattr(comparing, "rights", lambda runs: runs[0].right)
    data = Dataset.from_arrays(None, [0, 1] * 150)
    found = comparing.comparison(
        comparing.Tried(*([Tried(data, each)] * 2 for each in (before, after)))
    )
    spread = 0.06 / 2**0.5
    assert 0 < found.gain[1] < found.gain[0] < spread < found.gain[2]
    assert found.conclusion == "no difference shown"


def test_who_reaches_no_usual_confidence_is_not_counted():
    """Of each class half are as sure as usual; the unsure half says nothing of any class."""
    sure, unsure = [0.05, 0.95], [0.48, 0.52]
    p = np.array([[0.95, 0.05]] * 8 + [sure] * 4 + [unsure] * 4)
    each, _ = wrong_by_class(Run.from_predictions([0] * 8 + [1] * 8, p))
    assert each.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)


def test_the_mixtures_components_are_of_the_numbers_themselves():
    """Not of a histogram drawn again for the interval."""
    generator = torch.Generator().manual_seed(3)
    values = torch.cat(
        [torch.randn(90, generator=generator), 4 + torch.randn(10, generator=generator)]
    )
    one, other = GaussianMixture.of(values, draws=40), GaussianMixture.of(values, draws=41)
    assert torch.allclose(one.upper, other.upper, atol=1e-6)
    centre = torch.linspace(one.low, one.high, 400, dtype=torch.float64)
    places = ((values - one.low) / (one.high - one.low) * 399).round().long()
    counts = places.bincount(minlength=400).double()[None]
    ends = [fitted(counts, centre, start) for start in (0.05, 0.2, 0.4)]
    best = max(ends, key=lambda end: float(end[3]))
    assert torch.allclose(one.upper, best[0][0].float(), atol=1e-6)


def test_the_detectors_verdict_is_the_score(run):
    said = Detector.load("shipped").probabilities(run)
    assert torch.equal(detector(run), said)
    odds = [
        member(Seen.of(run, DetectorConfig()))[1] for member in Detector.load("shipped").members
    ]
    assert torch.allclose(said.logit(), torch.stack(odds).mean(0), atol=1e-4)
