"""What two processes must find when they work together; run by test_processes under torchrun."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import datablame as db
from datablame.base import processes
from datablame.base.errors import InputError
from datablame.layers.united import UnitedBatchNorm, average

processes.start()
RANK = processes.rank()
close = torch.testing.assert_close


def messages():
    """They are no pickles."""
    dist.broadcast_object_list = None
    for value in (True, None, 2.5, "text ü", [1, 2, 3], [], 10**12):
        assert processes.agree(value if RANK == 0 else "other") == value, value
        assert processes.agree(value if RANK == 1 else "other", source=1) == value, value
    assert processes.which(RANK == 1) == [1]
    processes.alike("the seed", "7")
    with pytest.raises(
        InputError, match=r"the seed is 0 at rank 0, and 1 at rank 1 on .*same command"
    ):
        processes.alike("the seed", str(RANK))


def parts():
    """Rows of all come together in order, also where they cannot be shared evenly."""
    for count in (0, 1, 2, 7):
        rows = torch.arange(count * 3).view(count, 3)
        mine = rows[processes.shard(torch.arange(count))]
        assert torch.equal(processes.together(mine, count), rows)
        known = processes.collected(mine, count)
        assert torch.equal(known, rows if RANK == 0 else rows[:0])
    mine = torch.full((1 + 2 * RANK, 2), RANK)
    assert processes.collected(mine).tolist() == ([[0, 0], *[[1, 1]] * 3] if RANK == 0 else [])
    weight = torch.arange(5.0)
    part = processes.shard(torch.arange(5)).float().requires_grad_()
    (processes.together(part, 5) * weight).sum().backward()
    close(part.grad, 2 * processes.shard(weight))  # both processes take the sum


def normalised():
    """BatchNorm over two processes: its output, gradients and running statistics are those of
    BatchNorm over the whole batch, also where one has no row of it.
    """
    for rows, size in ((7, (3, 4, 4)), (1, (3, 4, 4)), (9, (3,))):
        torch.manual_seed(0)
        x = torch.randn(rows, *size) * 3 + 20
        weight = torch.randn(rows, *size)
        plain = nn.BatchNorm2d(3) if len(size) == 3 else nn.BatchNorm1d(3)
        united = UnitedBatchNorm(3)
        whole = x.clone().requires_grad_()
        (plain(whole) * weight).sum().backward()
        mine = processes.shard(torch.arange(rows))
        part = x[mine].clone().requires_grad_()
        gradients = processes.Gradients(united)
        out = united(part)
        (out * weight[mine]).sum().backward()
        gradients.sum()
        close(part.grad, whole.grad[mine], rtol=1e-3, atol=1e-5)
        close(united.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
        close(united.running_var, plain.running_var, rtol=1e-4, atol=1e-5)
        close(united.running_mean, plain.running_mean)


def apart():
    """Statistics of each process's part: afterwards both have their mean."""
    norm = nn.BatchNorm1d(2)
    norm(torch.tensor([[1.0, 5.0], [3.0, 7.0]]) + 10 * RANK)
    average(norm)
    close(norm.running_mean, 0.1 * torch.tensor([7.0, 11.0]))


def gradients():
    """Sent in several buckets, of several passes, and with weights that nothing went through."""
    processes.BUCKET = 64
    torch.manual_seed(0)
    net = nn.ModuleDict({"a": nn.Linear(4, 8), "unused": nn.Linear(8, 8), "b": nn.Linear(8, 3)})
    x = torch.randn(10, 4)
    net["b"](net["a"](x).relu()).square().sum().backward()
    wanted = {name: weight.grad for name, weight in net.named_parameters()}
    sums = processes.Gradients(net, passes=2)
    assert len(sums.buckets) > 3
    for _ in range(2):
        net.zero_grad()
        for part in processes.shard(torch.arange(10)).tensor_split(2):
            assert not sums.sent
            net["b"](net["a"](x[part]).relu()).square().sum().backward()
        assert sums.sent, "the last gradients are on their way before the backward pass has ended"
        sums.sum()
        for name, weight in net.named_parameters():
            if wanted[name] is None:
                assert weight.grad is None
            else:
                close(weight.grad, wanted[name], rtol=1e-4, atol=1e-4)


def photographs(folder):
    """Each decodes its part; the array is the one that one process makes."""
    data = db.load(folder)
    if RANK == 0:
        np.save(folder.parent / "two.npy", data.pixels.array)
        (folder.parent / "two.txt").write_text(f"{data.fingerprint} {data.mean} {data.aside}")


for check in (messages, parts, normalised, apart, gradients):
    check()
photographs(Path(sys.argv[1]) / "photographs")
(Path(sys.argv[1]) / str(RANK)).write_text("done")
processes.stop()
