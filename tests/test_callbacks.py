"""Runs that are recorded while other libraries train."""

import numpy as np
import pytest
import torch
from conftest import blobs
from torch import nn

import datablame as db
from datablame.base.errors import InputError
from datablame.callbacks import HuggingFace, Lightning, logits_of
from datablame.trace import observe

EPOCHS = 4


@pytest.fixture
def data():
    return blobs(60, wrong=(7,))


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


class Examples(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, row):
        image, label = self.data[row]
        return {"pixel_values": image.float() / 255, "labels": label}


class Model(nn.Module):
    """As models of transformers are: a loss and logits for pixel_values and labels."""

    def __init__(self):
        super().__init__()
        self.net, self.said = net(), []

    def forward(self, pixel_values, labels=None):
        logits = self.net(pixel_values)
        if self.training:
            self.said.append((labels.clone(), logits.detach().clone()))
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return {"loss": loss, "logits": logits}


@pytest.fixture
def trainer(tmp_path):
    transformers = pytest.importorskip("transformers")

    def make(model, dataset, callbacks=(), epochs=EPOCHS, **more):
        options = more.pop("options", {})
        args = transformers.TrainingArguments(
            str(tmp_path / "hf"), num_train_epochs=epochs, per_device_train_batch_size=16,
            learning_rate=0.02, save_strategy="no", report_to="none", disable_tqdm=True,
            logging_strategy="no", use_cpu=True, **options,
        )  # fmt: skip
        return transformers.Trainer(
            model, args, train_dataset=dataset, callbacks=list(callbacks), **more
        )

    return make


@pytest.mark.filterwarnings("ignore")
def test_transformers_trainer(data, tmp_path, trainer):
    recorder = HuggingFace(data, tmp_path / "runs")
    model = Model()
    own = trainer(model, recorder.rows(Examples(data)), [recorder], eval_dataset=Examples(data))
    own.train()
    own.evaluate()
    run = db.Run(recorder.run.path)
    assert run.finished
    assert run.recipe.epochs == EPOCHS
    assert run.trace["loss"].shape == (EPOCHS, 60)
    said = [observe(logits, labels)["loss"] for labels, logits in model.said]
    steps = len(said) // EPOCHS
    for epoch in range(EPOCHS):
        there = torch.cat(said[epoch * steps : (epoch + 1) * steps]).half().sort().values
        assert torch.equal(there, torch.from_numpy(run.trace["loss"][epoch].copy()).sort().values)
    assert int(db.score(run, "aum").values.argmax()) == 7
    assert not model._forward_hooks
    plain = Model()
    trainer(plain, Examples(data)).train()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )


@pytest.mark.filterwarnings("ignore")
def test_a_dataset_of_transformers_is_read_itself(data, tmp_path, trainer):
    import datasets
    from PIL import Image

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(data.classes))}
    )
    pictures = [Image.fromarray(data.pixels.one(k)[0]) for k in range(60)]
    rows = datasets.Dataset.from_dict(
        {"image": pictures, "label": data.labels.tolist()}, features=features
    )

    def prepared(batch):
        pixels = [torch.from_numpy(np.array(each)).float()[None] / 255 for each in batch["image"]]
        return {"pixel_values": pixels, "labels": batch["label"]}

    recorder = HuggingFace(rows, tmp_path / "runs")
    trainer(Model(), recorder.rows(rows.with_transform(prepared)), [recorder]).train()
    assert int(db.score(recorder.run, "aum").values.argmax()) == 7
    assert recorder.run.data.shape == (1, 8, 8)


@pytest.mark.filterwarnings("ignore")
def test_what_transformers_cannot_record_is_told(data, tmp_path, trainer):
    with pytest.raises(
        InputError, match="the training set has 59 examples, and the recorder was given 60"
    ):
        HuggingFace(data, tmp_path).rows(Examples(data.take(range(59))))
    recorder = HuggingFace(data, tmp_path)
    with pytest.raises(InputError, match=r"train on recorder.rows\(train_dataset\)"):
        trainer(Model(), Examples(data), [recorder]).train()
    other = HuggingFace(data.take(torch.arange(60).flip(0)), tmp_path)
    with pytest.raises(InputError, match=r"has the label .* in the same order"):
        trainer(Model(), other.rows(Examples(data)), [other]).train()

    class Silent(Model):
        def forward(self, pixel_values, labels=None):
            return {"loss": super().forward(pixel_values, labels)["loss"]}

    third = HuggingFace(data, tmp_path)
    with pytest.raises(InputError, match="Silent gives no logits"):
        trainer(Silent(), third.rows(Examples(data)), [third]).train()


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_ends_early_is_a_shorter_run(data, tmp_path, trainer):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_epoch_end(self, args, state, control, **_):
            control.should_training_stop = state.epoch >= 2

    recorder = HuggingFace(data, tmp_path / "runs")
    trainer(Model(), recorder.rows(Examples(data)), [recorder, Stop()]).train()
    run = db.Run(recorder.run.path)
    assert run.recipe.epochs == 2
    assert run.trace["loss"].shape == (2, 60)
    assert (run.trace["loss"] > 0).all()


