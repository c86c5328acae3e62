"""Training dynamics: what is recorded, recordings of others, the detector, robust training, and
what is done with what they find.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import TINY, blobs
from safetensors.torch import save_file

from datablame import (
    Dataset,
    DetectorConfig,
    DetectorTraining,
    InputError,
    Recipe,
    Run,
    Scores,
    Verdict,
    verbs,
)
from datablame.base import methods
from datablame.dynamics import config, views
from datablame.dynamics.config import PAPER
from datablame.dynamics.detector import Detector
from datablame.dynamics.reader import Reader, pairs
from datablame.dynamics.views import Seen, look, ranks, rivals_of, setting_of
from datablame.evaluation.retraining import _judge_of
from datablame.evaluation.teaching import check_learned, misjudged
from datablame.network.classifier import build, joined
from datablame.optimization.augment import CHANGES, augment
from datablame.recipe import SHIPPED
from datablame.trace import observe
from datablame.verdict import FIX

WRONG = tuple(range(0, 240, 7))
"""Rows of `noisy` whose labels are wrong: a seventh, of all classes."""
QUICK = DetectorConfig(points=8, hidden=16, layers=1)


def noisy(seed: int = 0):
    return blobs(240, seed, WRONG)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run that records the two likeliest classes and looks at the test images."""
    recipe = TINY.but(top_k=2, validate=2, folds=2, checkpoints=0)
    return verbs.train(
        noisy(), recipe=recipe, out=tmp_path_factory.mktemp("runs"), test=blobs(30, 1, ())
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that records all three classes."""
    recipe = TINY.but(top_k=3, folds=0, checkpoints=0)
    return verbs.train(
        noisy(), recipe=recipe, out=tmp_path_factory.mktemp("runs"), test=blobs(30, 1, ())
    )


def test_the_likeliest_classes_by_hand():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 5.0, 0.0]])
    found = observe(logits, torch.tensor([2, 1]), top=2)
    p = logits.softmax(1)
    assert torch.allclose(found["top"], p.topk(2, 1).values)
    assert found["top_class"][0].tolist() == [0, 2]
    assert torch.allclose((-found["loss"]).exp(), p[torch.arange(2), torch.tensor([2, 1])])


def test_the_trace_holds_the_likeliest_classes(recorded):
    top, which = recorded.trace["top"], recorded.trace["top_class"]
    assert top.shape == which.shape == (6, 240, 2)
    assert (which[:, :, 0] == recorded.trace["prediction"]).all()
    assert (top[:, :, 0] >= top[:, :, 1]).all()


def test_more_classes_than_there_are_is_all_of_them(whole):
    assert whole.trace["top"].shape == (6, 240, 3)
    assert np.allclose(whole.trace["top"].astype("f4").sum(2), 1, atol=2e-3)


def test_test_images_are_looked_at_as_often_as_asked(recorded):
    looked = [line for line in recorded.log if "valid_error" in line]
    assert [line["epoch"] for line in looked] == [2, 4, 6]
    assert looked[-1]["valid_top5_error"] == 0.0, "there are three classes"
    p = torch.from_numpy(np.load(recorded.path / "test_probabilities.npy"))
    right = p.argmax(1) == recorded.test.labels
    assert looked[-1]["valid_error"] == pytest.approx(1 - right.float().mean().item(), abs=1e-4)
    own = p.gather(1, recorded.test.labels[:, None]).log().neg().mean().item()
    assert looked[-1]["valid_loss"] == pytest.approx(own, rel=1e-3, abs=1e-5)


def test_the_results_on_test_images_are_a_table(recorded):
    from pyarrow import csv

    table = csv.read_csv(recorded.path / "test_results.csv").to_pydict()
    p = np.load(recorded.path / "test_probabilities.npy")
    assert list(table) == ["index", "name", "loss", "prediction", "confidence", "label"]
    assert table["prediction"] == [recorded.data.classes[k] for k in p.argmax(1)]
    assert np.allclose(table["confidence"], p.max(1), atol=1e-5)
    assert np.allclose(table["loss"], -np.log(p[np.arange(30), recorded.test.labels]), atol=1e-4)


def test_a_recording_of_all_classes_comes_back_whole(whole, tmp_path):
    path = verbs.export(whole, to=tmp_path / "training_dynamics.npz")
    with np.load(path) as file:
        assert file["td"].shape == (240, 6, 3)
        assert (file["labels"][:, 0] == whole.data.labels.numpy()).all()
        assert np.allclose(file["td"].astype("f4").sum(2), 1, atol=3e-3)
    again = verbs.import_dynamics(tmp_path, data=whole.data, out=tmp_path / "runs")
    assert again.data.truth.tolist() == whole.data.truth.tolist()
    for channel, slack in (("loss", 0.02), ("margin", 0.05), ("entropy", 0.01), ("el2n", 0.01)):
        ours, theirs = (np.clip(each.trace[channel].astype("f4"), -8, 8) for each in (whole, again))
        sure = whole.trace["loss"].astype("f4") < 6  # below, float16 has few probabilities left
        assert np.abs(ours - theirs)[sure].max() < slack, channel
    assert (again.trace["prediction"] == whole.trace["prediction"]).mean() > 0.999
    before, after = (methods.find("signals", "aum")(each) for each in (whole, again))
    assert np.corrcoef(before, after)[0, 1] > 0.99


def test_a_recording_of_some_classes_says_what_it_lacks(recorded, tmp_path):
    verbs.export(recorded, to=tmp_path / "training_dynamics.npz")
    again = verbs.import_dynamics(tmp_path / "training_dynamics.npz", out=tmp_path / "runs")
    assert again.data.images is None
    assert methods.find("signals", "datamap")(again).shape == (240,)
    with pytest.raises(InputError, match="no 'el2n' in this trace"):
        methods.find("signals", "el2n")(again)


def test_their_page_and_their_code_differ_in_the_order_of_axes(whole, tmp_path):
    verbs.export(whole, to=tmp_path / "training_dynamics.npz")
    with np.load(tmp_path / "training_dynamics.npz") as file:
        td, labels = file["td"], file["labels"]
    (tmp_path / "page").mkdir()
    np.savez(tmp_path / "page" / "training_dynamics.npz", td=td.transpose(0, 2, 1), labels=labels)
    one, two = (
        verbs.import_dynamics(tmp_path / place, out=tmp_path / "runs") for place in (".", "page")
    )
    assert np.array_equal(one.trace["loss"], two.trace["loss"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda td, labels: {"td": td}, "is not a recording"),
        (
            lambda td, labels: {"td": td[:5], "labels": labels},
            r"these are \[5, 6, 3\] and \[240, 3\]",
        ),
        (
            lambda td, labels: {"td": np.where(td > 0.9, np.nan, td), "labels": labels},
            "no probabilities",
        ),
        (lambda td, labels: {"td": td + 1, "labels": labels}, "no probabilities"),
        (lambda td, labels: {"td": np.array([{}]), "labels": labels}, "is not a recording"),
    ],
)
def test_bad_recordings_are_named(whole, tmp_path, change, words):
    path = verbs.export(whole, to=tmp_path / "training_dynamics.npz")
    with np.load(path) as file:
        td, labels = file["td"], file["labels"]
    np.savez(path, **change(td, labels))
    with pytest.raises(InputError, match=words):
        verbs.import_dynamics(path, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_recording_of_another_set_is_refused(whole, tmp_path):
    path = verbs.export(whole, to=tmp_path / "training_dynamics.npz")
    with pytest.raises(InputError, match="is of another set: it names row 239"):
        verbs.import_dynamics(path, data=blobs(30), out=tmp_path)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="is of another set: the truth of"):
        verbs.import_dynamics(path, data=whole.data.take(order), out=tmp_path)
    (tmp_path / "metadata.pth").write_bytes(b"no")
    with pytest.raises(InputError, match="is not the metadata"):
        verbs.import_dynamics(path, out=tmp_path)


def test_ranks_are_those_of_scipy():
    from scipy.stats import rankdata

    values = torch.randint(0, 20, (3, 50), generator=torch.Generator().manual_seed(0)).float()
    expected = (np.stack([rankdata(row) for row in values]) - 1) / 49
    assert np.allclose(ranks(values), expected, atol=1e-6)


def test_what_a_detector_sees(whole):
    names = "given+rival+right+steady+entropy+top1+rank_loss+class_margin+z_margin+own_margin"
    seen = look(whole, DetectorConfig(views=names, points=0), 6)
    trace = {name: torch.from_numpy(whole.trace[name].astype("f4")) for name in whole.trace}
    assert seen.shape == (240, 6, 10)
    given = (-trace["loss"]).exp()
    assert torch.allclose(seen[:, :, 0], given.T)
    other = (
        trace["top"].masked_fill(trace["top_class"] == whole.data.labels[None, :, None], 0).amax(2)
    )
    assert torch.allclose(seen[:, :, 1], other.T, atol=5e-3), (
        "loss and margin tell the best other class"
    )
    assert torch.equal(seen[:, :, 2], (trace["prediction"] == whole.data.labels).float().T)
    assert seen[:, 0, 3].min() == 1
    assert torch.equal(
        seen[:, 1:, 3], (trace["prediction"][1:] == trace["prediction"][:-1]).float().T
    )
    assert torch.equal(seen[:, :, 5], trace["top"][:, :, 0].T)
    assert torch.allclose(seen[:, :, 6], ranks(trace["loss"]).T)
    first = whole.data.labels == 0
    assert torch.allclose(seen[first, :, 7], ranks(trace["margin"][:, first]).T)

    def standard(values):
        return ((values - values.mean(0)) / values.std(0, correction=0)).clamp(-4, 4)

    assert torch.allclose(seen[:, :, 8], standard(trace["margin"].T), atol=1e-5)
    assert torch.allclose(seen[first, :, 9], standard(trace["margin"][:, first].T), atol=1e-5)
    earlier = look(whole, DetectorConfig(views="given", points=0), 4)
    assert torch.equal(earlier[:, :, 0], given.T[:, :4])


def told(tmp_path, labels, predictions):
    """A run whose model predicted these classes, an epoch each."""
    labels = torch.tensor(labels)
    classes = int(max(labels.max(), *map(max, predictions))) + 1
    data = Dataset.from_arrays(np.zeros((len(labels), 1, 8, 8), "uint8"), labels.numpy())
    run = Run.record(data, len(predictions), tmp_path)
    for epoch, row in enumerate(predictions):
        logits = torch.nn.functional.one_hot(torch.tensor(row), classes) * 5.0
        run.observe(epoch, torch.arange(len(labels)), logits, labels)
    return run.finish()


def test_how_far_a_set_was_learned_and_by_which_class_a_label_is_contradicted(tmp_path):
    labels = [0, 0, 1, 1, 2, 2]
    run = told(tmp_path, labels, [[0, 1, 1, 2, 2, 1], [0, 1, 1, 2, 2, 1], [0, 1, 1, 1, 2, 2]])
    rivals, share = rivals_of(run, 3)
    assert rivals[[1, 3, 5]].tolist() == [1, 2, 1]
    assert share.tolist() == pytest.approx([0, 1, 0, 2 / 3, 0, 2 / 3])
    assert rivals_of(run, 2)[1].tolist() == [0, 1, 0, 1, 0, 1]
    setting = setting_of(run, 3, 3)
    wrong = torch.tensor([3, 3, 1]) / 6
    assert torch.allclose(setting[:, 0], wrong)
    given = torch.from_numpy(np.exp(-run.trace["loss"].astype("f4"))).mean(1)
    assert torch.allclose(setting[:, 1], given, atol=1e-5)
    entropy = torch.from_numpy(run.trace["entropy"].astype("f4")).mean(1) / np.log(3)
    assert torch.allclose(setting[:, 2], entropy, atol=1e-5)
    el2n = torch.from_numpy(run.trace["el2n"].astype("f4")).std(1, correction=0)
    assert torch.allclose(setting[:, 3], el2n, atol=1e-3)
    assert torch.allclose(setting[:, 4], wrong[-1:].expand(3))
    assert setting[:, 5].tolist() == [0, 0.5, 1]
    assert setting[0, 6:].tolist() == pytest.approx([np.log(3) / 3, np.log(3) / 3])
    assert set(config.VIEWS) == set(views.VIEWS)


def test_what_pairs_of_classes_say_by_hand():
    labels, rivals = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([1, 1, 2, 0, 0, 1])
    wrong = torch.tensor([0.9, 0.7, 0.1, 0.2, 0.0, 0.1])
    contradicted = torch.linspace(0, 1, 6)
    seen = Seen(torch.zeros(6, 2, 1), labels, rivals, contradicted, torch.zeros(2, 8), 3)
    found = pairs(seen, wrong)
    total = 2.0
    assert found[0, 0] == pytest.approx(np.log((1.6 + 1) / (total / 6 + 1)))
    assert found[0, 1] == pytest.approx((1.6 - 0.2) / (1.6 + 0.2 + 5))
    assert found[3, 1] == pytest.approx((0.2 - 1.6) / (1.6 + 0.2 + 5))
    assert found[0, 2] == pytest.approx(np.log(0.8 + 1e-3))
    assert torch.equal(found[:, 3], contradicted)
    # of pairs 0-1: 1.6 and 0.2; 0-2: 0.1 and 0; 1-2: 0.1 and 0
    assert found[:, 4].tolist() == pytest.approx([(1.4 + 0.1 + 0.1) / 2.0] * 6)
    squares = 1.6**2 + 0.2**2 + 0.1**2 + 0.1**2
    assert found[:, 5].tolist() == pytest.approx([np.sqrt(squares) / total] * 6)


def test_a_reader_weighs_times_by_how_far_the_set_was_learned(recorded):
    """What is seen at a time that it does not attend to changes nothing; where it attends is the
    same for all examples.
    """
    config = DetectorConfig(points=4, heads=1, members=1)
    net = Reader(config).eval()
    with torch.no_grad():
        for part in (net.attend[0], net.attend[2]):
            part.weight.zero_()
            part.bias.zero_()
        net.attend[0].weight[0, 5], net.attend[2].weight[0, 0] = 9.0, -60.0  # the first time alone
    seen = Seen.of(recorded, config)
    late = dataclasses.replace(seen, views=seen.views.clone())
    late.views[:, 1:] = torch.randn(late.views[:, 1:].shape)
    early = dataclasses.replace(seen, views=seen.views.clone())
    early.views[:, 0] = torch.randn(early.views[:, 0].shape)
    assert torch.allclose(net(seen), net(late), atol=1e-4)
    assert not torch.allclose(net(seen), net(early), atol=1e-2)
    assert torch.equal(net(seen)[0], net(seen)[1])  # pairs count for nothing before it is taught


def test_time_is_relative(whole):
    three = look(whole, DetectorConfig(views="given", points=3), 6)
    every = look(whole, DetectorConfig(views="given", points=0), 6)
    assert torch.allclose(three[:, 0], every[:, :2].mean(1), atol=1e-6)
    longer = look(whole, DetectorConfig(views="given", points=12), 6)
    assert torch.allclose(longer[:, ::2], every, atol=1e-6)


def test_smooth_average_precision_is_average_precision_for_clear_scores():
    wrong = torch.tensor([1, 0, 1, 0, 0], dtype=torch.bool)
    score = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]) * 10
    plain = misjudged(score, wrong, "cross_entropy")
    assert float(misjudged(score, wrong, "ranking") - plain) == pytest.approx(
        1 - (1 + 2 / 3) / 2, abs=1e-4
    )


def test_a_detector_is_taught_saved_and_used(recorded, tmp_path):
    other = verbs.train(
        noisy(5), recipe=TINY.but(folds=0, seed=3), out=tmp_path, test=blobs(30, 1, ())
    )
    path = tmp_path / "mine.safetensors"
    facts = verbs.detector.teach(
        other, out=path, config=QUICK, training=DetectorTraining(epochs=30, batch_size=64, lr=0.02)
    )
    assert facts["taught_on"] == 1
    scores = verbs.score(recorded, f"detector,file={path}")
    found = scores.values.argsort(descending=True)[: len(WRONG)]
    assert len(set(found.tolist()) & set(WRONG)) > 0.9 * len(WRONG)
    assert 0 <= float(scores.values.min()) <= float(scores.values.max()) <= 1
    detector = Detector.load(path)
    assert detector.config == QUICK
    assert detector.about["taught_on"][0]["wrong"] == pytest.approx(35 / 240, abs=1e-3)
    again = verbs.detector.teach(
        other,
        out=tmp_path / "same.safetensors",
        config=QUICK,
        training=DetectorTraining(epochs=30, batch_size=64, lr=0.02),
    )
    assert facts["average_precision"] == again["average_precision"], "the seed decides everything"
    verbs.detector.teach(
        other,
        out=path,
        config=QUICK,
        training=DetectorTraining(epochs=1, batch_size=64, lr=0.02, seed=1),
    )
    assert not torch.equal(verbs.score(recorded, f"detector,file={path}").values, scores.values), (
        "another detector by the same name"
    )
    further = verbs.detector.teach(
        recorded,
        out=tmp_path / "more.safetensors",
        start=str(path),
        training=DetectorTraining(epochs=2, lr=1e-4),
    )
    assert further["epochs"] == [6]
    assert Detector.load(tmp_path / "more.safetensors").config == QUICK


def test_the_papers_detector(whole, tmp_path):
    detector = Detector(PAPER[0])
    assert sum(p.numel() for p in detector.parameters()) == 50_562
    state = {f"lstm.{n}": t for n, t in detector.members[0].lstm.state_dict().items()}
    state |= {f"fc.{n}": t for n, t in detector.members[0].head.state_dict().items()}
    torch.save(
        {"epoch": 3, "state_dict": state, "best_prec": 0.9},
        tmp_path / "cifar10_0.2_lstm_detector.pth.tar",
    )
    theirs = Detector.load(tmp_path / "cifar10_0.2_lstm_detector.pth.tar")
    curves, nothing = torch.rand(5, 9, 1), torch.zeros(5, dtype=torch.int64)
    seen = Seen(curves, nothing, nothing, nothing.float(), torch.zeros(9, 8), 0)
    assert torch.equal(theirs(seen), detector(seen))
    both = detector.members[0]
    logits = both.head(both.lstm(curves)[0])[:, -1]
    assert torch.allclose(detector(seen).sigmoid(), logits.softmax(1)[:, 1])
    path = tmp_path / "paper.safetensors"
    wild = DetectorTraining(lr=1000.0)
    with pytest.raises(InputError, match=r"learned nothing: .* lower rate than 1000 \(--lr\)"):
        verbs.detector.teach(whole, out=path, paper=True, training=wild)
    assert not path.exists(), "nothing is written of what learned nothing"
    gentle = DetectorTraining(lr=0.01, seed=3)
    facts = verbs.detector.teach(whole, out=path, paper=True, training=gentle)
    assert Detector.load(path).config == PAPER[0]
    assert Detector.load(path).about["training"]["lr"] == 0.01
    assert Detector.load(path).about["training"]["batch_size"] == 64
    assert facts["accuracy"] > 0.8
    further = tmp_path / "further.safetensors"
    start = str(tmp_path / "cifar10_0.2_lstm_detector.pth.tar")
    verbs.detector.teach(whole, out=further, paper=True, start=start, training=gentle)
    assert Detector.load(further).about["training"]["select"] == "accuracy"


def test_detectors_from_elsewhere_are_checked(whole, tmp_path):
    import pickle

    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "evil.pth.tar").write_bytes(pickle.dumps(Recipe, protocol=2))
    save_file({"lstm.weight_ih_l0": torch.zeros(4, 4)}, tmp_path / "other.safetensors")
    detector = Detector(QUICK)
    tensors = {**detector.state_dict(), "head.weight": torch.zeros(2, 99)}
    facts = {"config": json.dumps(dataclasses.asdict(QUICK)), "about": "{}"}
    save_file(tensors, tmp_path / "shapes.safetensors", facts)
    for name in ("text.safetensors", "evil.pth.tar", "other.safetensors", "shapes.safetensors"):
        with pytest.raises(InputError, match="is not a detector"):
            Detector.load(tmp_path / name)
    with pytest.raises(
        InputError, match="no detector at nowhere; the one that comes with the package"
    ):
        Detector.load("nowhere")


def test_traces_that_cannot_be_read_are_named(whole, tmp_path):
    short = verbs.train(noisy(), recipe=TINY.but(epochs=1, folds=0, checkpoints=0), out=tmp_path)
    with pytest.raises(InputError, match="recorded one epoch, which has no dynamics"):
        Seen.of(short, QUICK)
    broken = Run.record(whole.data, 2, tmp_path)
    logits = torch.zeros(240, 3)
    logits[9] = torch.nan
    for epoch in range(2):
        broken.observe(
            epoch, torch.arange(240), logits if epoch else logits.nan_to_num(), whole.data.labels
        )
    broken.finish()
    with pytest.raises(InputError, match=r"no number: epoch 2 of train/000009"):
        Seen.of(broken, QUICK)
    with pytest.raises(InputError, match="recorded the 3 likeliest classes; got top7"):
        look(whole, DetectorConfig(views="top7"), 6)
    with pytest.raises(InputError, match="no view of a trace 'givn'"):
        DetectorConfig(views="givn")


def test_teaching_needs_the_truth(tmp_path):
    out = tmp_path / "d.safetensors"
    recipe = TINY.but(epochs=2, folds=0, checkpoints=0)
    blind = verbs.train(
        dataclasses.replace(noisy(), truth=None), recipe=recipe, out=tmp_path, test=blobs(30, 1, ())
    )
    clean = verbs.train(blobs(wrong=()), recipe=recipe, out=tmp_path, test=blobs(30, 1, ()))
    with pytest.raises(InputError, match="and a detector is taught by it"):
        verbs.detector.teach(blind, out=out)
    with pytest.raises(InputError, match="has no wrong labels"):
        verbs.detector.teach(clean, out=out)
    with pytest.raises(InputError, match="one run or more"):
        verbs.detector.teach(out=out)
    with pytest.raises(
        InputError, match="--paper sets all options of teaching but --lr and --seed"
    ):
        verbs.detector.teach(clean, out=out, paper=True, config=QUICK)
    with pytest.raises(InputError, match="keeps its configuration"):
        verbs.detector.teach(clean, out=out, start="shipped", config=QUICK)
    assert not out.exists()


MIXED = TINY.but(
    trainer="dividemix,warmup=3,unlabelled=5,ramp=2",
    epochs=8,
    batch_size=32,
    folds=0,
    checkpoints=0,
    lr=0.05,
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return verbs.train(
        noisy(), recipe=MIXED, out=tmp_path_factory.mktemp("mixed"), test=blobs(60, 1, ())
    )


def test_two_nets_divide_the_data(mixed):
    clean = mixed.trace["clean"]
    assert clean.shape == (8, 240)
    assert mixed.about["test_accuracy"] == 1.0
    suspicion = verbs.score(mixed, "dividemix").values
    found = suspicion.argsort(descending=True)[: len(WRONG)]
    assert len(set(found.tolist()) & set(WRONG)) > 0.9 * len(WRONG)
    assert mixed.data.wrong is not None


def test_the_model_is_the_mean_of_both_nets():
    data = blobs(6, 0, ())
    nets = [build(TINY.but(seed=seed), data).eval() for seed in range(2)]
    whole = joined(nets, build(MIXED, data, 2)).eval()
    images = data.batch(torch.arange(6))[0]
    assert torch.allclose(whole(images), (nets[0](images) + nets[1](images)) / 2, atol=1e-5)
    assert whole.features(images).shape == (6, 2 * nets[0].dim)


def test_dividemix_resumes_to_the_same(mixed, tmp_path, interrupted):
    def train():
        return verbs.train(noisy(), recipe=MIXED, out=tmp_path, test=blobs(60, 1, ()))

    interrupted(train)
    again = train()
    for name in ("model.safetensors", "trace/clean.npy", "trace/loss.npy"):
        assert (again.path / name).read_bytes() == (mixed.path / name).read_bytes(), name


def test_dividemix_says_what_it_cannot_do(tmp_path, recorded):
    with pytest.raises(InputError, match="averages two linear heads"):
        verbs.train(noisy(), recipe=MIXED.but(head="scaled"), out=tmp_path)
    with pytest.raises(InputError, match="warmup must be between 1 and 7"):
        verbs.train(noisy(), recipe=MIXED.but(trainer="dividemix,warmup=8"), out=tmp_path)
    with pytest.raises(InputError, match="no trainer 'dividemx'; did you mean dividemix"):
        verbs.train(noisy(), recipe=MIXED.but(trainer="dividemx"), out=tmp_path)
    assert not list(tmp_path.iterdir()), "refused before anything is written"
    with pytest.raises(InputError, match="train with --trainer dividemix"):
        verbs.score(recorded, "dividemix")


def test_strong_augmentation_is_of_the_descent_alone(tmp_path):
    recipe = MIXED.but(
        trainer="dividemix,warmup=2,strong=crop+randaugment,penalty=yes,smooth=2", epochs=4
    )
    run = verbs.train(noisy(), recipe=recipe, out=tmp_path, test=blobs(60, 1, ()))
    assert run.about["test_accuracy"] > 0.9


def test_random_changes_are_drawn_by_row():
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    rows = torch.arange(40)
    for what in ("zoom", "randaugment", "zoom+flip+randaugment", "autoaugment", "autoaugment_svhn"):
        one, again = augment(images, rows, what, 1), augment(images, rows, what, 1)
        assert torch.equal(one, again)
        assert not torch.equal(one, augment(images, rows, what, 2))
        few = augment(images[[5, 3]], rows[[5, 3]], what, 1)
        assert torch.equal(few, one[[5, 3]]), "neither batch nor order matters"
        assert one.shape == images.shape
    for change in CHANGES:
        x = images.float() / 255
        same = change(x, torch.zeros(40, 1, 1, 1))
        if change not in (CHANGES[-2],):  # auto-contrast has no strength
            assert torch.allclose(same, x, atol=1e-4)


def test_removing_and_relabelling_by_hand():
    data = blobs(30, 0, (7, 8))
    run = Run.from_predictions(data.labels, torch.eye(3)[data.truth] * 0.8 + 0.2 / 3)
    suspicion = torch.zeros(30)
    suspicion[[7, 8, 9]] = torch.tensor([3.0, 2.0, 1.0])
    scores = Scores("mine", suspicion)
    gone = methods.find("judges", "remove,share=0.1")(run, scores)
    assert (gone.act == 2).nonzero()[:, 0].tolist() == [7, 8, 9]
    fixed = methods.find("judges", "relabel,share=0.1")(run, scores)
    assert (fixed.act == 3).nonzero()[:, 0].tolist() == [7, 8], (
        "the label of 9 is the likeliest one"
    )
    assert fixed.apply(run.data).labels.tolist() == data.truth.tolist()


def test_relabelling_says_whose_answers_it_takes(whole, recorded, capsys):
    for run, said in ((recorded, False), (whole, True)):
        verbs.judge(run, verbs.score(run, "aum"), judge="relabel,share=0.1")
        assert ("new labels are the votes of the epochs" in capsys.readouterr().err) == said


def test_another_run_s_model_is_asked_for_labels(whole, tmp_path, capsys):
    """The one that was trained on the rest."""
    scores = verbs.score(whole, "aum")
    order = scores.values.argsort(descending=True)
    rest = whole.data.take(order[len(order) // 10 :].sort().values)
    other = verbs.train(rest, recipe=whole.recipe, test=whole.test, out=tmp_path)
    capsys.readouterr()
    spec = f"relabel,share=0.1,answers={other.path}"
    found = verbs.judge(whole, "aum", judge=spec)
    assert "votes of the epochs" not in capsys.readouterr().err
    suspect = order[: len(order) // 10]
    with torch.inference_mode():
        images = whole.data.batch(suspect)[0]
        said = other.model(images).softmax(1)
        if "flip" in other.recipe.augment:
            said = (said + other.model(images.flip(3)).softmax(1)) / 2
    best = said.argmax(1)
    right = best != whole.data.labels[suspect]
    assert found.proposed[suspect[right]].tolist() == best[right].tolist()
    assert (found.act == FIX).sum() == right.sum() > 0
    assert found.by == spec
    assert _judge_of(whole, found) is None, "it saw all folds"
    assert _judge_of(whole, verbs.judge(whole, "aum", judge="relabel,share=0.1")) is not None
    with pytest.raises(InputError, match="is not a run"):
        verbs.judge(whole, scores, judge="relabel,answers=nowhere")
    strange = dataclasses.replace(blobs(60), classes=("x", "y", "z"))
    few = verbs.train(strange, recipe=TINY.but(folds=0), out=tmp_path)
    with pytest.raises(InputError, match="trained on other classes, or images of another size"):
        verbs.judge(whole, scores, judge=f"relabel,answers={few.path}")


def test_the_oracle_sets_right_what_is_wrong(recorded):
    scores = verbs.score(recorded, "aum")
    verdict = verbs.judge(recorded, scores, judge="top,share=0.3", oracle=True)
    cleaned = verdict.apply(recorded.data)
    suspects = scores.values.argsort(descending=True)[:72]
    assert len(cleaned) == 240
    left = cleaned.wrong.nonzero()[:, 0]
    assert not set(left.tolist()) & set(suspects.tolist()) - set(
        (verdict.act == 1).nonzero()[:, 0].tolist()
    )
    assert verdict.by.endswith("labels by the oracle")
    blind = dataclasses.replace(recorded.data, truth=None)
    from datablame.evaluation.oracle import truthful

    with pytest.raises(InputError, match="no oracle"):
        truthful(verdict, blind)


def test_a_cleaned_set_feeds_any_trainer(recorded, tmp_path):
    verbs.judge(recorded, verbs.score(recorded, "aum"), judge="remove,share=0.1")
    cleaned = verbs.clean(recorded, out=tmp_path / "clean.parquet")
    assert len(cleaned) == 216
    read = verbs.load(tmp_path / "clean.parquet", truth="truth")
    assert read.labels.tolist() == cleaned.labels.tolist()
    assert int(read.wrong.sum()) == int(cleaned.wrong.sum())


def test_removing_a_share_keeps_the_number_of_steps(recorded):
    verbs.score(recorded, "aum")
    comparison = verbs.retrain(recorded, remove=0.25, by="aum")
    assert len(comparison.after) == 1
    assert Verdict.read(recorded.path / "verdict.csv", recorded.data).count(2) == 60
    runs = json.loads((recorded.path / "comparison.json").read_text())["runs"]
    assert Run(runs["after"][0]).recipe.batch_size == round(recorded.recipe.batch_size * 0.75)
    assert Run(runs["before"][0]).recipe.batch_size == recorded.recipe.batch_size
    with pytest.raises(InputError, match="--by goes with --remove"):
        verbs.retrain(recorded, by="aum")


def test_a_sweep_over_shares(recorded):
    found = verbs.ablate(recorded, "aum", shares=(0.0, 0.2), seeds=(0, 1))
    table = found.to_json()
    assert len(found.to_pandas()) == 8
    assert set(table) == {"aum", "random"}
    assert set(table["aum"]) == {"0% out", "20% out"}
    from pyarrow import csv, parquet

    rows = parquet.read_table(recorded.path / "ablation.parquet").to_pylist()
    assert len(rows) == 8
    assert rows == csv.read_csv(recorded.path / "ablation.csv").to_pylist()
    by = {(row["signal"], row["share"], row["seed"]): row for row in rows}
    assert by["aum", 0.2, 0]["wrong_left"] < by["random", 0.2, 0]["wrong_left"]
    assert by["aum", 0.0, 0]["test_accuracy"] == by["random", 0.0, 0]["test_accuracy"]
    assert by["aum", 0.2, 0]["removed"] == 48
    assert (recorded.path / "figures" / "ablation.png").stat().st_size > 5_000
    with pytest.raises(InputError, match="shares from 0 to less than 1"):
        verbs.ablate(recorded, "aum", shares=(1.0,))


def test_several_runs_are_measured_together(recorded, whole):
    found = verbs.measure(recorded, whole, signals=("aum", "datamap"))
    table = found.to_json()
    assert {"aum", "datamap"} <= set(table)
    assert set(table["aum"]["roc_auc"]) == {"mean", "sd"}
    assert table["aum"]["f1_at_half"] is None
    assert 0 <= table["datamap"]["f1_at_half"]["mean"] <= 1
    assert "±" in str(found)
    with pytest.raises(InputError, match="name one run"):
        verbs.measure()


def test_the_report_shows_the_dynamics(recorded):
    verbs.measure(recorded, signals=("aum", "datamap"))
    text = verbs.report(recorded).read_text()
    assert "What the model said as it learned" in text
    for name in ("dynamics", "traces", "ranking", "found"):
        assert (recorded.path / "figures" / f"{name}.png").stat().st_size > 5_000


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_can_be_built(path):
    recipe = Recipe.read(path)
    bare = ",weights=none,size=32" if recipe.model.startswith("frozen:") else ""
    small = recipe.but(model=recipe.model.replace(",weights=DEFAULT", "") + bare)
    methods.find("trainers", recipe.trainer)
    side = 64 if recipe.model.startswith("resnet") and "depth" not in recipe.model else 32
    data = blobs(120, 0, (), grey=False)
    images = np.zeros((120, 3, side, side), "uint8")
    model = build(small, Dataset.from_arrays(images, data.labels, data.classes)).eval()
    assert model(torch.zeros(2, 3, side, side)).shape == (2, 3)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_what_was_learned_is_judged_by_wrong_labels_that_were_held_out():
    def about(precision, wrong):
        held = {"average_precision": precision, "accuracy": 0.9, "wrong": wrong}
        return Detector(QUICK, {"held_out": held, "training": {"lr": 0.1}})

    check_learned(about(0.25, 0.2))
    check_learned(about(0.0, 0.0))  # none was held out
    with pytest.raises(InputError, match=r"0\.230, and 0\.200 of the labels"):
        check_learned(about(0.23, 0.2))
