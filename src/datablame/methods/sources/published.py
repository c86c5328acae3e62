"""The files that image sets were published as: CIFAR-10 and CIFAR-100 (binary), MNIST and its kin
(IDX), SVHN (.mat), STL-10 (binary). The Python version of CIFAR holds pickles, which can run code:
it is not read.
"""

from __future__ import annotations

import dataclasses
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datablame.base.errors import InputError
from datablame.dataset import Dataset

Read = tuple[np.ndarray, np.ndarray]
"""Images uint8 [N,C,H,W], and class numbers [N]."""
IDX, MOST = {1: 0x801, 3: 0x803}, 1 << 31
"""First four bytes by the number of axes, and bytes that are read at most."""


def published(where: str, split: str = "train", limit: int | None = None) -> Dataset | None:
    """A folder with a set's published files, by their names: cifar-10-batches-bin/,
    cifar-100-binary/, train-images-idx3-ubyte.gz, train_32x32.mat, stl10_binary/.

    Raises InputError for a file that is missing, cut or of another layout.
    """
    home = Path(where)
    read, names = _found(home)
    if read is None:
        raise InputError(
            f"{where} is the Python version of CIFAR, which holds pickles, and these can run code; "
            "take the binary version: cifar-10-binary.tar.gz, cifar-100-binary.tar.gz"
        )
    images, labels = read(home, split)
    if len(images) != len(labels):
        raise InputError(f"{where} has {len(images):,} images and {len(labels):,} labels ({split})")
    images, labels = images[:limit], labels[:limit]
    classes = _words(home / names) if names else None
    if classes is None:
        classes = [str(k) for k in range(int(labels.max()) + 1)]
    if len(classes) <= int(labels.max()):
        raise InputError(
            f"{where} has {len(classes)} class names, and labels up to {int(labels.max())}"
        )
    rows = [f"{split}/{row:06d}" for row in range(len(labels))]
    data = Dataset.from_arrays(images, labels.astype("int64"), classes, rows, source=home.name)
    return dataclasses.replace(data, split=split)


def holds(path: Path) -> bool:
    """Whether a folder has the files of one of these sets."""
    return path.is_dir() and any((path / name).is_file() for name in MARKS)


def _found(home: Path) -> tuple[Callable[[Path, str], Read] | None, str]:
    """(what reads the files of a folder, the file with the names of its classes)."""
    return next(kind for name, kind in MARKS.items() if (home / name).is_file())


def _records(path: Path, length: int) -> np.ndarray:
    """uint8 `[n, length]`: a file of records. Raises InputError where it is missing or cut."""
    if not path.is_file():
        raise InputError(f"there is no file {path}, which belongs to the set")
    size = path.stat().st_size
    if not size or size % length:
        raise InputError(
            f"{path} has {size:,} bytes, which are no whole number of records of {length:,}: it is "
            "cut, or another file"
        )
    return np.fromfile(path, "uint8").reshape(-1, length)


def _cifar10(home: Path, split: str) -> Read:
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] if split == "train" else ["test_batch.bin"]
    rows = np.concatenate([_records(home / name, 3073) for name in names])
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def _cifar100(home: Path, split: str) -> Read:
    rows = _records(home / f"{split}.bin", 3074)
    return rows[:, 2:].reshape(-1, 3, 32, 32), rows[:, 1]


def _stl10(home: Path, split: str) -> Read:
    images = _records(home / f"{split}_X.bin", 3 * 96 * 96).reshape(-1, 3, 96, 96)
    return images.transpose(0, 1, 3, 2), _records(home / f"{split}_y.bin", 1)[:, 0] - 1


def _mnist(home: Path, split: str) -> Read:
    stem = "train" if split == "train" else "t10k"
    return _idx(home, f"{stem}-images-idx3-ubyte", 3)[:, None], _idx(
        home, f"{stem}-labels-idx1-ubyte", 1
    )


def _idx(home: Path, name: str, axes: int) -> np.ndarray:
    """An array of an IDX file, compressed or not."""
    path = next((p for p in (home / name, home / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise InputError(f"there is no file {home / name} (or .gz), which belongs to the set")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MOST)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    head = np.frombuffer(content[: 4 + 4 * axes].ljust(4 + 4 * axes, b"\0"), ">u4")
    if len(content) < 4 * len(head) or head[0] != IDX[axes]:
        raise InputError(f"{path} is no IDX file of bytes with {axes} axes")
    shape = tuple(int(n) for n in head[1:])
    body = content[4 + 4 * axes :]
    if len(body) != int(np.prod(shape)):
        raise InputError(f"{path} holds {len(body):,} bytes for {list(shape)}: it is cut")
    return np.frombuffer(body, "uint8").reshape(shape)


def _svhn(home: Path, split: str) -> Read:
    """Class 10 stands for the digit 0."""
    from scipy.io import loadmat

    path = home / f"{split}_32x32.mat"
    if not path.is_file():
        raise InputError(f"there is no file {path}, which belongs to the set")
    try:
        found = loadmat(path, variable_names=["X", "y"])
        images, labels = np.asarray(found["X"]), np.asarray(found["y"]).ravel()
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise InputError(f"{path} cannot be read: {str(error)[:120]}") from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise InputError(
            f"{path} holds {images.dtype} {list(images.shape)}, not bytes [32, 32, 3, N]"
        )
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.astype("int64") % 10


def _words(path: Path) -> list[str] | None:
    """Names of classes, one a line."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


MARKS: dict[str, tuple[Callable[[Path, str], Read] | None, str]] = {
    "data_batch_1.bin": (_cifar10, "batches.meta.txt"),
    "fine_label_names.txt": (_cifar100, "fine_label_names.txt"),
    "train-images-idx3-ubyte": (_mnist, ""),
    "train-images-idx3-ubyte.gz": (_mnist, ""),
    "train_32x32.mat": (_svhn, ""),
    "train_X.bin": (_stl10, "class_names.txt"),
    "batches.meta": (None, ""),
    "file.txt~": (None, ""),
}
"""The file that tells a set, what reads it, and the file with the names of its classes."""
