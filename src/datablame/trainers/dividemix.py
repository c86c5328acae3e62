"""DivideMix: two nets, each dividing the data for the other. Li, Socher, Hoi, 2020. arXiv:2002.07394; with strong
augmentation for the descent alone: Nishi et al., 2021. arXiv:2103.02130"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from datablame.classifier import Classifier, build, joined
from datablame.dataset import Dataset
from datablame.evidence.augment import augment, kinds
from datablame.evidence.schedules import schedule
from datablame.evidence.training import Progress, optimizer_of
from datablame.ground import clock, world
from datablame.ground.draw import batches, permutation, seed_of
from datablame.ground.errors import InputError, at_least
from datablame.recipe import Recipe
from datablame.run import Run


@dataclass(frozen=True)
class Mix:
    """How two nets divide the data and mix it. Every field is an option: `dividemix,warmup=10,unlabelled=150`."""

    warmup: int = 0
    """Epochs of plain training before; 0: a quarter of all, at most 10."""
    threshold: float = 0.5
    """Chance of being clean from which on a label is believed."""
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
        at_least(0, warmup=self.warmup, unlabelled=self.unlabelled, ramp=self.ramp, smooth=self.smooth)
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is a chance between 0 and 1; {self.threshold} was asked")
        if not (self.temperature > 0 and self.alpha > 0):
            raise InputError(f"temperature and alpha are above 0; {self.temperature} and {self.alpha} were asked")


def dividemix(run: Run, mix: Mix = Mix()) -> Classifier:
    """Two nets that each tell the other which labels to believe; the others are guessed, and all are mixed (section 3).

    The trace holds what both nets say together, and `clean`, the mean chance. Several processes mix each their own part of a batch.
    """
    epochs = run.recipe.epochs
    pair = Pair(run, dataclasses.replace(mix, warmup=warmup_of(run.recipe, mix), smooth=max(1, mix.smooth)))
    for epoch in range(pair.progress.done, epochs):
        pair.train(epoch)
    pair.ticker.close()
    return pair.whole()


def warmup_of(recipe: Recipe, mix: Mix) -> int:
    return mix.warmup or min(10, max(1, recipe.epochs // 4))


def suits(recipe: Recipe, data: Dataset, model: Classifier, mix: Mix = Mix()) -> None:
    """Raises InputError for another head than the linear one, a warm-up as long as the training, or an augmentation that there is not."""
    if recipe.head != "linear":
        raise InputError(f"dividemix averages two linear heads; head {recipe.head} was asked")
    if not 0 < (warmup := warmup_of(recipe, mix)) < recipe.epochs:
        raise InputError(
            f"warmup must be between 1 and {recipe.epochs - 1} of {recipe.epochs} epochs; {warmup} was asked"
        )
    kinds(mix.strong or recipe.augment)


dividemix.suits = suits  # type: ignore[attr-defined]  # asked before a run is made
dividemix.nets = 2  # type: ignore[attr-defined]  # the model is the mean of so many
dividemix.cost = 5.0  # type: ignore[attr-defined]  # passes forward and backward of both that an image of an epoch takes


class Pair:
    """Both nets, and what each thinks of every label."""

    def __init__(self, run: Run, mix: Mix):
        recipe, data = run.recipe, run.data
        self.strong = mix.strong or recipe.augment
        self.run, self.data, self.recipe, self.mixing = run, data, recipe, mix
        alone = recipe.but(trainer="plain")
        self.nets = [build(alone.but(seed=seed_of("net", recipe.seed, k) % 2**31), data) for k in range(2)]
        self.optimizers = [optimizer_of(net, recipe) for net in self.nets]
        self.losses = torch.zeros(2, mix.smooth, len(data), device=world.device())
        self.chance = torch.ones(2, len(data), device=world.device())
        self.progress = Progress(
            run,
            list(zip(self.nets, self.optimizers, strict=True)),
            ("clean",),
            {"losses": self.losses, "chance": self.chance},
        )
        self.rate_at = schedule(recipe.schedule)
        self.ticker = clock.Ticker(2 * (recipe.epochs - self.progress.done), "dividemix", "epochs of a net")

    def whole(self) -> Classifier:
        """The mean of both nets' logits."""
        return joined(self.nets, build(self.recipe, self.data))

    def train(self, epoch: int) -> None:
        """One epoch of each net; then both look at every example and divide the set."""
        torch.manual_seed(seed_of("epoch", self.recipe.seed, epoch, world.rank()))
        losses: list[Tensor] = []
        for k, (net, other) in enumerate([self.nets, self.nets[::-1]]):
            net.train()
            other.eval()
            believed = self.chance[1 - k] > self.mixing.threshold
            few = min(int(believed.sum()), int((~believed).sum())) < self.recipe.batch // 4
            losses += self.warm(k, epoch) if epoch < self.mixing.warmup or few else self.mix(k, epoch, believed.cpu())
            self.ticker.tick(f"epoch {epoch + 1} of {self.recipe.epochs}")
        self.look(epoch)
        self.divide()
        self.progress.recorder.held["clean"].copy_(self.chance.mean(0))
        self.progress.close(epoch, torch.stack(losses), self.whole())

    def warm(self, k: int, epoch: int) -> list[Tensor]:
        """Plain training, after which wrong labels still have the larger loss."""
        recipe, net, losses = self.recipe, self.nets[k], []
        steps = batches(permutation(len(self.data), "order", recipe.seed, epoch, k), recipe.batch)
        for step, index in enumerate(steps):
            self.set_rate(epoch, step / len(steps))
            mine = world.shard(index)
            images, labels = self.data.batch(mine)
            with world.autocast(recipe.precision):
                logits = net(augment(images, mine, recipe.augment, recipe.seed, epoch, k)).float()
            loss = cross_entropy(logits, labels, reduction="sum") / len(index)
            if self.mixing.penalty:
                loss = loss + (logits.softmax(1) * logits.log_softmax(1)).sum() / len(index)
            self.progress.step(net, self.optimizers[k], loss)
            losses.append(loss.detach())
        return losses

    def mix(self, k: int, epoch: int, believed: Tensor) -> list[Tensor]:
        """MixMatch of the labels that the other net believes with guesses for the rest (algorithm 1)."""
        recipe, losses = self.recipe, []
        steps = batches(self.shuffled(believed, epoch, k, "believed"), recipe.batch)
        rest = self.shuffled(~believed, epoch, k, "rest")
        rest = rest.repeat(-(-sum(map(len, steps)) // len(rest)) + 1)
        start = 0
        for step, index in enumerate(steps):
            done = epoch + step / len(steps)
            self.set_rate(epoch, step / len(steps))
            x, u = world.shard(index), world.shard(rest[start : start + len(index)])
            start += len(index)
            ramp = min(1.0, max(0.0, (done - self.mixing.warmup) / max(1, self.mixing.ramp)))
            loss = self.matched(k, x, u, ramp * self.mixing.unlabelled, (epoch, step)) / world.size()
            self.progress.step(self.nets[k], self.optimizers[k], loss)
            losses.append(loss.detach())
        return losses

    def shuffled(self, which: Tensor, epoch: int, k: int, name: str) -> Int[Tensor, " n"]:
        rows = which.nonzero()[:, 0]
        return rows[permutation(len(rows), name, self.recipe.seed, epoch, k)]

    def set_rate(self, epoch: int, part: float) -> None:
        self.progress.rate(self.recipe.rate * self.rate_at((epoch + part) / self.recipe.epochs))

    def views(self, rows: Tensor, images: Tensor, what: str, *seed: object) -> Float[Tensor, "b C H W"]:
        """Two views of each image, the first ones first, floats in [0, 1]."""
        two = [augment(images, rows, what, self.recipe.seed, *seed, view) for view in range(2)]
        return torch.cat(two).float() / 255

    def matched(self, k: int, x: Tensor, u: Tensor, weight: float, seed: tuple[int, int]) -> Float[Tensor, ""]:
        """The loss of one step on believed rows `x` and unbelieved rows `u` (eq. 5 to 12)."""
        net, other, weak = self.nets[k], self.nets[1 - k], self.recipe.augment
        (pictures, labels), (unknown, _) = self.data.batch(x), self.data.batch(u)
        near, far = self.views(x, pictures, weak, k, *seed), self.views(u, unknown, weak, k, *seed)
        given = one_hot(labels, len(self.data.classes)).float()
        trust = self.chance[1 - k][x.to(self.chance.device)][:, None]
        with torch.no_grad(), world.autocast(self.recipe.precision):
            own = net(torch.cat([near, far])).float().softmax(1)
            theirs = other(far).float().softmax(1)
        refined = trust * given + (1 - trust) * halves(own[: len(near)])
        guessed = (halves(own[len(near) :]) + halves(theirs)) / 2
        targets = torch.cat([self.sharp(refined).repeat(2, 1), self.sharp(guessed).repeat(2, 1)])
        images = torch.cat([near, far])
        if self.strong != weak:
            images = torch.cat(
                [self.views(x, pictures, self.strong, k, *seed), self.views(u, unknown, self.strong, k, *seed)]
            )
        share = float(torch.distributions.Beta(self.mixing.alpha, self.mixing.alpha).sample())
        share, partner = max(share, 1 - share), torch.randperm(len(images)).to(images.device)
        with world.autocast(self.recipe.precision):
            logits = net(share * images + (1 - share) * images[partner]).float()
        targets = share * targets + (1 - share) * targets[partner]
        labelled = cross_entropy(logits[: len(near)], targets[: len(near)])
        guess = mse_loss(logits[len(near) :].softmax(1), targets[len(near) :])
        mean = logits.softmax(1).mean(0)
        prior = (mean.new_tensor(1 / len(mean)) * (mean.new_tensor(1 / len(mean)) / mean).log()).sum()
        return labelled + weight * guess + prior

    def sharp(self, p: Float[Tensor, "b K"]) -> Float[Tensor, "b K"]:
        """Sharpened by the temperature (eq. 4)."""
        power = p.pow(1 / self.mixing.temperature)
        return power / power.sum(1, keepdim=True)

    @torch.inference_mode()
    def look(self, epoch: int) -> None:
        """Each net's loss of every example without augmentation; the trace records the mean of their logits."""
        turn = epoch % self.losses.shape[1]
        for net in self.nets:
            net.eval()
        fresh = torch.zeros_like(self.losses[:, 0])
        for index in batches(torch.arange(len(self.data)), 512):
            mine = world.shard(index)
            images, labels = self.data.batch(mine)
            logits = [net(images).float() for net in self.nets]
            fresh[:, mine.to(fresh.device)] = torch.stack([cross_entropy(z, labels, reduction="none") for z in logits])
            self.progress.recorder.put(mine, (logits[0] + logits[1]) / 2, labels)
        self.losses[:, turn] = world.total(fresh)
        if epoch == 0:
            self.losses[:] = self.losses[:, :1].clone()

    def divide(self) -> None:
        """For each net, the chance that a label is clean: the lower of two normal components in its losses (section 3.1)."""
        from sklearn.mixture import GaussianMixture

        for k, loss in enumerate(self.losses.mean(1).double().cpu()):
            scaled = ((loss - loss.min()) / (loss.max() - loss.min()).clamp_min(1e-12))[:, None].numpy()
            mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(scaled)
            chance = mixture.predict_proba(scaled)[:, int(np.asarray(mixture.means_).argmin())]
            self.chance[k] = torch.from_numpy(chance).to(self.chance)


def halves(p: Float[Tensor, "b K"]) -> Float[Tensor, "c K"]:
    """The mean over the two views of each image."""
    return (p[: len(p) // 2] + p[len(p) // 2 :]) / 2
