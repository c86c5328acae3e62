"""Factors: the curvature of every tracked layer, fitted once on a sample of the rows, kept, and
multiplied with.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from datablame.base import arrays, devices, hashing, methods, processes, progress, readers
from datablame.base.errors import InputError, unknown
from datablame.base.hashing import batches
from datablame.base.shapes import Float, Int, Shaped
from datablame.dataset import Dataset
from datablame.influence.fisher import Fisher
from datablame.layers.taps import Layer, Layers, Loss, Scratch, Tap, Weigh, finite
from datablame.run import Run

ALIVE = 16
"""Bytes a number of a layer's output takes while gradients flow: itself, its gradient, and what
autograd keeps."""
SCRATCH = 1 << 23
"""Numbers of gradients of 64 examples held at a time while queries are met: narrower slices would
slow their own making."""


class Factors:
    """The damped curvature of each tracked layer of the run's model (or of `model`, another of its
    kind), fitted on its data.
    """

    def __init__(self, run: Run, fisher: Fisher, model: nn.Module | None = None):
        self.run, self.fisher = run, fisher.settled()
        self.layers = Layers(run.model if model is None else model, fisher.layers)
        method = methods.find("curvature", fisher.method)
        self.curvature: dict[Layer, Any] = {layer: method(layer) for layer in self.layers.every}
        self.passes: tuple[str, ...] = next(iter(self.curvature.values())).passes
        self.room = processes.agree(room(self.layers, run.data))
        mention(self.layers)

    @property
    def batch(self) -> int:
        """Examples tapped at a time."""
        return min(self.room, 24 if devices.device().type == "cpu" else 512)

    @property
    def effective(self) -> float:
        """Effective dimension: how many directions the damping leaves, of `size` weights."""
        return sum(curvature.effective for curvature in self.curvature.values())

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers.every)

    @property
    def widths(self) -> list[int]:
        """Numbers that a held query takes of each layer."""
        return [self.curvature[layer].width for layer in self.layers.every]

    @property
    def path(self) -> Path:
        """`curvature/<kind>-<digest of what the factors depend on>.safetensors`."""
        text = json.dumps(self.fisher.fitted, sort_keys=True)
        return (
            self.run.path
            / "curvature"
            / f"{self.fisher.kind}-{hashing.seed_of(text):016x}.safetensors"
        )

    @functools.cached_property
    def _owner(self) -> str:
        """Of which model and data these factors are."""
        return (
            arrays.digest(
                *(t.detach().cpu().numpy() for t in self.layers.model.state_dict().values())
            )
            + self.run.data.fingerprint
        )

    def tap(self, images: Tensor, weigh: Weigh, kind: str, each: Callable[[Tap], None]) -> None:
        self.layers.tap(
            images, weigh, lambda tap: each(tap.to(devices.KINDS[kind])), self.fisher.activations
        )

    def fit(self) -> Factors:
        """Gather what the curvature needs, pass by pass; passes that are done are read from the
        run's folder.
        """
        done = self.load()
        for number, what in enumerate(self.passes[done:], done):
            with progress.stage(f"fit {what}"), torch.inference_mode(False), torch.no_grad():
                self.gather(what)
            with progress.stage("eigenvectors" if what == "basis" else "save factors"):
                self.finish()
                self.save(number + 1)
        for curvature in self.curvature.values():
            curvature.damp(self.fisher.damping_of(curvature.mean))
        return self

    def gather(self, what: str) -> None:
        """One pass over a sample of the training rows."""
        data, fisher = self.run.data, self.fisher
        count = getattr(fisher, what) or min(max(len(data) // 5, 2_000), 10_000)
        rows = hashing.permutation(len(data), "fisher", fisher.seed)[:count].sort().values
        steps = batches(processes.shard(rows), self.batch)
        for mine in progress.track(steps, len(steps), f"fitting {what}", "blocks"):
            images, given = data.batch(mine)
            self.tap(
                images,
                self.drawn(mine, given),
                fisher.factors,
                lambda tap: self.curvature[tap.layer].update(tap),
            )

    def finish(self) -> None:
        """Make of what was summed what is kept: of each layer by one process, then sent to all."""
        every = list(self.curvature.values())
        work = [layer.inputs**3 + layer.outputs**3 for layer in self.curvature]
        owners = processes.owners(work)
        for curvature, owner in zip(every, owners, strict=True):
            curvature.meet(owner)
        for curvature, owner in zip(every, owners, strict=True):
            if owner == processes.rank():
                curvature.finish()
        for curvature, owner in zip(every, owners, strict=True):
            curvature.kept = processes.spread(curvature.kept, owner)

    def drawn(self, rows: Int[Tensor, " B"], given: Int[Tensor, " B"]) -> Weigh:
        """The losses whose gradients make the Fisher: of the given labels, of sampled ones, or of
        all by the root of their probability.
        """

        def weigh(logits: Float[Tensor, "B K"]) -> Iterator[Float[Tensor, ""]]:
            finite(logits.sum(1), rows, "training images")
            p = logits.detach().softmax(1)
            if self.fisher.labels == "given":
                yield cross_entropy(logits, given, reduction="sum")
            elif self.fisher.labels == "sampled":
                at = hashing.uniform(rows, "label", self.fisher.seed).to(p.device)
                label = (p.cumsum(1) < at[:, None]).sum(1).clamp_max(p.shape[1] - 1)
                yield cross_entropy(logits, label, reduction="sum")
            else:
                for k in range(p.shape[1]):
                    yield -(p[:, k].sqrt() * logits.log_softmax(1)[:, k]).sum()

        return weigh

    def save(self, done: int) -> None:
        kept = {
            f"{layer.name}/{key}": t
            for layer, c in self.curvature.items()
            for key, t in c.kept.items()
        }
        facts = {"done": done, "owner": self._owner, "fisher": self.fisher.fitted}
        arrays.write_tensors(self.path, dict(sorted(kept.items())), {"facts": json.dumps(facts)})

    def load(self) -> int:
        """Read what is fitted; return how many passes are done.

        Raises InputError for factors of another model or other data.
        """
        if not self.passes or not processes.agree(self.path.exists()):
            return 0
        tensors, header = readers.read_tensors(self.path, str(devices.device()))
        facts = readers.parse_json(
            header.get("facts", ""), self.path, {"owner": str, "done": int, "fisher": dict}
        )
        if facts["owner"] != self._owner:
            raise InputError(
                f"{self.path} was fitted on another model or other data; delete it to fit anew"
            )
        for layer, curvature in self.curvature.items():
            names = [name for name in tensors if name.rpartition("/")[0] == layer.name]
            curvature.kept = {name.rpartition("/")[2]: tensors[name] for name in names}
        return facts["done"]

    def solve(self, images: Tensor, weigh: Weigh, out: Sequence[Shaped[Tensor, "B _"]]) -> None:
        """The damped inverse curvature times the gradient of each example, a layer each into
        `out`: in fp32, as it takes differences of like numbers, and queries are few.
        """
        to = dict(zip(self.layers.every, out, strict=True))

        def each(tap: Tap) -> None:
            start = 0
            for part in tap.split():
                to[tap.layer][start : start + len(part)] = flat(
                    self.curvature[tap.layer].solve(part)
                )
                start += len(part)

        self.tap(images, weigh, "fp32", each)

    def products(
        self, held: Sequence[Shaped[Tensor, "Q _"]], images: Tensor, weigh: Weigh
    ) -> Float[Tensor, "Q B"]:
        """Each held query times the gradient of each example, summed over layers."""
        of = dict(zip(self.layers.every, held, strict=True))
        total = torch.zeros(len(held[0]), len(images), device=held[0].device)

        def each(tap: Tap) -> None:
            turned = dataclasses.replace(tap, g=self.curvature[tap.layer].turn(tap.g))
            _add_products(total, of[tap.layer], turned, self.layers.scratch)

        self.tap(images, weigh, self.fisher.gradients, each)
        return total

    def squares(self, images: Tensor, weigh: Weigh) -> Float[Tensor, " B"]:
        """`g^T (F + damping)^-1 g` of each example, summed over layers."""
        total = torch.zeros(len(images), device=images.device)

        def each(tap: Tap) -> None:
            total.add_(torch.cat([self.curvature[tap.layer].square(part) for part in tap.split()]))

        self.tap(images, weigh, self.fisher.gradients, each)
        return total


def _add_products(
    total: Float[Tensor, "Q B"], query: Shaped[Tensor, "Q P"], tap: Tap, scratch: Scratch
) -> None:
    """`total += query . G_n`, some outputs of the layer at a time, so that the gradients stay in
    cache and the queries are read once.
    """
    (groups, b, _, o), i, a = tap.g.shape, tap.layer.inputs, tap.rows
    if groups > 1:
        return _add_product(total, query, flat(tap.g.mT @ a))
    for low in range(0, o, step := max(1, SCRATCH // (min(b, 64) * i))):
        g = tap.g[0, :, :, low : low + step].mT
        part = torch.bmm(g, a[0], out=scratch.take("gradients", (b, g.shape[1], i), g))
        _add_product(total, query[:, low * i : (low + step) * i], part.flatten(1))


def _add_product(
    total: Float[Tensor, "Q B"], left: Shaped[Tensor, "Q P"], right: Shaped[Tensor, "B P"]
) -> None:
    """`total += left @ right.T`, summed in fp32."""
    if left.dtype == torch.float32:
        total.addmm_(left, right.float().T)
    else:
        total += left @ right.to(left.dtype).T


def flat(gradient: Shaped[Tensor, "G B O I"]) -> Shaped[Tensor, "B P"]:
    """`[G,B,O,I]` as one row an example."""
    return gradient.movedim(1, 0).flatten(1)


def room(layers: Layers, data: Dataset) -> int:
    """How many examples can be tapped at a time, a power of two: activations, and what autograd
    keeps of them, may take a third of the free memory.
    """
    count = devices.free() // 3 // (ALIVE * layers.activations(data.batch(torch.arange(1))[0]))
    return 1 << max(0, count.bit_length() - 1)


@functools.cache
def _warned(names: tuple[str, ...]) -> None:
    progress.say(
        "not tracked, so left out of influence: "
        f"{', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
    )


def mention(layers: Layers) -> None:
    """Say once in a process which modules have weights that influence leaves out."""
    if layers.untracked:
        _warned(tuple(layers.untracked))


def weigher(of: Loss, labels: Int[Tensor, " B"]) -> Weigh:
    """The sum of a scalar of the logits over a batch, for `Layers.taps`."""

    def weigh(logits: Float[Tensor, "B K"]) -> Iterator[Float[Tensor, ""]]:
        yield of(logits, labels).sum()

    return weigh


def loss(logits: Float[Tensor, "B K"], labels: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Cross-entropy in nats."""
    return cross_entropy(logits, labels, reduction="none")


