"""Data parameters: temperatures of examples and classes, and what their curves tell."""

import base64
import dataclasses
import hashlib
import html
import json
import math
import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY, blobs
from PIL import Image
from torch.nn.functional import cross_entropy

from datablame import InputError, Run, Subset, verbs
from datablame.analyses.classes import classes_of
from datablame.dynamics import temperature_curves
from datablame.dynamics.groups import flat_map, groups
from datablame.methods.models.wide_resnet import wide_resnet
from datablame.optimization.data_parameters import DataParameters, Temperatures
from datablame.pages.classes import Page
from datablame.verdict import ACTS, DROP

WRONG = tuple(range(0, 240, 7))
"""Rows of `noisy` whose labels are wrong: a seventh, of all classes."""
TEMPER = TINY.but(
    trainer="data_parameters,level=both,lr=0.1,class_lr=0.001,init=1",
    epochs=8,
    folds=0,
    checkpoints=0,
)


def noisy(seed: int = 0):
    return blobs(240, seed, WRONG)


@pytest.fixture(scope="module")
def tempered(tmp_path_factory):
    return verbs.train(
        noisy(), recipe=TEMPER, out=tmp_path_factory.mktemp("runs"), test=blobs(60, 1, ())
    )


@pytest.fixture
def fresh(tmp_path):
    """Temperatures of six rows in three classes, asked as `DataParameters`."""

    def make(**how) -> Temperatures:
        data = blobs(6, 0, ())
        return Temperatures(
            Run.create(data, TINY.but(epochs=4), None, tmp_path), DataParameters(**how)
        )

    return make


@pytest.mark.parametrize("level", ["instance", "class", "both"])
def test_a_step_is_the_gradient_of_the_tempered_loss(fresh, level):
    found = fresh(
        level=level,
        lr=0.01,
        class_lr=0.02,
        weight_decay=0.3,
        class_weight_decay=0.4,
        init=1.3,
        class_init=0.8,
        momentum=0.0,
    )
    before = {kind: log.clone().requires_grad_() for kind, log in found.logs.items()}
    rows, labels = torch.tensor([4, 1, 3]), found.run.data.labels[[4, 1, 3]]
    assert len(labels.unique()) == 2, "two of one class"
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)) * 3
    sigma = torch.zeros(3)
    penalty = torch.zeros(())
    for kind, log in before.items():
        part = log[rows if kind == "instance" else labels]
        sigma = sigma + part.exp()
        penalty = penalty + 0.5 * (0.3 if kind == "instance" else 0.4) * part.square().sum()
    (cross_entropy(logits / sigma[:, None], labels, reduction="sum") + penalty).backward()
    assert torch.allclose(found.at(rows), sigma)
    found.step(rows, logits, labels)
    for kind, log in before.items():
        rate = 0.01 if kind == "instance" else 0.02
        assert torch.allclose(found.logs[kind], (log - rate * log.grad).detach(), atol=1e-7), kind


def test_momentum_moves_only_for_the_rows_of_the_batch(fresh):
    found = fresh(lr=0.1, momentum=0.9)
    labels, logits = (
        found.run.data.labels,
        torch.randn(6, 3, generator=torch.Generator().manual_seed(1)),
    )
    for rows in ([0, 2], [2], [2, 5]):
        index = torch.tensor(rows)
        before = found.logs["instance"].clone(), found.tensors["instance_momentum"].clone()
        found.step(index, logits[index], labels[index])
        others = torch.tensor([n for n in range(6) if n not in rows])
        for old, new in zip(
            before, (found.logs["instance"], found.tensors["instance_momentum"]), strict=True
        ):
            assert torch.equal(old[others], new[others])
            assert not torch.equal(old[index], new[index])


def test_the_rate_does_not_know_the_batch(fresh):
    """One step on all rows moves each example as a step on each row alone does."""
    whole, alone = fresh(lr=0.2), fresh(lr=0.2)
    labels, logits = (
        whole.run.data.labels,
        torch.randn(6, 3, generator=torch.Generator().manual_seed(2)),
    )
    whole.step(torch.arange(6), logits, labels)
    for n in range(6):
        alone.step(torch.tensor([n]), logits[n : n + 1], labels[n : n + 1])
    assert torch.allclose(whole.logs["instance"], alone.logs["instance"], atol=1e-7)


