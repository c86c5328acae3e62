"""Influence: factors, links, the index and self-influence, against retraining, autograd and
themselves.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import TINY, blobs
from torch import nn
from torch.nn.functional import cross_entropy

from datablame import InputError, Run, RunError, verbs
from datablame.analyses.attribute import Sweep, attributed
from datablame.base import devices, doctor, methods
from datablame.cli import main
from datablame.dataset import Dataset
from datablame.influence.factors import Factors, margin, weigher
from datablame.influence.fisher import Fisher
from datablame.influence.index import Index
from datablame.influence.products import GradientProducts
from datablame.optimization.checkpoints import checkpoints
from datablame.pages.sections.curvature import _values

SMALL = TINY.but(checkpoints=3)
DECAY = 0.05


@pytest.fixture
def mine(tmp_path):
    """A run of its own on blobs, with checkpoints."""
    return verbs.train(blobs(), recipe=SMALL, out=tmp_path, test=blobs(30, 1, ()))


class dense:
    """The exact Fisher of one layer, inverted as a matrix: for small models only."""

    passes = ("eigenvalues",)

    def __init__(self, layer):
        self.layer, self.kept, self.sum, self.count = layer, {}, 0, 0

    def update(self, tap):
        flat = tap.gradient()[0].flatten(1).double()
        self.sum = self.sum + flat.T @ flat
        self.count += len(tap) * tap.first

    def finish(self):
        self.kept = {"fisher": self.sum / self.count}

    def meet(self, owner):
        """One process has all sums."""

    @property
    def mean(self):
        return float(self.kept["fisher"].diagonal().mean())

    def damp(self, damping):
        self.effective = 0.0
        self.inverse = torch.linalg.inv(
            self.kept["fisher"] + damping * torch.eye(len(self.kept["fisher"]))
        )

    @property
    def width(self):
        return self.layer.size

    def turn(self, g):
        return g

    def solve(self, tap):
        flat = tap.gradient()[0].flatten(1).double()
        return (
            (flat @ self.inverse).float().view(1, len(tap), self.layer.outputs, self.layer.inputs)
        )

    def square(self, tap):
        return (self.solve(tap) * tap.gradient()).sum((0, 2, 3))


def converged(data, without=None):
    """Softmax regression with weight decay at its optimum: strictly convex."""
    x, y = data.images.array.reshape(len(data), -1) / 255.0, data.labels
    keep = torch.arange(len(data)) != (-1 if without is None else without)
    x = torch.tensor(x, dtype=torch.float64)
    model = nn.Linear(x.shape[1], 3, bias=False).double()
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        1,
        200,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        # the mean over all N even when one is left out: what an influence of one example's weight
        # means
        loss = (
            cross_entropy(model(x[keep]), y[keep], reduction="sum") / len(data)
            + DECAY / 2 * model.weight.square().sum()
        )
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    return nn.Sequential(nn.Flatten(), model.float())


def overlapping(n=60, seed=3):
    """Three classes that overlap, 4x4 pixels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = generator.normal(90, 40, (n, 1, 4, 4)) + 25 * labels[:, None, None, None]
    return Dataset.from_arrays(
        images.clip(0, 255).astype("uint8"), labels, ("a", "b", "c"), source="overlapping"
    )


