"""A net that reads the traces of a whole set at once: which times tell follows from how far the set
was learned; which classes are given for which, from its own first opinion of all examples, after
the idea of the confident joint. Northcutt, Jiang, Chuang, 2021. arXiv:1911.00068
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datablame.base.shapes import Float
from datablame.dynamics.config import DetectorConfig
from datablame.dynamics.views import SETTING, Seen

FEW = 5.0
"""Wrong labels of a pair of classes below which its direction counts for little."""
SUMMARY, PAIR = 6, 6
"""Numbers that tell of the set, and of the pair of the given class and its rival."""


class Reader(nn.Module):
    """`forward(Seen) -> [2,N]`: log-odds that each label is wrong, by its curves alone, and with
    what the first opinions say of its pair of classes.
    """

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.attend = nn.Sequential(nn.Linear(SETTING, 16), nn.Tanh(), nn.Linear(16, config.heads))
        width = config.heads * len(config.names) + SUMMARY
        self.plain = nn.Linear(width, 1)
        self.curved = _perceptron(width, config.hidden)
        self.paired = _perceptron(width + PAIR + 1, config.hidden)

    def forward(self, seen: Seen) -> Float[Tensor, "2 N"]:
        when = self.attend(seen.setting).softmax(0)
        read = torch.einsum("npc,ph->nhc", seen.views, when).flatten(1)
        spread = read.std(0, correction=0).clamp_min(1e-3)
        read = ((read - read.mean(0)) / spread).clamp(-5, 5)
        read = torch.cat([read, _summary(seen.setting).expand(len(read), -1)], 1)
        alone = (self.plain(read) + self.curved(read))[:, 0]
        known = torch.cat([read, pairs(seen, alone.sigmoid()), alone[:, None]], 1)
        return torch.stack([alone, alone + self.paired(known)[:, 0]])


def _perceptron(width: int, hidden: int) -> nn.Sequential:
    """A layer of hidden units, silent before it is taught."""
    last = nn.Linear(hidden, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), last)


def _summary(setting: Float[Tensor, "P S"]) -> Float[Tensor, " U"]:
    """The share predicted otherwise at the end, at the beginning and in the mean; the probability
    of the given label at the end; classes and epochs."""
    start, end = setting[0], setting[-1]
    return torch.stack([end[0], end[1], start[0], setting[:, 0].mean(), end[6], end[7]])


def pairs(seen: Seen, wrong: Float[Tensor, " N"]) -> Float[Tensor, "N Q"]:
    """What the probabilities of all labels to be `wrong` say of each label's pair, the given class
    and its rival.

    How much oftener than a mean pair it is wrong (log); from -1 to 1, is it the other way round
    too; the mean probability in the pair (log); how often the rival was predicted; and of the whole
    set, how one-sided pairs are, and how few of them hold all that is wrong.
    """
    classes = seen.classes
    pair = seen.rivals * classes + seen.labels
    there = torch.zeros(classes * classes, device=wrong.device).index_add(0, pair, wrong)
    many = torch.zeros_like(there).index_add(0, pair, torch.ones_like(wrong)).clamp_min(1)
    counts = there.view(classes, classes)
    back, total = counts.T.flatten()[pair], wrong.sum()
    mean = total / (classes * classes - classes)
    both = (counts + counts.T).triu(1).sum().clamp_min(1)
    one_sided = (counts - counts.T).abs().triu(1).sum() / both
    few = (counts / total.clamp_min(1)).square().sum().sqrt()
    mine = there[pair]
    of_pair = [
        ((mine + 1) / (mean + 1)).log(),
        (mine - back) / (mine + back + FEW),
        (mine / many[pair] + 1e-3).log(),
        seen.contradicted,
    ]
    return torch.stack([*of_pair, one_sided.expand(len(wrong)), few.expand(len(wrong))], 1)
