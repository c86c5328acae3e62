"""Decisions that every user meets, each pinned by numbers made by hand."""

import numpy as np
import pytest
import torch
from conftest import TINY, blobs

from datablame import Dataset, Run, Scores, blend, verbs
from datablame.base import files, processes
from datablame.data.label_flips import flipped
from datablame.evaluation import comparison as comparing
from datablame.inference.predictions import on_test
from datablame.label_quality.confident_joint import off_diagonal, thresholds
from datablame.label_quality.gaussian_mixture import GaussianMixture
from datablame.methods.judges.mixture import mixture
from datablame.methods.signals.confident import confident
from datablame.methods.signals.el2n import el2n
from datablame.methods.signals.entropy import entropy
from datablame.methods.signals.knn import disagreement
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
    found = disagreement(space, labels, torch.tensor([0]), 2)
    assert found.item() == pytest.approx(0.8 / (0.8 + 0.6), abs=1e-4), (
        "cosines .8 (another label) and .6 (the same)"
    )
    assert disagreement(space, labels, torch.tensor([0]), 3).item() == pytest.approx(
        0.8 / 1.4, abs=1e-4
    )


@pytest.fixture
def four(tmp_path):
    """A run of two examples and four epochs whose trace is written by hand."""
    run = Run.record(Dataset.from_arrays(None, [0, 1]), 4, tmp_path)
    for epoch in range(4):
        run.observe(epoch, torch.arange(2), torch.zeros(2, 2), run.data.labels)
    run.finish()
    table = np.array([[1.0, 0.2], [0.8, 0.4], [0.1, 0.9], [0.0, 1.0]], "float16")
    for name in ("el2n", "entropy"):
        files.write_array(run.path / "trace" / f"{name}.npy", table)
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
    found = comparing.comparison(*runs)
    assert found.gain[0] == pytest.approx(0.02, abs=1e-6)
    assert found.gain[1] > 0
    assert found.conclusion == conclusion
    assert found.detectable >= spread / 2**0.5 - 1e-6
