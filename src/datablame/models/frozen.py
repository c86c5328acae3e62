"""An encoder that does not train, under a head that does: the fast way without a GPU. Zheng & Jiang, 2022. arXiv:2203.12171"""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from datablame.ground.errors import InputError
from datablame.models.torchvision import torchvision
from datablame.run import Run

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class frozen(nn.Module):
    """Any torchvision classifier by its name with its weights (frozen:resnet50), or the encoder of a run (frozen:runs/digits-mlp-...)."""

    still = True

    def __init__(
        self, shape: tuple[int, int, int], name: str = "resnet50", weights: str | None = "DEFAULT", size: int = 224
    ):
        """`weights`: as torchvision names them, a local file, or none; `size`: pixels that images of a torchvision net are brought to."""
        super().__init__()
        self.size = None
        if (Path(name) / "run.json").is_file():
            model = Run(name).model
            self.net: nn.Module = model.encoder  # type: ignore[assignment]  # a run of ours has one
            self.mean, self.std = (tuple(part.flatten().tolist()) for part in (model.mean, model.std))  # type: ignore[operator,union-attr]
        elif "/" in name:
            raise InputError(f"there is no run at {name} whose encoder could be taken, seen from {Path.cwd()}")
        else:
            self.size = size
            self.net = torchvision((3, size, size), name, weights)
            self.mean, self.std = (each if shape[0] == 3 else (sum(each) / 3,) for each in IMAGENET)
        self.dim = int(self.net.dim)  # type: ignore[arg-type]  # every encoder has it
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> frozen:
        """Its normalisation stays as it was trained."""
        return super().train(False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        if self.size is not None:
            x = x.expand(-1, 3, -1, -1)
            if x.shape[2:] != (self.size, self.size):
                x = interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return self.net(x)
