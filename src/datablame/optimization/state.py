"""What every trainer shares: recording, the log, and progress that is resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from datablame.base import arrays, devices, files, processes, progress, readers
from datablame.base.errors import InputError, RunError
from datablame.base.hashing import batches
from datablame.dataset import Dataset
from datablame.inference.features import answers
from datablame.network.classifier import Classifier
from datablame.optimization.checkpoints import kept_epochs
from datablame.optimization.optimizers import Optimizer
from datablame.run import Run
from datablame.trace import Recorder

PAUSE = 5.0
"""Seconds between two times that a training is kept: what is done between is done again."""


class TrainingState:
    """What a trainer keeps as it goes: the trace, a line of the log, and after each epoch the
    weights and what their optimizers keep of its nets.

    `more`: channels of the trainer's own in the trace; `tensors`: what else it must find again when
    it is resumed.
    """

    def __init__(
        self,
        run: Run,
        nets: Sequence[tuple[nn.Module, Optimizer]],
        more: Sequence[str] = (),
        tensors: dict[str, Tensor] | None = None,
    ):
        self.run, self.nets, self.tensors = run, nets, tensors or {}
        recipe, data = run.recipe, run.data
        self.gradients = {net: processes.Gradients(net, recipe.accumulate) for net, _ in nets}
        self.scaler = torch.amp.GradScaler(
            devices.device().type, enabled=recipe.precision == "fp16"
        )
        top = min(recipe.top_k, len(data.classes))
        self.recorder = Recorder(run.path / "trace", recipe.epochs, len(data), top, more)
        self.done = self.kept = self.resume()
        self.entries: list[dict[str, float]] = []
        self.began = self.saved = time.perf_counter()

    def rate(self, rate: float) -> None:
        """Set the learning rate of every net."""
        for _, optimizer in self.nets:
            optimizer.lr = rate

    def zero(self) -> None:
        """Forget the gradients."""
        for _, optimizer in self.nets:
            optimizer.zero_grad()

    def step(self, model: nn.Module, optimizer: Optimizer, loss: Tensor) -> None:
        """One step down the loss, of which this process holds its part."""
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.apply(model, optimizer)

    def apply(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Change the weights by the gradients, of which this process holds its part."""
        self.gradients[model].sum()
        self.scaler.step(cast(torch.optim.Optimizer, optimizer))
        self.scaler.update()

    def close(self, epoch: int, losses: Tensor, model: Classifier) -> None:
        """End an epoch: check its losses and write its row of the trace; every few seconds, and at
        the end, have all that reach the disk, with the log, weights and progress.
        """
        finite(processes.total(losses), epoch, self.run, self.kept)
        self.recorder.write(epoch)
        with files.several():
            self._written(epoch, losses, model)
        self.began = time.perf_counter()

    def _written(self, epoch: int, losses: Tensor, model: Classifier) -> None:
        """`close`, but for the trace."""
        run, recipe = self.run, self.run.recipe
        if epoch in kept_epochs(recipe.checkpoints, recipe.epochs):
            arrays.write_tensors(
                run.path / "checkpoints" / f"{epoch}.safetensors", model.state_dict()
            )
        entry = entry_of(run, epoch, losses.mean().item(), time.perf_counter() - self.began)
        if run.test is not None and recipe.validate and (epoch + 1) % recipe.validate == 0:
            entry |= _validation(model, run.test)
        self.entries.append(entry)
        last = epoch + 1 == recipe.epochs
        if processes.agree(last or time.perf_counter() - self.saved >= PAUSE):
            self.recorder.flush()
            _write_log(run, self.entries)
            self.save(epoch)
            self.kept, self.entries, self.saved = epoch + 1, [], time.perf_counter()

    def save(self, epoch: int) -> None:
        """Weights, what optimizers keep, and the trainer's own tensors after an epoch, in one
        safetensors file.
        """
        kept = {f"own/{name}": tensor for name, tensor in self.tensors.items()}
        for turn, (model, optimizer) in enumerate(self.nets):
            kept |= {f"{turn}/model/{name}": tensor for name, tensor in model.state_dict().items()}
            kept |= {
                f"{turn}/{name}/{i}": home[weight]
                for name, home in optimizer.kept.items()
                for i, weight in enumerate(optimizer.weights)
                if weight in home
            }
        facts = {
            "epoch": str(epoch + 1),
            "run": _mark(self.run),
            "scaler": json.dumps(self.scaler.state_dict()),
        }
        arrays.write_tensors(self.run.path / "progress.safetensors", kept, facts)

    def resume(self) -> int:
        """Load the last whole epoch, if there is one; return how many are done.

        Raises InputError for another run's progress.
        """
        run, path = self.run, self.run.path / "progress.safetensors"
        if not processes.agree(path.exists()):
            return 0
        kept, facts = readers.read_tensors(path)
        if facts.get("run") != _mark(run):
            raise InputError(
                f"{path} is a checkpoint of another recipe or other data; delete it, "
                "or name another folder with --out"
            )
        for name, tensor in _under(kept, "own/").items():
            self.tensors[name].copy_(tensor)
        for turn, (model, optimizer) in enumerate(self.nets):
            model.load_state_dict(_under(kept, f"{turn}/model/"))
            for name in {key.split("/")[1] for key in kept if key.startswith(f"{turn}/")}:
                if name != "model":
                    _recall(optimizer, name, _under(kept, f"{turn}/{name}/"))
        self.scaler.load_state_dict(readers.parse_json(facts["scaler"], path))
        progress.say(f"resuming {run.path} after epoch {facts['epoch']} of {run.recipe.epochs}")
        return int(facts["epoch"])


