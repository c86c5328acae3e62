"""Scoring: each signal is called once for a run and kept; blends are made of what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from datablame.evidence import passes
from datablame.ground import clock, plug, store, world
from datablame.ground.errors import InputError, unknown
from datablame.run import Run
from datablame.scores import Scores, blend

DEFAULT = ("aum", "aum,since=0.5", "knn", "confident")
"""The default blend, chosen by measurement: benchmarks/RESULTS.md, "The default blend"."""


def defaults(run: Run) -> list[str]:
    """The default blend, without what this run cannot give: no held-out probabilities, or no features."""
    without = {"confident": passes.has_heldout(run), "knn": passes.has_features(run)}
    return [name for name in DEFAULT if without.get(name.partition(",")[0], True)]


def scored(run: Run, signal: str) -> Scores:
    """One signal's scores, computed once, and again where a file that they were read off has changed since."""
    function = plug.find("signals", signal)
    if reads := getattr(function.func, "reads", None):  # type: ignore[attr-defined]  # a partial
        mark, path = {"reads": store.digest_of(reads(run, **function.keywords))}, run.path / "scores" / f"{signal}.json"  # type: ignore[attr-defined]
        if world.agree(not path.exists() or store.read_json(path) != mark):
            store.remove(run.path / "scores" / f"{signal}.npy")
            store.write_json(path, mark)

    def make() -> np.ndarray:
        with clock.stage(f"signal {signal}"):
            return Scores(signal, function(run).float()).values.numpy()

    return Scores(signal, torch.from_numpy(run.keep(f"scores/{signal}", make).copy()))


def blended(run: Run, signals: Sequence[str], name: str) -> Scores:
    """The blend of several signals, kept under `name`; a single signal as it is."""
    if plug.parse(name)[0] in plug.names("signals"):
        raise InputError(f"'{name}' is a signal; give the blend another name")
    each = [scored(run, signal) for signal in signals or defaults(run)]
    if len(each) == 1:
        return each[0]
    whole = blend(each, name)
    store.write_array(run.path / "scores" / f"{name}.npy", whole.values.numpy())
    return whole


def names(run: Run) -> list[str]:
    """The scores that are in the run's folder. Raises InputError where there are none."""
    there = sorted(path.stem for path in (run.path / "scores").glob("*.npy"))
    if not there:
        raise InputError(f"{run.path} has no scores yet; make them with: datablame score {run.path}")
    return there


def kept(run: Run, name: str) -> Scores:
    """Scores that are in the run's folder. Raises InputError where they are not, with those that are."""
    if name not in names(run):
        raise unknown("scores", name, names(run))
    return Scores(name, torch.from_numpy(np.load(run.path / "scores" / f"{name}.npy")))