@pytest.mark.parametrize("of", ["loss", "margin"])
def test_with_exact_curvature_influence_is_what_retraining_shows(tmp_path, of):
    """Sign, unit and size: the rise of the query's loss (the fall of its log-odds) when one
    example is left out.
    """
    data, queries = overlapping(), overlapping(20, 4)
    model = converged(data)
    run = Run.from_model(data, model, out=tmp_path)
    fisher = f"kind=test_influence.dense,labels=all,damping={DECAY},eigenvalues=1000"
    links = attributed(run, queries, f"influence,measure={of},{fisher}")
    pixels, labels = queries.images.held.float() / 255, queries.labels
    score = {"loss": lambda z, y: cross_entropy(z, y, reduction="none"), "margin": margin}[of]
    with torch.no_grad():
        before = score(model(pixels), labels)
        after = torch.stack([score(converged(data, row)(pixels), labels) for row in range(15)], 1)
    seen, said = after - before[:, None], torch.tensor(links.values[:, :15])
    assert torch.corrcoef(torch.stack([seen.flatten(), said.flatten()]))[0, 1] > 0.995
    assert float((said * seen).sum() / seen.square().sum()) == pytest.approx(1, abs=0.1)
    own = verbs.score(run, f"self_influence,{fisher}")
    inner = methods.find("attributors", f"influence,measure=loss,{fisher}")(run, data)
    assert torch.allclose(
        own.values,
        inner.score(inner.prepare(torch.arange(60)), torch.arange(60)).diagonal(),
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    "kind", ["identity", "diagonal", "kfac", "ekfac,rank=none", "ekfac,rank=4"]
)
def test_what_a_curvature_does_is_linear_symmetric_and_positive(run, kind):
    fisher = Fisher(
        *kind.split(",")[:1],
        rank=None if "none" in kind else 4 if "4" in kind else 128,
        labels="given",
    )
    factors = Factors(run, fisher).fit()
    images, labels = run.data.batch(torch.arange(12))
    weigh = weigher(margin, labels)
    inner = GradientProducts(run, run.data, [(1.0, factors)], "loss")
    table = inner.score(inner.prepare(torch.arange(40)), torch.arange(40))
    assert torch.allclose(table, table.T, rtol=1e-3, atol=1e-3 * float(table.abs().max()))
    assert torch.linalg.eigvalsh(((table + table.T) / 2).double()).min() > -1e-3 * float(
        table.abs().max()
    )
    squares = factors.squares(
        images, weigher(lambda z, y: cross_entropy(z, y, reduction="none"), labels)
    )
    assert torch.allclose(squares, table.diagonal()[:12], rtol=1e-3)
    whole = [torch.zeros(12, layer.size) for layer in factors.layers.every]
    twice = [torch.zeros(12, layer.size) for layer in factors.layers.every]
    factors.solve(images, weigh, whole)
    factors.solve(images, weigher(lambda z, y: 2 * margin(z, y), labels), twice)
    for one, two in zip(whole, twice, strict=True):
        assert torch.allclose(2 * one, two, rtol=1e-4, atol=1e-4 * float(one.abs().max()))
    again = Factors(run, fisher).fit()
    assert torch.equal(again.squares(images, weigh), factors.squares(images, weigh)), (
        "survives save and load"
    )


def test_factors_resume_between_passes(mine, monkeypatch):
    whole = Factors(mine, Fisher()).fit()
    path, content = whole.path, whole.path.read_bytes()
    path.unlink()
    gather = Factors.gather
    monkeypatch.setattr(
        Factors, "gather", lambda self, what: gather(self, what) if what == "basis" else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        Factors(mine, Fisher()).fit()
    monkeypatch.setattr(
        Factors, "gather", lambda self, what: gather(self, what) if what == "eigenvalues" else 1 / 0
    )
    Factors(mine, Fisher()).fit()
    assert path.read_bytes() == content


def test_factors_of_another_model_are_refused(mine, tmp_path):
    path = Factors(mine, Fisher()).fit().path
    other = verbs.train(
        blobs(), recipe=SMALL.but(seed=1), out=tmp_path / "other", test=blobs(30, 1, ())
    )
    target = Factors(other, Fisher()).path
    target.parent.mkdir()
    target.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="fitted on another model or other data"):
        Factors(other, Fisher()).fit()


def test_sampled_labels_are_the_same_in_every_pass_and_batch(run):
    factors = Factors(run, Fisher())
    images, given = run.data.batch(torch.arange(30))
    seen = []
    factors.tap(
        images, factors.drawn(torch.arange(30), given), "fp32", lambda tap: seen.append(tap.g)
    )
    part = []
    factors.tap(
        images[10:20],
        factors.drawn(torch.arange(10, 20), given[10:20]),
        "fp32",
        lambda tap: part.append(tap.g),
    )
    for whole, some in zip(seen, part, strict=True):
        assert torch.allclose(whole[:, 10:20], some, atol=1e-6)


