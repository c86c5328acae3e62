"""Decode images: as they are packed, all of one size, or as an encoder looks at one."""

from __future__ import annotations

import array
import contextlib
import functools
import hashlib
import importlib.util
import io
import itertools
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, features

from datablame.base.errors import InputError

SMALL = 96
"""Images of one common size up to this are kept as they are; others are brought to one size."""

STAMPED = 10_000
"""Names of files that are hashed at a time."""
THIN = 8
"""Times as long as wide, from which on a picture's ends are cut off before it is resized."""
MARGIN = 0.1
"""About a box, in shares of its longer side."""
LARGEST_SIDE = 4096
"""Pixels that an encoder looks at, at most."""
LARGEST = 1 << 30
"""Bytes of an image file; a larger one counts as unreadable."""

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are no image, or a broken one."""

TURNED = 5
"""First of Exif's orientations that swap width and height."""
SIZES = "sizes.npy"
"""Beside packed images: the width and height that each had by itself."""


@dataclass(frozen=True)
class View:
    """How an encoder looks at a picture: its shorter side is brought to `resize` pixels, and `size`
    cut out of the middle; it is squashed to `size` where `resize` is 0.
    """

    size: int
    resize: int = 0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if not (0 < self.size <= LARGEST_SIDE and 0 <= self.resize <= LARGEST_SIDE):
            raise InputError(
                f"an encoder looks at 1 to {LARGEST_SIDE} pixels; got {self.size} of {self.resize}"
            )
        if self.interpolation.upper() not in Image.Resampling.__members__:
            raise InputError(f"'{self.interpolation}' is no interpolation")


@functools.cache
def endings() -> frozenset[str]:
    """Of files that are read as images: AVIF where Pillow was built with it, HEIC where pillow-heif
    is installed.
    """
    found = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
    if "avif" in features.modules and features.check("avif"):
        found.add(".avif")
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
        found |= {".heic", ".heif"}
    return frozenset(found)


def content(path: Path) -> bytes:
    """The bytes of an image file.

    Raises OSError for what is not a regular file of at most LARGEST bytes: reading a pipe would
    wait for ever, and a device has no end.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            raise OSError(f"{path} is no file of at most {LARGEST >> 20} MB")
        return file.read()


def peek(data: bytes) -> tuple[tuple[int, int], bool] | None:
    """((width, height), is it grey) of an encoded image; None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            grey = image.mode in ("1", "L", "F") or image.mode.startswith("I")
            return _extent(image), grey
    except UNREADABLE:
        return None


def decode(data: bytes, channels: int, width: int, height: int) -> np.ndarray | None:
    """Encoded bytes as uint8 `[C,H,W]`: turned upright, shorter side resized, centre cropped; None
    where unreadable.
    """
    found = decoded(data, channels, width, height)
    return None if found is None else found[0]


def decoded(
    data: bytes, channels: int, width: int, height: int
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """`decode`, and the (width, height) that the picture had."""
    if _ends(data) and _plain(data) == (height, width) and (fast := _jpeg()):
        with contextlib.suppress(RuntimeError):  # damaged, or of a kind that Pillow may read
            pixels = fast(data, channels)
            if pixels.shape == (channels, height, width):
                return pixels, (width, height)
    seen = _seen(data, "L" if channels == 1 else "RGB", (2 * width, 2 * height))
    if seen is None:
        return None
    upright, extent = seen
    if upright.size != (width, height):
        upright = ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(upright)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1), extent


def _ends(data: bytes) -> bool:
    """Whether a JPEG file ends as one; of others torchvision's decoder prints a line."""
    return data[-2:] == b"\xff\xd9"


