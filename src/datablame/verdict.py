"""Verdict: what should be done with every training example."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datablame.dataset import Dataset
from datablame.ground import store
from datablame.ground.errors import InputError, unknown
from datablame.scores import Scores

ACTS = ("keep", "ask", "drop", "fix")
KEEP, ASK, DROP, FIX = range(4)
COLUMNS = ("name", "given", "proposed", "chance", "act", "score", "by")


@dataclass(frozen=True, eq=False)
class Verdict:
    """An act for every example: keep it, ask a person (hard, not clearly wrong), drop it, or fix its label.

    `proposed` is the label that held-out or late predictions support, -1 where they support none other than the given
    one; `chance` is its probability by them; `suspicion` the scores it was judged by, `cut` the least suspicion of those
    held to be wrong, and `wrong` an estimate of how many labels are wrong with the ends of its 95 % interval.
    """

    act: Int[Tensor, " N"]
    proposed: Int[Tensor, " N"]
    chance: Float[Tensor, " N"]
    suspicion: Float[Tensor, " N"]
    by: str
    cut: float
    wrong: tuple[float, float, float]

    def count(self, *acts: int) -> int:
        return int(torch.isin(self.act, torch.tensor(acts)).sum())

    @property
    def suspects(self) -> Int[Tensor, " s"]:
        """Rows held to be wrong, the most suspect first."""
        order = self.suspicion.argsort(descending=True, stable=True)
        return order[torch.isin(self.act[order], torch.tensor([DROP, FIX]))]

    def apply(self, data: Dataset) -> Dataset:
        """The cleaned set: dropped rows left out, fixed labels replaced, the rest as it was."""
        fixed = torch.where(self.act == FIX, self.proposed, data.labels)
        return data.relabel(fixed).take((self.act != DROP).nonzero()[:, 0])

    def save(self, path: Path, data: Dataset) -> Path:
        """verdict.csv, one row an example, the most suspect first: a table that people can edit and give back."""
        order = self.suspicion.argsort(descending=True, stable=True).tolist()
        rows = (
            (
                data.name(row),
                data.classes[data.labels[row]],
                data.classes[self.proposed[row]] if self.proposed[row] >= 0 else "",
                round(float(self.chance[row]), 3) if self.proposed[row] >= 0 else "",
                ACTS[self.act[row]],
                round(float(self.suspicion[row]), 4),
                self.by,
            )
            for row in order
        )
        facts = {"cut": self.cut, "wrong": self.wrong, "by": self.by}
        store.write_json(path.with_suffix(".json"), facts)
        return store.write_csv(path, COLUMNS, rows)

    @classmethod
    def read(cls, path: Path, data: Dataset) -> Verdict:
        """What `save` wrote, perhaps edited by a person. Raises InputError for a name, class or act that there is not."""
        if not path.exists():
            raise InputError(f"no verdict at {path}; make one with: datablame judge {path.parent}")
        place = {name: row for row, name in enumerate(data.names.to_pylist())}
        number = {name: index for index, name in enumerate(data.classes)}
        act, proposed = torch.zeros(len(data), dtype=torch.long), torch.full((len(data),), -1)
        chance, suspicion = torch.zeros(len(data)), torch.zeros(len(data))
        with open(path, newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), 2):
                cell = {key: (value or "").removeprefix("'") for key, value in row.items()}
                at = place.get(cell["name"])
                if at is None:
                    raise InputError(f"{path}, line {line}: there is no example '{cell['name']}' in this run")
                if cell["act"] not in ACTS:
                    raise unknown(f"act in {path}, line {line},", cell["act"], ACTS)
                if cell["proposed"] and cell["proposed"] not in number:
                    raise unknown(f"class in {path}, line {line},", cell["proposed"], data.classes)
                act[at] = ACTS.index(cell["act"])
                if act[at] == FIX and not cell["proposed"]:
                    raise InputError(f"{path}, line {line}: 'fix' needs a proposed label")
                proposed[at] = number[cell["proposed"]] if cell["proposed"] else -1
                chance[at] = float(cell["chance"] or 0)
                suspicion[at] = float(cell["score"] or 0)
        facts = store.read_json(path.with_suffix(".json"))
        return cls(act, proposed, chance, suspicion, facts["by"], facts["cut"], tuple(facts["wrong"]))


def decide(
    data: Dataset,
    scores: Scores,
    suspect: Tensor,
    opinion: Float[Tensor, "N K"],
    sure: float,
    by: str,
    wrong: tuple[float, float, float],
) -> Verdict:
    """From suspects and a second opinion to acts: wrong and hard are told apart here.

    A suspect whose given label the opinion still ranks first is hard: a person is asked. One for which another class has
    at least the probability `sure` gets that label. The others are dropped.
    """
    own = opinion.gather(1, data.labels[:, None])[:, 0]
    chance, other = opinion.scatter(1, data.labels[:, None], -1.0).max(1)
    contradicted = chance > own
    act = torch.full((len(data),), KEEP)
    act[suspect] = ASK
    act[suspect & contradicted] = DROP
    act[suspect & contradicted & (chance >= sure)] = FIX
    held = suspect & contradicted
    cut = float(scores.values[held].min()) if held.any() else float(scores.values.max())
    return Verdict(
        act, torch.where(contradicted, other, -1), torch.where(contradicted, chance, 0.0), scores.values, by, cut, wrong
    )