def test_enumerated_labels_are_the_fisher_in_expectation(run):
    """All labels by their probability: the mean of many draws comes to the same curvature."""
    every = Factors(run, Fisher(kind="diagonal", labels="all", eigenvalues=90)).fit()
    drawn = [
        Factors(run, Fisher(kind="diagonal", eigenvalues=90, seed=seed)).fit() for seed in range(40)
    ]
    for layer, curvature in every.curvature.items():
        mean = (
            sum(
                d.curvature[same].kept["values"].sum()
                for d in drawn
                for same in d.curvature
                if same.name == layer.name
            )
            / 40
        )
        assert float(mean) == pytest.approx(float(curvature.kept["values"].sum()), rel=0.3)


def test_tracin_is_the_sum_over_checkpoints(mine):

    pairs = methods.find("attributors", "tracin,measure=loss")(mine, mine.test)
    table = pairs.score(pairs.prepare(torch.arange(3)), torch.arange(5))
    expected = torch.zeros(3, 5)
    found = checkpoints(mine)
    assert len(found) == 3
    for rate, model in found:

        def gradient(data, row, model=model):
            images, labels = data.batch(torch.tensor([row]))
            weights = [
                p for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()
            ]
            return torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(cross_entropy(model(images), labels), weights)
                ]
            )

        for q in range(3):
            for n in range(5):
                expected[q, n] += rate * gradient(mine.test, q) @ gradient(mine.data, n)
    assert torch.allclose(table, expected, rtol=1e-3, atol=1e-5)
    last = found[-1][1].state_dict()
    assert all(torch.equal(last[name], tensor) for name, tensor in mine.model.state_dict().items())


def test_a_run_without_checkpoints_says_how_to_keep_them(tmp_path):
    run = verbs.train(
        blobs(), recipe=TINY.but(checkpoints=0, epochs=1), out=tmp_path, test=blobs(30, 1, ())
    )
    with pytest.raises(InputError, match="train with --checkpoints 5"):
        attributed(run, run.test, "tracin")


class Broken(Exception):
    pass


@pytest.mark.parametrize("keep", [None, 4])
def test_a_resumed_sweep_equals_an_uninterrupted_one(mine, monkeypatch, keep):
    monkeypatch.setattr("datablame.analyses.attribute.BLOCK", 20)
    monkeypatch.setattr(
        "datablame.base.devices.free", lambda: 300_000
    )  # so little that the queries go in groups
    whole = attributed(mine, mine.test, "influence", keep)
    arrays = {path.name: path.read_bytes() for path in whole.path.glob("*.npy")}
    assert len(arrays) == (2 if keep else 1)
    for path in whole.path.iterdir():
        path.unlink()
    score, count = GradientProducts.score, iter(range(1000))

    def breaking(self, held, rows):
        if next(count) in (3, 9):
            raise Broken
        return score(self, held, rows)

    monkeypatch.setattr(GradientProducts, "score", breaking)
    for _ in range(2):
        with pytest.raises(Broken):
            attributed(mine, mine.test, "influence", keep)
        assert not (whole.path / "links.json").exists()
    again = attributed(mine, mine.test, "influence", keep)
    assert {path.name: path.read_bytes() for path in again.path.glob("*.npy")} == arrays
    assert next(count) == 3 * 5 + 2, "blocks that were done are not done again"


def test_a_sweep_does_not_go_on_in_another_precision(mine, monkeypatch, capsys):
    monkeypatch.setattr("datablame.analyses.attribute.BLOCK", 40)
    score = GradientProducts.score

    def breaking(self, held, rows):
        if int(rows[0]):
            raise Broken
        return score(self, held, rows)

    with monkeypatch.context() as patch:
        patch.setattr(GradientProducts, "score", breaking)
        with pytest.raises(Broken):
            attributed(mine, mine.test, "influence")
    with monkeypatch.context() as patch:
        patch.setattr(devices, "has_bf16", lambda: True)
        found = attributed(mine, mine.test, "influence")
    assert "was begun in another way (precision), so it begins anew" in capsys.readouterr().err
    assert found.facts["precision"]["gradients"] == "bf16"


