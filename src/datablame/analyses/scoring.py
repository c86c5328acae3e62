"""Scoring: each signal is called once for a run and kept; blends are made of what is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, files, methods, processes, progress, readers
from datablame.base.errors import InputError, unknown
from datablame.inference.predictions import has_features
from datablame.label_quality.out_of_sample import has_heldout
from datablame.run import Run
from datablame.scores import Scores, blend, name_of, place
from datablame.training.cross_validation import folds, spread
from datablame.verdict import P_WRONG

DEFAULT = ("aum", "aum,since=0.5", "knn", "confident")
"""The default blend, chosen by measurement: benchmarks/RESULTS.md, "The default blend"."""
ON_FEATURES = ("aum", "aum,since=0.5", "knn,k=100,trust=3", "confident")
"""The same where the encoder does not train: its features know nothing of the labels, so that
neighbours show which of them can be trusted (benchmarks: "Signals on features")."""
BLEND = "blend"
"""The name of the default blend; another is named by its parts: `blend(aum+loss)`."""
Signal = str | Callable[..., Tensor]
"""A spec, or a function `run -> [N]` of the caller's own, higher for more suspect."""
HAS = {"heldout": has_heldout, "features": has_features}
"""What a signal may declare that it NEEDS of a run."""


def _defaults(run: Run) -> list[str]:
    """The signals of the default blend that this run has what they need for."""
    every = ON_FEATURES if run.given_features else DEFAULT
    return [name for name in every if (need := _need(name)) is None or HAS[need](run)]


def _need(signal: str) -> str | None:
    return methods.declared("signals", signal, "NEEDS")


def scored(run: Run, signal: Signal) -> Scores:
    """One signal's scores, computed once; again where a file that they were read off has changed.

    The scores of the caller's own functions are computed at each call: their code may have changed.
    """
    if callable(signal):
        name = f"{signal.__module__}.{getattr(signal, '__qualname__', type(signal).__name__)}"
        return _checked(run, name, signal, keep=True)
    function = methods.find("signals", signal)
    if "." in methods.parse(signal)[0]:
        return _checked(run, signal, function, keep=True)
    path = place(run.path, signal)
    reads, facts = methods.declared("signals", signal, "reads", run), path.with_suffix(".json")
    mark = {"reads": files.digest_of(reads)} if reads else None
    old = mark and not (files.sound(facts, readers.read_json) and readers.read_json(facts) == mark)
    if processes.agree(bool(old)):
        files.remove(path)
    whole = _need(signal) == "heldout" or methods.declared("signals", signal, "WHOLE")
    if run.cross_fitted and not whole:
        function = partial(_over_folds, signal)
    values = arrays.keep(
        path, lambda: _checked(run, signal, function).values.numpy(), (len(run.data),), "f", True
    )
    if processes.agree(bool(old)):
        files.write_json(facts, mark)
    return Scores(signal, torch.from_numpy(values.copy()))


def _over_folds(signal: str, run: Run) -> Tensor:
    """The mean of each example's scores over the folds whose models trained on it."""
    every = folds(run)
    return spread(run, [scored(fold.run, signal).values for fold in every], every)


def _checked(run: Run, name: str, function: Callable[..., Any], keep: bool = False) -> Scores:
    """What a signal returns, as scores; written into the run's folder to `keep` it.

    Raises InputError where it is not one number per example.
    """
    with progress.stage(f"signal {name}"):
        values = torch.as_tensor(function(run)).float()
    if values.shape != (len(run.data),):
        raise InputError(
            f"a signal returns one number per example, [{len(run.data)}]; {name} returned "
            f"{list(values.shape)}"
        )
    if keep:
        arrays.write(place(run.path, name), values.numpy())
    return Scores(name, values)


def blended(run: Run, signals: Sequence[Signal], name: str | None = None) -> Scores:
    """The blend of several signals, or a single signal as it is, saved under `name`.

    Without a name, the default blend is `blend`, and others are named by their parts.
    """
    each = [scored(run, signal) for signal in signals or _defaults(run)]
    if len(each) == 1 and name in (None, each[0].name):
        return each[0]
    own, parts = name, "+".join(scores.name for scores in each)
    name = own or (f"{BLEND}({parts})" if signals else BLEND)
    if methods.parse(name)[0] in methods.names("signals"):
        raise InputError(f"'{name}' is a signal; give the scores another name")
    if own and place(run.path, own).name != f"{own}.npy":
        raise InputError(f"'{name}' is not the name of a file; a name of scores has no / in it")
    if name == BLEND and signals:
        raise InputError(f"'{BLEND}' is the default blend; give this one another name, or none")
    scores = blend(each, name) if len(each) > 1 else Scores(name, each[0].values)
    arrays.write(place(run.path, name), scores.values.numpy())
    return scores


def signals_of(name: str) -> list[str] | None:
    """The signals behind scores of this name, none for the default blend; None for scores that are
    the caller's own.
    """
    if name == BLEND:
        return []
    parts = name[len(BLEND) + 1 : -1].split("+") if name.startswith(f"{BLEND}(") else [name]
    known = methods.names("signals")
    return parts if all(methods.parse(part)[0] in known for part in parts) else None


def names(run: Run) -> list[str]:
    """The scores that are in the run's folder. Raises InputError where there are none."""
    there = sorted(map(name_of, (run.path / "scores").glob("*.npy")))
    if not there:
        raise InputError(
            f"{run.path} has no scores yet; make them with: datablame score {run.path}"
        )
    return there


def rankings(run: Run) -> dict[str, Scores]:
    """All that ranks the examples of a run: its scores, and the judge's own probabilities, which
    know nothing of what people decided since.
    """
    every = {name: kept(run, name) for name in names(run)}
    if run.verdict is not None and run.undecided.p_wrong is not None:
        every[P_WRONG] = Scores(P_WRONG, run.undecided.p_wrong)
    return every


def wanted(run: Run, name: str) -> Scores:
    """Scores to judge by: the default blend is made if it is not there, others must have been."""
    return (
        blended(run, ())
        if name == BLEND and not place(run.path, name).exists()
        else kept(run, name)
    )


def read(run: Run, name: str) -> np.ndarray:
    """The values `[N]` of scores in the run's folder. Raises InputError where they are damaged."""
    path = place(run.path, name)
    return np.array(readers.read_array(path, (len(run.data),), "f", finite=True))


def kept(run: Run, name: str) -> Scores:
    """Scores that are in the run's folder.

    Raises InputError where they are not, with those that are.
    """
    if name not in names(run):
        raise unknown("scores", name, names(run))
    return Scores(name, torch.from_numpy(read(run, name)))
