"""Scoring: each signal is called once for a run and kept; blends are made of what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from datablame.evidence import passes
from datablame.ground import clock, plug, store, world
from datablame.ground.errors import InputError, unknown
from datablame.run import Run
from datablame.scores import Scores, blend, name_of, place

DEFAULT = ("aum", "aum,since=0.5", "knn", "confident")
"""The default blend, chosen by measurement: benchmarks/RESULTS.md, "The default blend"."""


def defaults(run: Run) -> list[str]:
    """The default blend, without what this run cannot give: no held-out probabilities, or no features."""
    without = {"confident": passes.has_heldout(run), "knn": passes.has_features(run)}
    return [name for name in DEFAULT if without.get(name.partition(",")[0], True)]


def scored(run: Run, signal: str) -> Scores:
    """One signal's scores, computed once, and again where a file that they were read off has changed since."""
    function = plug.find("signals", signal)
    path = place(run.path, signal)
    if reads := getattr(function.func, "reads", None):  # type: ignore[attr-defined]  # a partial
        mark, facts = {"reads": store.digest_of(reads(run, **function.keywords))}, path.with_suffix(".json")  # type: ignore[attr-defined]
        if world.agree(not facts.exists() or store.read_json(facts) != mark):
            store.remove(path)
            store.write_json(facts, mark)

    def make() -> np.ndarray:
        with clock.stage(f"signal {signal}"):
            return Scores(signal, function(run).float()).values.numpy()

    return Scores(signal, torch.from_numpy(store.keep(path, make).copy()))


def blended(run: Run, signals: Sequence[str], name: str) -> Scores:
    """The blend of several signals, kept under `name`; a single signal as it is."""
    if plug.parse(name)[0] in plug.names("signals"):
        raise InputError(f"'{name}' is a signal; give the blend another name")
    if place(run.path, name).name != f"{name}.npy":
        raise InputError(f"'{name}' is not the name of a file; a blend's name has no / in it")
    each = [scored(run, signal) for signal in signals or defaults(run)]
    if len(each) == 1:
        return each[0]
    whole = blend(each, name)
    store.write_array(place(run.path, name), whole.values.numpy())
    return whole


def names(run: Run) -> list[str]:
    """The scores that are in the run's folder. Raises InputError where there are none."""
    there = sorted(map(name_of, (run.path / "scores").glob("*.npy")))
    if not there:
        raise InputError(f"{run.path} has no scores yet; make them with: datablame score {run.path}")
    return there


def wanted(run: Run, name: str) -> Scores:
    """Scores to judge by: the default blend is made if it is not there, others are asked for."""
    return blended(run, (), name) if name == "blend" and not place(run.path, name).exists() else kept(run, name)


def kept(run: Run, name: str) -> Scores:
    """Scores that are in the run's folder. Raises InputError where they are not, with those that are."""
    if name not in names(run):
        raise unknown("scores", name, names(run))
    return Scores(name, torch.from_numpy(np.load(place(run.path, name))))