def test_the_kept_scores_are_the_highest_and_lowest(mine):
    whole, some = (
        attributed(mine, mine.test, "influence"),
        attributed(mine, mine.test, "influence", 4),
    )
    assert some.values.shape == (30, 8)
    for way in ("top", "bottom"):
        rows, values = getattr(whole, way)(4)
        mine_rows, mine_values = getattr(some, way)(4)
        assert np.array_equal(rows, mine_rows)
        assert np.array_equal(values, mine_values)
    assert attributed(mine, mine.test, "influence", 60).rows is None, (
        "more than there are: all are kept"
    )


def test_the_index_finds_what_the_full_scores_find(mine):
    index = Index(Factors(mine, Fisher()).fit(), 16)
    assert index.codes.dtype == np.int8
    assert len(index.codes) == len(mine.data)
    facts = index.agreement(rerank=20)
    assert facts["top10_before"] <= facts["top10_after"] <= 1
    assert facts["spearman"] > 0.5
    rows, values = index.search(mine.test.take(torch.arange(5)), "margin", 6, 45)
    whole = attributed(mine, mine.test.take(torch.arange(5)), "influence")
    assert np.array_equal(rows[:, :6], whole.top(6)[0]), (
        "with every row a candidate the index is exact"
    )
    assert np.allclose(values[:, -1], whole.bottom(1)[1][:, 0], rtol=1e-3)
    full = Index(Factors(mine, Fisher()).fit(), 4096)
    close = full.scores(full.asked(mine.test, "margin"))
    exact = attributed(mine, mine.test, "influence").values
    assert np.corrcoef(close.numpy().ravel(), exact.ravel())[0, 1] > 0.98, (
        "the whole block is the whole score, but for eight bits"
    )


def test_the_index_is_of_ekfac_alone(mine):
    with pytest.raises(InputError, match="cut from the basis of ekfac"):
        Index(Factors(mine, Fisher(kind="kfac")).fit())
    with pytest.raises(InputError, match="answers for influence"):
        verbs.index(mine, method="similarity")


def test_a_module_of_ones_own_in_five_lines(tmp_path):
    data = blobs()
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(384, 3),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    pixels = (data.images.held.float() / 255 - 0.5) / 0.25
    for _ in range(15):
        optimizer.zero_grad()
        cross_entropy(model(pixels), data.labels).backward()
        optimizer.step()
    model.train()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def prepare(x):
        return (x.float() / 255 - 0.5) / 0.25

    run = Run.from_model(data, model, prepare=prepare, out=tmp_path)
    scores = verbs.score(run, "self_influence,eigenvalues=90")
    links = verbs.explain(
        run, queries=data.take(torch.tensor([7, 8])), method="influence,labels=given"
    )
    assert int(scores.values.argmax()) == 7
    assert links.top(1)[0][0, 0] == 7
    assert links.facts["untracked"] == ["module.1 (BatchNorm2d)"]
    assert verbs.score(run, "knn,k=5").values.shape == (90,)
    assert verbs.score(run, "loss").values.argmax() == 7
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    again = Run.from_model(data, model, prepare=prepare, out=tmp_path)
    assert again.path == run.path
    with pytest.raises(InputError, match=r"open it with Run.from_model"):
        _ = Run(run.path).model
    with pytest.raises(
        InputError, match=r"must give \[B,K\] logits of 3 classes; it gave \[90, 10\]"
    ):
        Run.from_model(data, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), out=tmp_path)


def test_queries_that_do_not_fit_are_refused(mine):
    with pytest.raises(
        InputError, match=r"query images are \(3, 8, 8\), training images \(1, 8, 8\)"
    ):
        verbs.explain(mine, queries=blobs(6, 2, (), grey=False))
    with pytest.raises(InputError, match="query images have classes that the training set has not"):
        verbs.explain(
            mine, queries=dataclasses.replace(blobs(6, 2, ()), classes=("left", "middle", "up"))
        )
    with pytest.raises(InputError, match="label 3 of query train/000001 is outside the 3 classes"):
        verbs.explain(
            mine, queries=mine.test.take(torch.arange(4)).relabel(torch.tensor([0, 3, 1, 1]))
        )
    with pytest.raises(InputError, match="there are no queries"):
        verbs.explain(mine, queries=mine.test.take(torch.arange(0)))


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("influence,kind=kfacc", "did you mean kfac"),
        ("influence,damping=none", "damping must be a positive number"),
        ("influence,damping=-5%", "damping must be a positive number"),
        ("influence,labels=some", "no labels 'some'"),
        ("influence,activations=fp8", "no precision of activations 'fp8'"),
        ("influence,eigenvalues=0", "eigenvalues must be at least 1"),
        ("influence,measure=loess", "no measure of a query 'loess'; did you mean loss"),
        ("influence,layers=conv*", "no layer matches 'conv*'"),
        ("influence,rnk=3", "did you mean rank"),
    ],
)
def test_bad_options_are_named(run, link, words):
    with pytest.raises(InputError) as error:
        methods.find("attributors", link)(run, run.test)
    assert words in str(error.value)