@pytest.fixture
def fit(tmp_path):
    pytorch = pytest.importorskip("lightning.pytorch")

    class Module(pytorch.LightningModule):
        def __init__(self, how):
            super().__init__()
            self.net, self.how, self.said = net(), how, []

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            x, y = batch
            logits = self(x) if self.how == "self" else self.net(x)
            self.said.append((y.clone(), logits.detach().clone()))
            loss = nn.functional.cross_entropy(logits, y)
            return {"loss": loss, "logits": logits} if self.how == "returned" else loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.5)

    def run(data, recorder, how="self", epochs=EPOCHS, workers=0, watched=True, **more):
        pairs = [
            (image.float() / 255, label) for image, label in (data[k] for k in range(len(data)))
        ]
        loader = torch.utils.data.DataLoader(pairs, 16, shuffle=True, num_workers=workers)
        module = Module(how)
        pytorch.seed_everything(0, verbose=False)
        trainer = pytorch.Trainer(
            max_epochs=epochs, callbacks=[recorder] if recorder else [], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu", devices=1, default_root_dir=tmp_path, **more,
        )  # fmt: skip
        trainer.fit(module, recorder.rows(loader) if recorder and watched else loader)
        return module

    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("how", "part", "workers"), [("self", "", 0), ("part", "net", 0), ("returned", "", 2)]
)
def test_lightning_trainer(data, tmp_path, fit, how, part, workers):
    recorder = Lightning(data, tmp_path / "runs", module=part)
    module = fit(data, recorder, how, workers=workers)
    run = db.Run(recorder.run.path)
    assert run.trace["loss"].shape == (EPOCHS, 60)
    steps = len(module.said) // EPOCHS
    for epoch in range(EPOCHS):
        some = module.said[epoch * steps : (epoch + 1) * steps]
        there = torch.cat([observe(z, y)["loss"] for y, z in some]).half().sort().values
        assert torch.equal(there, torch.from_numpy(run.trace["loss"][epoch].copy()).sort().values)
    assert int(db.score(run, "aum").values.argmax()) == 7
    plain = fit(data, None, how, workers=workers)
    assert all(
        torch.equal(a, b) for a, b in zip(module.parameters(), plain.parameters(), strict=True)
    )


@pytest.mark.filterwarnings("ignore")
def test_what_lightning_cannot_record_is_told(data, tmp_path, fit):
    with pytest.raises(InputError, match=r"no logits .* were seen"):
        fit(data, Lightning(data, tmp_path), "part")
    with pytest.raises(
        InputError, match="the training set has 60 examples, and the recorder was given 50"
    ):
        fit(data, Lightning(data.take(range(50)), tmp_path))
    with pytest.raises(InputError, match="in the same order"):
        fit(data, Lightning(data.take(torch.arange(60).flip(0)), tmp_path))
    with pytest.raises(InputError, match=r"fit on recorder.rows\(loader\)"):
        fit(data, Lightning(data, tmp_path), watched=False)
    with pytest.raises(InputError, match="the most epochs"):
        fit(data, Lightning(data, tmp_path), epochs=-1, max_steps=3)


def test_logits_are_found_in_what_models_return():
    z, loss = torch.zeros(2, 3), torch.tensor(1.0)
    assert logits_of(z) is z
    assert logits_of((loss, z)) is z
    assert logits_of({"logits": z}) is z
    assert logits_of({"loss": loss}) is None
    assert logits_of(loss) is None


@pytest.mark.parametrize("kind", [HuggingFace, Lightning])
def test_a_library_that_is_not_there_is_told(data, kind, monkeypatch):
    import sys

    for name in ("transformers", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"this recorder is for .*, which is not installed"):
        kind(data)
