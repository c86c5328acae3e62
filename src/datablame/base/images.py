"""Images behind `Dataset.batch`: one array of small ones, or photographs that are decoded from the
user's own files at the size that an encoder looks at.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from datablame.base import arrays, decode, devices, environment
from datablame.base.decode import View
from datablame.base.errors import InputError
from datablame.base.originals import Originals
from datablame.base.pixel_noise import Perturbation
from datablame.base.readers import read_array
from datablame.base.shapes import Float, Int, Shaped, UInt8

SLACK = 4.0
"""Grey levels, of 255, by which pixels may differ on the mean when they are decoded again: versions
of the decoder differ a little."""
LARGE, PIECE = 1 << 30, 64
"""Size in bytes above which the pages of a memory map are handed back every PIECE images: a
page fault maps up to a megabyte around an image, so that a batch taken at once would make the whole
file resident."""


class Packed:
    """Images as one uint8 array `[n,C,H,W]`, in memory or mapped from a `.npy` file; noise on their
    pixels is drawn as they are read. `originals` are what they were decoded from, and `native` the
    (width, height) of these.
    """

    drawn, kind = True, "uint8"
    """Whether there is something to draw; of the array."""

    def __init__(
        self,
        array: np.ndarray,
        digest: str = "",
        path: Path | None = None,
        noise: Perturbation | None = None,
        originals: Originals | None = None,
        native: tuple[int, int] = (0, 0),
    ):
        self.array = array
        self.originals, self.native = originals, native
        self.path = path
        self.noise = noise
        self.digest = (
            digest or hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).hexdigest()
        )

    @classmethod
    def open(cls, path: Path, digest: str, noise: Perturbation | None = None) -> Packed:
        """Images mapped from a `.npy` file. Raises InputError where the file is gone, or holds
        anything else.
        """
        if not path.exists():
            raise InputError(
                f"the images of this set are no longer at {path}; load it again from its source"
            )
        array = read_array(path, (None,) * 4, cls.kind, mode="c")
        cached = path.resolve().is_relative_to(environment.cache().resolve())
        if not cached and cls(array).digest != digest:  # it may be anybody's file
            raise InputError(f"{path} does not hold the images of this set; load it again")
        return cls(array, digest, path, noise)

    def perturbed(self, noise: Perturbation) -> Packed:
        """The same images with noise on them. Raises InputError where there is some already."""
        if self.noise is not None:
            raise InputError(
                f"these images have noise on them already ({self.noise.kind}, "
                f"{self.noise.amount:g})"
            )
        return Packed(self.array, self.digest, self.path, noise)

    def of(self, originals: Originals | None, native: Sequence[int]) -> Packed:
        """The same images, with what they were decoded from."""
        wide, high = native
        kind = Packed if self.drawn else Vectors
        return kind(self.array, self.digest, self.path, self.noise, originals, (wide, high))

    @property
    def photographs(self) -> bool:
        """Whether their originals, which are there, are larger than small pictures are."""
        return self.originals is not None and max(self.native) > decode.SMALL

    def content(self, row: int) -> bytes | None:
        """The user's own bytes of an image; None where they are not there, or no longer hold what
        was packed.
        """
        if self.originals is None:
            return None
        try:
            content = self.originals.read(row)
        except (OSError, ValueError, InputError):
            return None
        seen = decode.decode(content, *self.array.shape[1:])
        known = self.array[row].astype("int16")
        same = seen is not None and float(np.abs(seen - known).mean()) <= SLACK
        return content if same else None

    def decoded(self, content: bytes) -> UInt8[np.ndarray, "C H W"] | None:
        """Another picture, brought to the size of these; None where it cannot be read."""
        return decode.decode(content, *self.shape)

    @functools.cached_property
    def sizes(self) -> Int[np.ndarray, "n 2"] | None:
        """(width, height) of each image as it was found; None where that was not kept."""
        if self.path is None or not (path := self.path.with_name(decode.SIZES)).is_file():
            return None
        return read_array(path, (len(self.array), 2), "int32")

    @property
    def mark(self) -> str:
        """What these images are: the digest of the array, and the noise."""
        return (
            self.digest
            if self.noise is None
            else f"{self.digest}+{arrays.digest(repr(self.noise).encode())}"
        )

    @property
    def seen(self) -> str:
        """What an encoder sees of them: their mark, and how it looks at them."""
        return self.mark

    def one(self, row: int) -> UInt8[np.ndarray, "C H W"]:
        """A single image."""
        return self.batch(torch.tensor([row]))[0].cpu().numpy()

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        return self.array.shape[1:]  # type: ignore[return-value]  # always four axes

    @functools.cached_property
    def held(self) -> Tensor:
        """The array as a tensor: on the GPU where it takes at most a quarter of the free memory."""
        tensor = torch.from_numpy(self.array)
        device = devices.device()
        if device.type == "cuda" and self.array.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
            return tensor.to(device)
        return tensor

    @property
    def there(self) -> bool:
        """Whether they lie in the device's memory, all of them."""
        here = self.held.device.type == devices.device().type
        return here and not (isinstance(self.array, np.memmap) and self._large)

    @property
    def _large(self) -> bool:
        return self.array.nbytes > LARGE and self.held.device.type == "cpu"

    @property
    def place(self) -> torch.device:
        """Where rows of them are looked up."""
        return self.held.device

    def batch(self, rows: Int[Tensor, " B"]) -> Shaped[Tensor, "B C H W"]:
        """The images of these rows, on the device."""
        return self.arrived(self.fetched(rows), rows)

    def fetched(self, rows: Int[Tensor, " B"]) -> Shaped[Tensor, "B C H W"]:
        """The images of these rows, where they lie; a thread may do it while the device works."""
        rows = rows.to(self.held.device)
        if isinstance(self.array, np.memmap) and self._large:
            return torch.cat([self.read(part) for part in rows.split(PIECE)])
        return self.held[rows]

    def arrived(
        self, images: Shaped[Tensor, "B C H W"], rows: Int[Tensor, " B"]
    ) -> Shaped[Tensor, "B C H W"]:
        """What was fetched, on the device, with the noise that belongs to these rows."""
        images = devices.sent(images)
        if self.noise is None:
            return images
        parts = zip(images.split(PIECE), rows.split(PIECE), strict=True)
        return torch.cat([self.noise(part, which) for part, which in parts])

    def read(self, rows: Int[Tensor, " B"]) -> Shaped[Tensor, "B C H W"]:
        """The images of a few rows, and their pages handed back: the page cache keeps them."""
        images = self.held[rows]
        self.array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # of numpy's memmap
        return images


