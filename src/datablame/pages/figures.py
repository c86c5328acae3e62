"""Figures: drawn once, kept in the run's `figures/`, and put into pages as data; or handed over."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from datablame.base import decode, files
from datablame.base.decode import encoded
from datablame.dataset import Dataset
from datablame.exchange.sets import original
from datablame.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, GREY, BLUE, RED, GREEN, ORANGE = (
    "#1f2430",
    "#8a93a6",
    "#3366cc",
    "#c8372d",
    "#2e8b57",
    "#d9822b",
)


DATED = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}
"""Kinds that figures are written as, and what is left out so that they are always the same."""
DPI = 150
KINDS: ContextVar[tuple[str, ...]] = ContextVar("kinds", default=tuple(DATED))
"""As which of them they are written now."""
LOOK: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6e9ef",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}
ASKED: ContextVar[dict[str, Any] | None] = ContextVar("asked", default=None)
"""Where matplotlib figures go by name, while somebody asks for them."""


@dataclass(frozen=True)
class Section:
    """A part of the report: what it is called, its HTML, and where it stands."""

    title: str
    html: Markup
    place: int


def figure(
    run: Run | Path,
    name: str,
    draw: Callable[..., None],
    width: float = 7.0,
    height: float = 3.0,
    columns: int = 1,
    rows: int = 1,
    heights: Sequence[float] | None = None,
) -> Markup:
    """An `<img>` of what `draw(*axes)` paints; also written to a run's figures/<name>.png, .svg and
    .pdf, or to another folder's, fit for a paper (as far as KINDS says). Where figures are asked
    for (`ASKED`), it goes there alone.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(page)
    with mpl.rc_context(LOOK):  # told to each axis by itself it takes twice as long
        axes = page.subplots(rows, columns, squeeze=False, height_ratios=heights).flatten()
        draw(*axes)
    if (asked := ASKED.get()) is not None:
        asked[name] = page
        return Markup("")
    if engine := page.get_layout_engine():  # once, and not twice for each kind
        engine.execute(page)
        page.set_layout_engine("none")
    home = run.path / "figures" if isinstance(run, Run) else run
    asked = KINDS.get()  # and what is there already, which would be left behind
    kinds = [kind for kind in DATED if kind in asked or (home / f"{name}.{kind}").exists()]
    kept = {kind: saved(page, kind) for kind in kinds}
    for kind, content in kept.items():
        files.write_bytes(home / f"{name}.{kind}", content)
    return Markup('<img class="figure" alt="{}" src="{}">').format(name, as_data(kept["png"]))


def saved(page: Figure, kind: str) -> bytes:
    """A figure as one of DATED."""
    import matplotlib as mpl

    file, undated = io.BytesIO(), {DATED[kind]: None}
    if kind == "png":  # `savefig` draws everything twice
        page.set_dpi(DPI)
        page.canvas.print_png(file, metadata=undated)  # type: ignore[attr-defined]  # of Agg
        return file.getvalue()
    with mpl.rc_context({"svg.hashsalt": "datablame", "pdf.fonttype": 42}):
        page.savefig(file, dpi=DPI, format=kind, metadata=undated)
    return file.getvalue()


def as_data(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(image).decode()


def picture(data: Dataset, row: int, side: int = 96) -> str:
    """One image as data, enlarged to at least `side` pixels: JPEG where it has colours."""
    image = thumbnail(data, row, side)
    kind = "jpeg" if image.mode == "RGB" else "png"
    return as_data(encoded(image, kind), kind)


def small(data: Dataset, row: int, side: int = 48) -> str:
    """One image as data, small."""
    return as_data(encoded(packed(data, row, side), "jpeg"), "jpeg")


def packed(data: Dataset, row: int, side: int):  # noqa: ANN201 - a PIL image
    """One image in colour, its longer side brought to `side`, by the pixels that are packed: no
    photograph is decoded anew.
    """
    from PIL import Image

    images = data.pixels
    place = int(data.rows[row])
    pixels = images.one(place) if images.noise else np.asarray(images.array[place])
    drawn = decode.picture(pixels).convert("RGB")
    scale = side / max(drawn.size)
    wide, high = (max(1, round(scale * extent)) for extent in drawn.size)
    return drawn.resize((wide, high), Image.Resampling.BICUBIC)


def large(data: Dataset, row: int, side: int = 512) -> str:
    """One image as data, as `enlarged` gives it."""
    return as_data(*enlarged(data, row, side))


def enlarged(data: Dataset, row: int, side: int) -> tuple[bytes, str]:
    """(an image, png or jpeg), at the size of the user's own file up to `side` pixels; as it was
    read where there is no file.
    """
    from PIL import Image, ImageOps

    content = original(data, row)
    if content is None:
        return encoded(thumbnail(data, row, 1)), "png"
    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (2 * side, 2 * side))
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((side, side))
    return encoded(upright, "jpeg"), "jpeg"


def thumbnail(data: Dataset, row: int, side: int = 96):  # noqa: ANN201 - a PIL image
    from PIL import Image

    data.need_pictures("a picture")
    image = decode.picture(data.pixels.one(int(data.rows[row])))
    scale = max(1, round(side / max(image.size)))
    return image.resize(
        (image.width * scale, image.height * scale),
        Image.Resampling.NEAREST if scale > 4 else Image.Resampling.BICUBIC,
    )
