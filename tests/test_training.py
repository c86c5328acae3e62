"""The loop: resumed equals uninterrupted, schedules, precision, augmentation, and what stops it."""

import copy
import dataclasses
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from conftest import TINY, blobs
from safetensors.torch import load_file

from datablame import InputError, Recipe, Run, RunError, verbs
from datablame.base import arrays, devices, files, folders, processes, progress
from datablame.inference import predictions, sweep
from datablame.inference.sweep import ahead
from datablame.label_quality.out_of_sample import heldout
from datablame.optimization import feed, loop, state
from datablame.optimization.augment import augment
from datablame.optimization.autoaugment import autoaugmented
from datablame.optimization.optimizers import SGD, optimizer
from datablame.optimization.schedules import SCHEDULES, schedule
from datablame.optimization.step import SINCE, Replayed, _version, fastest, mention
from datablame.training import auto, plan
from datablame.training.cross_validation import parts
from datablame.training.fit import fit


class Pulled(Exception):
    """The plug was pulled."""


def interrupt_after(epoch, monkeypatch):
    """Training stops after the progress of this epoch is on disk."""
    save = state.TrainingState.save

    def pull(self, done):
        save(self, done)
        if done == epoch:
            raise Pulled

    monkeypatch.setattr(state.TrainingState, "save", pull)
    monkeypatch.setattr(state, "PAUSE", 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "resnet9,width=0.125"},
        {"record": "eval"},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"optimizer": "adamw", "lr": 0.01, "warmup": 0.3, "decays": "all"},
    ],
)
def test_resumed_equals_uninterrupted(tmp_path, monkeypatch, changes):
    recipe = TINY.but(epochs=4, augment="crop+flip", **changes)
    whole = verbs.train(blobs(), recipe=recipe, out=tmp_path / "whole", test=blobs(30, 1, ()))
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(Pulled):
            verbs.train(blobs(), recipe=recipe, out=tmp_path / "broken", test=blobs(30, 1, ()))
    path = next((tmp_path / "broken").glob("blobs-*"))
    with pytest.raises(InputError, match="has not finished training"):
        Run(path).trace["loss"]
    resumed = verbs.train(blobs(), recipe=recipe, out=tmp_path / "broken", test=blobs(30, 1, ()))
    assert resumed.path == path
    for channel in whole.trace:
        assert np.array_equal(whole.trace[channel], resumed.trace[channel]), channel
    one, two = load_file(whole.path / "model.safetensors"), load_file(path / "model.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [line["epoch"] for line in resumed.log] == [1, 2, 3, 4]
    assert not (path / "progress.safetensors").exists()


def test_a_finished_run_is_not_trained_again(run, monkeypatch):
    monkeypatch.setattr(state.TrainingState, "__init__", lambda *_: pytest.fail("trained again"))
    again = verbs.train(blobs(), recipe=TINY, out=run.path.parent, test=blobs(30, 1, ()))
    assert again.path == run.path


def ahead_of(data, every):
    """As on a GPU whose memory the images do not fit in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.devices, "device", lambda: torch.device("cuda"))
        patch.setattr(type(data.pixels), "there", property(lambda _: False))
        found = sweep.fetched(data, every)
    return found


def overwritten(work, pool):
    """A stand-in for a CUDA graph: nothing is done when it is recorded, and each replay writes its
    results over the last ones."""
    kept = []

    def replay():
        new = work()
        if kept:
            for old, each in zip(kept, new, strict=True):
                old.copy_(each)
        else:
            kept.extend(new)
        return list(kept)

    return replay


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "resnet9,width=0.125"},
        {"trainer": "data_parameters,level=both"},
        {"head": "memory,size=16"},
    ],
)
def test_steps_that_are_replayed_are_the_same_steps(tmp_path, monkeypatch, changes):
    recipe = TINY.but(
        augment="crop", batch_size=32, folds=0, **changes
    )  # 90 images: no equal batches
    plain = verbs.train(blobs(91), recipe=recipe, out=tmp_path / "plain", test=blobs(30, 1, ()))
    recorded = []
    monkeypatch.setattr(loop, "fastest", Replayed)
    monkeypatch.setattr(devices, "aside", lambda work: work())
    monkeypatch.setattr(
        devices, "recorded", lambda work, pool: recorded.append(work) or overwritten(work, pool)
    )
    again = verbs.train(blobs(91), recipe=recipe, out=tmp_path / "again", test=blobs(30, 1, ()))
    assert len(recorded) == 2, "a graph for each size of batch"
    for channel in plain.trace:
        assert np.array_equal(plain.trace[channel], again.trace[channel]), channel
    one, two = (load_file(each.path / "model.safetensors") for each in (plain, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_words_for_a_gpu_are_yes_and_no(monkeypatch):
    monkeypatch.setenv("DATABLAME_REPEATABLE", "no")
    devices.repeatable()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (False, True)
    monkeypatch.setenv("DATABLAME_REPEATABLE", "perhaps")
    with pytest.raises(InputError, match="DATABLAME_REPEATABLE is yes or no; it is 'perhaps'"):
        devices.repeatable()
    monkeypatch.delenv("DATABLAME_REPEATABLE")
    devices.repeatable()
    assert torch.backends.cudnn.deterministic
    net, work = torch.nn.Linear(1, 1), lambda *given: given
    plain = type(work)
    for word, records, kind in (
        ("yes", True, Replayed if _version() >= SINCE else plain),
        ("no", True, plain),
        ("yes", False, plain),
    ):
        monkeypatch.setenv("DATABLAME_GRAPHS", word)
        monkeypatch.setattr(devices, "records", lambda records=records: records)
        monkeypatch.setattr(devices, "pool", lambda: None)
        assert type(fastest(net, work)) is kind


def test_a_device_that_cannot_replay_goes_on_as_it_is(tmp_path, monkeypatch, capsys):
    def refuse(work, pool):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    mention.cache_clear()
    plain = verbs.train(blobs(), recipe=TINY, out=tmp_path / "plain", test=blobs(30, 1, ()))
    monkeypatch.setattr(loop, "fastest", Replayed)
    monkeypatch.setattr(devices, "aside", lambda work: work())
    monkeypatch.setattr(devices, "recorded", refuse)
    again = verbs.train(blobs(), recipe=TINY, out=tmp_path / "again", test=blobs(30, 1, ()))
    said = capsys.readouterr().err
    assert said.count("not replayed as a CUDA graph, so they are slower: operation not") == 1, (
        "once, of four trainings"
    )
    assert np.array_equal(plain.trace["loss"], again.trace["loss"])


def test_images_that_do_not_lie_on_the_device_are_fetched_ahead(tmp_path, monkeypatch):
    from datablame.base.images import Packed

    plain = verbs.train(blobs(), recipe=TINY, out=tmp_path / "plain", test=blobs(30, 1, ()))
    threads, gather = set(), Packed.fetched
    monkeypatch.setattr(feed.Feed, "_fits", lambda _: False)
    monkeypatch.setattr(feed, "fetched", ahead_of)
    monkeypatch.setattr(
        Packed, "fetched", lambda *a: threads.add(threading.current_thread().name) or gather(*a)
    )
    again = verbs.train(blobs(), recipe=TINY, out=tmp_path / "again", test=blobs(30, 1, ()))
    assert any(name.startswith("ahead") for name in threads)
    assert np.array_equal(plain.trace["loss"], again.trace["loss"])

    def load(item):
        return 1 // item

    found = ahead(load, [1, 2, 0, 1])
    assert [next(found), next(found)] == [1, 0]
    with pytest.raises(ZeroDivisionError):  # where it would have been made, not before
        next(found)
    assert list(ahead(load, [])) == []


def test_seeds_matter_and_repeat(tmp_path):
    traces = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        traces.append(
            verbs.train(
                blobs(), recipe=TINY.but(seed=seed), out=tmp_path / name, test=blobs(30, 1, ())
            ).trace["loss"]
        )
    assert np.array_equal(traces[0], traces[1])
    assert not np.array_equal(traces[0], traces[2])


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(Pulled):
            verbs.train(blobs(), recipe=TINY, out=tmp_path / "a", test=blobs(30, 1, ()))
    run = Run.create(blobs(), TINY.but(weight_decay=0.1), blobs(30, 1, ()), tmp_path / "b")
    (next((tmp_path / "a").glob("blobs-*")) / "progress.safetensors").rename(
        run.path / "progress.safetensors"
    )
    with pytest.raises(InputError, match="checkpoint of another recipe or other data"):
        fit(run)


def test_a_folder_of_other_data_is_refused(tmp_path):
    run = Run.create(blobs(), TINY, None, tmp_path, "here")
    with pytest.raises(InputError, match="holds a run of another recipe"):
        Run.create(blobs(), TINY.but(seed=4), None, tmp_path, "here")
    with pytest.raises(InputError, match="holds a run of other data"):
        Run.create(blobs(seed=9), TINY, None, tmp_path, "here")
    assert not run.finished


def test_two_programs_cannot_write_one_run(tmp_path):
    import subprocess
    import sys

    with folders.alone(tmp_path / "run"):
        code = f"from datablame.base import folders\nfrom pathlib import Path\nwith folders.alone(Path({str(tmp_path / 'run')!r})): pass"
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "is being written by another datablame (process" in other.stderr
    with folders.alone(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").exists()


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path, monkeypatch):
    real, calls = loop.cross_entropy, []

    def explode(*args, **options):
        calls.append(1)
        return real(*args, **options) * (float("nan") if len(calls) == 9 else 1)

    monkeypatch.setattr(loop, "cross_entropy", explode)
    monkeypatch.setattr(state, "PAUSE", 0.0)
    with pytest.raises(RunError, match=r"epoch 2, step 3 of 6; epoch 1 is kept .* --lr 0.025"):
        verbs.train(blobs(), recipe=TINY, out=tmp_path, test=blobs(30, 1, ()))
    path = next(tmp_path.glob("blobs-*"))
    assert len(Run(path).log) == 1
    assert all(bool(t.isfinite().all()) for t in load_file(path / "progress.safetensors").values())


def test_a_full_disk_is_said_in_one_sentence(tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(RunError, match="the disk is full: could not write"):
        verbs.train(blobs(), recipe=TINY, out=tmp_path, test=blobs(30, 1, ()))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_between_nothing_and_the_peak(name):
    values = [schedule(name)(i / 100) for i in range(100)]
    assert all(0 <= value <= 1 for value in values)
    assert max(values) == pytest.approx(1, abs=0.05)


def test_schedules_by_hand():
    assert [schedule("triangular")(x) for x in (0.0, 0.1, 0.2, 0.6)] == pytest.approx(
        [0, 0.5, 1, 0.5]
    )
    assert [schedule("step,at=0.5+0.75,by=0.1")(x) for x in (0.4, 0.5, 0.8)] == pytest.approx(
        [1, 0.1, 0.01]
    )
    assert [schedule("cosine")(x) for x in (0.0, 0.5)] == pytest.approx([1, 0.5])
    with pytest.raises(InputError, match="did you mean cosine"):
        schedule("cosin")


def test_batches_cover_the_order_and_leave_no_crumb():
    parts = state.batches(torch.arange(65), 32)
    assert [len(part) for part in parts] == [22, 22, 21]
    assert torch.equal(torch.cat(parts), torch.arange(65))


def test_weight_decay_spares_biases_and_norms():
    from datablame.network.classifier import build

    recipe = auto.settle(TINY, blobs()).but(weight_decay=0.1)
    decayed, free = SGD(build(recipe, blobs()), recipe).param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in free["params"])


PEERS = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd,nesterov=no": (torch.optim.SGD, {"momentum": 0.9}),
    "adam": (torch.optim.Adam, {"betas": (0.9, 0.999)}),
    "adamw,beta2=0.95": (torch.optim.AdamW, {"betas": (0.9, 0.95)}),
}


@pytest.mark.parametrize("decays", ["matrices", "all"])
@pytest.mark.parametrize("spec", [*PEERS, "no momentum"])
def test_steps_are_those_of_torchs_optimizer(spec, decays):
    """Five steps at changing rates, beside torch's own class, to the bit."""
    kind, options = PEERS.get(spec, (torch.optim.SGD, {}))
    ours = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
    theirs = copy.deepcopy(ours)
    recipe = Recipe(lr=0.1, weight_decay=0.01, decays=decays)
    recipe = recipe.but(momentum=0.0) if spec not in PEERS else recipe.but(optimizer=spec)
    mine, plain = optimizer(ours, recipe), 0.01 if decays == "all" else 0.0
    peer = kind(
        [
            {"params": [theirs[0].weight], "weight_decay": 0.01},
            {"params": [theirs[0].bias, theirs[1].weight, theirs[1].bias], "weight_decay": plain},
        ],
        lr=0.1,
        fused=True,
        **options,
    )
    for step in range(5):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        mine.lr = 0.1 / (1 + step)
        for group in peer.param_groups:
            group["lr"] = mine.lr
        for net, each in ((ours, mine), (theirs, peer)):
            each.zero_grad()
            net(x).square().mean().backward()
            each.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_optimizers_and_rates_that_there_are_not():
    for spec, message in (
        ("lion", "no optimizer 'lion'; there is: adam, adamw, sgd"),
        ("adam,nesterov=yes", "no option of 'adam' 'nesterov'"),
        ("sgd,nesterov=perhaps", "nesterov"),
    ):
        with pytest.raises(InputError, match=message):
            auto.settle(TINY.but(optimizer=spec), blobs())
    with pytest.raises(InputError, match="no decays 'none'; there is: all, matrices"):
        Recipe(decays="none")
    for name in ("warmup", "label_smoothing"):
        with pytest.raises(InputError, match=f"{name} is a share below 1; got 1.5"):
            Recipe(**{name: 1.5})
    with pytest.raises(InputError, match=r"dividemix has no use for label_smoothing \(0.1\)"):
        auto.settle(TINY.but(trainer="dividemix", label_smoothing=0.1), blobs())
    assert auto.settle(TINY.but(lr=0.0), blobs()).lr == 0.1
    assert auto.settle(TINY.but(lr=0.0, optimizer="adamw"), blobs()).lr == 1e-3


def test_a_warm_up_rises_from_nothing():
    rate, plain = schedule("cosine", 0.2), schedule("cosine")
    assert rate(0.0) == 0
    assert rate(0.1) == pytest.approx(plain(0.1) / 2)
    assert [rate(done) for done in (0.2, 0.5, 0.9)] == [plain(done) for done in (0.2, 0.5, 0.9)]


def test_smoothed_labels_are_descended_and_plain_ones_recorded(tmp_path, monkeypatch):
    seen = []

    def spied(logits, labels, **options):
        seen.append(options["label_smoothing"])
        return torch.nn.functional.cross_entropy(logits, labels, **options)

    monkeypatch.setattr(loop, "cross_entropy", spied)
    recipe = TINY.but(folds=0, epochs=2, label_smoothing=0.2, record="eval")
    run = verbs.train(blobs(60), recipe=recipe, out=tmp_path, holdout=0)
    assert set(seen) == {0.2}
    with torch.inference_mode():
        images, labels = run.data.batch(torch.arange(60))
        loss = torch.nn.functional.cross_entropy(run.model(images), labels, reduction="none")
    assert np.allclose(run.trace["loss"][-1], loss.numpy(), atol=5e-3)


def test_training_imports_no_compiler():
    """torch._dynamo takes a second or two of every command that pulls it in."""
    code = (
        "import sys, datablame as db; from datablame.optimization.optimizers import SGD, optimizer; import torch;"
        "net = torch.nn.Linear(2, 2); net(torch.ones(1, 2)).sum().backward();"
        "[optimizer(net, db.Recipe(lr=0.1, optimizer=o)).step() for o in ('sgd', 'adamw')]; import datablame.pages.report, datablame.analyses.memory;"
        "print([n for n in ('torch._dynamo', 'torchvision', 'sympy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_autoaugment_does_what_torchvision_does(monkeypatch):
    """Each image undergoes the pair of its policy, with its probabilities; each change is
    torchvision's.
    """
    import torchvision.transforms.autoaugment as peer

    asked = []
    real = peer._apply_op
    monkeypatch.setattr(peer, "_apply_op", lambda image, *how: asked.append((len(image), *how[:2])) or real(image, *how))  # fmt: skip
    images = torch.randint(0, 255, (4000, 3, 8, 8), dtype=torch.uint8)
    seen = autoaugmented(images, torch.arange(4000), "autoaugment", 0)
    policies = peer.AutoAugment(peer.AutoAugmentPolicy.CIFAR10).policies
    wanted: dict[str, float] = {}
    for pair in policies:
        for change, probability, _ in pair:
            wanted[change] = wanted.get(change, 0) + probability * 4000 / len(policies)
    done = {change: sum(count for count, of, _ in asked if of == change) for change in wanted}
    for change, expected in wanted.items():
        assert abs(done[change] - expected) < 5 * expected**0.5 + 1, change
    turned = {sign: sum(n for n, of, size in asked if of == "Rotate" and size * sign > 0) for sign in (1, -1)}  # fmt: skip
    assert 0.8 < turned[1] / turned[-1] < 1.25
    assert 0.5 < (seen != images).flatten(1).any(1).float().mean() < 0.95
    grey = autoaugmented(images[:50, :1], torch.arange(50), "autoaugment_imagenet", 1)
    assert grey.shape == (50, 1, 8, 8)


def test_augmentation_is_drawn_by_row():
    images = torch.randint(0, 255, (6, 3, 16, 16), dtype=torch.uint8)
    rows = torch.tensor([4, 9, 2, 7, 5, 1])
    whole = augment(images, rows, "crop+flip", 0, 1)
    parts = torch.cat(
        [
            augment(images[:2], rows[:2], "crop+flip", 0, 1),
            augment(images[2:], rows[2:], "crop+flip", 0, 1),
        ]
    )
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, augment(images, rows, "crop+flip", 0, 2))
    assert augment(images, rows, "none") is images


def test_augmentation_moves_and_mirrors_and_nothing_else():
    row = torch.arange(8, dtype=torch.uint8)
    images = row.view(1, 1, 1, 8).expand(64, 1, 8, 8).contiguous()
    flipped = augment(images, torch.arange(64), "flip", 0)
    kinds = {tuple(image[0, 0].tolist()) for image in flipped}
    assert kinds == {tuple(range(8)), tuple(range(7, -1, -1))}
    shifted = augment(images, torch.arange(64), "crop", 0)
    assert {tuple(image[0, 0].tolist()) for image in shifted} == {
        (0, 1, 2, 3, 4, 5, 6, 7),
        (1, 0, 1, 2, 3, 4, 5, 6),
        (1, 2, 3, 4, 5, 6, 7, 6),
    }
    with pytest.raises(InputError, match="no augmentation 'blur'"):
        augment(images, torch.arange(64), "blur")


def test_heldout_predictions_come_from_models_that_did_not_see_the_row(run):
    p = heldout(run)
    folds = parts(run.data, 3, 0)
    assert sorted(torch.cat(folds).tolist()) == list(range(len(run.data)))
    assert all(part.numel() == 30 for part in folds)
    for fold, rows in enumerate(folds):
        sub = Run(run.path / "folds" / str(fold))
        assert not set(sub.data.names.to_pylist()) & set(
            run.data.names.take(rows.numpy()).to_pylist()
        )
        assert np.allclose(p[rows.numpy()], predictions.on_test(sub))
    with pytest.raises(InputError, match="no held-out probabilities; train with --folds 4"):
        heldout(Run(run.path / "folds" / "0"))


def test_a_model_read_back_says_the_same(run):
    again = Run(run.path)
    assert torch.allclose(
        again.model(blobs().batch(torch.arange(5))[0]), run.model(blobs().batch(torch.arange(5))[0])
    )
    assert predictions.accuracy(again) == 1.0
    with pytest.raises(InputError, match="is not a run"):
        Run(run.path / "scores")


def test_minutes_pick_a_recipe_and_stick_to_it(tmp_path, monkeypatch, capsys):
    costs = {"1.0": 8e-3, "0.5": 2e-3, "0.25": 5e-4}
    monkeypatch.setattr(
        plan, "step_cost", lambda recipe, _: (costs[recipe.model.rpartition("=")[2]], 1)
    )
    data = blobs(90, grey=False)
    data = dataclasses.replace(
        data, images=type(data.images)(np.repeat(np.repeat(data.images.array, 3, 2), 3, 3))
    )

    def planned(recipe):
        return plan.Plan(recipe, 90, 90, 1)

    picked = plan.within(0.4, Recipe(), data, tmp_path, planned)
    assert picked.model == "resnet9,width=0.5"
    assert 10 <= picked.epochs <= 100
    assert "minutes: resnet9,width=0.5" in capsys.readouterr().err
    monkeypatch.setattr(plan, "step_cost", lambda *_: pytest.fail("measured again"))
    assert plan.within(0.4, Recipe(), data, tmp_path, planned) == picked
    monkeypatch.setattr(plan, "step_cost", lambda *_: (1.0, 1))
    with pytest.raises(InputError, match="minutes are too few"):
        plan.within(0.1, Recipe(), data, tmp_path, planned)


def test_a_plan_counts_its_trainings():
    """Of 1,000 images: folds of which each leaves out a quarter, and nets to prove on two."""
    recipe = Recipe(model="mlp", epochs=10, folds=4)
    crossed = plan.Plan(recipe, 1000, 0, seeds=1)
    assert (crossed.models, crossed.proofs, crossed.passes) == (4, 4, 6.0)
    assert str(crossed) == "4 trainings of 10 epochs, then 4 to prove"
    assert crossed.images == 6 * 10 * 1000 + plan.ASKED * (1000 + 250 * 5)
    tested = plan.Plan(recipe, 1000, 200, seeds=2)
    assert (tested.models, tested.proofs, tested.passes) == (5, 5, 9.0)
    assert plan.Plan(recipe, 1000, 0, seeds=1, proof=9).proofs == 8
    assert plan.Plan(recipe, 1000, 0, seeds=0).passes == 3.0
    alone = plan.Plan(recipe.but(folds=0), 1000, 0)
    assert (alone.models, alone.proofs, alone.passes) == (1, 0, 1.0)
    proof = plan.Plan(recipe, 1000, 0, seeds=1, first=False)
    assert (str(proof), proof.passes) == ("4 to prove of 10 epochs", 3.0)


def test_recipes_are_yaml_and_checked(tmp_path):
    (tmp_path / "r.yaml").write_text(Recipe(epochs=3, model="mlp").to_yaml())
    assert Recipe.read(tmp_path / "r.yaml") == Recipe(epochs=3, model="mlp")
    (tmp_path / "bad.yaml").write_text("epoch: 3\n")
    with pytest.raises(InputError, match="did you mean epochs"):
        Recipe.read(tmp_path / "bad.yaml")
    for bad in ({"epochs": -1}, {"folds": 1}, {"precision": "fp8"}):
        with pytest.raises(InputError):
            Recipe(**bad)
    with pytest.raises(InputError, match="did you mean resnet9"):
        auto.settle(Recipe(model="resnet99"), blobs())


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "squeezenet1_1", "vit_b_32", "densenet121", "googlenet"]
)
def test_any_torchvision_classifier_is_an_encoder(name):
    from datablame.base.methods import find
    from datablame.network.classifier import spec

    model = find("models", spec(name))((1, 32, 32)).eval()
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, model.dim)


