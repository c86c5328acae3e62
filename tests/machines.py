"""Two machines for tests: network namespaces with a cable between them, each with a launcher."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = (f"machine-a-{os.getpid()}", f"machine-b-{os.getpid()}")
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def _said(*words: str) -> bool:
    if shutil.which(words[0]) is None:
        return False
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _undo() -> None:
    for name in NAMES:
        _said("ip", "netns", "del", name)


@contextlib.contextmanager
def cable() -> Iterator[bool]:
    """Whether this system let us lay one: it needs Linux, `ip`, and rights that CI may not have."""
    _undo()
    try:
        yield (
            all(_said("ip", "netns", "add", name) for name in NAMES)
            and _said(*f"ip link add eth0 netns {NAMES[0]} type veth peer name eth0 netns {NAMES[1]}".split())
            and all(
                _said("ip", "-n", name, *words.split())
                for name, address in zip(NAMES, ADDRESSES, strict=True)
                for words in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up")
            )
        )  # fmt: skip
    finally:
        _undo()


def launched(
    number: int,
    script: Path,
    *words: str,
    restarts: int = 0,
    hidden: Path | None = None,
    room: str = "50%",
):
    """A launcher of two processes on one of the machines; `hidden`: a folder that it does not
    share, on a disk of its own with so much room.
    """
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2",
        "--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-id", "test",
        "--rdzv-endpoint", f"{ADDRESSES[0]}:29511", "--rdzv-conf", f"is_host={1 - number}",
        "--local-addr", ADDRESSES[number],
        str(script), *words,
    ]  # fmt: skip
    within = ["ip", "netns", "exec", NAMES[number]]
    if hidden is not None:
        within += ["sh", "-c", f'mount -t tmpfs -o size={room} none "{hidden}" && exec "$@"', "sh"]
    return subprocess.Popen(
        [*within, *torchrun],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "eth0",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        },
    )


@contextlib.contextmanager
def unplugged() -> Iterator[None]:
    """With the cable pulled."""
    words = "ip", "-n", NAMES[1], "link", "set", "eth0"
    assert _said(*words, "down")
    yield
    assert _said(*words, "up")
