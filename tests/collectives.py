"""What two processes must find when they work together; run by test_processes under torchrun."""

import functools
import http.server
import io
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import datablame as db
from datablame.base import archives, files, processes, remote
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


def owned():
    """A sum comes to its owner alone, and what it makes of it to all that have it not."""
    assert processes.owners([1, 8, 4, 3]) == [1, 0, 1, 1]
    here = processes.added(torch.full((2, 2), 1.0 + RANK), 1)
    assert here.tolist() == ([[3, 3], [3, 3]] if RANK == 1 else [])
    mine = {"old": torch.ones(2) * RANK} | (
        {"new": here.T[:, :1], "none": here[:0]} if RANK else {}
    )
    found = processes.spread(mine, 1)
    assert found["new"].tolist() == [[3], [3]]
    assert found["none"].shape == (0, 2)
    assert found["old"].tolist() == [RANK, RANK], "what all have is not sent"


def photographs(folder):
    """Each decodes its part; the array is the one that one process makes."""
    data = db.load(folder)
    if RANK == 0:
        np.save(folder.parent / "two.npy", data.pixels.array)
        (folder.parent / "two.txt").write_text(f"{data.fingerprint} {data.mean} {data.aside}")


def shards(folder):
    """Compressed shards are unpacked, and files fetched, a share by each process."""
    unpacked = []
    inflate = archives._inflated
    archives._inflated = lambda path: unpacked.append(path.name) or inflate(path)
    if RANK == 0:
        for shard in range(4):
            with tarfile.open(folder / f"some-{shard}.tar.gz", "w:gz") as packed:
                for row in range(3):
                    packed.add(next((folder.parent / "photographs").rglob("000.jpg")), f"{row}.jpg")
                    about = tarfile.TarInfo(f"{row}.cls")
                    about.size = 1
                    packed.addfile(about, io.BytesIO(b"%d" % (row % 2)))
    processes.wait()
    archives.unpack(names := sorted(folder.glob("*.tar.gz")))
    assert unpacked == [f"some-{shard}.tar.gz" for shard in (RANK, RANK + 2)]
    data = db.load(folder)
    assert len(data) == 12
    assert not data.aside

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Nothing is said of a request."""

    fetched, port = [], 0
    write = files.write_alone
    files.write_alone = lambda path, blocks: fetched.append(path.name) or write(path, blocks)
    if RANK == 0:
        served = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
    root = f"http://127.0.0.1:{processes.agree(port)}"
    home, places = remote.images(root, [name.name for name in names])
    assert sorted(fetched) == [f"some-{shard}.tar.gz" for shard in (RANK, RANK + 2)]
    for name, place in zip(names, places, strict=True):
        assert (home / place).read_bytes() == name.read_bytes()
    assert remote.local(f"{root}/{names[3].name}") == home / places[3]
    processes.wait()  # for the server


for check in (messages, parts, normalised, apart, gradients, owned):
    check()
photographs(Path(sys.argv[1]) / "photographs")
(Path(sys.argv[1]) / "shards").mkdir(exist_ok=True)
shards(Path(sys.argv[1]) / "shards")
(Path(sys.argv[1]) / str(RANK)).write_text("done")
processes.stop()