def test_weights_from_a_local_file(tmp_path):
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    from datablame.methods.models.torchvision import torchvision

    net = resnet18()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    torch.save(net.state_dict(), tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        model = torchvision((3, 128, 128), "resnet18", str(tmp_path / name))
        assert torch.equal(model.net.layer1[0].conv1.weight, net.layer1[0].conv1.weight)
    with pytest.raises(InputError, match="no weights file"):
        torchvision((3, 128, 128), "resnet18", str(tmp_path / "none.pth"))
    (tmp_path / "bad.pth").write_bytes(b"junk")
    with pytest.raises(InputError, match="does not hold weights of resnet18"):
        torchvision((3, 128, 128), "resnet18", str(tmp_path / "bad.pth"))
    with pytest.raises(InputError, match="there is: DEFAULT, IMAGENET1K_V1"):
        torchvision((3, 128, 128), "resnet18", "IMAGENET9")


def test_pickles_are_refused(tmp_path):
    from datablame.methods.models.torchvision import torchvision

    class Evil:
        def __reduce__(self):
            return (print, ("owned",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="does not hold weights"):
        torchvision((3, 128, 128), "resnet18", str(tmp_path / "evil.pth"))


def test_progress_is_shown_after_two_seconds_as_plain_lines(monkeypatch, capsys):
    now = [0.0]

    def tick():
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(progress.time, "perf_counter", tick)
    assert list(progress.track(range(30), 30, "training", "steps")) == list(range(30))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training")
    assert len(lines) == 3
    assert progress.span(95.2) == "1 min 35 s"


def test_the_log_is_one_json_line_an_epoch(run):
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "step,at=abc"}, "schedule 'step,at=abc' cannot be read"),
        ({"model": "mlp,hidden=-1"}, "mlp,hidden=-1 cannot be used on images of 1x8x8"),
        ({"model": "alexnet"}, "alexnet cannot be used"),
        ({"model": "resnet,depth=19"}, "no depth of resnet '19'"),
    ],
)
def test_what_does_not_fit_leaves_nothing_behind(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        verbs.train(blobs(), recipe=TINY.but(**changes), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_recipes_take_numbers_as_yaml_writes_them(tmp_path):
    (tmp_path / "r.yaml").write_text("rate: 5e-2\nepochs: 3\n")
    assert Recipe.read(tmp_path / "r.yaml").lr == 0.05
    (tmp_path / "r.yaml").write_text("epochs: soon\n")
    with pytest.raises(InputError, match=r"^momentum is a share"):
        Recipe.from_json({"momentum": 2})
    with pytest.raises(InputError, match="whole number"):
        Recipe.read(tmp_path / "r.yaml")


def test_too_many_folds(tmp_path):
    with pytest.raises(InputError, match="60 folds of 90 examples"):
        verbs.train(
            blobs(), recipe=TINY.but(folds=60, epochs=1), out=tmp_path, test=blobs(30, 1, ())
        )
    assert not list(tmp_path.iterdir())


def test_a_trace_file_cut_off_at_its_head_is_made_anew(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"NUMPY"[:3])
    assert arrays.mapped(tmp_path / "x.npy", (2, 3), "float16").shape == (2, 3)


def test_a_run_whose_cache_was_cleaned_gets_its_images_again(tmp_path, monkeypatch):
    import shutil

    cache = tmp_path / "cache"
    monkeypatch.setenv("DATABLAME_CACHE", str(cache))
    run = verbs.train(blobs(seed=5), recipe=TINY, out=tmp_path / "runs", test=blobs(30, 1, ()))
    shutil.rmtree(cache / "arrays")
    with pytest.raises(InputError, match="no longer at"):
        _ = Run(run.path).data
    again = verbs.train(blobs(seed=5), recipe=TINY, out=tmp_path / "runs", test=blobs(30, 1, ()))
    assert len(Run(again.path).data.batch(torch.arange(3))[0]) == 3


@pytest.mark.parametrize("trainer", ["plain", "data_parameters"])
def test_a_batch_in_parts_makes_the_same_step(tmp_path, trainer):
    """Without BatchNorm: losses, gradients, temperatures and the trace are those of the whole."""
    recipe = TINY.but(
        model="test_training.plain_net", folds=0, epochs=3, trainer=trainer, precision="fp32"
    )
    whole, parts = (
        Run.create(blobs(), recipe.but(accumulate=count), None, tmp_path) for count in (1, 3)
    )
    for each in (whole, parts):
        fit(each)
    assert whole.path != parts.path
    for channel in whole.trace:
        assert np.allclose(whole.trace[channel], parts.trace[channel], rtol=0.01, atol=2e-3), (
            channel
        )


def test_parts_of_a_batch_are_refused_where_they_mean_nothing():
    with pytest.raises(InputError, match="a batch of 16 in 5 parts may leave one image to a part"):
        TINY.but(accumulate=5)
    with pytest.raises(InputError, match=r"dividemix has no use for accumulate \(2\)"):
        auto.settle(TINY.but(trainer="dividemix", accumulate=2), blobs())
    with pytest.raises(InputError, match="batch_norm"):
        TINY.but(batch_norm="mine")


@pytest.mark.parametrize(("count", "batch", "times"), [(1, 64, 1), (4, 64, 1), (8, 128, 2)])
def test_many_processes_share_a_larger_batch(monkeypatch, count, batch, times):
    """Two train what one would; beyond, each has its 16, at a rate that grows as the batch does."""
    monkeypatch.setattr(processes, "size", lambda: count)
    monkeypatch.setattr(auto, "try_out", lambda *_: None)
    data = blobs(3_000)
    found, one = auto.settle(Recipe(), data), auto.settle(Recipe(batch_size=64), data)
    assert (found.batch_size, found.lr) == (batch, pytest.approx(one.lr * times))
    assert found.warmup == (0.05 if times > 1 else 0.0)
    assert auto.settle(Recipe(batch_size=32), data).batch_size == 32
    assert auto.settle(Recipe(), blobs(300)).batch_size == 64, "a small set keeps its steps"


def plain_net(shape):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU())
    net.dim = 16
    return net


def test_the_name_of_a_run_is_older_than_these_fields():
    """Runs that were made before there were these fields are found again."""
    assert TINY.hash("x") == TINY.but(accumulate=1, batch_norm="united").hash("x")
    assert (
        len(
            {
                TINY.but(**more).hash("x")
                for more in ({}, {"accumulate": 2}, {"batch_norm": "apart"})
            }
        )
        == 3
    )
    assert Recipe(epochs=3).hash("x") == "59938b17"
