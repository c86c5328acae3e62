"""Record a run while another library trains: the Trainer of Hugging Face transformers, the Trainer
of Lightning. huggingface.co/docs/transformers/main_classes/callback;
lightning.ai/docs/pytorch/stable/extensions/callbacks.html

    recorder = HuggingFace(rows)
    trainer = Trainer(..., train_dataset=recorder.rows(rows), callbacks=[recorder])
    trainer.train()
    db.judge(recorder.run, db.score(recorder.run, "aum"))

The libraries are imported when a recorder is made. Your own loop needs `Run.record`, `observe` and
`finish` alone: docs/own-model.md.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datablame.base import progress
from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int
from datablame.run import Run
from datablame.verbs.reading import Reading, read

ROW = "datablame_row"
"""Key of an example's position in the training set."""
LOADING = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
)
"""What a loader of batches keeps when the sampler is another."""


class Recording:
    """A run that is filled batch by batch. `data` is the training set, in the order in which the
    library has it: whatever `datablame.load` reads, or the library's own object.
    """

    def __init__(self, data: Any, out: Path | str = "runs", test: Any = None):
        found = read(data, "train", Reading())
        if found is None:
            raise InputError(f"{data} has no training split")
        self.data, self.out = found, out
        self.test = None if test is None else read(test, "train", Reading())
        self.run: Run | None = None
        self.epoch = 0

    def start(self, epochs: int | None) -> None:
        """Begin a recording of at most so many epochs."""
        if not epochs or epochs < 1:
            raise InputError("a recording needs to know the most epochs that there will be")
        self.run, self.epoch = Run.record(self.data, epochs, self.out, self.test), 0

    def keep(
        self, epoch: int, index: Int[Tensor, " B"], logits: Float[Tensor, "B K"], given: Any
    ) -> None:
        """What the model says of these examples. Raises InputError where their labels, as far as
        they are known, are not those of the set: its order is another.
        """
        if self.run is None:
            raise InputError("a recording begins with the training: start() was not called")
        index = index.detach().cpu().long()
        labels = self.data.labels[index]
        if isinstance(given, Tensor) and given.shape == labels.shape:
            odd = (given.detach().cpu() != labels).nonzero()[:, 0]
            if len(odd):
                k = int(odd[0])
                raise InputError(
                    f"example {int(index[k])} of the training set has the label {int(given[k])}, "
                    f"and {self.data.name(int(index[k]))} of {self.data.source} has "
                    f"{int(labels[k])}: give the recorder the same set, in the same order"
                )
        self.run.observe(epoch, index, logits.detach().float(), labels)

    def end(self) -> None:
        """Close the recording, of as many epochs as there were."""
        if self.run is not None and self.run.recorder is not None:
            self.run.finish(early=True)
            progress.say(f"recorded {self.run.recipe.epochs} epochs: {self.run.path}")