def _plain(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG file of grey or YCbCr that no tag turns; None for anything else."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 < len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in (0xC0, 0xC1, 0xC2):
            extent = int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
            return extent if data[at + 9] in (1, 3) else None
        if kind in (0xE1, 0xEE):  # Exif or XMP, Adobe's colours
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


@functools.cache
def _jpeg() -> Callable[[bytes, int], np.ndarray] | None:
    """torchvision's decoder, three times as fast as Pillow for small images and the same to the
    bit, since both are libjpeg-turbo; None where torchvision comes without it.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    homes = found.submodule_search_locations if found else None
    library = next((file for home in homes or () for file in Path(home).glob("image*.so")), None)
    if library is None:
        return None
    try:
        torch.ops.load_library(library)  # the whole of torchvision takes seconds to import
        make = torch.ops.image.decode_jpeg.default
    except (OSError, AttributeError, RuntimeError):
        return None

    def read(data: bytes, channels: int) -> np.ndarray:
        held = torch.from_numpy(np.frombuffer(bytearray(data), "uint8"))
        return make(held, channels, False).numpy()  # its ImageReadMode: 1 is GRAY, 3 is RGB

    return read


def look(data: bytes, view: View) -> np.ndarray | None:
    """Encoded bytes as uint8 `[3,S,S]`, as an encoder looks at them; None where unreadable. As
    torchvision's Resize and CenterCrop do it.
    """
    side = view.resize or view.size
    seen = _seen(data, "RGB", (2 * side, 2 * side))
    if seen is None:
        return None
    upright = seen[0]
    short = min(upright.size)
    if max(upright.size) > THIN * short and view.resize:  # what is cut away need not be enlarged
        middle = tuple(min(extent, THIN * short) for extent in upright.size)
        upright = ImageOps.fit(upright, middle)  # type: ignore[arg-type]  # two numbers
    width, height = upright.size
    wide, high = (view.size,) * 2
    if view.resize:
        wide, high = (int(side * extent / short) for extent in (width, height))
    how = Image.Resampling[view.interpolation.upper()]
    resized = upright if upright.size == (wide, high) else upright.resize((wide, high), how)
    left, top = (round((extent - view.size) / 2) for extent in (wide, high))
    cut = resized.crop((left, top, left + view.size, top + view.size))
    return np.asarray(cut).transpose(2, 0, 1)


def _seen(
    data: bytes, mode: str, draft: tuple[int, int]
) -> tuple[Image.Image, tuple[int, int]] | None:
    """A picture turned as it was taken, in `mode`, on white where it is see-through, and its
    (width, height); None where it is unreadable. JPEG is decoded at a fraction of its size where
    that is still above `draft`.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            extent, turn = _extent(image), _turn(image)
            image.draft(mode, draft)
            upright = image if turn == 1 else ImageOps.exif_transpose(image)
            return _opaque(_eight_bits(upright)).convert(mode), extent
    except UNREADABLE:
        return None


def _extent(image: Image.Image) -> tuple[int, int]:
    """(width, height) of a picture, upright."""
    width, height = image.size
    return (width, height) if _turn(image) < TURNED else (height, width)


def _turn(image: Image.Image) -> int:
    """How a picture was held when it was taken, by its Exif: 1 upright, from TURNED on its side."""
    turn = image.getexif().get(0x0112, 1)
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def whole(data: bytes, frame: tuple[int, int]) -> Image.Image:
    """A picture in grey or in colours, turned as it was taken; as it was stored, where a frame of
    that size was meant. Raises OSError where it is unreadable.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = ImageOps.exif_transpose(image)
            stored = image.size == frame != turned.size
            found = _opaque(_eight_bits(image if stored else turned))
            return found.convert("L" if found.mode in ("1", "L") else "RGB")
    except UNREADABLE as error:
        raise OSError(str(error)) from None


def cut(image: Image.Image, place: Sequence[float]) -> bytes:
    """A box of a picture with a margin, as PNG: a square about it, inside the picture as far as
    that goes. `place` is left, top, width, height, measured on an image of the last two numbers.
    """
    scale = [extent / frame for extent, frame in zip(image.size, place[4:], strict=True)]
    extents = [length * by for length, by in zip(place[2:4], scale, strict=True)]
    side = max(1, min(round(max(extents) * (1 + 2 * MARGIN)), max(image.size)))
    corner = []
    for start, extent, by, end in zip(place[:2], extents, scale, image.size, strict=True):
        low, room = round(start * by + (extent - side) / 2), end - side
        corner.append(min(max(low, 0), room) if room >= 0 else room // 2)
    left, top = corner
    return encoded(image.crop((left, top, left + side, top + side)), compress_level=1)


def picture(pixels: np.ndarray) -> Image.Image:
    """uint8 `[C,H,W]` as a picture."""
    plane = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(plane))


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """A picture as a file's bytes; `options` are Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 90} if kind == "jpeg" else {}) | options)
    return file.getvalue()


def extent(path: Path) -> tuple[int, int] | None:
    """(width, height) of an image file, upright; None where it cannot be read."""
    try:
        seen = peek(content(path))
    except OSError:
        return None
    return seen and seen[0]


def _opaque(image: Image.Image) -> Image.Image:
    """A picture with an alpha channel, laid on white."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, (255,) * 4), seen)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pictures of 16 bits, whole numbers or floats brought to the range of a byte, which Pillow
    would only clip.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, dtype="float64")
    top = 65535 if image.mode.startswith("I") else max(float(values.max()), 1e-9)
    return Image.fromarray((values / top * 255).clip(0, 255).astype("uint8"))


def key(*parts: object) -> str:
    """The name of a packed set in the cache."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=10).hexdigest()


def facts(paths: Sequence[str]) -> np.ndarray:
    """int64 `[n,2]`: size and time of change of files; zeros for one that cannot be looked at."""
    found = array.array("q")
    parts = (paths[start : start + STAMPED] for start in range(0, len(paths), STAMPED))
    for path in itertools.chain.from_iterable(parts):
        try:
            about = os.stat(path)
        except OSError:  # gone, a link to nothing, or to itself
            found.extend((0, 0))
            continue
        found.extend((about.st_size, about.st_mtime_ns))
    return np.frombuffer(found, "int64").reshape(-1, 2)


def stamp(paths: Sequence[str], known: np.ndarray) -> str:
    """Of files by their names and `facts`: what the cache goes by."""
    total = hashlib.blake2b(np.ascontiguousarray(known).data, digest_size=16)
    for start in range(0, len(paths), STAMPED):
        total.update("\0".join(paths[start : start + STAMPED]).encode(errors="surrogateescape"))
    return total.hexdigest()
