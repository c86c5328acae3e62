"""What is behind a label or an answer, where a run has it: training images that pushed towards it,
or away from it, by an index of gradients; those that a model with a memory answers by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from datablame.analyses import attribute, memory
from datablame.analyses.memory import MemoryView
from datablame.attention.head import attentive
from datablame.base.errors import InputError
from datablame.base.shapes import Int
from datablame.inference.folds import trained
from datablame.influence.index import Index
from datablame.run import Run

EACH, RANKED = 6, 64
"""Images of a kind that are told, and candidates of the index whose scores are computed exactly."""
Pushed = tuple[int, float]
"""A training image, and its score or weight."""


@dataclass(frozen=True, eq=False)
class Behind:
    """Of a run, or of its first fold where it is cross-fitted."""

    run: Run

    @cached_property
    def home(self) -> Run:
        """The run whose model is asked."""
        return self.run.with_model

    @cached_property
    def rows(self) -> Int[Tensor, " n"]:
        """The training images of that model, by their place in the whole set."""
        every = torch.arange(len(self.run.data))
        return trained(self.run)[0].rest if self.run.cross_fitted else every

    @cached_property
    def index(self) -> tuple[Index, str] | None:
        """An index of gradients, and the scalar that it is asked about, where one was made."""
        if not (self.home.path / "index").exists():
            return None
        made, measure = attribute.index_of(self.home, "influence")
        return None if made is None else (made, measure)

    @cached_property
    def remembers(self) -> bool:
        """Whether the model answers by a memory that it keeps."""
        try:
            held = (self.home.path / "memory.npy").exists()
            return held and bool(attentive(self.home.model))
        except InputError:  # there is no model
            return False

    def pushed(self, asked: list[int]) -> list[tuple[list[Pushed], list[Pushed]]]:
        """Of each image, by influence: those that pushed most towards its given label, and most
        away from it, itself left out. Raises InputError where no index was made.
        """
        if self.index is None:
            raise InputError(f"{self.home.path} has no index: datablame index {self.home.path}")
        index, measure = self.index
        rows, values = index.search(self.run.data.take(asked), measure, EACH + 1, RANKED)
        found = []
        for own, near, scores in zip(asked, rows, values, strict=True):
            places = self.rows[torch.from_numpy(near.astype("int64"))].tolist()
            pairs = [(k, float(v)) for k, v in zip(places, scores, strict=True) if k != own]
            towards = [pair for pair in pairs if pair[1] > 0][:EACH]
            away = [pair for pair in pairs[::-1] if pair[1] < 0][:EACH]
            found.append((towards, away))
        return found

    def recalled(self, asked: list[int]) -> MemoryView:
        """What the model recalls of images by the memory that it keeps."""
        return memory.view(self.home, self.run.data.take(asked))

    def kinds(self, view: MemoryView, query: int) -> tuple[list[Pushed], list[Pushed]]:
        """Of a query, the most weighted examples and counterfactuals, with their weights."""
        found = []
        for same in (True, False):
            places = np.flatnonzero((view.said[query] == view.answers[query]) == same)[:EACH]
            rows = self.rows[torch.from_numpy(view.rows[query][places].astype("int64"))].tolist()
            weights = view.weights[query][places].tolist()
            found.append(list(zip(rows, weights, strict=True)))
        return found[0], found[1]