class Numbered(torch.utils.data.Dataset):
    """A data set whose examples, dictionaries, tell their position."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.inner[row], ROW: int(row)}


def logits_of(output: Any) -> Tensor | None:
    """Class scores `[B,K]` in what a model returns: itself, its `logits`, or the first such of
    several; None where there are none.
    """
    if isinstance(output, Tensor):
        return output if output.ndim == 2 else None
    if isinstance(output, dict) or hasattr(output, "logits"):
        found = output.get("logits") if isinstance(output, dict) else output.logits
        return logits_of(found)
    if isinstance(output, (tuple, list)):
        return next((each for part in output if (each := logits_of(part)) is not None), None)
    return None


def _library(*names: str) -> Any:
    """The first of these that is installed. Raises InputError where none is."""
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise InputError(f"this recorder is for {names[0]}, which is not installed")


def HuggingFace(data: Any, out: Path | str = "runs", test: Any = None) -> Any:  # noqa: N802
    """A callback for the Trainer of transformers; train on `recorder.rows(train_dataset)`, and
    find the run in `recorder.run`.

    Outputs are recorded in the training pass. Raises InputError where transformers is missing.
    """
    base: Any = _library("transformers").TrainerCallback

    class Recorder(Recording, base):
        hooks: tuple[Any, ...] = ()
        index: Tensor | None = None
        labels: Any = None

        def rows(self, dataset: Any) -> Numbered:
            """The training set, as the Trainer takes it."""
            if len(dataset) != len(self.data):
                raise InputError(
                    f"the training set has {len(dataset):,} examples, and the recorder was given "
                    f"{len(self.data):,}"
                )
            return Numbered(dataset)

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step:
                raise InputError("a recording begins with the first epoch, not with a checkpoint")
            if getattr(args, "n_gpu", 1) > 1:
                raise InputError(
                    "several GPUs of one process are not recorded: start a process for each "
                    "(torchrun), or show one (CUDA_VISIBLE_DEVICES=0)"
                )
            self.start(int(state.num_train_epochs))
            collate = getattr(more.get("train_dataloader"), "collate_fn", None)
            if isinstance(columns := getattr(collate, "signature_columns", None), list):
                columns.append(ROW)  # it would be taken for a column that nobody uses
            model = more["model"]
            self.hooks = (
                model.register_forward_pre_hook(self._before, with_kwargs=True),
                model.register_forward_hook(self._after),
            )

        def _before(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            self.index = kwargs.pop(ROW, None)
            self.labels = kwargs.get("labels")
            if model.training and self.index is None:
                raise InputError(
                    "the batches do not tell which examples are in them: train on "
                    f"recorder.rows(train_dataset), and let the collator pass '{ROW}' on"
                )
            return args, kwargs

        def _after(self, model: nn.Module, args: Any, output: Any) -> None:
            if self.index is not None and model.training:
                logits = logits_of(output)
                if logits is None:
                    raise InputError(f"{type(model).__name__} gives no logits [B,K] to record")
                self.keep(self.epoch, self.index, logits, self.labels)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.epoch += 1

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            for hook in self.hooks:
                hook.remove()
            self.end()

    return Recorder(data, out, test)


class _Watched:
    """A batch sampler that remembers what it gave."""

    def __init__(self, inner: Any, given: collections.deque):
        self.inner, self.given = inner, given

    def __iter__(self) -> Iterator[list[int]]:
        self.given.clear()
        for rows in self.inner:
            self.given.append(list(rows))
            yield rows

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def Lightning(  # noqa: N802
    data: Any,
    out: Path | str = "runs",
    test: Any = None,
    module: str = "",
    epochs: int | None = None,
) -> Any:
    """A callback for the Trainer of Lightning; fit on `recorder.rows(loader)`, and find the run in
    `recorder.run`.

    Outputs are recorded in the training pass: the `logits` in what `training_step` returns, else
    what the LightningModule itself returns, or its part `module`. `epochs` is needed where the
    Trainer has no `max_epochs`. Raises InputError where lightning is missing.
    """
    base: Any = _library("lightning.pytorch", "pytorch_lightning").Callback

    class Recorder(Recording, base):
        seen: Tensor | None = None
        hook: Any = None

        def rows(self, loader: Any) -> torch.utils.data.DataLoader:
            """The loader of training batches, as the Trainer takes it."""
            if len(loader.dataset) != len(self.data):
                raise InputError(
                    f"the training set has {len(loader.dataset):,} examples, and the recorder was "
                    f"given {len(self.data):,}"
                )
            self.given: collections.deque[list[int]] = collections.deque()
            same = {name: getattr(loader, name) for name in LOADING}
            watched: Any = _Watched(loader.batch_sampler, self.given)
            return torch.utils.data.DataLoader(loader.dataset, batch_sampler=watched, **same)

        def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
            if trainer.current_epoch:
                raise InputError("a recording begins with the first epoch, not with a checkpoint")
            self.start(epochs or max(trainer.max_epochs or 0, 0))
            part = pl_module.get_submodule(module) if module else pl_module
            self.hook = part.register_forward_hook(self._after)

        def _after(self, model: nn.Module, args: Any, output: Any) -> None:
            self.seen = logits_of(output) if model.training else None

        def on_train_batch_end(
            self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            known = outputs.get("logits") if isinstance(outputs, dict) else None
            logits, self.seen = self.seen if known is None else known, None
            if logits is None:
                raise InputError(
                    "no logits [B,K] were seen: return them from training_step, as {'loss': ..., "
                    "'logits': ...}, or name the part that gives them: Lightning(data, "
                    "module='net')"
                )
            if not getattr(self, "given", None):
                raise InputError(
                    "which examples a batch holds is not known: fit on recorder.rows(loader), in "
                    "one process"
                )
            rows = torch.tensor(self.given.popleft())
            labels = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
            self.keep(trainer.current_epoch, rows, logits, labels)

        def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
            self.hook.remove()
            self.end()

    return Recorder(data, out, test)
