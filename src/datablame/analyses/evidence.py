"""Evidence: why a label is held wrong, of single examples, in numbers and in words."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datablame.analyses import duplicates, scoring
from datablame.analyses.duplicates import Duplicates
from datablame.base.errors import InputError
from datablame.base.readers import read_array
from datablame.base.shapes import Float, Int
from datablame.inference.folds import trained
from datablame.inference.neighbours import space
from datablame.label_quality.out_of_sample import has_heldout, heldout, path_of
from datablame.network.classifier import FROZEN
from datablame.run import Run

NEIGHBOURS = 20
"""Whose labels are told."""
CLASSES = 5
"""Likeliest ones that are told."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run knows of single examples; what it reads of the whole set is read once."""

    run: Run

    @cached_property
    def order(self) -> dict[str, Int[Tensor, " N"]]:
        """The rank of each example by each score, 1 for the most suspect."""
        found = {}
        for name, scores in self.scores().items():
            place = torch.empty(len(scores), dtype=torch.long)
            descending = scores.argsort(descending=True, stable=True)
            place[descending] = torch.arange(1, len(scores) + 1)
            found[name] = place
        return found

    def scores(self) -> dict[str, Float[Tensor, " N"]]:
        """All that ranks the examples of the run."""
        try:
            return {name: each.values for name, each in scoring.rankings(self.run).items()}
        except InputError:  # there are none
            return {}

    def ranks(self, row: int) -> dict[str, int]:
        """Of an example, by each score."""
        return {name: int(place[row]) for name, place in self.order.items()}

    def likeliest(self, row: int) -> list[tuple[int, float]]:
        """(class, probability) by models that never saw the example, the likeliest first, and the
        given class; nothing where there are none.
        """
        if not (has_heldout(self.run) and path_of(self.run).exists()):
            return []
        p = np.array(self._heldout[row], "float32")
        best = np.argsort(-p, kind="stable")[:CLASSES].tolist()
        given = int(self.run.data.labels[row])
        return [(k, float(p[k])) for k in (best if given in best else [*best, given])]

    @cached_property
    def _heldout(self) -> np.ndarray:
        return heldout(self.run)  # looks at every number

    def trace(self, row: int) -> dict[str, list[float]]:
        """Probabilities at each epoch: of the given label, and of the likeliest other class."""
        trace = self._trace
        if "loss" not in trace or len(trace["loss"]) < 2:
            return {}
        loss = trace["loss"][:, row].astype("float32")
        found = {"given": np.exp(-loss)}
        if "margin" in trace:
            other = -loss - trace["margin"][:, row].astype("float32")
            found["other"] = np.exp(np.minimum(other, 0))
        return {name: np.nan_to_num(p).round(4).tolist() for name, p in found.items()}

    @cached_property
    def _trace(self) -> dict[str, np.ndarray]:
        """Channels, memory-mapped."""
        trace = self.run.trace
        return {name: trace[name] for name in ("loss", "margin", "prediction") if name in trace}

    def predicted(self, row: int) -> tuple[np.ndarray, int]:
        """(how many epochs predicted each class, how many epochs there were)."""
        trace = self._trace
        said = trace["prediction"][:, row] if "prediction" in trace else np.zeros(0, int)
        known = said[said >= 0].astype(int)
        return np.bincount(known, minlength=len(self.run.data.classes)), len(known)

    def neighbours(self, row: int) -> list[tuple[int, float]]:
        """(row, cosine) of the nearest other examples, by the features that are kept; of a
        cross-fitted run among those that a model learned from together. Nothing where none are.
        """
        space = self._space(row)
        if space is None:
            return []
        features, rows = space
        place = int((rows == row).nonzero()[0])
        near = features @ features[place]
        near[place] = -torch.inf
        best = near.topk(min(NEIGHBOURS, len(near) - 1))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(int(rows[place]), value) for place, value in pairs]

    def space(self) -> tuple[Float[Tensor, "n D"], Int[Tensor, " n"]] | None:
        """Features of length one of as many examples as lie in one space, and which these are."""
        return self._space(int(self._spaces[0][1][0])) if self._spaces else None

    def _space(self, row: int) -> tuple[Float[Tensor, "n D"], Int[Tensor, " n"]] | None:
        """Features of length one, and the examples that they are of."""
        for number, (kept, rows) in enumerate(self._spaces):
            if bool((rows == row).any()):
                if number not in self._held:
                    self._held.clear()
                    whole = torch.from_numpy(np.asarray(kept[:], "float32"))
                    self._held[number] = normalize(whole)
                return self._held[number], rows
        return None

    @cached_property
    def _spaces(self) -> list[tuple[Any, Int[Tensor, " n"]]]:
        """Kept features, and the examples that they are of."""
        run, every = self.run, torch.arange(len(self.run.data))
        if run.recipe.model.startswith(FROZEN):
            with contextlib.suppress(InputError, OSError):  # weights or images are gone
                return [(space(run), every)]
            return []
        homes = [(fold.run.path, fold.rest) for fold in trained(run)] if run.cross_fitted else []
        there = [
            (path / "features.npy", rows)
            for path, rows in [(run.path, every), *homes]
            if (path / "features.npy").exists()
        ]
        return [(read_array(path, (len(rows), None), "f"), rows) for path, rows in there]

    @cached_property
    def _held(self) -> dict[int, Float[Tensor, "n D"]]:
        return {}

    def duplicates(self, look: bool = False) -> Duplicates | None:
        """Copies among the examples; None where these were not looked for, and need not be."""
        if not self._copies:
            found = duplicates.duplicates(self.run) if look else duplicates.found(self.run)
            self._copies.extend([] if found is None else [found])
        return self._copies[0] if self._copies else None

    @cached_property
    def _copies(self) -> list[Duplicates]:
        return []

    def copies(self, row: int) -> list[int]:
        """Other examples that are copies of one, where these were looked for."""
        found = self.duplicates()
        return [] if found is None else found.of(row)

    def reasons(self, row: int, near: list[tuple[int, float]]) -> list[str]:
        """Why the label may be wrong, or right, a sentence each; `near` are its neighbours."""
        classes, given = self.run.data.classes, int(self.run.data.labels[row])
        told = []
        if likely := self.likeliest(row):
            p = dict(likely)
            best = likely[0][0]
            said = f"Models that never saw it say {classes[best]}"
            rest = f"({p[best]:.0%}); {classes[given]} gets {p[given]:.0%}."
            told.append(f"{said}, too ({p[best]:.0%})." if best == given else f"{said} {rest}")
        count, epochs = self.predicted(row)
        if epochs > 1:
            best, own = int(count.argmax()), int(count[given])
            said = f"Learning from it, the model said {classes[best]} in {count[best]} of {epochs}"
            often = "never" if own == 0 else f"in {own}"
            told.append(
                f"{said} epochs."
                if best == given
                else f"{said} epochs, and {classes[given]} {often}."
            )
        if copies := self.copies(row):
            votes = self.run.data.labels[copies].bincount(minlength=len(classes))
            order = votes.argsort(descending=True, stable=True)[: int((votes > 0).sum())]
            said = ", ".join(f"{classes[k]} {int(votes[k])}" for k in order.tolist()[:CLASSES])
            told.append(f"Copies of it are labelled: {said}.")
        if near:
            labels = self.run.data.labels[[place for place, _ in near]]
            votes = labels.bincount(minlength=len(classes))
            best, same = int(votes.argmax()), int(votes[given])
            told.append(
                f"{same} of its {len(near)} nearest neighbours are labelled {classes[given]}"
                + (f", {int(votes[best])} {classes[best]}." if best != given else ".")
            )
        return told
