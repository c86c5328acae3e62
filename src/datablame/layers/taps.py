"""Layers: what went into each tracked layer and what came back, in the one shape that all
mathematics of gradients uses.

Linear, Conv1d and Conv2d in `G` groups: inputs `a [G,B,S,I]` (patches for convolutions, ordered
row, column, channel; a last column of ones for the bias) and output gradients `g [G,B,S,O]`, so
that the gradient of an example is `einsum("gbsi,gbso->gboi", a, g)`. After the layer form of
curvlinops and of Grosse, Martens, 2016. arXiv:1602.01407
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from datablame.base import devices
from datablame.base.errors import InputError, RunError
from datablame.base.shapes import Float, Int, Shaped

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d)
CACHED = 1 << 22
"""Numbers of per-example gradients worked on at a time: what stays in a processor's cache."""

Loss = Callable[[Float[Tensor, "B K"], Int[Tensor, " B"]], Float[Tensor, " B"]]
"""A scalar of each example: `(logits, labels) -> [B]`."""
Weigh = Callable[[Float[Tensor, "B K"]], Iterator[Float[Tensor, ""]]]
"""The scalars of a batch whose gradients are wanted, of its logits."""


class Scratch:
    """Memory that is used again and again: pages fresh from the system cost as much as the
    arithmetic done in them.
    """

    def __init__(self):
        self.held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of this shape, its content undefined; it is overwritten by the next one of that
        name.
        """
        numbers, held = prod(shape), self.held.get(name)
        if (
            held is None
            or held.numel() < numbers
            or (held.dtype, held.device) != (like.dtype, like.device)
        ):
            held = self.held[name] = like.new_empty(numbers)
        return held[:numbers].view(shape)


class Layer:
    """A tracked module, and how its inputs become rows.

    `groups` G, `inputs` I (the bias included), `outputs` O, of one group.
    """

    def __init__(self, name: str, module: nn.Module):
        self.name, self.module = name, module
        self.conv = isinstance(module, (nn.Conv1d, nn.Conv2d))
        self.bias = module.bias is not None
        self.groups = int(module.groups) if self.conv else 1  # type: ignore[arg-type]  # typed as a module or tensor
        weight = module.weight
        assert isinstance(weight, Tensor)
        self.inputs, self.outputs = weight[0].numel() + self.bias, len(weight) // self.groups
        self.size = weight.numel() + len(weight) * self.bias
        self.careful = False
        """Copy the input when it is seen: the network changes it in place later."""
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            flat = isinstance(module, nn.Conv1d)
            self.kernel, self.stride, self.dilation = (
                (1, each[0]) if flat else (each[0], each[-1])
                for each in (module.kernel_size, module.stride, module.dilation)
            )
            self.margin = tuple(module._reversed_padding_repeated_twice) + ((0, 0) if flat else ())
            self.mode = "constant" if module.padding_mode == "zeros" else module.padding_mode

    def __repr__(self) -> str:
        return f"{self.name} [{self.groups} x {self.outputs} x {self.inputs}]"

    def padded(self, x: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "B C H W"]:
        """A convolution's input as the kernel sees it."""
        x = x if x.ndim == 4 else x[:, :, None]
        return functional.pad(x, self.margin, self.mode) if any(self.margin) else x

    def grid(self, padded: Shaped[Tensor, "B C H W"]) -> tuple[int, int]:
        """Rows and columns of the output."""
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilation, strict=True)]
        high, wide = (
            (n - r - 1) // s + 1
            for n, r, s in zip(padded.shape[2:], reach, self.stride, strict=True)
        )
        return high, wide

    def rows(
        self, x: Shaped[Tensor, "B ..."], scratch: Scratch | None = None
    ) -> Shaped[Tensor, "G B S I"]:
        """The layer's input, one row a position; patches are written into `scratch`."""
        if not self.conv:
            a = x.reshape(1, len(x), -1, x.shape[-1])
            return torch.cat([a, torch.ones_like(a[..., :1])], -1) if self.bias else a
        padded = self.padded(x)
        z = padded.permute(0, 2, 3, 1).contiguous()
        b, h, w, c = z.shape
        (high, wide), (kh, kw), (sh, sw), (dh, dw) = (
            self.grid(padded),
            self.kernel,
            self.stride,
            self.dilation,
        )
        each = c // self.groups
        patches = z.as_strided(
            (self.groups, b, high, wide, kh, kw, each),
            (each, h * w * c, sh * w * c, sw * c, dh * w * c, dw * c, 1),
        )
        a = (scratch or Scratch()).take("patches", (self.groups, b, high, wide, self.inputs), z)
        a[..., : kh * kw * each].unflatten(-1, (kh, kw, each)).copy_(patches)
        if self.bias:
            a[..., -1] = 1
        return a.flatten(2, 3)

    def returned(self, g: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "G B S O"]:
        """The gradient with respect to the layer's output, one row a position."""
        if not self.conv:
            return g.reshape(1, len(g), -1, self.outputs)
        g = (g if g.ndim == 4 else g[:, :, None]).permute(0, 2, 3, 1).flatten(1, 2)
        return g.unflatten(-1, (self.groups, self.outputs)).movedim(2, 0)

    def project(
        self, x: Shaped[Tensor, "B ..."], onto: Shaped[Tensor, "G I r"]
    ) -> Shaped[Tensor, "G B S r"]:
        """`rows(x) @ onto`, for convolutions as a convolution with `onto` as its filters: no patch
        is ever written out.
        """
        if not self.conv:
            return (
                x.reshape(-1, x.shape[-1]) @ onto[0, : x.shape[-1]]
                + (onto[0, -1] if self.bias else 0)
            ).view(1, len(x), -1, onto.shape[-1])
        filters = onto[:, :-1] if self.bias else onto
        filters = filters.mT.unflatten(2, (*self.kernel, -1)).movedim(-1, 2).flatten(0, 1)
        constant = onto[:, -1].flatten() if self.bias else None
        y = functional.conv2d(
            self.padded(x),
            filters.contiguous(memory_format=torch.channels_last),
            constant,
            self.stride,
            0,
            self.dilation,
            self.groups,
        )
        return y.permute(0, 2, 3, 1).reshape(len(x), -1, self.groups, onto.shape[-1]).movedim(2, 0)


