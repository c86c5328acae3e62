"""Memory Wrap: sparse attention, heads that look at a memory, and what they point at."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, blobs
from PIL import Image
from torch import nn
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

import datablame as db
from datablame import InputError, Reading, Run, Subset, verbs
from datablame.analyses import memory
from datablame.attention.head import Attentive, entmax, euclidean, sparsemax
from datablame.base import hashing, methods
from datablame.inference import predictions
from datablame.inference.integrated_gradients import integrated
from datablame.inference.memory import MemoryBank, spread
from datablame.network.classifier import build
from datablame.optimization.state import TrainingState
from datablame.pages.contact_sheet import ContactSheet
from datablame.pages.memory import SHOWN

WRAP = TINY.but(model="mlp,hidden=16", head="memory_wrap,size=12", folds=0, checkpoints=0, epochs=8)


def by_projection(z):
    """Sparsemax of one row, as the projection on the simplex, by bisection of the level."""
    low, high = z.min() - 1, z.max()
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if (z - level).clip(min=0).sum() > 1 else (low, level)
    return (z - level).clip(min=0)


def test_sparsemax_is_the_projection_on_the_simplex():
    z = np.random.default_rng(0).normal(0, 0.5, (40, 17))
    z[3] = 0.25
    found = sparsemax(torch.from_numpy(z)).numpy()
    assert np.allclose(found, [by_projection(row) for row in z], atol=1e-9)
    assert np.allclose(found.sum(1), 1)
    assert (found == 0).mean() > 0.3
    assert np.allclose(sparsemax(torch.from_numpy(z + 5)).numpy(), found)


def test_entmax_is_what_its_equation_says():
    """`p = max(z / 2 - level, 0)^2` with the level at which it sums to 1."""
    z = torch.randn(50, 23, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    p = entmax(z)
    assert torch.allclose(p.sum(1), torch.ones(50, dtype=torch.double))
    for row, each in zip(z, p, strict=True):
        levels = (row / 2 - each.sqrt())[each > 0]
        assert levels.max() - levels.min() < 1e-9
        assert (row[each == 0] / 2 <= levels.mean() + 1e-9).all()


@pytest.mark.parametrize("function", [sparsemax, entmax])
def test_gradients_are_those_of_finite_differences(function):
    z = torch.randn(
        6, 9, generator=torch.Generator().manual_seed(2), dtype=torch.double, requires_grad=True
    )
    assert gradcheck(function, (z,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("name", ["memory", "memory_wrap"])
@pytest.mark.parametrize(
    "options",
    ["", ",similarity=euclidean,weights=entmax", ",similarity=dot,temperature=0.3,learned=yes"],
)
def test_a_head_sees_one_memory_or_one_of_each_example(name, options):
    torch.manual_seed(0)
    head = methods.find("heads", name + ",size=5" + options)(6, 4)
    x, memory = torch.randn(3, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    logits, weights = head.answer(x, memory)
    assert logits.shape == (3, 4)
    assert torch.allclose(weights.sum(1), torch.ones(3))
    each = head.answer(x, memory.expand(3, 5, 6))
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip((logits, weights), each, strict=True)
    )
    logits.square().sum().backward()
    assert memory.grad.abs().sum() > 0
    assert x.grad.abs().sum() > 0
    head.held = memory.detach()
    assert torch.equal(head(x), logits)
    assert (head.warmth.grad is not None) == ("learned" in options)


def test_the_paper_s_layer_by_hand():
    """`[q; m]` with m the weighted memory, through perceptrons 2d -> 4d -> K, and d -> 2d -> K
    for the baseline.
    """
    head, base = methods.find("heads", "memory_wrap")(4, 3), methods.find("heads", "memory")(4, 3)
    assert [tuple(p.shape) for p in head.perceptron.parameters()] == [(16, 8), (16,), (3, 16), (3,)]
    assert [tuple(p.shape) for p in base.perceptron.parameters()] == [(8, 4), (8,), (3, 8), (3,)]
    q, memory = torch.tensor([[1.0, 0, 0, 0]]), torch.eye(4)[:2] * 3
    logits, weights = head.answer(q, memory)
    assert torch.allclose(weights, torch.tensor([[1.0, 0.0]]), atol=1e-6)
    assert torch.allclose(logits, head.perceptron(torch.tensor([[1.0, 0, 0, 0, 3, 0, 0, 0]])))
    assert torch.allclose(
        base.answer(q, memory)[0], base.perceptron(torch.tensor([[3.0, 0, 0, 0]]))
    )


def test_euclidean_is_minus_the_squared_distance():
    q, memory = torch.randn(3, 5), torch.randn(4, 5)
    assert torch.allclose(euclidean(q, memory), -torch.cdist(q, memory).square(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=0", "one image or more"),
        ("temperature=0", "above 0"),
        ("similarity=near", "no similarity 'near'"),
        ("weights=hard", "no weights 'hard'"),
        ("choose=best", "no choice of a memory 'best'"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(InputError, match=message):
        methods.find("heads", f"memory_wrap,{options}")(4, 3)


def test_some_rows_are_different_ones_and_evenly_drawn():
    for n in (30, 5_000):
        counts = torch.zeros(n)
        for turn in range(300):
            rows = hashing.some(n, 20, "x", turn)
            assert len(rows.unique()) == 20
            counts[rows] += 1
        assert counts.max() < 300 * 20 / n + 6 * (300 * 20 / n) ** 0.5 + 2
    assert torch.equal(hashing.some(5_000, 70, "x", 1), hashing.some(5_000, 70, "x", 1))
    for n, count in ((16, 2), (24, 3), (600, 70), (5_000, 70)):
        assert all(len(hashing.some(n, count, "y", turn).unique()) == count for turn in range(500))


def test_the_turn_of_an_example_in_its_class():
    assert hashing.turns(torch.tensor([2, 0, 2, 1, 0, 2])).tolist() == [0, 0, 1, 0, 1, 2]


def test_five_lines_of_one_s_own_loop():
    torch.manual_seed(0)
    data = blobs(90, wrong=())
    images, labels = data.batch(torch.arange(90))
    images = images.float() / 128 - 1
    model = db.MemoryWrap(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU()), classes=3, dim=20, size=10
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    for _ in range(100):
        loss = cross_entropy(model(images, images[torch.randperm(90)[:10]]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.remember(images[:6])
    logits, weights = model.eval().explain(images)
    assert (logits.argmax(1) == labels).float().mean() > 0.95
    assert weights.shape == (90, 6)
    assert torch.allclose(logits, model(images, images[:6]), atol=1e-5)
    again = db.MemoryWrap(model.encoder, classes=3, dim=20)
    with pytest.raises(InputError, match="remembers nothing yet"):
        again(images)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(images), logits)
    with pytest.raises(
        InputError, match=r"memory's images are \[1, 4, 4\], the others \[1, 8, 8\]"
    ):
        model(images, images[:, :, :4, :4])
    with pytest.raises(InputError, match="say it: MemoryWrap"):
        db.MemoryWrap(nn.Flatten(), classes=3)
    with pytest.raises(InputError, match=r"must give \[B,7\] features; it gave \[180, 64\]"):
        db.MemoryWrap(nn.Flatten(), classes=3, dim=7)(images, images)


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory):
    return verbs.train(
        blobs(), recipe=WRAP, out=tmp_path_factory.mktemp("wrapped"), test=blobs(30, 1, ())
    )


def test_a_head_with_a_memory_trains_and_answers_by_the_one_it_keeps(wrapped):
    assert wrapped.about["test_accuracy"] > 0.9
    rows = torch.from_numpy(np.load(wrapped.path / "memory.npy"))
    assert wrapped.data.labels[rows].bincount().tolist() == [4, 4, 4]
    head = wrapped.model.head
    assert isinstance(head, Attentive)
    images = wrapped.data.batch(rows)[0]
    with torch.no_grad():
        assert torch.allclose(head.held, wrapped.model.features(images), atol=1e-5)
        test = wrapped.test.batch(torch.arange(30))[0]
        assert torch.allclose(
            wrapped.model(test), head(wrapped.model.features(test), head.held), atol=1e-5
        )
    held = MemoryBank.of(wrapped)
    assert torch.allclose(held.answer(held.at(rows))[0], wrapped.model(images), atol=2e-2)


def test_every_signal_reads_it_like_any_other(wrapped):
    for signal in ("aum", "knn", "self_influence", "memorization"):
        assert verbs.score(wrapped, signal).values.std() > 0
    assert verbs.explain(wrapped, queries=3).values.shape == (3, 90)


def test_an_interrupted_training_resumes_to_the_same(wrapped, tmp_path, monkeypatch):

    kept = TrainingState.close

    def pulled(self, epoch, losses, model):
        kept(self, epoch, losses, model)
        if epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "close", pulled)
    monkeypatch.setattr("datablame.optimization.state.PAUSE", 0.0)
    with pytest.raises(KeyboardInterrupt):
        verbs.train(blobs(), recipe=WRAP, out=tmp_path, test=blobs(30, 1, ()))
    monkeypatch.undo()
    again = verbs.train(blobs(), recipe=WRAP, out=tmp_path, test=blobs(30, 1, ()))
    for path in ("model.safetensors", "trace/loss.npy", "memory.npy"):
        assert (again.path / path).read_bytes() == (wrapped.path / path).read_bytes(), path


def test_a_memory_that_does_not_fit_is_told(tmp_path, capsys):
    for head, folds, count in (
        ("memory", 0, 90),
        ("memory_wrap,size=70", 3, 60),
        ("memory,size=9,keep=95", 0, 90),
    ):
        with pytest.raises(
            InputError, match=f"images was requested, but there are {count} to train on"
        ):
            verbs.train(
                blobs(),
                recipe=WRAP.but(head=head, folds=folds),
                out=tmp_path,
                test=blobs(30, 1, ()),
            )
    assert not list(tmp_path.iterdir())
    verbs.train(
        blobs(),
        recipe=WRAP.but(head="memory,size=2", epochs=1),
        out=tmp_path,
        test=blobs(30, 1, ()),
    )
    assert "the memory of 2 images has none of 1 classes" in capsys.readouterr().err


def test_memories_on_a_frozen_encoder(wrapped, tmp_path):
    recipe = WRAP.but(model=f"frozen:{wrapped.path}", epochs=4)
    run = verbs.train(blobs(), recipe=recipe, out=tmp_path, test=blobs(30, 1, ()))
    assert run.about["test_accuracy"] > 0.9


def test_attention_over_many_memories(wrapped):
    held = MemoryBank.of(wrapped)
    x, own = held.at(torch.arange(7)), torch.arange(7)
    seen = held.attention(x, 6, own)
    assert seen.shape == (7, 90)
    assert (seen[own, own] == 0).all()
    by_hand, times = torch.zeros(7, 90), torch.zeros(90)
    for memories in held.covers(6, wrapped.recipe.seed):
        assert memories.shape == (8, 12)
        assert len(memories.flatten().unique()) == 90
        assert all(len(rows.unique()) == 12 for rows in memories)
        for rows in memories:
            _, weights = held.answer(x, rows)
            by_hand[:, rows] += weights
            times[rows] += 1
    assert times.min() >= 6
    assert torch.allclose(held.attention(x, 6), by_hand / times, atol=1e-4)


def test_prototypes_are_balanced_and_near_their_class_s_mean(wrapped):
    held = MemoryBank.of(wrapped)
    rows = held.prototypes(9)
    labels = wrapped.data.labels
    assert labels[rows].bincount().tolist() == [3, 3, 3]
    space = nn.functional.normalize(held.at(torch.arange(90)))

    def gap(some):
        return sum(
            float((space[some[labels[some] == k]].mean(0) - space[labels == k].mean(0)).norm())
            for k in range(3)
        )

    others = np.mean([gap(spread_by(wrapped, seed)) for seed in range(20)])
    assert gap(rows) < 0.75 * others


def spread_by(run, seed):
    order = hashing.permutation(90, "other", seed)
    return order[hashing.turns(run.data.labels[order]).argsort(stable=True)[:9]]


def test_the_most_used_are_looked_at_most(wrapped):
    held = MemoryBank.of(wrapped)
    rows = held.used(10)
    every = torch.arange(90)
    total = held.attention(held.at(every), 4, every).sum(0)
    assert set(rows.tolist()) == set(total.argsort(descending=True)[:10].tolist())
    assert len(spread(wrapped, 10).unique()) == 10


def test_a_subset_is_drawn_by_the_seed_in_proportion():
    data = blobs(90, wrong=tuple(range(0, 90, 3))[:20])
    counts = data.labels.bincount()
    rows = Subset(examples=30).rows(data, 4)
    assert len(rows.unique()) == 30
    assert (data.labels[rows].bincount() - counts / 3).abs().max() <= 0.5
    assert not torch.equal(rows, Subset(examples=30).rows(data, 5))
    free = [Subset(examples=30, drawn="random").rows(data, seed) for seed in range(9)]
    assert len({tuple(data.labels[rows].bincount().tolist()) for rows in free}) > 3
    assert Subset(examples=100_000).rows(data, 4).tolist() == list(range(90))
    assert Subset(examples=91, drawn="random").rows(data, 4).tolist() == list(range(90))
    even = hashing.spread(data.labels, 30, "x")
    assert data.labels[even].bincount().tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"examples": -1}, "a number of images from 1"),
        ({"examples": 5, "drawn": "evenly"}, "stratified or random"),
        ({"examples": 5, "origin": "x", "keep": 0.5}, "leave one out"),
        ({"examples": 1}, "one image cannot be trained on"),
        ({"drawn": "random"}, "goes with --examples"),
    ],
)
def test_bad_subsets_are_told(part, message, tmp_path):
    with pytest.raises(InputError, match=message):
        verbs.train(
            blobs(), recipe=WRAP, subset=Subset(**part), out=tmp_path, test=blobs(30, 1, ())
        )
    assert not list(tmp_path.iterdir())


def test_recalled_images_are_those_with_weight(wrapped):
    found = memory.view(wrapped, wrapped.test.take(torch.arange(5)))
    held = MemoryBank.of(wrapped)
    kept = np.load(wrapped.path / "memory.npy")
    with torch.inference_mode():
        x = wrapped.model.features(wrapped.test.batch(torch.arange(5))[0])
    logits, weights = held.answer(x)
    for query in range(5):
        by_row = dict(zip(kept.tolist(), weights[query].tolist(), strict=True))
        assert {row: w for row, w in by_row.items() if w > 0} == pytest.approx(
            dict(zip(found.rows[query].tolist(), found.weights[query].tolist(), strict=True))
        )
        assert (np.diff(found.weights[query]) <= 0).all()
    assert found.answers.tolist() == logits.argmax(1).tolist()
    other = hashing.some(90, 12, "auxiliary", wrapped.recipe.seed)
    said = held.answer(held.at(torch.from_numpy(found.rows[2])), other)[0].argmax(1)
    assert said.tolist() == found.said[2].tolist()
    whole = memory.view(wrapped, wrapped.test.take(torch.arange(2)), "all")
    weights = held.answer(x[:2], torch.arange(90))[1]
    assert (
        whole.rows[1].tolist()
        == weights[1].argsort(descending=True, stable=True)[: len(whole.rows[1])].tolist()
    )
    some = set(hashing.some(90, 12, "recalled", wrapped.recipe.seed).tolist())
    assert (
        set(memory.view(wrapped, wrapped.test.take(torch.arange(2)), "random").rows[0].tolist())
        <= some
    )


def test_heatmaps_sum_to_what_the_answer_gains(wrapped, monkeypatch):
    """Against autograd on a fine grid, with all other images moving along, each point with its
    own memory.
    """
    found = memory.view(wrapped, wrapped.test.take(torch.arange(3)))
    model, head = wrapped.model, wrapped.model.head
    half = lambda size: torch.full(size, 0.5)  # noqa: E731
    for baseline, start in (("white", torch.ones), ("grey", half), ("black", torch.zeros)):
        heats, error = memory.heatmaps(found, 1, baseline)
        assert error < 0.05
        rows = torch.from_numpy(found.rows[1])
        images = (
            torch.cat(
                [found.queries.batch(torch.tensor([1]))[0], wrapped.data.batch(rows)[0]]
            ).float()
            / 255
        )
        first, slope = start(images.shape), torch.zeros_like(images)
        for step in range(400):
            x = (first + (step + 0.5) / 400 * (images - first)).requires_grad_()
            f = model.features(x)
            slope += torch.autograd.grad(head(f[:1], f[1:])[0, found.answers[1]], x)[0] / 400
        mine = (slope * (images - first)).sum(1).numpy()
        assert np.allclose(heats[0].cells, mine[0], atol=0.05 * np.abs(mine).max())
        assert heats[0].row == -1
        assert {heat.row for heat in heats[1:]} <= set(found.rows[1].tolist())
    monkeypatch.setattr(memory, "ROOM", 3 * 64)
    few = memory.heatmaps(found, 1, "black")[0]
    assert all(np.allclose(a.cells, b.cells, atol=1e-6) for a, b in zip(heats, few, strict=True)), (
        "as many at a time"
    )
    blurred = memory.heatmaps(found, 1, "blurred")[0][0].cells
    assert np.abs(blurred - heats[0].cells).max() > 0


def test_fewer_points_at_a_time_where_memory_is_short():
    seen = []

    def score(points, which):
        seen.append(len(points))
        if len(points) > 3:
            raise torch.OutOfMemoryError("too much")
        return points.square().sum(1)

    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    slope, error = integrated(score, x, torch.zeros_like(x), steps=10, room=16)
    assert torch.allclose(slope, x)
    assert error.max() < 1e-5
    assert max(seen) == 16
    assert seen[-1] <= 3


def test_evaluation_by_hand(wrapped):
    found = memory.faithfulness(wrapped, memories=3)
    held, test = MemoryBank.of(wrapped), wrapped.test
    features = torch.from_numpy(np.load(wrapped.path / "test_features.npy").astype("float32"))
    right, same, both = [], [], []
    for turn in range(3):
        rows, other = (
            hashing.some(90, 12, name, wrapped.recipe.seed, turn, 0) for name in ("memory", "other")
        )
        logits, weights = held.answer(features, rows)
        best = [int(rows[w.argmax()]) for w in weights]
        said = [int(held.answer(held.at(torch.tensor([row])), other)[0].argmax()) for row in best]
        hit = [int(a) == int(b) for a, b in zip(logits.argmax(1), test.labels, strict=True)]
        agree = [int(a) == b for a, b in zip(logits.argmax(1), said, strict=True)]
        right.append(np.mean(hit))
        same.append(np.mean(agree))
        both.append(np.mean([h for h, a in zip(hit, agree, strict=True) if a]))
    assert found["accuracy"] == pytest.approx(np.mean(right), abs=1e-4)
    assert found["over_memories"] == pytest.approx(np.std(right, ddof=1), abs=1e-4)
    assert found["explanation_accuracy"] == pytest.approx(np.mean(same), abs=1e-4)
    assert found["example_accuracy"] == pytest.approx(np.mean(both), abs=1e-4)
    whole, _ = held.answer(features, torch.arange(90))
    assert found["whole_set"] == pytest.approx(
        (whole.argmax(1) == test.labels).float().mean().item(), abs=1e-4
    )


def test_another_memory_makes_a_run_of_the_same_weights(wrapped, capsys):
    new = verbs.memory.replace(wrapped, choose="prototypes", size=6)
    rows = np.load(new.path / "memory.npy")
    assert wrapped.data.labels[rows].bincount().tolist() == [2, 2, 2]
    assert np.array_equal(rows, MemoryBank.of(wrapped).prototypes(6).numpy())
    assert new.model.head.held.shape[0] == 6
    old, mine = wrapped.model.state_dict(), new.model.state_dict()
    assert all(torch.equal(old[name], mine[name]) for name in old if name != "head.held")
    assert (new.path / "trace" / "loss.npy").read_bytes() == (
        wrapped.path / "trace" / "loss.npy"
    ).read_bytes()
    by_hand = verbs.memory.replace(wrapped, *(wrapped.data.name(row) for row in (0, 3, 9)))
    assert np.load(by_hand.path / "memory.npy").tolist() == [0, 3, 9]
    assert "has none of 2 classes" in capsys.readouterr().err
    assert by_hand.path != new.path
    assert verbs.memory.replace(wrapped, choose="prototypes", size=6).path == new.path
    with pytest.raises(InputError, match="no training image 'nobody'"):
        verbs.memory.replace(wrapped, "nobody")
    with pytest.raises(InputError, match="--size 91 is more than the 90 images"):
        verbs.memory.replace(wrapped, size=91)
    with pytest.raises(InputError, match="or the names"):
        verbs.memory.replace(wrapped, wrapped.data.name(0), choose="used")
    with pytest.raises(InputError, match="kept no checkpoints"):
        verbs.explain(new, method="tracin", queries=2)


def test_a_memory_chosen_in_training_is_the_one_chosen_after(wrapped, tmp_path):
    recipe = WRAP.but(head="memory_wrap,size=12,choose=prototypes")
    run = verbs.train(blobs(), recipe=recipe, out=tmp_path, test=blobs(30, 1, ()))
    after = verbs.memory.replace(wrapped, choose="prototypes")
    assert (run.path / "memory.npy").read_bytes() == (after.path / "memory.npy").read_bytes()
    assert torch.equal(run.model.head.held, after.model.head.held)


def test_batchnorm_is_not_touched_when_a_memory_is_chosen(tmp_path, monkeypatch):
    """Prototypes ask for features of the whole set; resumed after the last epoch they are those
    of the uninterrupted run.
    """
    from datablame.inference import memory

    colour = {"data": blobs(grey=False), "test": blobs(30, 1, (), grey=False)}
    recipe = WRAP.but(
        model="resnet9,width=0.125", head="memory_wrap,size=12,choose=prototypes", epochs=2
    )
    first = verbs.train(**colour, recipe=recipe, out=tmp_path / "first")
    settle = memory.settle
    monkeypatch.setattr(
        memory, "settle", lambda run, model: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        verbs.train(**colour, recipe=recipe, out=tmp_path / "second")
    monkeypatch.setattr(memory, "settle", settle)
    second = verbs.train(**colour, recipe=recipe, out=tmp_path / "second")
    assert (first.path / "model.safetensors").read_bytes() == (
        second.path / "model.safetensors"
    ).read_bytes()
    other = verbs.memory.replace(first, choose="used", size=9)
    old, new = first.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old if name != "head.held")


@pytest.mark.parametrize(
    "model",
    [
        "shufflenet_v2_x0_5",
        "vit,depth=1,hidden=24,heads=2",
        "wide_resnet,depth=10,width=1",
        "resnet18",
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_encoders_look_at_memories(model, precision):
    data = blobs(60, grey=False)
    pixels = torch.nn.functional.interpolate(data.batch(torch.arange(60))[0].float(), 35).byte()
    data = db.Dataset.from_arrays(pixels.numpy(), data.labels, data.classes)
    net = build(db.Recipe(model=model, head="memory_wrap,size=6"), data)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = net(pixels[:5], pixels[10:16])
    logits.float().square().sum().backward()
    assert logits.shape == (5, 3)
    assert all(p.grad is not None for p in net.encoder.parameters())
    net.eval()
    with torch.no_grad():
        net.head.held = net.features(pixels[10:16]).float()
        assert torch.allclose(net(pixels[:1]), net(pixels[:1], pixels[10:16]), atol=1e-4)


def test_attention_by_distance_never_sees_the_query(wrapped, tmp_path):
    recipe = WRAP.but(head="memory_wrap,size=12,similarity=euclidean", epochs=2)
    held = MemoryBank.of(verbs.train(blobs(), recipe=recipe, out=tmp_path, test=blobs(30, 1, ())))
    far = MemoryBank(held.run, held.head, 100 * held.features.astype("float32"))
    rows = torch.arange(20)
    seen = far.attention(far.at(rows), 3, rows)
    assert (seen[rows, rows] == 0).all()
    weights = far.head.look(far.at(rows), far.at(torch.arange(40, 60)))
    assert torch.allclose(weights.sum(1), torch.ones(20))


def test_the_link_is_the_attention_signed_by_label(wrapped):
    found = verbs.explain(wrapped, queries=4, method="memory_wrap,memories=3")
    held = MemoryBank.of(wrapped)
    with torch.inference_mode():
        x = wrapped.model.features(wrapped.test.batch(torch.arange(4))[0])
    same = wrapped.test.labels[:4, None] == wrapped.data.labels
    expected = held.attention(x, 3) * torch.where(same, 1.0, -1.0)
    assert np.allclose(found.values, expected, atol=1e-6)


def test_a_wrong_label_is_pointed_at_for_the_wrong_class(tmp_path):
    data = blobs(120, wrong=(7, 31, 50))
    run = verbs.train(data, recipe=WRAP, out=tmp_path, test=blobs(30, 1, ()))
    for spec in ("attention", "attention,memories=1,queries=60"):
        values = verbs.score(run, spec).values
        assert ((values >= 0) & (values <= 1)).all()
        assert set(values.argsort(descending=True)[:6].tolist()) >= {7, 31, 50}, spec
    held, rows = MemoryBank.of(run), torch.arange(120)
    weights = held.attention(held.at(rows), 4, rows)
    expected = (weights * (data.labels[:, None] != data.labels)).sum(0) / weights.sum(0)
    assert torch.allclose(verbs.score(run, "attention").values, expected, atol=1e-4)
    with pytest.raises(InputError, match="memories must be at least 1"):
        verbs.score(run, "attention,memories=0")
    with pytest.raises(InputError, match="looks at no memory; train with --head memory_wrap"):
        verbs.score(
            verbs.train(data, recipe=TINY.but(folds=0), out=tmp_path, test=blobs(30, 1, ())),
            "attention",
        )


def test_runs_of_several_seeds_end_in_one_line(tmp_path):
    words = {
        "subset": Subset(examples=45),
        "out": tmp_path,
        "reading": Reading(test=blobs(30, 1, ())),
    }
    found = verbs.train(blobs(), seeds=2, recipe=WRAP.but(epochs=3), **words)
    runs = [Run(path) for path in sorted(tmp_path.iterdir())]
    assert {run.recipe.seed for run in runs} == {0, 1}
    assert not torch.equal(runs[0].data.rows, runs[1].data.rows)
    values = [run["accuracy"] for run in found["runs"].values()]
    assert set(found["runs"]) == {str(run.path) for run in runs}
    assert found["sentence"].endswith(
        f"45 images, 2 runs: {100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f} %"
    )
    assert (
        verbs.memory.test(tmp_path).to_json()
        == verbs.memory.test(*runs, runs[0]).to_json()
        == found.to_json()
    )
    before = [
        (path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("model.safetensors"))
    ]
    verbs.train(blobs(), seeds=2, recipe=WRAP.but(epochs=3), **words)
    assert before == [
        (path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("model.safetensors"))
    ]


def test_runs_are_averaged_over_seeds_alone(wrapped, tmp_path, interrupted, capsys):
    def train(**changes):
        return verbs.train(blobs(), recipe=WRAP.but(**changes), out=tmp_path, test=blobs(30, 1, ()))

    same = [train(seed=seed, epochs=2) for seed in (0, 1)]
    other = train(epochs=1)
    interrupted(lambda: train(epochs=6))
    found = verbs.memory.test(tmp_path)
    assert "is left out: it is not finished" in capsys.readouterr().err
    assert set(found["runs"]) == {str(run.path) for run in (*same, other)}
    assert [kind.partition("images, ")[2] for kind in found["means"]] in (
        ["epochs=1", "epochs=2"],
        ["epochs=2", "epochs=1"],
    )
    assert "2 runs: " in found["sentence"]
    mean = next(each for kind, each in found["means"].items() if kind.endswith("epochs=2"))
    for name, key in (
        ("accuracy", "over_seeds"),
        ("explanation_accuracy", "explanation_accuracy_over_seeds"),
    ):
        values = [found["runs"][str(run.path)][name] for run in same]
        assert mean[name] == pytest.approx(np.mean(values), abs=1e-5)
        assert mean[key] == pytest.approx(np.std(values, ddof=1), abs=1e-5)


def test_what_is_recalled_is_drawn_and_told(wrapped):
    facts = verbs.memory.show(wrapped, queries=3)
    assert facts["largest_error"] < 0.1
    for name in ("memory-kept.png", "memory-kept-heatmaps.png"):
        assert (wrapped.path / "figures" / name).stat().st_size > 5_000
    page = verbs.report(wrapped).read_text()
    assert 'alt="memory images, kept"' in page
    verbs.memory.test(wrapped, memories=2)
    assert "explanations that are right" in verbs.report(wrapped).read_text()
    verbs.memory.show(wrapped, queries=2, heatmaps="none")
    for kind in ("png", "pdf"):
        assert not (wrapped.path / "figures" / f"memory-kept-heatmaps.{kind}").exists()
    with pytest.raises(InputError, match="--heatmaps takes white, black, grey, blurred or none"):
        verbs.memory.show(wrapped, heatmaps="violet")
    with pytest.raises(InputError, match="no memory 'mine'"):
        verbs.memory.show(wrapped, memory="mine")


def pages_of(path):
    return path.read_bytes().count(b"/Type /Page\n")


def test_all_queries_are_drawn_in_pages(wrapped):
    figures = wrapped.path / "figures"
    verbs.memory.show(wrapped, queries=SHOWN + 1, heatmaps="none")
    assert pages_of(figures / "memory-kept.pdf") == 2
    first = Image.open(figures / "memory-kept.png")
    verbs.memory.show(wrapped, queries=SHOWN, heatmaps="none")
    assert pages_of(figures / "memory-kept.pdf") == 1
    assert Image.open(figures / "memory-kept.png").tobytes() == first.tobytes()
    verbs.memory.show(wrapped, pick="training", queries=SHOWN + 1)
    assert pages_of(figures / "memory-kept-heatmaps.pdf") == 2


def test_every_image_with_weight_is_drawn_where_it_is_asked_for(wrapped, monkeypatch):
    drawn = []
    put = ContactSheet.put
    monkeypatch.setattr(
        ContactSheet, "put", lambda *a, **k: (drawn.append((a[0], *a[2:4])), put(*a, **k))
    )
    found = verbs.memory.show(wrapped, queries=3, memory="all", heatmaps="none", each=0)
    assert len(drawn) == 3 + sum(map(len, found.rows))
    assert len(set(drawn)) == len(drawn), "none over another"
    drawn.clear()
    few = verbs.memory.show(wrapped, queries=3, memory="all", heatmaps="none", each=1)
    kinds = [
        len(set((said == answer).tolist()))
        for said, answer in zip(few.said, few.answers, strict=True)
    ]
    assert len(drawn) == 3 + sum(kinds)
    monkeypatch.setattr(memory, "MOST", 2)
    assert (
        max(map(len, verbs.memory.show(wrapped, queries=3, memory="all", heatmaps="none").rows))
        == 5
    )
    with pytest.raises(InputError, match="each must be"):
        verbs.memory.show(wrapped, each=-1)


def test_training_images_can_be_asked_about(wrapped):
    found = verbs.memory.show(wrapped, pick="training", queries=4, heatmaps="none")
    assert set(found.queries.names.to_pylist()) < set(wrapped.data.names.to_pylist())
    with pytest.raises(InputError, match="no pick 'some'"):
        verbs.memory.show(wrapped, pick="some")


def test_the_demonstration_is_there_without_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datablame.training.fit.fit", None)
    found = verbs.memory.show("demo", queries=2, heatmaps="none")
    assert found.run.path == tmp_path / "cache" / "demo" / "digits"
    assert found.pictures()[0].exists()
    assert predictions.accuracy(found.run) > 0.9
    shipped = Path(verbs.demonstration.HOME)
    assert sum(path.stat().st_size for path in shipped.rglob("*.*")) < 1_000_000
    assert found.run.trace.epochs == found.run.recipe.epochs
    again = verbs.memory.show("demo", queries=2, heatmaps="none")
    assert again.run.about["finished"] == found.run.about["finished"]
    (tmp_path / "demo").mkdir()
    with pytest.raises(InputError, match="demo is not a run"):
        verbs.memory.show("demo")