def test_the_papers_rates_are_the_defaults_at_its_length(fresh):
    found = fresh(level="both")
    scale = 120 / found.run.recipe.epochs
    assert found.rates["instance"][0] == pytest.approx(0.2 / 128 * scale)
    assert found.rates["class"][0] == pytest.approx(0.1 / 256 * scale)
    assert found.at(torch.tensor([0])).item() == pytest.approx(
        1.05
    )  # a class's 1 and the least of an example's


def test_a_rate_too_large_is_clamped_and_said(fresh, capsys):
    found = fresh(lr=1e6)
    labels = found.run.data.labels
    wrong = (labels + 1) % 3
    logits = torch.nn.functional.one_hot(wrong, 3) * 5.0
    found.step(torch.arange(6), logits, labels)
    assert found.logs["instance"].tolist() == pytest.approx([math.log(20)] * 6)
    found.mention()
    assert "100% of the temperatures (instance) stand at the limit of 20" in capsys.readouterr().err


def test_wrong_labels_grow_hot(tempered):
    sigma = tempered.trace["temperature"]
    assert sigma.shape == (8, 240)
    found = verbs.score(tempered, "temperature").values
    assert torch.allclose(found, torch.from_numpy(np.log(sigma[-1].astype("f4"))))
    top = set(found.argsort(descending=True)[: len(WRONG)].tolist())
    assert len(top & set(WRONG)) > 0.8 * len(WRONG)
    third = verbs.score(tempered, "temperature,epoch=3").values
    assert torch.allclose(third, torch.from_numpy(np.log(sigma[2].astype("f4"))))
    classes = np.load(tempered.path / "class_temperature.npy")
    assert classes.shape == (8, 3)
    assert (classes > 0).all()
    assert (np.diff(classes, axis=0) != 0).all()


