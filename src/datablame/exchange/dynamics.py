"""Recordings of training dynamics as the code of Jia et al., 2023 keeps them: training_dynamics.npz
and metadata.pth.

`td` float16 `[N,T,k]`: probabilities of the given label and of the likeliest other classes,
`labels` int16 `[N,k]`: which classes these are; row i is example `train_indices[i]` of the set.
(Their page says `[N,k,T]`; their code writes `[N,T,k]`; both are read.)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, devices, files, readers
from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int, Shaped
from datablame.dataset import CLASSES, Dataset
from datablame.recipe import Recipe
from datablame.run import Run

LEAST = 2**-24
"""The smallest probability that float16 holds."""
ROWS = 1 << 13


def imported(where: Path, data: Dataset | None = None, out: Path | str = "runs") -> Run:
    """A run of a recording that was made elsewhere; with `data`, the set that it was made on,
    images and names come from there.

    What a recording of a few classes does not tell (entropy and el2n need all of them, margin two)
    is not in the trace. Raises InputError for files that cannot be read, do not fit one another,
    hold a value that is no probability, or another set.
    """
    path = where / "training_dynamics.npz" if where.is_dir() else where
    td, labels = read(path)
    facts = _metadata(path.with_name("metadata.pth"), len(td))
    data = _described(data, labels[:, 0], facts, path)
    digest = arrays.digest(td.numpy(), labels.numpy())
    data = dataclasses.replace(data, predictions=digest)
    recipe = Recipe(model="own", epochs=td.shape[1], folds=0)
    run = Run.create(data, recipe, None, out, f"dynamics-{digest}-{data.fingerprint[:8]}")
    if not run.finished:
        for name, values in _channels(td, labels).items():
            arrays.write(run.path / "trace" / f"{name}.npy", values)
        run.finish()
    return run


def read(path: Path) -> tuple[Float[Tensor, "N T k"], Int[Tensor, "N k"]]:
    """Both arrays of the file, checked."""
    try:
        arrays = readers.read_arrays(path, devices.free() // 4)
        if arrays["td"].dtype.kind != "f":
            raise TypeError(f"td is {arrays['td'].dtype}")
        td, labels = (
            torch.from_numpy(arrays["td"]),
            torch.from_numpy(arrays["labels"].astype("int64")),
        )
    except (KeyError, TypeError, ValueError, readers.Damaged) as error:
        raise InputError(
            f"{path} is not a recording of training dynamics (td and labels are expected): {error}"
        ) from None
    if (
        td.ndim != 3
        or labels.ndim != 2
        or len(td) != len(labels)
        or labels.shape[1] not in td.shape[1:]
    ):
        raise InputError(
            f"{path}: td [N,T,k] and labels [N,k] were expected; these are "
            f"{list(td.shape)} and {list(labels.shape)}"
        )
    if td.shape[2] != labels.shape[1]:
        td = td.transpose(1, 2)
    bad = ~((td >= 0) & (td <= 1.01))
    if bad.any():
        row = int(bad.flatten(1).any(1).nonzero()[0])
        raise InputError(f"{path} holds values that are no probabilities, the first in row {row}")
    return td, labels


def _metadata(path: Path, rows: int) -> dict[str, Tensor]:
    """train_indices, true_targets and assigned_targets, each `[N]`, as far as they are there;
    without a pickle.
    """
    if not path.exists():
        return {}
    try:
        every = readers.read_pth(path)
        index = every.get("train_indices")
        found = {
            name: every[name]
            for name in ("train_indices", "true_targets", "assigned_targets")
            if name in every
        }
        found = {name: torch.as_tensor(values).long() for name, values in found.items()}
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not the metadata of a recording: {str(error).splitlines()[0]}"
        ) from None
    for name, values in found.items():
        if (
            len(values) != rows
            and name != "train_indices"
            and index is not None
            and len(values) > int(max(index))
        ):
            found[name] = values[found["train_indices"]]
        if len(found[name]) != rows:
            raise InputError(
                f"{path}: {name} has {len(values)} entries for {rows} recorded examples"
            )
    return found


def _described(
    data: Dataset | None, given: Int[Tensor, " N"], facts: dict[str, Tensor], path: Path
) -> Dataset:
    """The set of a recording: of its own numbers, or the rows of `data` that it names, under the
    labels that it was made with.
    """
    truth, index = facts.get("true_targets"), facts.get("train_indices", torch.arange(len(given)))
    if "assigned_targets" in facts and not torch.equal(facts["assigned_targets"], given):
        raise InputError(
            f"{path} and its metadata disagree about the given labels: they are of "
            "different recordings"
        )
    if data is None:
        top = max(int(given.max()), -1 if truth is None else int(truth.max()))
        if top >= CLASSES:
            raise InputError(f"{path} has labels up to {top:,}; they are below {CLASSES:,}")
        classes = map(str, range(top + 1))
        names = [f"train/{i:06d}" for i in index.tolist()]
        return Dataset.from_arrays(None, given, classes, names, truth, source="dynamics")
    if int(index.max()) >= len(data) or int(given.max()) >= len(data.classes):
        raise InputError(
            f"{path} is of another set: it names row {int(index.max())} and class "
            f"{int(given.max())}, "
            f"and {data.source} has {len(data)} rows in {len(data.classes)} classes"
        )
    mine = data.take(index)
    known = mine.labels if mine.truth is None else mine.truth
    if truth is not None and not torch.equal(truth, known):
        raise InputError(
            f"{path} is of another set: the truth of {int((truth != known).sum())} of "
            f"{len(known)} examples differs from {data.source}"
        )
    if truth is None and mine.truth is None:
        return mine.relabel(given)
    return mine.relabel(given, known)


def _channels(td: Float[Tensor, "N T k"], labels: Int[Tensor, "N k"]) -> dict[str, np.ndarray]:
    """What a trace holds of these probabilities."""
    count, epochs, wide = td.shape
    whole = wide > 1 and all(
        bool(((part.float().sum(2) - 1).abs() < 0.02).all()) for part in td.split(ROWS)
    )
    found = {"loss": np.empty((epochs, count), "float16")}
    if wide > 1:
        found |= {
            "margin": np.empty((epochs, count), "float16"),
            "prediction": np.empty((epochs, count), "int16"),
        }
        found |= {
            "top": np.empty((epochs, count, wide), "float16"),
            "top_class": np.empty((epochs, count, wide), "int16"),
        }
    if whole:
        found |= {name: np.empty((epochs, count), "float16") for name in ("entropy", "el2n")}
    for rows in torch.arange(count).split(ROWS):
        p, which = td[rows].float().movedim(1, 0), labels[rows]  # [T,n,k]
        log_p = p.clamp_min(LEAST).log()
        values: dict[str, Shaped[Tensor, "T n ..."]] = {"loss": -log_p[:, :, 0]}
        if wide > 1:
            order = p.argsort(dim=2, descending=True, stable=True)
            classes = which.expand(epochs, -1, -1).gather(2, order)
            values |= {
                "margin": log_p[:, :, 0] - log_p[:, :, 1:].amax(2),
                "prediction": classes[:, :, 0],
            }
            values |= {"top": p.gather(2, order), "top_class": classes}
        if whole:
            values["entropy"] = -(p * log_p).sum(2)
            values["el2n"] = (p.square().sum(2) - 2 * p[:, :, 0] + 1).clamp_min(0).sqrt()
        for name, part in values.items():
            found[name][:, rows.numpy()] = part.numpy()
    return found


def exported(run: Run, path: Path) -> Path:
    """A run's trace as such a recording, with metadata.pth next to it: the given label, and the
    likeliest classes where they were recorded (--top-k). Returns the path of the .npz file."""
    trace, data = run.trace, run.data
    given = np.exp(-trace["loss"].astype("float32"))
    wide = trace["top"].shape[2] if "top" in trace else 1
    td = np.empty((len(data), trace.epochs, wide), "float16")
    labels = np.empty((len(data), wide), "int16")
    for rows in torch.arange(len(data)).split(ROWS):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        own = data.labels[rows]
        labels[part, 0], td[part, :, 0] = own.numpy(), given[:, part].T
        if wide > 1:
            p, which = (
                torch.from_numpy(trace[name][:, part].astype(kind))
                for name, kind in (("top", "f4"), ("top_class", "i8"))
            )
            dense = torch.zeros(*p.shape[:2], len(data.classes)).scatter_(2, which, p)
            mean = dense.mean(0).scatter(1, own[:, None], -1.0)
            others = mean.topk(wide - 1, 1).indices
            labels[part, 1:] = others.numpy()
            td[part, :, 1:] = (
                dense.gather(2, others.expand(trace.epochs, -1, -1)).movedim(0, 1).numpy()
            )
    files.refuse_foreign(path.with_name("metadata.pth"), data.closed)
    arrays.write_npz(path, td=td, labels=labels)
    facts: dict[str, Any] = {
        "train_indices": torch.arange(len(data)),
        "valid_indices": torch.zeros(0, dtype=torch.long),
        "assigned_targets": data.labels,
    }
    if data.truth is not None and data.wrong is not None:
        facts |= {"true_targets": data.truth, "label_flipped": data.wrong}
    files.write(path.with_name("metadata.pth"), lambda file: torch.save(facts, file))
    return path
