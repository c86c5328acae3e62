"""DivideMix: two nets, each dividing the data for the other. Li, Socher, Hoi, 2020.
arXiv:2002.07394; with strong augmentation for the descent alone: Nishi et al., 2021.
arXiv:2103.02130"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from datablame.base import devices, processes, progress
from datablame.base.errors import InputError, at_least
from datablame.base.hashing import batches, permutation, seed_of
from datablame.base.shapes import Float, Int
from datablame.network.classifier import Classifier, build, joined
from datablame.optimization.augment import augment
from datablame.optimization.optimizers import optimizer
from datablame.optimization.schedules import schedule
from datablame.optimization.state import TrainingState
from datablame.run import Run


@dataclass(frozen=True)
class Mix:
    """How two nets divide the data and mix it. Every field is an option: `dividemix,warmup=10`."""

    warmup: int = 0
    """Epochs of plain training before; 0: a quarter of all, at most 10."""
    threshold: float = 0.5
    """Probability of being clean above which a label is used as it is."""
    unlabelled: float = 25.0
    """Weight of the guessed labels."""
    temperature: float = 0.5
    """Of the sharpening of guesses."""
    alpha: float = 4.0
    """Of the Beta distribution of the mixture."""
    ramp: int = 16
    """Epochs until the weight of the guessed labels is reached."""
    smooth: int = 1
    """Epochs over which losses are averaged before the set is divided."""
    penalty: bool = False
    """Speak against sure answers while warming up, for wrong labels that follow the class."""
    strong: str = ""
    """Augmentation of the descent (crop+flip+randaugment); without it that of the recipe."""

    def __post_init__(self) -> None:
        at_least(
            0, warmup=self.warmup, unlabelled=self.unlabelled, ramp=self.ramp, smooth=self.smooth
        )
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is a probability between 0 and 1; got {self.threshold}")
        if not (self.temperature > 0 and self.alpha > 0):
            raise InputError(
                f"temperature and alpha are above 0; got {self.temperature} and {self.alpha}"
            )

    def settled(self, epochs: int) -> Mix:
        """The same with the warm-up filled in for this number of epochs."""
        warmup = self.warmup or min(10, max(1, epochs // 4))
        return dataclasses.replace(self, warmup=warmup, smooth=max(1, self.smooth))


class Pair:
    """Both nets, and what each thinks of every label."""

    def __init__(self, run: Run, mix: Mix):
        recipe, data = run.recipe, run.data
        self.strong = mix.strong or recipe.augment
        self.run, self.data, self.recipe, self.mixing = run, data, recipe, mix
        alone = recipe.but(trainer="plain")
        self.nets = [
            build(alone.but(seed=seed_of("net", recipe.seed, k) % 2**31), data) for k in range(2)
        ]
        self.optimizers = [optimizer(net, recipe) for net in self.nets]
        self.losses = torch.zeros(2, mix.smooth, len(data), device=devices.device())
        self.probability = torch.ones(2, len(data), device=devices.device())
        self.state = TrainingState(
            run,
            list(zip(self.nets, self.optimizers, strict=True)),
            ("clean",),
            {"losses": self.losses, "probability": self.probability},
        )
        self.rate_at = schedule(recipe.schedule, recipe.warmup)
        self.ticker = progress.Ticker(
            2 * (recipe.epochs - self.state.done), "dividemix", "epochs of a net"
        )

    def whole(self) -> Classifier:
        """The mean of both nets' logits."""
        return joined(self.nets, build(self.recipe, self.data, len(self.nets)))

    def train(self, epoch: int) -> None:
        """One epoch of each net; then both look at every example and divide the set."""
        torch.manual_seed(seed_of("epoch", self.recipe.seed, epoch, processes.rank()))
        losses: list[Tensor] = []
        for k, (net, other) in enumerate([self.nets, self.nets[::-1]]):
            net.train()
            other.eval()
            believed = self.probability[1 - k] > self.mixing.threshold
            few = min(int(believed.sum()), int((~believed).sum())) < self.recipe.batch_size // 4
            losses += (
                self._warm(k, epoch)
                if epoch < self.mixing.warmup or few
                else self._mix(k, epoch, believed.cpu())
            )
            self.ticker.tick(f"epoch {epoch + 1} of {self.recipe.epochs}")
        self.look(epoch)
        self._divide()
        self.state.recorder.held["clean"].copy_(self.probability.mean(0))
        self.state.close(epoch, torch.stack(losses), self.whole())

    def _warm(self, k: int, epoch: int) -> list[Tensor]:
        """Plain training, after which wrong labels still have the larger loss."""
        recipe, net, losses = self.recipe, self.nets[k], []
        steps = batches(
            permutation(len(self.data), "order", recipe.seed, epoch, k), recipe.batch_size
        )
        for step, index in enumerate(steps):
            self._set_rate(epoch, step / len(steps))
            mine = processes.shard(index)
            images, labels = self.data.batch(mine)
            with devices.autocast(recipe.precision):
                logits = net(augment(images, mine, recipe.augment, recipe.seed, epoch, k)).float()
            loss = cross_entropy(logits, labels, reduction="sum") / len(index)
            if self.mixing.penalty:
                loss = loss + (logits.softmax(1) * logits.log_softmax(1)).sum() / len(index)
            self.state.step(net, self.optimizers[k], loss)
            losses.append(loss.detach())
        return losses

    def _mix(self, k: int, epoch: int, believed: Tensor) -> list[Tensor]:
        """MixMatch of the labels that the other net believes with guesses for the rest (algorithm
        1).
        """
        recipe, losses = self.recipe, []
        steps = batches(self._shuffled(believed, epoch, k, "believed"), recipe.batch_size)
        rest = self._shuffled(~believed, epoch, k, "rest")
        rest = rest.repeat(-(-sum(map(len, steps)) // len(rest)) + 1)
        start = 0
        for step, index in enumerate(steps):
            done = epoch + step / len(steps)
            self._set_rate(epoch, step / len(steps))
            x, u = processes.shard(index), processes.shard(rest[start : start + len(index)])
            start += len(index)
            ramp = min(1.0, max(0.0, (done - self.mixing.warmup) / max(1, self.mixing.ramp)))
            loss = (
                self._matched(k, x, u, ramp * self.mixing.unlabelled, (epoch, step))
                / processes.size()
            )
            self.state.step(self.nets[k], self.optimizers[k], loss)
            losses.append(loss.detach())
        return losses

    def _shuffled(self, which: Tensor, epoch: int, k: int, name: str) -> Int[Tensor, " n"]:
        rows = which.nonzero()[:, 0]
        return rows[permutation(len(rows), name, self.recipe.seed, epoch, k)]

    def _set_rate(self, epoch: int, part: float) -> None:
        self.state.rate(self.recipe.lr * self.rate_at((epoch + part) / self.recipe.epochs))

    def views(
        self, rows: Tensor, images: Tensor, what: str, *seed: object
    ) -> Float[Tensor, "b C H W"]:
        """Two views of each image, the first ones first, floats in [0, 1]."""
        two = [augment(images, rows, what, self.recipe.seed, *seed, view) for view in range(2)]
        return torch.cat(two).float() / 255

    def _matched(
        self, k: int, x: Tensor, u: Tensor, weight: float, seed: tuple[int, int]
    ) -> Float[Tensor, ""]:
        """The loss of one step on believed rows `x` and unbelieved rows `u` (eq. 5 to 12)."""
        net, other, weak = self.nets[k], self.nets[1 - k], self.recipe.augment
        (pictures, labels), (unknown, _) = self.data.batch(x), self.data.batch(u)
        near, far = self.views(x, pictures, weak, k, *seed), self.views(u, unknown, weak, k, *seed)
        given = one_hot(labels, len(self.data.classes)).float()
        trust = self.probability[1 - k][x.to(self.probability.device)][:, None]
        with torch.no_grad(), devices.autocast(self.recipe.precision):
            own = net(torch.cat([near, far])).float().softmax(1)
            theirs = other(far).float().softmax(1)
        refined = trust * given + (1 - trust) * _halves(own[: len(near)])
        guessed = (_halves(own[len(near) :]) + _halves(theirs)) / 2
        targets = torch.cat([self._sharp(refined).repeat(2, 1), self._sharp(guessed).repeat(2, 1)])
        images = torch.cat([near, far])
        if self.strong != weak:
            images = torch.cat(
                [
                    self.views(x, pictures, self.strong, k, *seed),
                    self.views(u, unknown, self.strong, k, *seed),
                ]
            )
        share = float(torch.distributions.Beta(self.mixing.alpha, self.mixing.alpha).sample())
        share, partner = max(share, 1 - share), torch.randperm(len(images)).to(images.device)
        with devices.autocast(self.recipe.precision):
            logits = net(share * images + (1 - share) * images[partner]).float()
        targets = share * targets + (1 - share) * targets[partner]
        labelled = cross_entropy(logits[: len(near)], targets[: len(near)])
        guess = mse_loss(logits[len(near) :].softmax(1), targets[len(near) :])
        mean = logits.softmax(1).mean(0)
        prior = (
            mean.new_tensor(1 / len(mean)) * (mean.new_tensor(1 / len(mean)) / mean).log()
        ).sum()
        return labelled + weight * guess + prior

    def _sharp(self, p: Float[Tensor, "b K"]) -> Float[Tensor, "b K"]:
        """Sharpened by the temperature (eq. 4)."""
        power = p.pow(1 / self.mixing.temperature)
        return power / power.sum(1, keepdim=True)

    @torch.inference_mode()
    def look(self, epoch: int) -> None:
        """Each net's loss of every example without augmentation; the trace records the mean of
        their logits.
        """
        turn = epoch % self.losses.shape[1]
        for net in self.nets:
            net.eval()
        fresh = torch.zeros_like(self.losses[:, 0])
        for index in batches(torch.arange(len(self.data)), 512):
            mine = processes.shard(index)
            images, labels = self.data.batch(mine)
            logits = [net(images).float() for net in self.nets]
            fresh[:, mine.to(fresh.device)] = torch.stack(
                [cross_entropy(z, labels, reduction="none") for z in logits]
            )
            self.state.recorder.put(mine, (logits[0] + logits[1]) / 2, labels)
        self.losses[:, turn] = processes.total(fresh)
        if epoch == 0:
            self.losses[:] = self.losses[:, :1].clone()

    def _divide(self) -> None:
        """For each net, the probability that a label is clean: the lower of two normal components
        in its losses (section 3.1).
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        for k, loss in enumerate(self.losses.mean(1).cpu().double()):
            scaled = ((loss - loss.min()) / (loss.max() - loss.min()).clamp_min(1e-12))[
                :, None
            ].numpy()
            with warnings.catch_warnings(
                action="ignore", category=ConvergenceWarning
            ):  # ten rounds, as the paper has
                mixture = GaussianMixture(
                    2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0
                ).fit(scaled)
            probability = mixture.predict_proba(scaled)[:, int(np.asarray(mixture.means_).argmin())]
            self.probability[k] = torch.from_numpy(probability).to(self.probability)


def _halves(p: Float[Tensor, "b K"]) -> Float[Tensor, "c K"]:
    """The mean over the two views of each image."""
    return (p[: len(p) // 2] + p[len(p) // 2 :]) / 2
