"""BatchNorm over the batch of all processes: one message forward and one backward.

Ioffe, Szegedy, 2015. arXiv:1502.03167. torch's SyncBatchNorm refuses the CPU; this one runs
anywhere, by torch's own fused passes for one process's part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datablame.base import devices, processes


def unite(model: nn.Module) -> nn.Module:
    """Let BatchNorm see the whole batch of all processes, so that two train what one would."""
    if processes.size() == 1:
        return model
    for name, child in model.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            united = UnitedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            united.load_state_dict(child.state_dict())
            setattr(model, name, united.to(next(iter(child.state_dict().values())).device))
        else:
            unite(child)
    return model


@torch.no_grad()
def average(model: nn.Module) -> None:
    """The running statistics of BatchNorms that saw each its process's part: their mean."""
    if processes.size() > 1:
        for name, kept in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                kept.copy_(processes.total(kept.clone()) / processes.size())


class UnitedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batch of all processes."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected [B,C] or [B,C,H,W], got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count, mean, variance = _statistics(input)
        with torch.no_grad():
            rate = self.momentum or 0.0
            for kept, seen in (
                (self.running_mean, mean),
                (self.running_var, variance * (count / (count - 1).clamp_min(1))),
            ):
                if kept is not None:
                    kept.lerp_(seen, rate)
        return _Normalise.apply(input, self.weight, self.bias, mean, variance, count, self.eps)  # type: ignore[return-value]  # a tensor


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(numbers a channel, mean, variance) over all processes. Sums go out in double precision, so
    that the variance is no difference of like numbers.
    """
    channels, count = x.shape[1], x.numel() // x.shape[1]
    sums = x.new_zeros(2 * channels + 1, dtype=WIDE[x.device.type in devices.LACKING])
    if count:
        wide = torch.zeros(2, channels, device=x.device)  # in single precision, whatever x is in
        mean, variance = torch.batch_norm_update_stats(x, wide[0], wide[1], 0.0)
        mean, variance = mean.to(sums), variance.to(sums)
        sums = torch.cat([sums.new_ones(1), mean, variance + mean.square()]) * count
    count, first, second = processes.total(sums).split([1, channels, channels])
    mean = first / count
    return count.float(), mean.float(), (second / count - mean.square()).clamp_min(0).float()


WIDE = (torch.float64, torch.float32)
"""What sums are sent in; by devices that have no double precision."""


class _Normalise(torch.autograd.Function):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, where mean and variance are of all
    processes' x, and the gradient knows it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        if not x.numel():  # a process without a row; torch divides by their number
            return x.clone()
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, variance, count = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        dx, by_weight, by_bias = slope, torch.zeros_like(mean), torch.zeros_like(mean)
        if x.numel():
            dx, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                slope, x, weight, mean, variance, mean, inverse, False, ctx.eps, [True, True, True]
            )
        whole = processes.total(torch.cat([by_bias, by_weight])) / count
        of_mean, of_spread = whole.split(len(mean))
        # dx = scale * (slope - of_mean - normalised * of_spread), of which the first is there
        scale = inverse if weight is None else inverse * weight
        bent = scale * inverse * of_spread
        shape = [1, -1] + [1] * (x.dim() - 2)
        dx.addcmul_(x, bent.view(shape).to(x.dtype), value=-1)
        dx.sub_((scale * of_mean - bent * mean).view(shape).to(x.dtype))
        kept = (None, None) if weight is None else (by_weight, by_bias)
        return dx, *kept, None, None, None, None