class Pictures(Packed):
    """Photographs as an encoder looks at them: decoded from the originals whenever they are asked
    for, by threads; the packed array beneath holds thumbnails.
    """

    def __init__(self, packed: Packed, view: View, kept: bool = False):
        """`kept`: by a run's folder, so that the originals may have changed since."""
        super().__init__(
            packed.array, packed.digest, packed.path, None, packed.originals, packed.native
        )
        self.packed, self.view, self.kept = packed, view, kept

    @property
    def seen(self) -> str:
        return f"{self.digest}@{arrays.digest(repr(self.view).encode())}"

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.view.size, self.view.size

    def decoded(self, content: bytes) -> UInt8[np.ndarray, "C H W"] | None:
        return decode.look(content, self.view)

    def one(self, row: int) -> UInt8[np.ndarray, "C H W"]:
        """A single image; its thumbnail where the original is gone, or has changed."""
        content = self.content(row)
        pixels = None if content is None else self.decoded(content)
        return np.array(self.array[row]) if pixels is None else pixels

    @property
    def there(self) -> bool:
        return False

    @property
    def place(self) -> torch.device:
        return torch.device("cpu")

    def fetched(self, rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C H W"]:
        """The images of these rows. Raises InputError for one that is gone."""
        return torch.from_numpy(np.stack(list(_threads().map(self._looked, rows.tolist()))))

    def _looked(self, row: int) -> UInt8[np.ndarray, "C H W"]:
        if self.originals is None:
            raise InputError(
                "the photographs of this set were in memory alone; load it again from its source"
            )
        try:
            content = self.content(row) if self.kept else None
            pixels = self.decoded(content or self.originals.read(row))
        except (OSError, ValueError) as error:
            raise InputError(f"an image of this set can no longer be read: {error}") from None
        if pixels is None or (self.kept and content is None):
            raise InputError(
                f"image {row} of this set can no longer be read as a picture, or is another one "
                "now; load the set again from its source"
            )
        return pixels


class Patterned(Packed):
    """Images under the one pattern of noise that was first published, as an encoder looks at them:
    brought to its size, the pattern added in units of the channels, neither rounded nor cut.

    Zheng & Jiang, 2022, whose code adds it after normalisation.
    """

    def __init__(self, packed: Packed, view: View):
        super().__init__(
            packed.array, packed.digest, packed.path, packed.noise, packed.originals, packed.native
        )
        self.packed, self.view = packed, view

    @property
    def seen(self) -> str:
        return f"{self.mark}@{arrays.digest(repr(self.view).encode())}"

    def one(self, row: int) -> UInt8[np.ndarray, "C H W"]:
        """A single image to be drawn, with noise of its own size."""
        return self.packed.one(row)

    def arrived(
        self, images: UInt8[Tensor, "B C H W"], rows: Int[Tensor, " B"]
    ) -> Float[Tensor, "B C S S"]:
        """What was fetched, on the device; floats, in [0, 1] but for the noise."""
        assert self.noise is not None
        size = (self.view.size, self.view.size)
        x = devices.sent(images).float() / 255
        x = interpolate(x, size, mode="bilinear", antialias=True) if x.shape[2:] != size else x
        return x + self.noise.pattern(x[0])


class Vectors(Packed):
    """Features in the place of images: `[n,D,1,1]` of float16, D channels of one pixel."""

    drawn, kind = False, "f"

    @classmethod
    def of_features(cls, features: Any) -> Vectors:
        """Numbers `[n,D]`, brought to a root mean square of one about their mean, so that weight
        decay means the same for all. Raises InputError where they are none, or not finite.
        """
        array = np.asarray(features)
        if array.ndim != 2 or array.dtype.kind not in "fiub" or not array.size:
            raise InputError(
                f"features are numbers [N,D]; these are {array.dtype} {list(array.shape)}"
            )
        array = array.astype("float32")
        if not np.isfinite(array).all():
            row = int((~np.isfinite(array)).any(1).argmax())
            raise InputError(f"features must be finite; those of row {row} are not")
        spread = float(np.sqrt(array.var(0, dtype="f8").mean())) or 1.0
        return cls((array / spread).clip(-6e4, 6e4).astype("float16")[:, :, None, None])

    def arrived(
        self, images: Float[Tensor, "B C H W"], rows: Int[Tensor, " B"]
    ) -> Float[Tensor, "B C H W"]:
        """The features that were fetched, on the device."""
        return super().arrived(images, rows).float()

    def perturbed(self, noise: Perturbation) -> Packed:
        raise InputError("features have no pixels that noise could be put on")


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "decode")


