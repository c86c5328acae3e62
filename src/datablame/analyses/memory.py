"""Memory Wrap: which training images an answer rests on, how faithful that is, and replacing the
memory.

La Rosa, Capobianco, Nardi, 2021. arXiv:2106.01440
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from datablame.attention.head import attentive
from datablame.base import (
    arrays,
    devices,
    files,
    folders,
    hashing,
    methods,
    processes,
    progress,
    readers,
)
from datablame.base.errors import InputError, at_least, unknown
from datablame.base.results import Result, table
from datablame.base.shapes import Float, Int
from datablame.dataset import Dataset
from datablame.inference import memory, predictions
from datablame.inference.features import test_features
from datablame.inference.integrated_gradients import integrated
from datablame.inference.memory import MemoryBank
from datablame.network.classifier import trained, unit
from datablame.run import Run

BATCH = 500
"""Test images that share a memory, as in the paper."""
MEMORIES = ("kept", "random", "all")
BASELINES = ("white", "black", "grey", "blurred")
STEPS, ROOM = 40, 1 << 18
"""Points on the way from the baseline, and pixels that are encoded together."""
MOST = 100
"""The most weighted images that an answer rests on: this number is listed, unless all are asked
for."""


@dataclass(frozen=True, eq=False, repr=False)
class MemoryView(Result):
    """What each query's answer rests on.

    Per query: `answers [q]` (classes), `probabilities [q]`, and the supporting training images by
    descending weight: their `rows`, their `weights` (which sum to 1 over all), and
    `said`, what the model answers for each of them by another memory. The query's answer makes it
    an example, another a counterfactual. `error` is the largest relative error of a heatmap's sum,
    None without heatmaps.
    """

    run: Run
    memory: str
    queries: Dataset
    answers: Int[np.ndarray, " q"]
    probabilities: Float[np.ndarray, " q"]
    rows: Sequence[Int[np.ndarray, " _"]]
    weights: Sequence[Float[np.ndarray, " _"]]
    said: Sequence[Int[np.ndarray, " _"]]
    error: float | None = None

    def picture(self, what: str = "") -> Path:
        return self.run.path / "figures" / f"memory-{self.memory}{what}.png"

    def pictures(self) -> list[Path]:
        return [self.picture(), *([] if self.error is None else [self.picture("-heatmaps")])]

    def to_json(self) -> dict[str, Any]:
        best = [self.first(query, True) for query in range(min(16, len(self.rows)))]
        name = self.run.data.name
        facts = {
            "picture": str(self.picture()),
            "queries": len(self.queries),
            "answers": [self.run.data.classes[k] for k in self.answers[:16]],
            "best_examples": [
                "" if k is None else name(int(self.rows[q][k])) for q, k in enumerate(best)
            ],
            "images_looked_at": round(statistics.fmean(map(len, self.rows)), 1),
        }
        if self.error is None:
            return facts
        return facts | {
            "heatmaps": str(self.picture("-heatmaps")),
            "largest_error": round(self.error, 5),
        }

    def columns(self) -> dict[str, Any]:
        """A row for each image that an answer rests on: query, answer, image, label, weight,
        kind.
        """
        data, classes = self.run.data, self.run.data.classes
        lines = [
            (
                self.queries.name(q),
                classes[answer],
                data.name(int(row)),
                classes[data.labels[int(row)]],
                float(weight),
                kind,
            )
            for q, answer in enumerate(self.answers.tolist())
            for row, weight, said in zip(self.rows[q], self.weights[q], self.said[q], strict=True)
            for kind in ("example" if said == answer else "counterfactual",)
        ]
        names = ("query", "answer", "image", "label", "weight", "kind")
        return {name: [line[k] for line in lines] for k, name in enumerate(names)}

    def first(self, query: int, same: bool) -> int | None:
        """Place of the most weighted example, or counterfactual, of a query; None where there is
        none.
        """
        places = np.flatnonzero((self.said[query] == self.answers[query]) == same)
        return int(places[0]) if len(places) else None


def view(run: Run, queries: Dataset, memory: str = "kept", most: int = MOST) -> MemoryView:
    """What the model recalls of each query, by the memory that it keeps, a random one, or the whole
    training set: up to `most` images (0: all whose weight is above zero). Raises InputError for
    another.
    """
    if memory not in MEMORIES:
        raise unknown("memory", memory, MEMORIES)
    held = MemoryBank.of(run)
    size = held.head.how.size
    if memory == "kept":
        every, space = (
            torch.from_numpy(_rows(run)),
            held.head.held,
        )
    elif memory == "random":
        every = hashing.some(len(run.data), size, "recalled", run.recipe.seed)
        space = held.at(every)
    else:
        every, space = torch.arange(len(run.data)), held.everything()
    other = hashing.some(len(run.data), size, "auxiliary", run.recipe.seed)
    found: list[list[np.ndarray]] = [[], [], []]
    answers, probabilities = [], []
    for index in torch.arange(len(queries)).split(64):
        with torch.inference_mode():
            logits, weights = held.head.answer(run.model.features(queries.batch(index)[0]), space)
        probability, answer = logits.softmax(1).max(1)
        answers.append(answer.cpu().numpy())
        probabilities.append(probability.cpu().numpy())
        for each in weights.cpu():
            places = each.argsort(descending=True, stable=True)[: int((each > 0).sum())]
            places = places[: most or len(places)]
            rows = every[places]
            said = held.answer(held.at(rows), other)[0].argmax(1)
            for home, value in zip(found, (rows, each[places], said.cpu()), strict=True):
                home.append(value.numpy())
    rows, weights, said = found
    return MemoryView(
        run,
        memory,
        queries,
        np.concatenate(answers),
        np.concatenate(probabilities),
        rows,
        weights,
        said,
    )


@dataclass(frozen=True, eq=False)
class Heat:
    """Of one image: its row among the training images (-1: the query itself), what each of its
    pixels adds to the answer, from the baseline.
    """

    row: int
    cells: Float[np.ndarray, "H W"]


def _rows(run: Run) -> Int[np.ndarray, " M"]:
    """Rows of the memory that a run keeps. Raises InputError where they are damaged."""
    path = run.path / "memory.npy"
    rows = readers.read_array(path, (None,), "int64")
    if not len(rows) or not 0 <= rows.min() <= rows.max() < len(run.data):
        raise readers.Damaged(path, "rows that the training set has not")
    return np.array(rows)


def heatmaps(found: MemoryView, query: int, baseline: str = "white") -> tuple[list[Heat], float]:
    """(of the query, its best example and its best counterfactual, those that there are; the
    relative error of the whole sum).

    Integrated gradients of the answer's logit on the query and all the images that it rests on
    together, each point of the way with its own memory. `baseline`: white, black, grey, or blurred,
    the images themselves through a Gaussian of an eighth of their side.
    """
    if baseline not in BASELINES:
        raise unknown("baseline", baseline, BASELINES)
    model, head = found.run.model, memory.head_of(found.run)
    own = found.queries.batch(torch.tensor([query]))[0]
    rows = torch.from_numpy(found.rows[query])
    images = unit(torch.cat([own, found.run.data.batch(rows)[0]]))
    plain = {"white": 1.0, "black": 0.0, "grey": 0.5}
    start = torch.full_like(images, plain[baseline]) if baseline in plain else _blurred(images)
    answer = int(found.answers[query])
    room = max(1, ROOM // (images.shape[2] * images.shape[3]))

    def score(points: Tensor, which: Tensor) -> Tensor:
        parts = points.flatten(0, 1).split(
            room
        )  # what the encoder saw is made again for the slope, a part at a time
        features = torch.cat(
            [checkpoint(model.features, part, use_reentrant=False) for part in parts]
        )
        features = features.unflatten(0, points.shape[:2])
        return head(features[:, 0], features[:, 1:])[:, answer]

    slope, error = integrated(score, images[None], start[None], STEPS, max(1, room // len(images)))
    cells = (slope[0] * (images - start)).sum(1).cpu().numpy()
    shown = [
        -1,
        *(place for same in (True, False) if (place := found.first(query, same)) is not None),
    ]
    return [
        Heat(int(rows[place]) if place >= 0 else -1, cells[place + 1]) for place in shown
    ], float(error[0])


def _blurred(images: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
    from torchvision.transforms.functional import gaussian_blur

    sigma = max(images.shape[2:]) / 8
    kernel = min(2 * round(2 * sigma) + 1, 2 * min(images.shape[2:]) - 1)
    return gaussian_blur(images, [kernel, kernel], [sigma, sigma])


def faithfulness(run: Run, memories: int = 5) -> dict[str, float]:
    """Accuracy on the test images, and of the explanations, over random memories that 500 of them
    share, without mirror images; kept as evaluation-<memories>.json.

    Explanation accuracy: how often the most weighted image gets the same answer; example and
    counterfactual accuracy: how often the answer is right where it does, and where it does not
    (section 4.3). `over_memories` is the standard deviation of the accuracy over memories. What has
    nothing to divide by, such as the accuracy of counterfactuals where there are none, is left out;
    a run of another head has an accuracy alone. Raises InputError where there are no test images.
    """
    if run.test is None:
        raise InputError(
            f"{run.path} has no test split: answers are compared with the labels of test images"
        )
    at_least(1, memories=memories)
    path = run.path / f"evaluation-{memories}.json"
    if not processes.agree(path.exists()):
        with progress.stage("evaluate"):
            plain = _plainly(run)
            facts = (
                _measured(run, memories) | {"kept_memory": plain}
                if attentive(run.model)
                else {"accuracy": plain}
            )
            files.write_json(path, facts)
    return readers.read_json(path)


@dataclass(frozen=True, repr=False)
class MemoryTest(Result):
    """Accuracies of runs on their test images, and of their explanations; `means` over runs that
    differ by their seed alone.
    """

    runs: dict[str, dict[str, float]]
    means: dict[str, dict[str, float]]
    counts: dict[str, int]

    @classmethod
    def of(cls, runs: Sequence[Run], memories: int) -> MemoryTest:
        found = {str(run.path): faithfulness(run, memories) for run in runs}
        groups = _alike(runs)
        means = {
            kind: summary([found[str(run.path)] for run in each]) for kind, each in groups.items()
        }
        return cls(found, means, {kind: len(each) for kind, each in groups.items()})

    @property
    def sentence(self) -> str:
        return "\n".join(_line(kind, self.counts[kind], mean) for kind, mean in self.means.items())

    def to_json(self) -> dict[str, Any]:
        return {"runs": self.runs, "means": self.means, "sentence": self.sentence}

    def columns(self) -> dict[str, Any]:
        names = sorted({name for row in self.runs.values() for name in row})
        return {"run": list(self.runs)} | {
            name: [row.get(name) for row in self.runs.values()] for name in names
        }

    def __str__(self) -> str:
        return "\n\n".join([table(self.runs), table(self.means), self.sentence])


def summary(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over runs, and of several the standard deviations of accuracies over
    seeds.
    """
    columns = {name: [each[name] for each in found if name in each] for name in found[0]}
    mean = {name: round(statistics.fmean(values), 5) for name, values in columns.items()}
    keys = {name: f"{name}_over_seeds" for name in columns if name.endswith("_accuracy")}
    keys["accuracy"] = "over_seeds"
    spread = {
        key: round(statistics.stdev(columns[name]), 5)
        for name, key in keys.items()
        if len(columns[name]) > 1
    }
    return mean | spread


