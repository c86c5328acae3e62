"""The one training loop."""

from __future__ import annotations

import json
import time

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from datablame.classifier import Classifier, build
from datablame.dataset import Dataset
from datablame.evidence.augment import augment
from datablame.evidence.schedules import schedule
from datablame.ground import clock, store, world
from datablame.ground.draw import permutation, seed_of
from datablame.ground.errors import InputError, RunError
from datablame.run import Run
from datablame.trace import Recorder


def fit(run: Run) -> None:
    """Train the run's model by its recipe, recording every example at every epoch; resumes where it was interrupted.

    Raises RunError where the loss stops being finite; the last good epoch is kept.
    """
    if run.finished:
        return
    world.repeatable()
    data, recipe = run.data, run.recipe
    model = build(recipe, data)
    optimizer = torch.optim.SGD(
        parameters(model, recipe.decay), recipe.rate, recipe.momentum, nesterov=recipe.momentum > 0
    )
    scaler = torch.amp.GradScaler(world.device().type, enabled=recipe.precision == "fp16")
    recorder = Recorder(run.path / "trace", recipe.epochs, len(data))
    rate_at = schedule(recipe.schedule)
    begin = resume(run, model, optimizer, scaler)
    each = len(batches(torch.arange(len(data)), recipe.batch))
    ticker = clock.Ticker((recipe.epochs - begin) * each, "training", "steps")

    with clock.stage("train"):
        for epoch in range(begin, recipe.epochs):
            started = time.perf_counter()
            torch.manual_seed(seed_of("epoch", recipe.seed, epoch, world.rank()))
            steps = batches(permutation(len(data), "order", recipe.seed, epoch), recipe.batch)
            losses = torch.zeros(len(steps), device=world.device())
            model.train()
            for step, index in enumerate(steps):
                set_rate(optimizer, recipe.rate * rate_at((epoch + step / len(steps)) / recipe.epochs))
                mine = world.shard(index)
                images, labels = data.batch(mine)
                with world.autocast(recipe.precision):
                    logits = model(augment(images, mine, recipe.augment, recipe.seed, epoch))
                loss = cross_entropy(logits.float(), labels, reduction="sum") / len(index)
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                world.sum_gradients(model)
                scaler.step(optimizer)
                scaler.update()
                losses[step] = loss.detach()
                if recipe.look == "pass":
                    recorder.put(mine, logits, labels)
                ticker.tick(f"epoch {epoch + 1} of {recipe.epochs}")
            if recipe.look == "clean":
                look(model, data, recorder)
            finite(world.total(losses), epoch, run)
            recorder.write(epoch)
            if epoch in kept_epochs(recipe.checkpoints, recipe.epochs):
                store.write_tensors(run.path / "checkpoints" / f"{epoch}.safetensors", model.state_dict())
            report(run, epoch, losses.mean().item(), time.perf_counter() - started)
            save_progress(run, epoch, model, optimizer, scaler)
    ticker.close()
    store.write_tensors(run.path / "model.safetensors", model.state_dict())
    run.finish()
    store.remove(run.path / "progress.safetensors")


def batches(order: Int[Tensor, " N"], batch: int) -> tuple[Int[Tensor, " B"], ...]:
    """Parts of nearly equal size, at most `batch` each: no last step of one image, which BatchNorm could not bear."""
    return order.tensor_split(-(-len(order) // batch))


def parameters(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices and filters with weight decay; biases and the weights of normalisation without."""
    every = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
    ]


def kept_epochs(checkpoints: int, epochs: int) -> list[int]:
    """The epochs, from 0, after which weights are kept: evenly spread, the last among them."""
    count = min(checkpoints, epochs)
    return [epochs * (i + 1) // count - 1 for i in range(count)]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.inference_mode()
def look(model: Classifier, data: Dataset, recorder: Recorder) -> None:
    """Record every example in a pass of its own, without augmentation, BatchNorm fixed."""
    model.eval()
    for index in batches(torch.arange(len(data)), 512):
        mine = world.shard(index)
        images, labels = data.batch(mine)
        recorder.put(mine, model(images), labels)


def finite(losses: Tensor, epoch: int, run: Run) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        kept = f"epoch {epoch} is kept" if epoch else "nothing was learned before it"
        raise RunError(
            f"the loss stopped being finite in epoch {epoch + 1}, step {int(bad[0]) + 1} of {len(losses)}; {kept} in {run.path}; "
            f"try a lower rate than {run.recipe.rate:g}: --rate {run.recipe.rate / 4:g}"
        )


def report(run: Run, epoch: int, loss: float, seconds: float) -> None:
    """One line of log.jsonl; lines of epochs that are done again after an interruption are replaced."""
    import numpy as np

    guess = np.load(run.path / "trace" / "guess.npy", mmap_mode="r")[epoch]
    error = float((torch.from_numpy(guess.astype("int64")) != run.data.labels).float().mean())
    entry = {
        "epoch": epoch + 1,
        "loss": round(loss, 5),
        "train_error": round(error, 5),
        "seconds": round(seconds, 2),
        "images_per_second": round(len(run.data) / seconds),
    }
    lines = [json.dumps(line) for line in run.log[:epoch]] + [json.dumps(entry)]
    store.write_text(run.path / "log.jsonl", "\n".join(lines) + "\n")


def save_progress(
    run: Run, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Weights and momenta after an epoch, in one safetensors file."""
    state = optimizer.state_dict()["state"]
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"momentum/{i}": s["momentum_buffer"] for i, s in state.items() if s.get("momentum_buffer") is not None}
    facts = {"epoch": str(epoch + 1), "run": mark(run), "scaler": json.dumps(scaler.state_dict())}
    store.write_tensors(run.path / "progress.safetensors", tensors, facts)


def mark(run: Run) -> str:
    return run.recipe.hash(run.about["fingerprint"])


def resume(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> int:
    """Load the last whole epoch, if there is one; return how many are done. Raises InputError for another run's progress."""
    from safetensors import safe_open

    path = run.path / "progress.safetensors"
    if not world.agree(path.exists()):
        return 0
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        if facts.get("run") != mark(run):
            raise InputError(
                f"{path} is a checkpoint of another recipe or other data; delete it, or name another folder with --out"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    model.load_state_dict({name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")})
    state = optimizer.state_dict()
    state["state"] = {
        int(n.removeprefix("momentum/")): {"momentum_buffer": t}
        for n, t in tensors.items()
        if n.startswith("momentum/")
    }
    optimizer.load_state_dict(state)
    scaler.load_state_dict(json.loads(facts["scaler"]))
    clock.say(f"resuming {run.path} after epoch {facts['epoch']} of {run.recipe.epochs}")
    return int(facts["epoch"])