@dataclass(frozen=True, eq=False)
class Tap:
    """One layer's input `x` and output gradient `g [G,B,S,O]` of one batch."""

    layer: Layer
    x: Shaped[Tensor, "B ..."]
    g: Shaped[Tensor, "G B S O"]
    first: bool = True
    """False where the same inputs were tapped before with another label: their covariance is not to
    be counted again."""
    scratch: Scratch | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def rows(self) -> Shaped[Tensor, "G B S I"]:
        """The inputs, written out anew each time into the same memory: those of all layers would
        fill it.
        """
        return self.layer.rows(self.x, self.scratch)

    def to(self, kind: torch.dtype) -> Tap:
        return (
            self
            if self.x.dtype == self.g.dtype == kind
            else dataclasses.replace(self, x=self.x.to(kind), g=self.g.to(kind))
        )

    def split(self, numbers: int = 0) -> Iterator[Tap]:
        """Parts of the batch whose gradients (`numbers` an example; the layer's own size unless
        told) stay in cache.
        """
        b = max(1, CACHED // max(1, numbers or self.layer.size))
        for x, g in zip(self.x.split(b), self.g.split(b, 1), strict=True):
            yield dataclasses.replace(self, x=x, g=g)

    def gradient(self) -> Shaped[Tensor, "G B O I"]:
        """The gradient of each example."""
        return self.g.mT @ self.rows

    def norm(self) -> Float[Tensor, " B"]:
        """Squared norm of the gradient of each example, by the Gram matrices of the positions where
        that is cheaper.
        """
        (_, _, s, o), i = self.g.shape, self.layer.inputs
        if s * (i + o) < i * o:
            a = self.rows
            return ((a @ a.mT) * (self.g @ self.g.mT)).float().sum((0, 2, 3))
        return (
            torch.linalg.vector_norm(self.gradient(), dim=(2, 3), dtype=torch.float32)
            .square_()
            .sum(0)
        )

    def rotated(
        self, left: Shaped[Tensor, "G O p"], right: Shaped[Tensor, "G I r"]
    ) -> Shaped[Tensor, "G B p r"]:
        """`left^T G_n right` of each example, multiplied in the cheapest order."""
        (_, _, s, _), i, p, r = self.g.shape, self.layer.inputs, left.shape[2], right.shape[2]
        g = folded(self.g, left).mT
        if s * i * r + s * p * r > s * p * i + p * i * r:  # what the two orders do not share
            return folded(g @ self.rows, right)
        few = 2 * r <= i  # then it pays to write no patches out
        return g @ (self.layer.project(self.x, right) if few else folded(self.rows, right))

    def energies(
        self, left: Shaped[Tensor, "G O p"], right: Shaped[Tensor, "G I r"]
    ) -> tuple[Shaped[Tensor, "G B p r"], Shaped[Tensor, "G B p"]]:
        """`left^T G_n right` of each example, and the squared norms of the rows of `left^T G_n`, by
        the Gram matrix of the positions where they are few."""
        (_, _, s, _), i, p, r = self.g.shape, self.layer.inputs, left.shape[2], right.shape[2]
        g = folded(self.g, left)
        if s * i * r + s * p * r + s * s * (i + p) < s * p * i + p * i * r:
            a = self.rows
            return g.mT @ self.layer.project(self.x, right), ((a @ a.mT @ g) * g).sum(2)
        gradient = g.mT @ self.rows
        return folded(gradient, right), torch.linalg.vector_norm(gradient, dim=3).square_()


def folded(x: Shaped[Tensor, "G B n m"], by: Shaped[Tensor, "G m k"]) -> Shaped[Tensor, "G B n k"]:
    """`x @ by`, as one product a group."""
    return (x.reshape(len(x), -1, x.shape[-1]) @ by).view(*x.shape[:-1], by.shape[-1])


class Layers:
    """The tracked layers of a model, in `eval` mode while they are tapped; the model itself is left
    as it was.

    `pattern`: names as fnmatch reads them, several joined by `|`. Raises InputError where nothing
    matches, or where a matched layer shares its weight with another.
    """

    def __init__(self, model: nn.Module, pattern: str = "*"):
        self.model = model
        found = {
            name: module for name, module in model.named_modules() if isinstance(module, KINDS)
        }
        wanted = [
            name
            for name in found
            if any(fnmatch.fnmatch(name, each) for each in pattern.split("|"))
        ]
        if not wanted:
            raise InputError(
                f"no layer matches '{pattern}'; there is: "
                f"{', '.join(found) or 'no Linear, Conv1d or Conv2d'}"
            )
        self.every = [Layer(name, found[name]) for name in wanted]
        self.scratch = Scratch()
        self._refuse_shared()

    def _refuse_shared(self) -> None:
        """Raise InputError where a weight belongs to two modules: its gradient would be counted in
        parts.
        """
        owners: dict[Tensor, list[str]] = {}
        for name, module in self.model.named_modules(remove_duplicate=False):
            for parameter in module.parameters(recurse=False):
                owners.setdefault(parameter, []).append(name)
        for layer in self.every:
            names = owners[layer.module.weight]  # type: ignore[index]  # a parameter
            if len(names) > 1:
                raise InputError(
                    f"layers {' and '.join(names)} share one weight, which cannot be "
                    "tracked; leave them out with layers="
                )

    @property
    def untracked(self) -> list[str]:
        """Modules with parameters that are not tracked, as `encoder.1 (BatchNorm2d)`."""
        tracked = {layer.module for layer in self.every}
        return [
            f"{name or 'the model itself'} ({type(module).__name__})"
            for name, module in self.model.named_modules()
            if module not in tracked and any(True for _ in module.parameters(recurse=False))
        ]

    def activations(self, images: Tensor) -> int:
        """How many numbers all modules put out together for these images."""
        counts: list[int] = []
        hooks = [
            module.register_forward_hook(
                lambda _, x, output: counts.append(
                    output.numel() if isinstance(output, Tensor) else 0
                )
            )
            for module in self.model.modules()
            if not any(True for _ in module.children())
        ]
        try:
            with torch.no_grad(), self.frozen():
                self.model(images)
        finally:
            for hook in hooks:
                hook.remove()
        return max(1, sum(counts))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, parameters ask for no gradient and every module is in `eval` mode."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)
            for module in training:
                module.training = True

    def tap(
        self, images: Tensor, weigh: Weigh, each: Callable[[Tap], None], precision: str = "fp32"
    ) -> None:
        """Call `each` with the tap of every layer, for each scalar of the logits that `weigh`
        yields.

        One forward pass, and one backward pass a scalar for the gradients of outputs alone, never
        of weights. A tap is handed over as its gradient arrives, the last layer's first, so that
        the gradients of all layers are never held at once.
        """
        inputs: dict[Layer, tuple[Tensor, int]] = {}
        leaves: list[Tensor] = []
        first = True

        def watch(layer: Layer, x: Tensor, output: Tensor) -> Tensor:
            if layer in inputs:
                raise InputError(
                    f"layer {layer.name} is used twice in one forward pass, which cannot "
                    "be tracked; leave it out with layers="
                )
            x = x.detach().clone() if layer.careful else x.detach()
            if (
                not output.requires_grad
            ):  # a first layer: parameters are frozen, so nothing before it asks for a gradient
                leaves.append(output.detach().requires_grad_())
                output = leaves[
                    -1
                ].clone()  # what follows may change it in place, which a leaf would refuse
            inputs[layer] = x, x._version
            output.register_hook(
                lambda g: each(Tap(layer, inputs[layer][0], layer.returned(g), first, self.scratch))
            )
            return output

        hooks = [
            layer.module.register_forward_hook(
                lambda _, x, output, layer=layer: watch(layer, x[0], output)  # type: ignore[arg-type]  # a tensor
            )
            for layer in self.every
        ]
        try:
            with torch.enable_grad(), self.frozen():
                with devices.autocast(precision):
                    logits = self.model(images)
                changed = [layer for layer, (x, version) in inputs.items() if x._version != version]
                scalars = [] if changed else list(weigh(logits.float()))
                for turn, scalar in enumerate(scalars, 1):
                    torch.autograd.grad(
                        scalar, leaves, retain_graph=turn < len(scalars), allow_unused=True
                    )
                    first = False
        finally:
            for hook in hooks:
                hook.remove()
        if changed:
            for layer in changed:
                layer.careful = True
            self.tap(images, weigh, each, precision)


def finite(values: Shaped[Tensor, "... B"], rows: Int[Tensor, " B"], what: str) -> None:
    """Raise RunError naming the rows whose gradient is not finite."""
    bad = ~values.isfinite().flatten(0, -2).all(0) if values.ndim > 1 else ~values.isfinite()
    if bad.any():
        names = ", ".join(map(str, rows[bad.cpu()][:5].tolist()))
        raise RunError(
            f"the gradient of {int(bad.sum())} {what} is not finite, rows {names}; a model "
            "whose loss overflowed, or activations=bf16, is the usual cause"
        )
