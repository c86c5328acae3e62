"""What each place of an image adds to a score, drawn over it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from datablame.base.shapes import Float
from datablame.pages.contact_sheet import SIDE


def spread(cells: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "s s"]:
    """The cells over the image, smooth, from -1 to 1."""
    grown = Image.fromarray(
        (cells / max(float(np.abs(cells).max()), 1e-30)).astype("float32")
    ).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(grown).clip(-1, 1)


def over(image: Image.Image, heat: Float[np.ndarray, "s s"]) -> Image.Image:
    from matplotlib import colormaps

    grey = np.asarray(image.convert("L"), "float32")[:, :, None] / 255
    colour = colormaps["RdBu_r"]((heat + 1) / 2)[:, :, :3]
    strength = 0.8 * np.abs(heat)[:, :, None]
    return Image.fromarray(
        (255 * ((1 - strength) * grey + strength * colour)).round().astype("uint8")
    )


def kept(image: Image.Image, heat: Float[np.ndarray, "s s"]) -> Image.Image:
    shown = np.asarray(image, "float32") * heat.clip(0.2, 1)[:, :, None]
    return Image.fromarray(shown.round().astype("uint8"))