def test_a_gradient_that_is_not_finite_names_its_rows(mine):
    mine.model.head.weight.data[0, 0] = torch.nan
    with pytest.raises(RunError, match="not finite, rows 0, 1"):
        verbs.score(mine, "gradnorm")
    with pytest.raises(RunError, match="not finite, rows 0, 1"):
        verbs.score(mine, "self_influence")
    assert not list((mine.path / "curvature").glob("*")), "nothing half-written"


def test_any_scalar_of_the_logits_may_be_asked(run):
    pairs = methods.find("attributors", "influence,measure=test_influence.first_logit")(
        run, run.test
    )
    assert pairs.score(pairs.prepare(torch.arange(2)), torch.arange(3)).shape == (2, 3)


def first_logit(logits, labels):
    return -logits[:, 0]


def test_the_curvature_is_drawn_in_the_report(mine):
    assert "curvature-" not in verbs.report(mine).read_text()
    verbs.score(mine, "self_influence")
    verbs.score(mine, "self_influence,kind=kfac")
    verbs.score(mine, "self_influence,kind=identity")
    page = verbs.report(mine).read_text()
    assert "Curvature" in page
    drawn = sorted(path.name for path in (mine.path / "figures").glob("curvature-*.png"))
    assert [name.split("-")[1] for name in drawn] == ["ekfac", "kfac"]
    found = _values({
        "a/values": np.ones((2, 3, 4)), "a/left": np.ones((2, 3, 3)),
        "b/left_values": np.array([[1.0, 2.0]]), "b/right_values": np.array([[3.0, 5.0]]),
    })  # fmt: skip
    assert {name: each.tolist() for name, each in found.items()} == {
        "a": np.ones((6, 4)).tolist(), "b": [[3.0, 5.0], [6.0, 10.0]],
    }  # fmt: skip


def test_lower_precision_agrees_with_full(run):
    names = [
        "self_influence",
        "self_influence,activations=bf16,gradients=bf16,factors=bf16",
        "self_influence,kind=identity",
    ]
    table = verbs.agree(run, *names).to_json()
    assert list(table) == names[1:]
    assert table[names[1]]["spearman"] > 0.99
    pairs = verbs.agree(
        run, "influence", "influence,scores=bf16", "influence,kind=identity", rows=50
    ).to_json()
    assert pairs["influence,scores=bf16"]["pearson"] > 0.99
    points = (run.path / "figures" / "agreement.svg").read_text()
    assert points.count("Spearman") == 2, "a picture of each of the others"
    every = "activations=bf16,factors=bf16,gradients=bf16,scores=bf16"
    half = verbs.score(run, "self_influence,half=yes").values
    assert torch.equal(half, verbs.score(run, f"self_influence,{every}").values)
    assert not torch.equal(half, verbs.score(run, "self_influence").values)
    for each in pairs.values():
        assert each["spearman_low"] < each["spearman"] < each["spearman_high"]
    assert "spearman_low" not in table[names[1]], "of one ranking there is one"
    assert pairs["influence,kind=identity"]["spearman"] < pairs["influence,scores=bf16"]["spearman"]
    with pytest.raises(InputError, match="name two or more"):
        verbs.agree(run, "influence")