def _line(kind: str, count: int, mean: dict[str, float]) -> str:
    spread = f" ± {100 * mean['over_seeds']:.2f}" if "over_seeds" in mean else ""
    return f"{kind}, {count} run{'s' * (count > 1)}: {100 * mean['accuracy']:.2f}{spread} %"


def _alike(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ by their seed alone, by what tells them from the others: model, head, number
    of images, and what else there is.
    """
    plain = [run.recipe.but(seed=0).to_json() for run in runs]
    planted = [run.data.noise or "" for run in runs]
    for facts, run, noise in zip(plain, runs, planted, strict=True):
        facts |= {"data": run.data.source, "noise": noise, "images": f"{len(run.data):,}"}
    differ = (
        [name for name in plain[0] if len({str(facts[name]) for facts in plain}) > 1]
        if plain
        else []
    )
    groups: dict[str, list[Run]] = {}
    for facts, run in zip(plain, runs, strict=True):
        more = [
            f"{name}={facts[name]}" for name in differ if name not in ("model", "head", "images")
        ]
        groups.setdefault(
            ", ".join([facts["model"], facts["head"], f"{facts['images']} images", *more]), []
        ).append(run)
    return groups


@torch.inference_mode()
def _plainly(run: Run) -> float:
    """Accuracy of a model on the test images as they are; with a head that holds a memory, by
    that.
    """
    assert run.test is not None
    right = torch.zeros(1, dtype=torch.int64, device=devices.device())
    for index in processes.shard(torch.arange(len(run.test))).split(BATCH):
        images, labels = run.test.batch(index)
        right += (run.model(images).argmax(1) == labels).sum()
    return round(int(processes.total(right)) / len(run.test), 5)


def _measured(run: Run, memories: int) -> dict[str, float]:
    """What `faithfulness` says of a head with a memory, over random memories."""
    held = MemoryBank.of(run)
    size, count = held.head.how.size, len(run.data)
    assert run.test is not None
    features, labels = torch.from_numpy(np.array(test_features(run), "float32")), run.test.labels
    tallies = torch.zeros(memories, 4, dtype=torch.int64)  # right, same, right and same, of all
    parts = list(enumerate(torch.arange(len(labels)).split(BATCH)))
    for turn in range(memories):
        for number, index in parts[processes.rank() :: processes.size()]:
            rows, other = (
                hashing.some(count, size, name, run.recipe.seed, turn, number)
                for name in ("memory", "other")
            )
            logits, weights = held.answer(features[index].to(devices.device()), rows)
            answer = logits.argmax(1).cpu()
            said = held.answer(held.at(rows), other)[0].argmax(1)[weights.argmax(1)].cpu()
            right, same = answer == labels[index], answer == said
            tallies[turn] += torch.stack(
                [right.sum(), same.sum(), (right & same).sum(), torch.tensor(len(index))]
            )
    tallies = processes.total(tallies.to(devices.device())).cpu()
    right, same, both, every = tallies.double().T
    shares = {
        "accuracy": right / every,
        "explanation_accuracy": same / every,
        "example_accuracy": both / same,
        "counterfactual_accuracy": (right - both) / (every - same),
        "counterfactuals": 1 - same / every,
    }
    means = {
        name: round(float(values.nanmean()), 5)
        for name, values in shares.items()
        if not values.isnan().all()
    }
    spread = round(float(shares["accuracy"].std(correction=min(1, memories - 1))), 5)
    whole = _whole_set(held, features, labels)
    return means | {"over_memories": spread} | ({} if whole is None else {"whole_set": whole})


def _whole_set(
    held: MemoryBank, features: Float[Tensor, "n D"], labels: Int[Tensor, " n"]
) -> float | None:
    """Accuracy with the whole training set as the memory; None where its features do not fit into
    memory.
    """
    right, space, why = 0, None, ""
    try:
        space = held.everything()
    except InputError as error:
        why = str(error)
    if processes.which(space is None) or space is None:
        progress.say(f"{why or 'memory is short'}: answers by the whole set are left out")
        return None
    mine = processes.shard(torch.arange(len(labels)))
    for index in mine.split(max(1, memory.BLOCK // len(space))):
        with torch.inference_mode():
            answer = held.head(features[index].to(space.device), space).argmax(1).cpu()
        right += int((answer == labels[index]).sum())
    whole = processes.total(torch.tensor([right], device=devices.device()))
    return round(int(whole) / len(labels), 5)


def replaced(run: Run, choose: str | None, count: int, names: Sequence[str] = ()) -> Run:
    """A run next to this one, with the same weights, that answers by another memory: chosen by a
    rule, or by names of training images.

    Trained anew, it chooses by its recipe's rule. Raises InputError for names that are not there,
    and for a memory larger than the set.
    """
    head = memory.head_of(run)
    if names and (choose is not None or count):
        raise InputError(
            "names choose the memory by hand; leave out --choose and --size, or the names"
        )
    if count > len(run.data):
        raise InputError(
            f"--size {count:,} is more than the {len(run.data):,} images that were trained on"
        )
    name, options = methods.parse(run.recipe.head)
    options["size"] = str(head.how.size)
    rows = torch.zeros(0, dtype=torch.int64)
    if names:
        rows = run.data.rows_of(names).unique()
        mark, count = f"hand-{arrays.digest(rows.numpy())}", len(rows)
    else:
        mark = options["choose"] = choose or "prototypes"
    options["keep"] = str(count or head.how.kept)
    spec = ",".join([name, *(f"{key}={value}" for key, value in options.items())])
    recipe = run.recipe.but(head=spec, folds=0, checkpoints=0)
    model = trained(recipe, run.data, run.path / "model.safetensors")
    new = Run.create(
        run.data, recipe, run.test, run.path.parent, f"{run.path.name}-{mark}-{options['keep']}"
    )
    with folders.alone(new.path):
        if new.finished:
            return new
        for part in ("trace", "log.jsonl", "features.npy", "test_features.npy", "heldout.npy"):
            if processes.agree((run.path / part).exists() and not (new.path / part).exists()):
                files.copy(run.path / part, new.path / part)
        if names:
            new.keep("memory", lambda: memory.warned(run, rows).numpy())
        memory.settle(new, model)
        arrays.write_tensors(new.path / "model.safetensors", model.state_dict())
        new.finish()
        predictions.accuracy(new)
    return new
