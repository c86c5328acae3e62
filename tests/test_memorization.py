"""Memorization: frozen encoders, heads at their optimum, and what a head would say of an example
that it was not trained on.
"""

import dataclasses
import itertools

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from conftest import TINY, blobs
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import pearsonr, spearmanr
from torch.nn.functional import cross_entropy, interpolate

from datablame import InputError, Recipe, Run, verbs
from datablame.analyses.memorization import MemorizationMap
from datablame.inference.features import encoded, features
from datablame.inference.integrated_gradients import integrated
from datablame.linear_probe.leverage import Leverage, helmert, inverted
from datablame.linear_probe.memorization_map import POOLS, CellAttribution, pooled
from datablame.linear_probe.optimum import Basis, Problem, fitted, optimum
from datablame.network.classifier import build
from datablame.network.frozen import published


def toy(count, dim, classes, decay, seed=0, keep=None):
    """Features that are positive and of unequal spread, labels that follow them but for a few."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(dim, generator=generator) ** 2 * 2
    x = torch.randn(count, dim, generator=generator).relu() * spread
    truth = (x @ torch.randn(dim, classes, generator=generator) * 3 / dim**0.5).argmax(1)
    labels = torch.where(torch.arange(count) % 11 == 0, (truth + 1) % classes, truth)
    return Problem(x.numpy(), labels, classes, decay, keep)


def lever_of(run):
    problem, basis, theta = fitted(run)
    return Leverage.of(problem, theta, basis)


def by_autograd(problem, theta):
    """Gradient and Hessian of the objective at theta, of the first set, in double precision."""
    x = torch.from_numpy(problem.features).double()
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
    kept = problem.keep[0] if problem.keep is not None else torch.ones(len(x), dtype=torch.bool)

    def objective(t):
        loss = cross_entropy(x[kept] @ t.T, problem.labels[kept])
        return loss + 0.5 * problem.weight_decay * t[:, :-1].square().sum()

    t = theta[0].double()
    functional = torch.autograd.functional
    return objective(t), functional.jacobian(objective, t), functional.hessian(objective, t)


def test_gradient_and_hessian_are_those_of_autograd():
    keep = torch.rand(2, 40, generator=torch.Generator().manual_seed(1)) < 0.8
    problem = toy(40, 5, 3, 0.1, keep=keep)
    generator = torch.Generator().manual_seed(2)
    theta, way = (
        torch.randn(2, 3, 6, generator=generator),
        torch.randn(2, 3, 6, generator=generator),
    )
    value, slope, bend = by_autograd(problem, theta)
    mine, gradient = problem.gradient(theta)
    assert mine[0] == pytest.approx(float(value), abs=1e-5)
    assert torch.allclose(gradient[0].double(), slope, atol=1e-5)
    product = torch.einsum("kdlm,lm->kd", bend, way[0].double())
    assert torch.allclose(problem.bend(theta, way)[0].double(), product, atol=1e-5)


def test_the_optimum_is_where_the_gradient_ends():
    keep = torch.rand(6, 300, generator=torch.Generator().manual_seed(1)) < 0.7
    problem = toy(300, 12, 4, 1e-3, keep=keep)
    theta = optimum(problem)
    slope = problem.gradient(theta)[1].norm(dim=(1, 2))
    assert (slope < 2e-5 * problem.gradient(torch.zeros_like(theta))[1].norm(dim=(1, 2))).all()
    alone = optimum(dataclasses.replace(problem, keep=keep[3:4]))
    assert torch.allclose(theta[3], alone[0], atol=1e-3)
    assert (theta.sum(1).abs() < 1e-3).all(), (
        "the same change of all logits changes nothing, and is not made"
    )


@pytest.mark.parametrize(
    ("count", "dim", "classes", "decay"),
    [(240, 12, 4, 2e-2), (150, 40, 5, 1e-3), (200, 6, 2, 2e-2)],
)
def test_leaving_out_is_retraining_without(count, dim, classes, decay):
    problem = toy(count, dim, classes, decay)
    basis = Basis.of(problem)
    theta = optimum(problem, basis=basis)
    lever = Leverage.of(problem, theta, basis)
    found = lever.left_out()
    assert lever.energy == pytest.approx(1)
    without = dataclasses.replace(problem, keep=~torch.eye(count, dtype=torch.bool))
    each = optimum(without, theta.expand(count, -1, -1).clone(), basis)
    x = torch.cat([torch.from_numpy(problem.features), torch.ones(count, 1)], 1)
    logs = (
        torch.einsum("nd,nkd->nk", x, each).log_softmax(1).gather(1, problem.labels[:, None])[:, 0]
    )
    assert pearsonr(found[:, 1], logs.exp())[0] > 0.999
    assert spearmanr(found[:, 2], -logs)[0] > 0.999
    reduced = Leverage.of(problem, theta, basis, directions=dim // 2)
    assert 0.5 < reduced.energy < 1
    if decay > 1e-2:  # near interpolation EK-FAC is too coarse: docs/design.md
        for other in (reduced, Leverage.of(problem, theta, basis, directions=0)):
            assert spearmanr(other.left_out()[:, 2], -logs)[0] > 0.99


def test_self_influence_of_a_head_is_that_of_its_hessian():
    problem = toy(60, 5, 3, 0.05)
    basis = Basis.of(problem)
    theta = optimum(problem, basis=basis)
    found = Leverage.of(problem, theta, basis).left_out()[:, 3]
    bend = by_autograd(problem, theta)[2].flatten(2).flatten(0, 1)
    x = torch.cat([torch.from_numpy(problem.features), torch.ones(60, 1)], 1).double()
    r = (x @ theta[0].double().T).softmax(1) - torch.eye(3)[problem.labels]
    g = (r[:, :, None] * x[:, None]).flatten(1)
    expected = (g @ torch.linalg.pinv(bend, hermitian=True) * g).sum(1)
    assert torch.allclose(found.double(), expected, rtol=2e-3, atol=1e-4)


def test_many_classes_take_the_short_way(monkeypatch):
    problem = toy(400, 6, 5, 5e-2)
    basis = Basis.of(problem)
    theta = optimum(problem, basis=basis)
    levers = {
        directions: Leverage.of(problem, theta, basis, directions) for directions in (0, 3, 7)
    }
    solved = {directions: lever.left_out() for directions, lever in levers.items()}
    monkeypatch.setattr("datablame.linear_probe.leverage.SOLVED", 2)
    for directions, lever in levers.items():
        assert torch.allclose(lever.left_out(), solved[directions], rtol=1e-4, atol=1e-5)
    assert torch.equal(Leverage.of(problem, theta, basis).left_out(), levers[0].left_out()), (
        "all EK-FAC by default"
    )


def test_an_orthonormal_basis_without_the_mean():
    side = helmert(7)
    assert torch.allclose(side.T @ side, torch.eye(6), atol=1e-6)
    assert torch.allclose(side.sum(0), torch.zeros(6), atol=1e-6)


def test_a_singular_hessian_is_damped_and_said(capsys):
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    inverse = inverted(x.T @ x)
    assert inverse.isfinite().all()
    assert "singular" in capsys.readouterr().err


@pytest.fixture(scope="module")
def probed(run, tmp_path_factory):
    """The encoder of a run, frozen, with a head at its optimum."""
    recipe = Recipe(
        model=f"frozen:{run.path}",
        trainer="linear_probe",
        epochs=5,
        weight_decay=1e-2,
        folds=0,
        precision="fp32",
    )
    return verbs.train(
        blobs(), recipe=recipe, out=tmp_path_factory.mktemp("frozen"), test=blobs(30, 1, ())
    )


def test_a_frozen_encoder_stays_as_it_is(run, probed):
    for name, weight in probed.model.encoder.net.state_dict().items():
        assert torch.equal(weight, run.model.encoder.state_dict()[name]), name
    assert np.array_equal(features(probed), features(run))
    assert probed.recipe.augment == "none"
    assert probed.about["test_accuracy"] > 0.95
    assert int(verbs.score(probed, "aum").values.argmax()) == 7
    assert int(verbs.score(probed, "loo").values.argmax()) == 7
    assert [line["loss"] for line in probed.log] == sorted(
        (line["loss"] for line in probed.log), reverse=True
    )


def test_a_head_at_its_optimum_resumes_to_the_same(probed, run, tmp_path, interrupted):
    def train():
        return verbs.train(blobs(), recipe=probed.recipe, out=tmp_path, test=blobs(30, 1, ()))

    interrupted(train)
    again = train()
    for name in ("model.safetensors", "trace/loss.npy"):
        assert (again.path / name).read_bytes() == (probed.path / name).read_bytes(), name


def test_a_frozen_run_is_opened_from_anywhere(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.path.parent)
    recipe = TINY.but(model=f"frozen:{run.path.name}", trainer="linear_probe", folds=0)
    probe = verbs.train(blobs(), recipe=recipe, out=tmp_path, test=blobs(30, 1, ()))
    monkeypatch.chdir(tmp_path)
    assert probe.path.name.startswith(f"blobs-frozen_{run.path.name.replace('-', '_')}-")
    assert torch.equal(
        Run(probe.path).model.features(blobs().batch(torch.arange(3))[0]),
        run.model.features(blobs().batch(torch.arange(3))[0]),
    )


def test_what_is_frozen_may_have_another_head_and_trainer(run, tmp_path):
    recipe = TINY.but(model=f"frozen:{run.path}", head="mlp,hidden=8", folds=0, checkpoints=0)
    seen = verbs.train(blobs(), recipe=recipe, out=tmp_path, test=blobs(30, 1, ()))
    assert seen.about["test_accuracy"] > 0.9
    moved = verbs.train(
        blobs(), recipe=recipe.but(augment="crop"), out=tmp_path, test=blobs(30, 1, ())
    )
    assert moved.path != seen.path


def test_features_are_made_once_for_an_image(run, monkeypatch):
    data = blobs(60, 3, ())
    model = build(TINY.but(model=f"frozen:{run.path}"), data)
    some = encoded(model, data.take(torch.tensor([5, 3, 3, 50])))
    expected = model.features(data.batch(torch.tensor([5, 3, 3, 50]))[0])
    assert torch.allclose(some.at(torch.arange(4)), expected, atol=1e-2)
    counted = []
    features = type(model).features
    monkeypatch.setattr(
        type(model),
        "features",
        lambda self, pixels: counted.append(len(pixels)) or features(self, pixels),
    )
    whole = encoded(model, data)
    assert sum(counted) == 57
    assert torch.allclose(
        whole.at(torch.arange(60)), features(model, data.batch(torch.arange(60))[0]), atol=1e-2
    )
    encoded(model, data)
    assert sum(counted) == 57


def test_a_net_of_torchvision_with_local_weights(tmp_path):
    from torchvision import models

    torch.manual_seed(0)
    net = models.get_model("squeezenet1_1", weights=None)
    save_file(net.state_dict(), tmp_path / "squeeze.safetensors")
    model = published(
        (1, 8, 8), "squeezenet1_1", weights=str(tmp_path / "squeeze.safetensors"), size=64
    )
    assert not any(p.requires_grad for p in model.parameters())
    assert model.train().training is False
    seen = model(torch.rand(2, 1, 8, 8))
    assert seen.shape == (2, model.dim)
    with pytest.raises(InputError, match="there is no weights file"):
        published((3, 8, 8), "squeezenet1_1", weights=str(tmp_path / "squeeze.pth"))


def test_the_first_published_noise_lies_on_what_the_encoder_sees(tmp_path):
    """One pattern for all, drawn at the encoder's size, neither rounded nor cut; the same in the
    run's own folder, and in an ablation.
    """
    from torchvision import models

    net = models.get_model("squeezenet1_1", weights=None)
    save_file(net.state_dict(), tmp_path / "squeeze.safetensors")
    model = f"frozen:squeezenet1_1,weights={tmp_path / 'squeeze.safetensors'},size=32"
    recipe = Recipe(model=model, trainer="linear_probe", epochs=1, folds=0, weight_decay=0.01)
    clean, test = blobs(30, wrong=()), blobs(12, 1, ())
    made = verbs.train(
        clean, recipe=recipe, test=test, out=tmp_path, noise="pixel_normal,original=yes", amount=2.0
    )
    rows = torch.arange(4)
    seen = Run(made.path).data.batch(rows)[0]
    assert seen.shape == (4, 1, 32, 32)
    assert seen.is_floating_point()
    assert seen.max() > 1
    plain = interpolate(
        clean.batch(rows)[0].float() / 255, (32, 32), mode="bilinear", antialias=True
    )
    noise = (seen - plain) / (2 * torch.tensor(clean.std)[:, None, None])
    assert (noise - noise[:1]).abs().max() < 1e-5, "one pattern"
    assert (float(noise[0].min()), float(noise[0].max())) == pytest.approx((0, 1), abs=1e-5)
    assert torch.equal(made.data.batch(rows)[0], seen)
    assert made.data.pixels.one(0).dtype == np.uint8, "drawn as bytes"
    verbs.memorization(made, top_k=2, over="pixels")
    verbs.ablate(
        made,
        "aum",
        shares=(0.0,),
        seeds=(0,),
        noises=("pixel_uniform,original=yes",),
        strengths=(1.0,),
    )
    assert "pixel_uniform,original=yes" in (made.path / "ablation.csv").read_text()
    trained = verbs.train(
        clean, recipe=TINY.but(folds=0), test=test, out=tmp_path, noise="pixel_normal,original=yes"
    )
    assert trained.data.batch(rows)[0].dtype == torch.uint8


def test_both_ways_to_memorization_agree_in_order(run):
    head = verbs.score(run, "memorization").values
    net = verbs.score(run, "memorization,how=influence").values
    assert spearmanr(head, net)[0] > 0.3
    assert (
        spearmanr(verbs.score(run, "loo").values, verbs.score(run, "loo,how=influence").values)[0]
        > 0.5
    )
    with pytest.raises(InputError, match="no way to memorization 'hed'; did you mean head"):
        verbs.score(run, "memorization,how=hed")
    exact = verbs.score(run, "self_influence,how=head").values
    kept = lever_of(run).left_out()
    assert torch.allclose(exact, kept[:, 3] / len(run.data), rtol=1e-4)


def test_the_first_code_s_score_is_a_plain_gradient_product(run):
    """Its damping is far above the Hessian: `p_y g^T (g + decay w) / 50`."""
    problem, _, theta = fitted(run)
    x = torch.cat([torch.from_numpy(problem.features.astype("float32")), torch.ones(90, 1)], 1)
    p = (x @ theta[0].T).softmax(1)
    wrong = p - torch.eye(3)[problem.labels]
    gradient = wrong[:, :, None] * x[:, None]
    expected = (
        p.gather(1, problem.labels[:, None])[:, 0]
        * (gradient * (gradient + problem.pull(theta))).sum((1, 2))
        / 50
    )
    found = verbs.score(run, "memorization,how=original").values
    assert pearsonr(found, expected)[0] > 0.999
    assert torch.allclose(found, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


def test_newton_says_what_it_cannot_do(run, tmp_path):
    with pytest.raises(InputError, match="of a frozen encoder; use --model frozen:resnet50"):
        verbs.train(blobs(), recipe=TINY.but(trainer="linear_probe"), out=tmp_path)
    still = TINY.but(trainer="linear_probe", model=f"frozen:{run.path}")
    with pytest.raises(InputError, match="of a frozen encoder"):
        verbs.train(blobs(), recipe=still.but(head="mlp"), out=tmp_path)
    with pytest.raises(InputError, match="--augment none instead of crop"):
        verbs.train(blobs(), recipe=still.but(augment="crop"), out=tmp_path)


def test_an_ablation_of_heads_is_that_of_their_optima(probed, monkeypatch):
    shares, seeds = (0.0, 0.2), (0, 1)
    table = verbs.ablate(
        probed, "loo", shares=shares, seeds=seeds, noises=("pixel_normal",), strengths=(0.0, 2.0)
    ).to_json()
    assert set(table) == {"loo", "random"}
    rows = parquet.read_table(probed.path / "ablation.parquet").to_pylist()
    assert len(rows) == 2 * 2 * 2 * 3
    by = {
        (row["signal"], row["share"], row["seed"], row["noise"], row["strength"]): row
        for row in rows
    }
    for signal, share, seed in itertools.product(("loo", "random"), shares, seeds):
        clean = by[signal, share, seed, "none", 0.0]
        assert (
            by[signal, share, seed, "pixel_normal", 0.0]["test_accuracy"] == clean["test_accuracy"]
        )
    gone = verbs.score(probed, "loo").values.argsort(descending=True)[:18]
    kept = torch.ones(90, dtype=torch.bool)
    kept[gone] = False
    left_out = parquet.read_table(probed.path / "ablation-left-out.parquet").to_pylist()
    named = {(row["signal"], row["share"], row["seed"]): row["rows"] for row in left_out}
    assert named["loo", 0.2, 1] == sorted(gone.tolist())
    assert [len(named["random", share, 0]) for share in shares] == [0, 18]
    alone = verbs.train(
        blobs().take(kept.nonzero()[:, 0]),
        recipe=probed.recipe,
        out=probed.path.parent,
        test=blobs(30, 1, ()),
    )
    assert by["loo", 0.2, 0, "none", 0.0]["test_accuracy"] == pytest.approx(
        alone.about["test_accuracy"], abs=1e-4
    )
    for name in ("ablation", "ablation-pixel_normal-2"):
        assert (probed.path / "figures" / f"{name}.png").stat().st_size > 5_000
    monkeypatch.setattr(
        "datablame.evaluation.ablation.optimum", None
    )  # what is fitted is not fitted again
    assert verbs.ablate(probed, "loo", shares=shares, seeds=seeds).to_json() == table
    with pytest.raises(InputError, match="would leave 2 examples for 3 classes"):
        verbs.ablate(probed, "loo", shares=(0.98,), seeds=(0,))
    with pytest.raises(InputError, match="uniform changes labels"):
        verbs.ablate(probed, "loo", noises=("uniform",), strengths=(0.5,))


def test_an_ablation_needs_a_signal_and_a_seed(run):
    for words in ({"seeds": ()}, {"signals": ()}):
        with pytest.raises(InputError, match="one signal or more, and one seed or more"):
            verbs.ablate(run, *words.get("signals", ("aum",)), seeds=words.get("seeds", (0,)))


def test_an_ablation_of_nets_looks_under_noise_too(run):
    verbs.ablate(run, "aum", shares=(0.0,), seeds=(0,), noises=("pixel_uniform",), strengths=(3.0,))
    rows = parquet.read_table(run.path / "ablation.parquet").to_pylist()
    assert [(row["noise"], row["strength"]) for row in rows] == [
        ("none", 0.0),
        ("pixel_uniform", 3.0),
    ] * 2
    assert rows[1]["test_accuracy"] < rows[0]["test_accuracy"] + 1e-9


def test_integrated_gradients_are_complete_and_exact_on_polynomials():
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 0.0]], dtype=torch.double)
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.double)

    def score(points, which):
        return weight[which] * points[:, 0] ** 2 * points[:, 1]

    slope, error = integrated(score, x, torch.zeros_like(x), steps=200, room=7)
    first = weight * x[:, 0] ** 2 * x[:, 1]
    assert torch.allclose(slope * x, torch.stack([2 / 3 * first, first / 3], 1), atol=1e-3)
    assert error[:2].max() < 1e-4
    assert torch.equal(slope, integrated(score, x, torch.zeros_like(x), steps=200, room=600)[0])


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """A head on the frozen encoder of a small net whose features are means of a map."""
    out = tmp_path_factory.mktemp("pictured")
    first = verbs.train(
        blobs(),
        recipe=TINY.but(model="resnet,depth=20,width=0.25", epochs=2, folds=0, lr=0.01),
        out=out,
    )
    recipe = Recipe(
        model=f"frozen:{first.path}",
        trainer="linear_probe",
        epochs=2,
        weight_decay=1e-2,
        folds=0,
        precision="fp32",
    )
    return verbs.train(blobs(), recipe=recipe, out=out, test=blobs(30, 1, ()))


def test_a_matrix_sums_to_the_first_order_of_memorization(pictured):
    rows = torch.tensor([7, 3, 20])
    found = CellAttribution.of(pictured, rows)
    kept = lever_of(pictured).left_out()[rows]
    first_order = kept[:, 0] * kept[:, 3] / len(pictured.data)
    assert torch.allclose(found.score, first_order, rtol=2e-2)
    nothing = found.again(torch.zeros_like(found.maps), torch.arange(3))
    assert torch.allclose(found.cells.sum((1, 2)), found.score - nothing, rtol=1e-2, atol=1e-6)
    assert found.error.max() < 1e-2
    over = CellAttribution.of(pictured, rows, "pixels")
    assert over.cells.shape[1:] == (8, 8)
    assert torch.allclose(over.score, found.score, rtol=2e-2)
    assert torch.allclose(found.masked(1.0), (found.score - nothing) / found.score, rtol=1e-2)


def test_features_are_a_mean_or_a_maximum_of_a_map(pictured, run):
    images = pictured.data.batch(torch.arange(5))[0]
    maps, pool = pooled(pictured.model, images)
    assert pool is POOLS["mean"]
    assert torch.allclose(pool(maps), pictured.model.features(images), rtol=1e-3, atol=1e-4)
    net = build(Recipe(model="resnet9,width=0.25"), blobs(grey=False)).eval()
    colour = blobs(grey=False).batch(torch.arange(5))[0]
    maps, pool = pooled(net, colour)
    assert pool is POOLS["maximum"]
    assert torch.equal(pool(maps), net.features(colour))
    with pytest.raises(InputError, match="no mean and no maximum of a map; look at pixels"):
        pooled(run.model, images)


def test_what_is_located_is_drawn_and_told(pictured, capsys):
    facts = verbs.memorization(pictured, top_k=12)
    assert facts["images"] == 12
    assert facts["largest_error"] < 0.01
    verbs.memorization(pictured, "left", "right", top_k=3, over="pixels")
    home = pictured.path / "figures"
    for name in ("features.png", "pixels.png", "features-masked.png", "features.pdf"):
        assert (home / f"memorization-{name}").stat().st_size > 3_000
    page = verbs.report(pictured).read_text()
    assert page.count('alt="memorization over') == 2
    found = MemorizationMap.read(pictured, "pixels")
    assert set(pictured.data.labels[found.rows].tolist()) == {0, 2}
    order = verbs.score(pictured, "memorization").values[
        MemorizationMap.read(pictured, "features").rows
    ]
    assert torch.equal(order, order.sort(descending=True).values)
    for options, words in (
        (("tiger",), "no class 'tiger'"),
        ((), "no place to look for memorization 'pixel'; did you mean pixels"),
    ):
        with pytest.raises(InputError, match=words):
            verbs.memorization(pictured, *options, over="pixel" if not options else "pixels")
    with pytest.raises(InputError, match="top_k must be at least 0; got -1"):
        verbs.memorization(pictured, top_k=-1)


def test_maps_of_all_images_are_made_in_blocks(pictured, monkeypatch):
    whole = verbs.memorization(pictured, top_k=0)
    assert len(whole.rows) == len(pictured.data)
    assert whole.exact.tolist() == sorted(whole.exact.tolist(), reverse=True)
    monkeypatch.setattr("datablame.analyses.memorization.BLOCK", 16)
    parts = verbs.memorization(pictured, top_k=0)
    for name in ("rows", "exact", "score", "cells", "error", "highest", "random"):
        assert np.allclose(getattr(parts, name), getattr(whole, name), rtol=1e-3, atol=1e-3), name


def test_maps_of_several_runs_stand_side_by_side(pictured, tmp_path):
    noisy = verbs.train(
        blobs(), recipe=pictured.recipe, out=tmp_path, test=blobs(30, 1, ()),
        noise="pixel_normal", amount=0.5,
    )  # fmt: skip
    verbs.memorization(pictured, top_k=4, beside=[noisy])
    with Image.open(pictured.path / "figures" / "memorization-features-beside.png") as sheet:
        alone = sheet.width
    assert (pictured.path / "figures" / "memorization-features-beside.pdf").exists()
    verbs.memorization(pictured, top_k=4, beside=[pictured, noisy])
    with Image.open(pictured.path / "figures" / "memorization-features-beside.png") as sheet:
        assert sheet.width == alone, "a run does not stand beside itself"
    verbs.memorization(pictured, top_k=4, beside=[noisy, noisy])
    with Image.open(pictured.path / "figures" / "memorization-features-beside.png") as sheet:
        assert sheet.width > alone
    other = verbs.train(blobs(60), recipe=pictured.recipe, out=tmp_path, test=blobs(30, 1, ()))
    with pytest.raises(InputError, match="was not trained on the images of"):
        verbs.memorization(pictured, beside=[other])
