"""What will be trained, how long it takes, one line of progress for the whole, and the card."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import TINY, blobs

import datablame as db
from datablame import InputError, Recipe, Run, verbs
from datablame.base import devices, progress
from datablame.base.card import SURE, WEAK, card, warnings
from datablame.cli import main
from datablame.network import classifier
from datablame.training import auto, machine, pace, plan


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when they are told to."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_the_time_left_goes_from_the_guess_to_what_is_seen(clock):
    with progress.clock(100, 2, 50):
        whole = progress._Current.clock
        assert whole.left() == 50
        with progress.part(50):
            clock(10)
            whole.share = 0.2  # a tenth of the work in 10 seconds: 100 in all, 50 by the guess
            assert whole.left() == pytest.approx((0.1 * 100 + 0.9 * 50) * 0.9)
        clock(90)
        assert str(whole) == "1 of 2 trainings, about 1 min 2 s left"
        progress.spared(25)
        assert (whole.total, whole.number) == (75, 2)
    assert progress._Current.clock is None
    progress.spared(1)
    with progress.part(1):
        pass


def test_one_line_a_minute_says_how_far_the_whole_is(clock, capsys):
    with progress.clock(300, 3, 600), progress.part(100):
        ticker = progress.Ticker(100, "training", "steps")
        for _ in range(100):
            clock(2)
            ticker.tick("epoch 1 of 9")
    said = capsys.readouterr().err.splitlines()
    assert 3 <= len(said) <= 5
    assert said[0].startswith("1 of 3 trainings, about ")
    assert said[0].endswith("left: training, epoch 1 of 9")


def test_an_audit_says_its_plan_and_a_resumed_one_does_not_count_what_is_there(tmp_path, capsys):
    verbs.audit(blobs(60), recipe=TINY, retrain=False, out=tmp_path)
    assert "3 trainings of 6 epochs: about" in capsys.readouterr().err
    began = []
    real = progress.spared
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "spared", lambda work: began.append(work) or real(work))
        verbs.train(blobs(60), recipe=TINY, holdout=0.0, out=tmp_path)
    assert began == []  # a finished run asks for nothing
    verbs.audit(blobs(60), recipe=TINY, retrain=False, out=tmp_path)
    assert "trainings of" not in capsys.readouterr().err  # and tells no plan
    verbs.audit(blobs(60), recipe=TINY, out=tmp_path)
    assert "trainings of" in capsys.readouterr().err  # the proof is still to come


@pytest.mark.parametrize("command", [["train", "digits"], ["audit", "digits"]])
def test_dry_runs_say_the_plan_and_write_nothing(command, tmp_path, capsys):
    words = ["--model", "mlp,hidden=8", "--epochs", "3", "--out", str(tmp_path), "--dry-run"]
    assert main([*command, *words]) == 0
    out = capsys.readouterr().out
    assert "trainings of 3 epochs" in out
    assert "of memory" in out
    assert not list(tmp_path.iterdir())


def test_minutes_of_train_choose_epochs(monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "step_cost", lambda *_: (1e-4, 1))
    run = verbs.train(
        blobs(60), recipe=TINY.but(epochs=0), minutes=(plan.FIXED + 0.3) / 60, out=tmp_path
    )
    assert auto.settle(TINY.but(epochs=0), blobs(60)).epochs == 25
    assert 4 <= run.recipe.epochs < 40


def test_minutes_of_retrain_choose_seeds(monkeypatch, tmp_path):
    run = verbs.audit(blobs(60), recipe=TINY.but(epochs=2), retrain=False, out=tmp_path)
    monkeypatch.setattr(plan, "step_cost", lambda *_: (0.0, 1))
    told = verbs.retrain(run, dry_run=True)
    assert told.to_json()["trainings_to_prove"] == 4
    assert told.to_json()["trainings"] == 0
    seen = []
    monkeypatch.setattr(
        "datablame.evaluation.retraining.retraining", lambda *asked: seen.append(asked[2])
    )
    each = told.minutes
    verbs.retrain(run, minutes=3.5 * each)
    assert seen == [3]
    with pytest.raises(InputError, match="one seed needs about"):
        verbs.retrain(run, minutes=each / 2)


def test_a_step_is_timed_by_the_median(monkeypatch):
    """A third of the steps is held up tenfold by another program: the answer is the same."""
    recipe, data = auto.settle(TINY, blobs(60)), blobs(60)
    cost = []
    for late in (False, True):
        now, steps = [0.0], [0]

        def tick(now=now, steps=steps, late=late):
            steps[0] += 1
            now[0] += 0.01 * (10 if late and steps[0] % 9 == 0 else 1)
            return now[0]

        monkeypatch.setattr(pace.time, "perf_counter", tick)
        cost.append(pace.step_cost(recipe, data)[0])
    assert cost[1] == pytest.approx(cost[0])


def test_threads_are_chosen_once_and_kept(monkeypatch, tmp_path):
    timed = []

    def cost(*_):
        timed.append(torch.get_num_threads())
        return (0.1 * torch.get_num_threads(), 1)

    monkeypatch.setattr(pace, "step_cost", cost)
    with devices.threads(2):
        run = verbs.train(blobs(60), recipe=TINY.but(folds=2), holdout=0.0, out=tmp_path)
        assert sorted(timed) == [1, 2]
        assert run.about["threads"] == 1
        for k in range(2):
            assert Run(run.path / "folds" / str(k)).about["threads"] == 1
        assert torch.get_num_threads() == 2
    with devices.threads(2):
        monkeypatch.setattr(pace, "_KNOWN", {})
        monkeypatch.setattr(pace, "step_cost", lambda *_: (1 / torch.get_num_threads(), 1))
        other = verbs.train(blobs(30), recipe=TINY.but(folds=0), out=tmp_path)
        assert other.about["threads"] == 2


@pytest.mark.parametrize(
    ("model", "has", "precision"),
    [
        ("resnet9,width=0.25", True, "bf16"),
        ("resnet9,width=0.25", False, "fp32"),
        ("mlp", True, "fp32"),
        ("frozen:resnet18,weights=none", True, "fp32"),
    ],
)
def test_bf16_where_the_machine_has_it_and_it_pays(monkeypatch, model, has, precision):
    monkeypatch.setattr(devices, "has_bf16", lambda: has)
    data = blobs(40, grey=False)
    data = dataclasses.replace(
        data, images=type(data.images)(np.repeat(np.repeat(data.images.array, 4, 2), 4, 3))
    )
    assert auto.settle(Recipe(model=model), data).precision == precision
    assert auto.settle(Recipe(model=model, precision="fp16"), data).precision == "fp16"


def test_heads_stay_in_float32_under_autocast():
    data = blobs(40, grey=False)
    model = classifier.build(auto.settle(TINY, data), data)
    with devices.autocast("bf16"):
        logits = model(data.batch(torch.arange(4))[0])
        features = model.features(data.batch(torch.arange(4))[0])
    assert logits.dtype == torch.float32
    assert torch.equal(logits, model.head(features.float()))


FACTS = {
    "run": "runs/x",
    "table": "t",
    "report": "r",
    "data": "d",
    "examples": 10,
    "not_read": {},
    "model": "mlp",
    "epochs": 3,
    "folds": 4,
    "test_accuracy": None,
    "heldout": {"agreement": 0.9, "kept_agreement": 0.9, "confidence": 0.95},
}
JUDGED = FACTS | {
    "acts": {"keep": 8, "ask": 0, "drop": 1, "fix": 1},
    "suspects": 2,
    "suspect_share": 0.2,
    "wrong_estimate": 2.0,
    "wrong_low": 1.0,
    "wrong_high": 3.0,
    "by": "mixture",
}


def test_the_card_warns_where_the_model_is_weak_or_too_sure():
    assert warnings(JUDGED) == []
    weak = JUDGED | {
        "heldout": {"agreement": 0.6, "kept_agreement": WEAK - 0.01, "confidence": 0.7}
    }
    assert ["weak" in text for text in warnings(weak)] == [True]
    assert "careful    the model is weak" in card(weak)
    sure = JUDGED | {
        "heldout": {"agreement": 0.8, "kept_agreement": 0.8, "confidence": 0.8 + SURE + 0.01}
    }
    assert ["too sure" in text for text in warnings(sure)] == [True]
    assert warnings(JUDGED | {"heldout": None}) == []


def test_the_card_ends_in_the_next_commands_and_begins_with_paths():
    lines = card(JUDGED).splitlines()
    assert lines[0] == "table      t"
    assert lines[-1] == "           datablame clean runs/x --out cleaned"
    assert "datablame retrain runs/x" in lines[-2]
    assert card(FACTS).splitlines()[-1] == "next       not judged yet: datablame judge runs/x"
    told = card(JUDGED | {"not_read": {"cannot be read": 2, "no picture": 1}})
    assert "not read   2 cannot be read, 1 no picture: see unreadable.csv" in told


def test_the_card_is_true_after_every_step(tmp_path):
    run = verbs.train(blobs(60), recipe=TINY, holdout=0.0, out=tmp_path)
    assert "not judged yet" in run.card
    verbs.judge(run, judge="top,share=0.1", by=np.arange(60.0))
    assert "suspects" in run.card
    assert (run.path / "card.txt").read_text() == run.card
    path = run.path / "verdict.csv"
    before = run.card
    act = run.verdict.act.clone()
    act[:3] = 2
    edited = dataclasses.replace(run.verdict, act=act)
    text = path.with_suffix(".json").read_text()
    edited.save(path, run.data)
    path.with_suffix(".json").write_text(text)
    assert "edited by hand" in run.card
    assert run.card != before
    assert run.card.splitlines()[0] in run._repr_html_()
    verbs.report(run)
    assert (run.path / "card.txt").read_text() == run.card


def test_a_mistyped_path_names_the_nearest(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=r"there is no path .*fotos; did you mean .*/photos\?"):
        db.load(tmp_path / "fotos")
    with pytest.raises(InputError, match=r"did you mean .*/photos\?"):
        db.load(tmp_path / "photso" / "train")


def test_weights_that_cannot_be_had_are_told_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("datablame.verbs.auditing.splits", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(InputError, match=r"--model frozen:resnet50,weights=path/to/resnet50\.pth"):
        db.audit("digits", model="frozen:resnet50", out=tmp_path)


def test_the_encoder_of_an_audit_is_its_first_folds(tmp_path):
    run = verbs.audit(blobs(60), recipe=TINY, retrain=False, out=tmp_path / "runs")
    frozen = verbs.train(
        blobs(60), recipe=TINY.but(model=f"frozen:{run.path}", folds=0), out=tmp_path / "frozen"
    )
    state = frozen.model.state_dict()
    for name, value in run.with_model.model.encoder.state_dict().items():
        assert torch.equal(state[f"encoder.net.{name}"], value)
    shutil.rmtree(tmp_path / "runs")


def test_the_report_shows_whole_names_a_legend_and_large_pictures(tmp_path, png):
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, level in (("english springer", 40), ("b", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(70):
            pixels = generator.normal(level, 20, (200, 300, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"picture {i}.png")
    run = verbs.train(
        str(tmp_path / "photos"),
        recipe=TINY.but(epochs=1, folds=0),
        holdout=0.0,
        out=tmp_path / "runs",
    )
    verdict = verbs.judge(run, np.arange(140.0), judge="remove,share=0.5")
    assert len(verdict.suspects) == 70
    page = verbs.report(run).read_text()
    assert '60 of 70, the most suspect; <a href="gallery/1.html">all</a> are in' in page
    name = run.data.name(int(verdict.suspects[0]))
    assert f'title="{name}"' in page
    assert f'alt="{name}, given as' in page
    assert not re.search(r'<img[^>]*src="data[^>]*alt=""', page)
    assert "prefers-color-scheme: dark" in page
    for word in ("a new label is proposed", "dropped", "hard, kept"):
        assert f">{word}</span>" in page
    large = page.split('class="large"')[1].split('src="data:image/jpeg;base64,')[1].split('"')[0]
    import base64
    import io

    assert Image.open(io.BytesIO(base64.b64decode(large))).size == (300, 200)


def test_the_doctor_times_the_machine_and_says_what_auto_takes_and_why(monkeypatch, capsys):
    for name, small in (("SIDE", {"cpu": 64}), ("WRITTEN", 1 << 12), ("STEP", 4), ("STEPPED", 0.0)):
        monkeypatch.setattr(machine, name, small)
    monkeypatch.setattr(machine, "IMAGES", {"small": (8, 8, 3), "photographs": (120, 100, 3)})
    assert main(["doctor", "--bench", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert float(said["product, fp32"].split()[0].replace(",", "")) > 0
    for what in ("product, bf16", "decode, small", "decode, photographs", "train, bf16 by 1"):
        assert said[what].split()[1] in ("GFLOP/s", "images/s"), what
    assert said["disk"].endswith("/s")
    rates = {("fp32", 1): 10.0, ("bf16", 1): 5.0, ("fp32", 2): 8.0}
    monkeypatch.setattr(machine.torch, "get_num_threads", lambda: 2)
    for has, rate, precision, threads in (
        (
            False,
            4.0,
            "fp32: bf16 is emulated here, and takes 2.0 times as long",
            "1 for such a net",
        ),
        (True, 24.0, "bf16: 3.0 times as fast", "2 for such a net"),
    ):
        rates["bf16", 2] = rate
        monkeypatch.setattr(machine.devices, "has_bf16", lambda has=has: has)
        told = machine.chosen(rates)
        assert told["precision"] == precision
        assert told["threads"].startswith(threads)
        assert told["small images"] == "a resnet9,width=0.25 that trains on them alone"
    assert "datablame fetch" in told["photographs"]
    monkeypatch.setattr(machine, "here", lambda: "dinov2")
    assert machine.chosen(rates)["photographs"].startswith("frozen:dinov2, ")