def test_temperatures_resume_to_the_same(tempered, tmp_path, interrupted):
    def train():
        return verbs.train(noisy(), recipe=TEMPER, out=tmp_path, test=blobs(60, 1, ()))

    interrupted(train)
    again = train()
    for name in ("model.safetensors", "trace/temperature.npy", "class_temperature.npy"):
        assert (again.path / name).read_bytes() == (tempered.path / name).read_bytes(), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("level=each", "no kind of temperature 'each'"),
        ("min=2,max=1", "0 < min < max"),
        ("lr=-1", "lr must be a number from 0"),
        ("momentum=1", "momentum must be from 0 to less than 1"),
    ],
)
def test_temperatures_that_cannot_be_are_refused(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        verbs.train(noisy(), recipe=TEMPER.but(trainer=f"data_parameters,{options}"), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_without_temperatures_says_so(tempered, tmp_path):
    plain = verbs.train(noisy(), recipe=TEMPER.but(trainer="plain", epochs=2), out=tmp_path)
    with pytest.raises(InputError, match="train with --trainer data_parameters"):
        verbs.score(plain, "temperature")
    with pytest.raises(InputError, match=r"epoch 9 was not recorded; .* has 1 to 8"):
        verbs.score(tempered, "temperature,epoch=9")


def test_wide_resnets_have_the_sizes_of_the_paper():
    def millions(**options) -> float:
        return sum(p.numel() for p in wide_resnet((3, 32, 32), **options).parameters()) / 1e6

    assert millions() == pytest.approx(36.5, abs=0.05)  # with the classes, table 4
    assert millions(depth=16, width=8) == pytest.approx(11.0, abs=0.05)
    assert millions(depth=40, width=4) == pytest.approx(8.9, abs=0.05)
    net = wide_resnet((3, 32, 32), depth=10, width=0.5)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, net.dim)
    with pytest.raises(InputError, match="6 n \\+ 4"):
        wide_resnet((3, 32, 32), depth=18)


def curve_run(tmp_path, sigma, labels):
    """A run whose trace holds these temperatures [T,N]."""
    from datablame.base import arrays

    data = blobs(len(labels), 0, ())
    data = data.relabel(torch.tensor(labels))
    run = Run.record(data, len(sigma), tmp_path)
    logits = torch.nn.functional.one_hot(data.labels, 3) * 4.0
    for epoch in range(len(sigma)):
        run.observe(epoch, torch.arange(len(labels)), logits, data.labels)
    arrays.write(run.path / "trace" / "temperature.npy", np.array(sigma, "float16"))
    return run.finish()


def test_medians_are_those_of_each_class(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 41).tolist()
    sigma = np.exp(generator.normal(size=(4, 41)))
    run = curve_run(tmp_path, sigma, labels)
    logs = np.log(run.trace["temperature"].astype("f4"))
    middle = temperature_curves.medians(run)
    for k in range(3):
        mine = np.sort(logs[:, np.array(labels) == k], 1)
        assert np.allclose(middle[:, k], mine[:, (mine.shape[1] - 1) // 2])
    apart = temperature_curves.relative_to_class(run, torch.arange(41))
    assert np.allclose(apart, logs - middle.numpy()[:, labels], atol=1e-6)
    seen = {
        of: verbs.score(run, f"temperature_curve,statistic={of}").values
        for of in ("mean", "peak", "fall")
    }
    assert torch.allclose(seen["mean"], apart.mean(0), atol=1e-6)
    assert torch.allclose(seen["peak"], apart.amax(0))
    assert torch.allclose(seen["fall"], apart.amax(0) - apart[-1])
    assert torch.allclose(temperature_curves.shape(run).end, apart[-1])
    with pytest.raises(
        InputError, match="no statistic of a temperature curve 'pek'; did you mean peak"
    ):
        verbs.score(run, "temperature_curve,statistic=pek")


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0, -1.0])
def test_a_temperature_that_is_no_positive_number_is_damage(tmp_path, broken):
    sigma = np.ones((3, 9))
    sigma[1, 4] = broken
    run = curve_run(tmp_path, sigma, [0, 1, 2] * 3)
    with pytest.raises(
        InputError, match=r"temperature\.npy is damaged \(a temperature that is not"
    ):
        temperature_curves.shape(run)
    with pytest.raises(InputError, match="damaged"):
        temperature_curves.relative_to_class(run, torch.tensor([4]))


def test_the_rules_of_the_first_scripts(tmp_path):
    #         easy, hard, cooled, hot before, hot and half cooled
    sigma = [[1.0, 1.0, 1.0, 1.0, 1.0], [0.8, 1.5, 1.7, 1.55, 1.8], [0.5, 2.1, 0.9, 0.9, 1.7]]
    run = curve_run(tmp_path, sigma, [0, 1, 2, 0, 1])
    scores = verbs.score(run, "temperature")

    def acts(rule: str) -> list[str]:
        verdict = verbs.judge(run, judge=f"trajectory,rule={rule}", by="temperature")
        return [ACTS[act] for act in verdict.act.tolist()]

    assert acts("rows") == ["keep", "drop", "ask", "ask", "keep"]
    verdict = verbs.judge(run, judge="trajectory,rule=rows", by="temperature")
    assert verdict.by == "trajectory,rule=rows"
    assert verdict.proposed.tolist() == [-1] * 5
    assert acts("map") == ["keep", "drop", "ask", "keep", "drop"]
    assert scores.values.argmax() == 1
    with pytest.raises(InputError, match=r"doubt is a number of spreads, from 0; got -0\.5"):
        verbs.judge(run, judge="trajectory,doubt=-0.5", by="temperature")
    with pytest.raises(InputError, match="no rule of trajectory 'row'; did you mean rows"):
        verbs.judge(run, judge="trajectory,rule=row", by="temperature")


def test_easy_hard_and_need_review_adapt_to_the_run(tmp_path):
    """Curves of three kinds on any scale: calm, hot to the end, and hot for a while."""
    generator = np.random.default_rng(1)
    kinds = generator.choice(3, 900, p=[0.6, 0.3, 0.1])
    time = np.linspace(0, 1, 20)[:, None]
    shape = np.where(kinds == 1, time, np.where(kinds == 2, 6 * time * (1 - time) - time, -time))
    for scale in (0.05, 1.0):
        sigma = np.exp(scale * (shape + generator.normal(0, 0.1, shape.shape)))
        run = curve_run(tmp_path / str(scale), sigma, generator.integers(0, 3, 900).tolist())
        verbs.score(run, "temperature")
        verdict = verbs.judge(run, judge="trajectory", by="temperature")
        assert verdict.by == "trajectory,doubt=1.5"
        for kind, act in enumerate(("keep", "drop", "ask")):
            found = [
                ACTS[each] == act for each in verdict.act[torch.from_numpy(kinds == kind)].tolist()
            ]
            assert np.mean(found) > 0.95, (scale, act)
        assert verdict.estimate[0] / 900 == pytest.approx(0.3, abs=0.05)


def test_the_coolest_share_is_trained_on(tempered, tmp_path, capsys):
    logs = np.log(tempered.trace["temperature"][5].astype("f4"))
    recipe = TINY.but(epochs=2, folds=0, checkpoints=0)
    part = Subset(keep=0.6, origin=str(tempered.path), epoch=6)
    again = verbs.train(noisy(), recipe=recipe, subset=part, out=tmp_path, test=blobs(60, 1, ()))
    kept = np.sort(np.argsort(logs, kind="stable")[:144])
    assert again.data.names.to_pylist() == tempered.data.names.take(pa.array(kept)).to_pylist()
    assert again.data.wrong is not None
    assert int(again.data.wrong.sum()) < 0.3 * len(WRONG)
    right = 1 - float(again.data.wrong.float().mean())
    told = f"of the labels that are kept {right:.1%} are right, of all {1 - len(WRONG) / 240:.1%}"
    assert told in capsys.readouterr().err
    each = verbs.train(
        noisy(),
        recipe=recipe,
        subset=dataclasses.replace(part, within="class"),
        out=tmp_path,
        test=blobs(60, 1, ()),
    )
    counts = tempered.data.labels.bincount().tolist()
    assert each.data.labels.bincount().tolist() == [round(0.6 * count) for count in counts]


def test_a_subset_that_cannot_be_is_refused(tempered, tmp_path):
    def asked(data=None, **part):
        verbs.train(
            data or noisy(), recipe=TINY, subset=Subset(**part), out=tmp_path, test=blobs(60, 1, ())
        )

    origin = str(tempered.path)
    with pytest.raises(InputError, match="leaves no image of "):
        asked(keep=0.005, origin=origin)
    with pytest.raises(InputError, match=r"epoch 20 was not recorded; .* has 1 to 8"):
        asked(keep=0.6, origin=origin, epoch=20)
    with pytest.raises(InputError, match="was trained on another set"):
        asked(noisy(3), keep=0.6, origin=origin)
    with pytest.raises(InputError, match="needs --from RUN"):
        asked(keep=0.6)
    with pytest.raises(InputError, match="needs --keep"):
        asked(origin=origin)
    assert not list(tmp_path.iterdir())


def test_a_rare_group_is_found():
    """Two big clouds and one small one apart from them, in features that curves do not know."""
    generator = np.random.default_rng(0)
    kind = generator.choice(3, 600, p=[0.55, 0.4, 0.05])
    features = generator.normal(size=(600, 20)) * 0.3
    features[:, :3] += 4 * np.eye(3)[kind]
    curves = generator.normal(size=(600, 12)) * 0.01
    found = groups(curves, features)
    assert len(set(found[found >= 0].tolist())) == 3
    for group, size in enumerate(sorted(np.bincount(kind), reverse=True)):
        which = np.bincount(kind[found == group]).argmax()
        assert np.mean(kind[found == group] == which) > 0.99
        assert (found == group).sum() > 0.8 * size
    assert (groups(curves[:6], None) == 0).all(), "a class too small to divide is one group"


def test_a_class_of_like_examples_has_no_directions():
    same = np.ones((6, 4), "float32")
    assert groups(same, same, 2).tolist() in ([-1] * 6, [0] * 6)
    assert groups(same[:1], None).shape == (1,)


def test_like_curves_are_near_on_the_map():
    generator = np.random.default_rng(0)
    kind = np.arange(90) % 3
    curves = np.linspace(0, 1, 16) * (kind[:, None] - 1) + generator.normal(size=(90, 16)) * 0.05
    places = flat_map(curves)
    middles = np.stack([places[kind == k].mean(0) for k in range(3)])
    nearest = ((places[:, None] - middles) ** 2).sum(2).argmin(1)
    assert (nearest == kind).all()
    assert np.array_equal(places, flat_map(curves))
    assert flat_map(curves[:3]).shape == (3, 2)


def test_a_page_is_painted_and_written_as_lines_and_words():
    page = Page(Image.new("RGB", (200, 100), "white"))
    assert page.painted().getcolors() == [(20_000, (255, 255, 255))]
    plain = page.pdf()
    page.curves.append((np.array([[0.0, 50.0], [200.0, 50.0]]), "#ff0000", 2))
    painted = page.painted()
    assert painted.getpixel((100, 50)) == (255, 0, 0)
    assert painted.getpixel((100, 20)) == (255, 255, 255)
    page.words.append((5, 5, "cat"))
    assert len(page.painted().crop((0, 0, 40, 25)).getcolors()) > 1
    assert page.image.getcolors() == [(20_000, (255, 255, 255))], "drawn on a copy"
    assert b"/Font" in page.pdf()
    assert b"Type3" not in page.pdf().replace(b" ", b"")
    assert plain != page.pdf()


def test_curves_are_raw_or_relative_to_their_class(tempered):
    rows = torch.tensor([0, 7, 33])
    raw = temperature_curves.curves(tempered, rows, "raw")
    values = tempered.trace["temperature"][:, rows.numpy()].astype("float32")
    assert np.allclose(raw.numpy(), values, rtol=1e-5)
    log = temperature_curves.curves(tempered, rows, "log")
    middle = temperature_curves.medians(tempered)[:, tempered.data.labels[rows]]
    assert torch.allclose(log, raw.log() - middle, atol=1e-5)
    with pytest.raises(InputError, match="no kind of curves 'square'"):
        verbs.classes(tempered, curves="square")
    names = list(tempered.data.classes)
    one, other = (
        [each.places for each in verbs.classes(tempered, names[0], curves=kind).every]
        for kind in ("log", "raw")
    )
    assert not np.array_equal(one, other)


def test_named_images_are_followed_over_the_epochs(tempered):
    some = [tempered.data.name(row) for row in (3, 5)]
    verbs.classes(tempered, tempered.data.classes[0], images=some)
    drawn = tempered.path / "figures" / "temperatures-of-images.svg"
    assert drawn.stat().st_size > 2_000
    with pytest.raises(InputError, match="no training image 'nobody'"):
        verbs.classes(tempered, images=["nobody"])


@pytest.mark.parametrize("rule", ["rows", "map"])
def test_literal_rules_do_not_read_what_is_left_beside_a_class(rule, tmp_path):
    recipe = TINY.but(trainer="data_parameters,level=both", folds=0, epochs=2)
    run = verbs.train(blobs(), recipe=recipe, test=blobs(30, 1, ()), out=tmp_path)
    with pytest.raises(InputError, match=f"rule={rule} has thresholds for temperatures that begin"):
        verbs.classes(run, rule=rule)
    verbs.classes(run)


def test_classes_are_drawn(tempered):
    table = verbs.classes(tempered).to_json()
    assert list(table) == list(tempered.data.classes)
    assert sum(line["easy"] + line["hard"] + line["review"] for line in table.values()) == 240
    verbs.score(tempered, "temperature")
    verdict = verbs.judge(tempered, judge="trajectory", by="temperature")
    assert sum(line["hard"] for line in table.values()) == verdict.count(DROP)
    wrong = tempered.data.wrong[verdict.act == DROP].float().mean()
    assert sum(
        (line["hard_wrong"] or 0) * line["hard"] for line in table.values()
    ) == pytest.approx(float(wrong) * verdict.count(DROP), abs=0.1)
    for label, word in enumerate(tempered.data.classes):
        for name in ("kinds", "map", "groups"):
            path = tempered.path / "figures" / f"classes-{label}-{word}-{name}.png"
            with Image.open(path) as image:
                assert min(image.size) > 100
            assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    page = verbs.report(tempered).read_text()
    assert page.count('<div class="map">') == 3
    sizes = tempered.data.labels.bincount().tolist()
    assert [f"<p>{count} of {count} images, those with" in page for count in sizes] == [True] * 3
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html.unescape(page), (
        "the page's policy lets its own script run, no other"
    )
    facts = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', page)[0])
    assert (
        len(facts["places"])
        == len(facts["curves"])
        == len(facts["texts"])
        == int((tempered.data.labels == 0).sum())
    )
    again = classes_of(tempered)
    assert [each.rows.tolist() for each in again] == [
        (tempered.data.labels == k).nonzero()[:, 0].tolist() for k in range(3)
    ]
    with pytest.raises(InputError, match="no class 'zebra'"):
        verbs.classes(tempered, "zebra")
    with pytest.raises(InputError, match="least must be at least 2"):
        verbs.classes(tempered, least=1)
