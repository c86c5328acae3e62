"""Fisher: how curvature is approximated, and in which precision."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from datablame.base import devices
from datablame.base.doctor import mention_emulated
from datablame.base.errors import InputError, at_least, unknown

LABELS = ("given", "sampled", "all")
PRECISIONS, WAYS = ("activations", "factors", "gradients", "scores"), ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Fisher:
    """How curvature is approximated.

    Every field is an option of the methods that use it: `influence,kind=kfac,damping=1e-3`.
    """

    kind: str = "ekfac"
    """identity, diagonal, kfac or ekfac."""
    scale: str | None = None
    """Of kfac: fisher, or kronfluence, smaller by the number of positions of a convolution."""
    rank: int | None = 256
    """Leading input directions of each layer that ekfac treats exactly, the others by their energy;
    none: all exactly."""
    outputs: int | None = None
    """Leading output directions of each layer that ekfac counts; none: all of them."""
    labels: str = "sampled"
    """Whose gradients are gathered: of labels sampled from the model, of the `given` ones (the
    empirical Fisher), or of `all` classes by their probability."""
    damping: str = "10%"
    """Added to the eigenvalues: a share of each layer's mean eigenvalue, or a number."""
    basis: int = 0
    """Training rows for the eigenvectors; 0: a fifth of them, at least 2,000 and at most 10,000."""
    eigenvalues: int = 2_000
    """Training rows for the eigenvalues."""
    layers: str = "*"
    """Names of the layers that count, as fnmatch reads them, joined by |."""
    activations: str = "fp32"
    """Precision of the forward and backward pass: fp32, bf16, or auto, which is bf16 where the
    device has it."""
    factors: str = "auto"
    """Precision of the products that fit the factors."""
    gradients: str = "auto"
    """Precision of the gradients of examples and of what they are multiplied with."""
    scores: str = "auto"
    """Precision of the products of query and training gradients."""
    half: bool = False
    """All four in bf16."""
    seed: int = 0
    """Of the sample of rows and of the labels drawn."""

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise unknown("labels", self.labels, LABELS)
        if self.scale is not None and self.kind != "kfac":
            raise InputError(f"scale={self.scale} is of kind=kfac; {self.kind} has no other scale")
        for name in PRECISIONS:
            if self.half:
                object.__setattr__(self, name, "bf16")
            if getattr(self, name) not in WAYS:
                raise unknown(f"precision of {name}", getattr(self, name), WAYS)
        at_least(0, basis=self.basis)
        at_least(1, rank=self.rank, outputs=self.outputs, eigenvalues=self.eigenvalues)
        self.damping_of(1.0)

    def settled(self) -> Fisher:
        """The same with every `auto` replaced by what it stands for here. Where bf16 is asked for
        and would be emulated, the price is said.
        """
        if any(getattr(self, name) == "bf16" for name in PRECISIONS):
            mention_emulated()
        fast = "bf16" if devices.has_bf16() else "fp32"
        auto = {name: fast for name in PRECISIONS if getattr(self, name) == "auto"}
        return dataclasses.replace(self, **auto)

    def damping_of(self, mean: float) -> float:
        """What is added to the eigenvalues of a layer whose mean eigenvalue is `mean`."""
        text = self.damping.strip()
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise InputError(
                f"damping must be a positive number, or a share such as 10%; got '{self.damping}'"
            )
        return value / 100 * max(mean, 1e-30) if text.endswith("%") else value

    @property
    def method(self) -> str:
        """The spec of the curvature, for the finder."""
        if self.kind == "ekfac":
            return f"ekfac,rank={self.rank},outputs={self.outputs}"
        return self.kind if self.scale is None else f"{self.kind},scale={self.scale}"

    @property
    def fitted(self) -> dict[str, Any]:
        """The fields that the factors depend on."""
        names = ("labels", "basis", "eigenvalues", "layers", "activations", "factors", "seed")
        return {"method": self.method} | {name: getattr(self, name) for name in names}