def margin(logits: Float[Tensor, "B K"], labels: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Minus the log-odds of the label, `logsumexp_{k != y} z_k - z_y`: the loss without its
    ceiling.

    Park et al., 2023. arXiv:2303.14186
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]


MEASURES = {"loss": loss, "margin": margin}


def measure(name: str) -> Loss:
    """`loss`, `margin`, or the dotted name of a function `(logits [B,K], labels [B]) -> [B]`, lower
    is better.
    """
    if "." in name:
        return methods.elsewhere(name, ("logits", "labels"), "a measure of a query")
    if name not in MEASURES:
        raise unknown("measure of a query", name, [*MEASURES, "mylab.measures.mine"])
    return MEASURES[name]


def squares(run: Run, fisher: Fisher) -> Float[Tensor, " N"]:
    """`g^T (F + damping)^-1 g` of every training example with its given label."""
    factors = Factors(run, fisher).fit()
    steps = batches(processes.shard(torch.arange(len(run.data))), factors.batch)
    found = [torch.zeros(0, device=devices.device())]
    with progress.stage(f"self-influence {fisher.kind}"):
        for mine in progress.track(steps, len(steps), "self-influence", "blocks"):
            images, labels = run.data.batch(mine)
            found.append(factors.squares(images, weigher(loss, labels)))
        whole = processes.together(torch.cat(found), len(run.data)).cpu()
    finite(whole, torch.arange(len(whole)), "training images")
    return whole
