"""Hand-made tables: four examples, three epochs."""

import math

import numpy as np
import pytest
import torch

from datablame import InputError, Run, Scores, blend
from datablame.base.methods import find
from datablame.dataset import Dataset
from datablame.trace import observe

LABELS = torch.tensor([0, 0, 1, 2])
LOGITS = torch.tensor(
    [
        [[4.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0]],
        [[5.0, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 1.0]],
        [[6.0, 1.0, 2.0], [0.0, 1.0, 0.0], [0.0, 4.0, 0.0], [2.0, 0.0, 0.0]],
    ]
)
MARGIN = np.array([[3, -2, 3, -1], [5, 2, -2, 1], [4, -1, 4, -2]])
RIGHT = np.array([[1, 0, 1, 0], [1, 1, 0, 1], [1, 0, 1, 0]], bool)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run recorded from these logits, the rows in two batches and out of order."""
    data = Dataset.from_arrays(None, LABELS.numpy(), ("a", "b", "c"))
    run = Run.record(data, 3, tmp_path_factory.mktemp("table"))
    for epoch in range(3):
        for index in (torch.tensor([3, 1]), torch.tensor([0, 2])):
            run.observe(epoch, index, LOGITS[epoch, index], LABELS[index])
    return run.finish()


def probability(logits, label):
    exponents = [math.exp(z) for z in logits]
    return exponents[label] / sum(exponents)


def test_channels_are_what_they_say(table):
    given = np.array(
        [
            [probability(row.tolist(), y) for row, y in zip(epoch, LABELS.tolist(), strict=True)]
            for epoch in LOGITS
        ]
    )
    assert np.allclose(table.trace["margin"], MARGIN)
    assert np.allclose(np.exp(-table.trace["loss"].astype("f4")), given, atol=1e-3)
    assert np.array_equal(table.trace["prediction"] == LABELS.numpy(), RIGHT)
    p = LOGITS.softmax(2).numpy()
    assert np.allclose(table.trace["entropy"], -(p * np.log(p)).sum(2), atol=2e-3)
    wrong = p - np.eye(3)[LABELS.numpy()]
    assert np.allclose(table.trace["el2n"], np.linalg.norm(wrong, axis=2), atol=2e-3)


def test_signals_by_hand(table):
    loss = table.trace["loss"].astype("f4")
    given = np.exp(-loss)
    assert np.allclose(find("signals", "aum")(table), -MARGIN.mean(0), atol=1e-3)
    assert np.allclose(find("signals", "aum,since=0.5")(table), -MARGIN[1:].mean(0), atol=1e-3)
    assert np.allclose(find("signals", "loss")(table), loss[-1])
    assert np.allclose(find("signals", "loss,epoch=0")(table), loss[0])
    assert np.allclose(find("signals", "csl")(table), loss.sum(0))
    assert np.allclose(find("signals", "datamap")(table), 1 - given.mean(0), atol=1e-3)
    assert np.allclose(
        find("signals", "datamap,statistic=variability")(table), given.std(0), atol=1e-3
    )
    assert find("signals", "forgetting")(table).tolist() == [0, 1, 1, 1]


def test_an_example_that_is_never_right_is_forgotten_at_every_epoch(tmp_path):
    data = Dataset.from_arrays(None, [0, 1], ("a", "b"))
    run = Run.record(data, 2, tmp_path)
    for epoch in range(2):
        run.observe(epoch, torch.arange(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), data.labels)
    assert find("signals", "forgetting")(run.finish()).tolist() == [0, 2]


def test_big_logits_stay_finite():
    seen = observe(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]), torch.tensor([0, 0]))
    assert all(bool(channel.isfinite().all()) for channel in seen.values())
    assert seen["loss"].tolist() == [0, 2e4]


def test_observing_out_of_order_is_refused(tmp_path):
    data = Dataset.from_arrays(None, LABELS.numpy(), ("a", "b", "c"))
    run = Run.record(data, 3, tmp_path)
    run.observe(0, torch.arange(4), LOGITS[0], LABELS)
    with pytest.raises(InputError, match="epoch 2 cannot follow epoch 0"):
        run.observe(2, torch.arange(4), LOGITS[0], LABELS)
    with pytest.raises(InputError, match="3 epochs were announced, 1 observed"):
        run.finish()


def test_an_unseen_example_is_refused_in_the_first_epoch_and_carried_on_later(tmp_path):
    data = Dataset.from_arrays(None, LABELS.numpy(), ("a", "b", "c"))
    run = Run.record(data, 2, tmp_path)
    run.observe(0, torch.arange(3), LOGITS[0, :3], LABELS[:3])
    with pytest.raises(InputError, match="1 examples were not observed"):
        run.observe(1, torch.arange(4), LOGITS[1], LABELS)
    run.observe(0, torch.tensor([3]), LOGITS[0, 3:], LABELS[3:])
    run.observe(1, torch.arange(3), LOGITS[1, :3], LABELS[:3])
    margin = run.finish().trace["margin"]
    assert margin[1].tolist() == [5, 2, -2, -1]


def test_asking_for_what_was_not_recorded(table):
    with pytest.raises(
        InputError,
        match="no 'temperature' in this trace \\(it has el2n, entropy, loss, margin, "
        "prediction\\); train with --trainer data_parameters",
    ):
        table.trace["temperature"]
    with pytest.raises(InputError, match="got epoch 7"):
        find("signals", "loss,epoch=7")(table)


def test_ranks_and_blend():
    first, second = (
        Scores("x", torch.tensor([1.0, 2.0, 2.0, 5.0])),
        Scores("y", torch.tensor([4.0, 3.0, 3.0, 9.0])),
    )
    assert torch.allclose(first.ranks(), torch.tensor([0, 0.5, 0.5, 1]))
    values = blend([first, second]).values
    assert torch.allclose(values, (first.standard() + second.standard()) / 2)
    assert abs(float(first.standard().mean())) < 1e-6
    assert int(values.argmax()) == 3
    with pytest.raises(InputError, match="different sets"):
        blend([first, Scores("z", torch.zeros(3))])


def test_scores_must_be_finite():
    with pytest.raises(RuntimeError, match="not finite for 1 examples, the first at row 1"):
        Scores("x", torch.tensor([0.0, float("nan")]))


def test_a_window_is_reduced_the_same_in_blocks(table, monkeypatch):
    import datablame.trace

    whole = table.trace.reduce("margin", lambda m: m.mean(0))
    monkeypatch.setattr(datablame.trace, "BLOCK", 3)
    assert torch.equal(whole, table.trace.reduce("margin", lambda m: m.mean(0)))