def shown(images: Packed, view: View, kept: bool = False) -> Packed:
    """Packed images as an encoder looks at them: photographs at its size, and what is under the one
    pattern of noise first published; others as they are. `kept`: by a run's folder.
    """
    if images.noise is not None:
        return Patterned(images, view) if images.noise.original else images
    return Pictures(images, view, kept) if kept or images.photographs else images


def looked_at(images: Packed, view: View | None) -> Packed:
    """Images as an encoder looks at them, whichever looked at them before."""
    images = images.packed if isinstance(images, (Pictures, Patterned)) else images
    return images if view is None else shown(images, view)


def statistics(images: Packed) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in [0, 1], over at most 4,096 images spread over
    the set.
    """
    rows = np.unique(np.linspace(0, len(images.array) - 1, 4096).astype(int))
    sums = np.zeros((2, images.shape[0]))
    for part in np.array_split(rows, -(-len(rows) // 64)):
        pixels = images.array[part].astype("float32") / 255
        sums += [pixels.sum((0, 2, 3), dtype="f8"), np.square(pixels).sum((0, 2, 3), dtype="f8")]
    mean, square = sums / (len(rows) * images.shape[1] * images.shape[2])
    std = np.sqrt(np.maximum(square - mean**2, 255**-2))
    return tuple(float(x) for x in mean.round(4)), tuple(float(x) for x in std.round(4))
