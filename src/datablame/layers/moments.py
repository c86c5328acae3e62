"""Second moments of a layer's inputs, `sum_n sum_s a_ns a_ns^T`, in as few products as there is
structure for.

A convolution's patches overlap: block (k1, k2) of the moment is an autocorrelation of the input at
offset k2 - k1, up to the borders. 13 products of the channels instead of 81 for a 3x3 kernel,
exactly. Elsewhere only a block triangle is multiplied.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional

from datablame.base.shapes import Float, Shaped
from datablame.layers.taps import Layer, Tap

LARGE = 512
"""Inputs from which on the structure pays."""
PARTS = 4
"""Column blocks of the triangle: (PARTS + 1) / (2 PARTS) of the products."""


class Moment:
    """Gathers `sum a a^T` of one layer; `finish` gives it as `[G,I,I]`."""

    def __init__(self, layer: Layer):
        self.layer = layer
        self.by: Triangle | Autocorrelation | None = None

    def update(self, tap: Tap) -> None:
        if self.by is None:
            self.by = (
                Autocorrelation(self.layer) if Autocorrelation.fits(tap) else Triangle(self.layer)
            )
        self.by.update(tap)

    def finish(self) -> Float[Tensor, "G I I"]:
        assert self.by is not None
        return self.by.finish()


class Triangle:
    """The upper block triangle of `a^T a`; torch has no such product of its own."""

    def __init__(self, layer: Layer):
        self.layer = layer
        self.sum: Tensor | None = None

    def update(self, tap: Tap) -> None:
        a = tap.rows.flatten(1, 2)
        i = a.shape[-1]
        if self.sum is None:
            self.sum = a.new_zeros(len(a), i, i, dtype=torch.float32)
        edges = [i * part // PARTS for part in range(PARTS + 1)] if i >= LARGE else [0, i]
        for low, high in itertools.pairwise(edges):
            add(self.sum[:, low:high, low:], a[..., low:high].mT, a[..., low:])

    def finish(self) -> Float[Tensor, "G I I"]:
        assert self.sum is not None
        return self.sum.triu() + self.sum.triu(1).mT


def add(
    to: Float[Tensor, "G m n"], left: Shaped[Tensor, "G m k"], right: Shaped[Tensor, "G k n"]
) -> None:
    """`to += left @ right`, summed in fp32."""
    if left.dtype == torch.float32 and len(to) == 1:
        to[0].addmm_(left[0], right[0])
    else:
        to += left @ right


class Autocorrelation:
    """The moment of a convolution's patches from products of shifted images.

    The padded image is cut into regions: each of the first and last M - 1 rows, and the core
    between them, times the same for columns. One product a region and offset is kept; block (k1,
    k2) is the sum of the regions that lie within the positions of k1. A stride is taken out first
    by putting s x s pixels into the channels.
    """

    @staticmethod
    def fits(tap: Tap) -> bool:
        """One group, no dilation, a square stride, a kernel that overlaps itself in an output that
        it fits into; borders that are padding, since others would need products of their own, four
        times the moment's memory; on a GPU one large product is faster than many small ones."""
        layer = tap.layer
        if not layer.conv or layer.groups > 1 or layer.inputs < LARGE or tap.x.device.type != "cpu":
            return False
        reach = [-(-k // s) for k, s in zip(layer.kernel, layer.stride, strict=True)]
        grid = layer.grid(layer.padded(tap.x[:1]))
        same = (
            layer.stride[0] == layer.stride[1]
            and layer.dilation == (1, 1)
            and tap.x.dtype == torch.float32
        )
        left, _, top, _ = layer.margin
        edged = (
            layer.mode == "constant" and (top > 0 or reach[0] == 1) and (left > 0 or reach[1] == 1)
        )
        return (
            same
            and edged
            and max(reach) > 1
            and all(n >= m for n, m in zip(grid, reach, strict=True))
        )

    def __init__(self, layer: Layer):
        self.layer = layer
        self.reach = tuple(-(-k // s) for k, s in zip(layer.kernel, layer.stride, strict=True))
        self.products: dict[tuple[int, int, int, int], Tensor] = {}
        self.total: Tensor | None = None
        self.count = 0
        my, mx = self.reach
        self.offsets = [
            (dy, dx) for dy in range(my) for dx in range(1 - mx, mx) if dy > 0 or dx >= 0
        ]

    def update(self, tap: Tap) -> None:
        layer, s = self.layer, self.layer.stride[0]
        padded = layer.padded(tap.x)
        self.grid = layer.grid(padded)
        z = spread(
            padded.permute(0, 2, 3, 1),
            [n + m - 1 for n, m in zip(self.grid, self.reach, strict=True)],
            s,
        )
        self.channels = z.shape[-1]
        self.full = _content(layer, tap.x)
        high, wide = z.shape[1:3]
        for (a, b), (c, d) in itertools.product(*self._regions((high, wide))):
            if self._outside(a, b, 0) or self._outside(c, d, 1):
                continue
            left = z[:, a:b, c:d].reshape(-1, self.channels).T
            for dy, dx in self.offsets:
                if c + dx < 0 or b + dy > high or d + dx > wide:
                    continue
                if self._outside(a + dy, b + dy, 0) or self._outside(c + dx, d + dx, 1):
                    continue
                right = z[:, a + dy : b + dy, c + dx : d + dx].reshape(-1, self.channels)
                key = (a, c, dy, dx)
                if key in self.products:
                    self.products[key].addmm_(left, right)
                else:
                    self.products[key] = left @ right
        if layer.bias:
            rows = layer.rows(tap.x.sum(0, keepdim=True)).sum(
                (0, 1, 2)
            )  # patches are linear in the image: sum the images first
            self.total = rows if self.total is None else self.total + rows
            self.count += len(tap) * self.grid[0] * self.grid[1]

    def _regions(self, size: tuple[int, int]) -> list[list[tuple[int, int]]]:
        """Along each axis: (start, end) of the first rows one by one, the core, the last rows one
        by one.
        """
        return [
            [(i, i + 1) for i in range(m - 1)]
            + [(m - 1, n)]
            + [(i, i + 1) for i in range(n, whole)]
            for m, n, whole in zip(self.reach, self.grid, size, strict=True)
        ]

    def _outside(self, start: int, end: int, axis: int) -> bool:
        """Does this stretch hold nothing but zeros of the padding?"""
        low, high = self.full[axis]
        return end <= low or start >= high

    def finish(self) -> Float[Tensor, "G I I"]:
        (my, mx), (high, wide), c = self.reach, self.grid, self.channels
        ends = [dict(each) for each in self._regions((high + my - 1, wide + mx - 1))]
        sample = next(iter(self.products.values()))
        moment = sample.new_zeros(my, mx, c, my, mx, c)
        for (y, x, dy, dx), product in self.products.items():
            for ky, kx in itertools.product(range(my), range(mx)):
                inside = ky <= y and ends[0][y] <= ky + high and kx <= x and ends[1][x] <= kx + wide
                if inside and ky + dy < my and 0 <= kx + dx < mx:
                    moment[ky, kx, :, ky + dy, kx + dx] += product
                    if (dy, dx) != (0, 0):
                        moment[ky + dy, kx + dx, :, ky, kx] += product.T
        moment = self._gathered(moment)
        if not self.layer.bias:
            return moment[None]
        assert self.total is not None
        whole = moment.new_zeros(self.layer.inputs, self.layer.inputs)
        whole[:-1, :-1], whole[-1], whole[:, -1] = moment, self.total, self.total
        whole[-1, -1] = self.count
        return whole[None]

    def _gathered(self, moment: Float[Tensor, "a b c d e f"]) -> Float[Tensor, "i i"]:
        """Pixels that a stride put into the channels back to their place in the kernel; what
        reaches beyond it is dropped.
        """
        s, (my, mx), (kh, kw) = self.layer.stride[0], self.reach, self.layer.kernel
        c = self.channels // s**2
        m = moment.view(my, mx, s, s, c, my, mx, s, s, c).permute(0, 2, 1, 3, 4, 5, 7, 6, 8, 9)
        m = m.reshape(my * s, mx * s, c, my * s, mx * s, c)[:kh, :kw, :, :kh, :kw]
        return m.reshape(kh * kw * c, kh * kw * c)


def spread(z: Float[Tensor, "B H W C"], size: list[int], stride: int) -> Float[Tensor, "B h w c"]:
    """Squares of `stride` x `stride` pixels put into the channels, cut or filled with zeros to
    `size`.
    """
    if stride == 1:
        return z.contiguous()[:, : size[0], : size[1]]
    (h, w), (high, wide) = z.shape[1:3], size
    z = functional.pad(z, (0, 0, 0, max(0, wide * stride - w), 0, max(0, high * stride - h)))
    z = z[:, : high * stride, : wide * stride]
    return z.unflatten(2, (wide, stride)).unflatten(1, (high, stride)).transpose(2, 3).flatten(3)


def _content(layer: Layer, x: Float[Tensor, "B ..."]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Along each axis, where the padded image, in squares of the stride, holds more than the
    padding's zeros.
    """
    left, _, top, _ = layer.margin
    height, width = x.shape[2:] if x.ndim == 4 else (1, x.shape[2])
    s = layer.stride[0]
    return (top // s, -(-(top + height) // s)), (left // s, -(-(left + width) // s))