def _recall(optimizer: Optimizer, name: str, kept: dict[str, Tensor]) -> None:
    """What an optimizer kept of its weights under a name."""
    home = optimizer.kept.setdefault(name, {})
    for i, tensor in kept.items():
        weight = optimizer.weights[int(i)]
        like = weight if tensor.shape == weight.shape else tensor.to(weight.device)
        home[weight] = torch.empty_like(like).copy_(tensor)  # in the weight's memory format


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _mark(run: Run) -> str:
    return run.recipe.hash(run.about["fingerprint"])


@torch.inference_mode()
def look(model: Classifier, data: Dataset, recorder: Recorder) -> None:
    """Record every example in a pass of its own, without augmentation, BatchNorm fixed."""
    model.eval()
    said = answers(model, data)
    for index in batches(torch.arange(len(data)), 512):
        mine = processes.shard(index)
        recorder.put(mine, said(mine), data.labels[mine].to(devices.device()))


@torch.inference_mode()
def _validation(model: Classifier, test: Dataset) -> dict[str, float]:
    """Error, top-5 error and mean cross-entropy on the test images."""
    model.eval()
    sums = torch.zeros(
        3,
        dtype=torch.float64,
        device="cpu" if devices.device().type in devices.LACKING else devices.device(),
    )
    said = answers(model, test)
    for index in batches(torch.arange(len(test)), 512):
        mine = processes.shard(index)
        logits, labels = said(mine), test.labels[mine].to(devices.device())
        best = logits.topk(min(5, logits.shape[1]), 1).indices == labels[:, None]
        loss = cross_entropy(logits.float(), labels, reduction="sum")
        sums += torch.stack([(~best[:, 0]).sum(), (~best.any(1)).sum(), loss]).to(sums)
    names = ("valid_error", "valid_top5_error", "valid_loss")
    return {
        name: round(value, 5)
        for name, value in zip(names, (processes.total(sums) / len(test)).tolist(), strict=True)
    }


def finite(losses: Tensor, epoch: int, run: Run, last: int) -> None:
    """Raises RunError where a loss is not finite; `last` epochs are kept."""
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        kept = f"epoch {last} is kept" if last else "nothing was kept before it"
        raise RunError(
            f"the loss stopped being finite in epoch {epoch + 1}, step {int(bad[0]) + 1} "
            f"of {len(losses)}; {kept} in {run.path}; "
            f"try a lower rate than {run.recipe.lr:g}: --lr {run.recipe.lr / 4:g}"
        )


def entry_of(run: Run, epoch: int, loss: float, seconds: float) -> dict[str, float]:
    """What the log says of an epoch's training; rank 0 writes it, and knows the error."""
    if processes.rank() != 0:
        return {"epoch": epoch + 1}
    prediction = readers.read_array(run.path / "trace" / "prediction.npy")[epoch]
    error = float((torch.from_numpy(prediction.astype("int64")) != run.data.labels).float().mean())
    return {
        "epoch": epoch + 1,
        "loss": round(loss, 5),
        "train_error": round(error, 5),
        "seconds": round(seconds, 2),
        "images_per_second": round(len(run.data) / seconds),
    }


def _write_log(run: Run, entries: list[dict[str, float]]) -> None:
    """Lines of log.jsonl; those of epochs that are done again after an interruption are
    replaced.
    """
    before = run.log[: int(entries[0]["epoch"]) - 1]
    lines = [json.dumps(line) for line in [*before, *entries]]
    files.write_text(run.path / "log.jsonl", "\n".join(lines) + "\n")