def test_explaining_on_the_command_line(mine, tmp_path, capsys, png):
    (tmp_path / "photo.png").write_bytes(png((90, 90, 90), (20, 30)))
    (tmp_path / "broken.png").write_bytes(b"no picture")

    def call(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    code, out, _ = call("explain", mine.path, "--queries", 3)
    assert code == 0
    assert out.count("  towards ") == out.count("  away ") == 3
    assert "effective dimension" in out
    code, out, _ = call("index", mine.path, "--block", 8)
    assert code == 0
    assert "top10_after" in out
    code, out, _ = call("explain", mine.path, tmp_path / "photo.png", "--label", "middle", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["index"]["top10_after"] <= 1
    assert facts["explained"][0]["label"] == "middle"
    assert (mine.path / "figures").joinpath(facts["picture"].rpartition("/")[2]).exists()
    code, out, _ = call(
        "explain", mine.path, tmp_path / "photo.png", "--index", "never", "--method", "similarity"
    )
    assert code == 0
    assert "from the index" not in out
    call("report", mine.path)
    page = (mine.path / "report.html").read_text()
    assert "Why the model answers so" in page
    assert page.count("pushed away from it") == 3
    for words, sentence in {
        (tmp_path / "gone.png",): "there is no picture",
        (tmp_path / "broken.png",): "cannot be read as a picture",
        (tmp_path / "photo.png", "--label", "up"): "no class 'up'",
        ("--queries", 0): "queries must be at least 1",
        ("--pick", "worst"): "no pick 'worst'",
        ("--keep", 0): "keep must be at least 1",
    }.items():
        code, _, err = call("explain", mine.path, *words)
        assert code == 2
        assert sentence in err
        assert "Traceback" not in err
    assert "\nstage" in (mine.path / "profile.txt").read_text()


def test_a_block_that_does_not_fit_shrinks(mine, monkeypatch, tmp_path):
    monkeypatch.setattr("datablame.base.devices.free", lambda: 1)
    pairs = methods.find("attributors", "influence")(mine, mine.test)
    assert Sweep(tmp_path / "sweep", pairs, 30, 90, None).group == 1


def test_the_seeds_recipe_comes_by_name(tmp_path, capsys):
    words = [
        "train",
        "digits",
        "--recipe",
        "kronfluence_cifar10",
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--limit",
        "60",
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 0
    run = Run(next(tmp_path.glob("digits-*")))
    assert (run.recipe.head, run.recipe.momentum, run.recipe.schedule) == (
        "scaled",
        0.0,
        "triangular",
    )
    assert run.model(run.data.batch(torch.arange(2))[0]).shape == (2, 10)
    assert main(["train", "digits", "--recipe", "nowhere.yaml"]) == 2
    assert "kronfluence_cifar10" in capsys.readouterr().err


def test_auto_is_half_precision_where_the_device_has_it(monkeypatch, capsys):
    names = "activations", "factors", "gradients", "scores"
    for has, kind in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(devices, "has_bf16", lambda has=has: has)
        doctor.mention_emulated.cache_clear()
        found = Fisher().settled()
        assert [getattr(found, name) for name in names] == ["fp32", kind, kind, kind]
        assert Fisher(half=True).settled().activations == "bf16"
        said = capsys.readouterr().err
        assert ("only emulates it: a product takes" in said) is not has
    Fisher(gradients="bf16").settled()
    assert capsys.readouterr().err == "", "said once"


@pytest.mark.parametrize("rank", ["4", "16", "none"])
def test_gradients_in_half_precision_keep_their_order(run, rank):
    """Differences of like numbers are taken in fp32: what lies outside the leading directions would
    be lost otherwise.
    """
    for name, rows in (("influence", {"rows": 60}), ("self_influence", {})):
        full, half = f"{name},rank={rank}", f"{name},rank={rank},gradients=bf16"
        found = verbs.agree(run, full, half, **rows).to_json()[half]
        assert found["pearson"] > 0.99, name
        assert found["top10"] >= 0.95, name


def test_pictures_are_asked_about_a_set_with_groups(tmp_path, png):
    data = dataclasses.replace(blobs(), groups=torch.arange(90) // 3)
    run = verbs.train(data, recipe=SMALL, out=tmp_path, test=blobs(30, 1, ()))
    (tmp_path / "photo.png").write_bytes(png((90, 90, 90), (8, 8)))
    found = verbs.explain(run, tmp_path / "photo.png")
    assert len(found.queries) == 1
