"""The curvature that influence functions divide by: eigenvalues of each layer."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from datablame.base import readers
from datablame.pages.figures import GREY, INK, ORANGE, Section, figure
from datablame.pages.templating import rendered
from datablame.run import Run

FIGURES = ("curvature",)
LAYERS, SIDE = 12, 256
"""Layers that are drawn, and the most cells of a picture along a side."""
RANGE = 1e-12
"""Of eigenvalues that are drawn, relative to the largest."""


def curvature(run: Run) -> Section | None:
    """Of each kind that was fitted, the eigenvalues of every layer as a picture, output directions
    down and input directions across, and their spectra with the damping.
    """
    run = run.with_model
    figures = []
    for path in sorted((run.path / "curvature").glob("*.safetensors")):
        tensors, header = readers.read_tensors(path, endings=("/values", "_values"))
        facts = readers.parse_json(header.get("facts", ""), path, {"fisher": dict})
        layers = _values({name: each.numpy() for name, each in tensors.items()})
        if not layers:
            continue  # the first pass alone is done
        method = str(facts["fisher"].get("method", ""))
        some = dict(list(layers.items())[:LAYERS])
        paint = partial(_drawn, some)
        rows = -(-(len(some) + 1) // 4)
        name = f"curvature-{path.stem}"
        figures.append((method, len(layers), figure(run, name, paint, 8, 2.1 * rows, 4, rows)))
    if not figures:
        return None
    html = rendered("curvature", figures=figures, shown=LAYERS)
    return Section("Curvature", html, 35)


def _values(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`[O,I]` of each layer, its largest eigenvalues last; groups one below the other."""
    found = {}
    for name, each in tensors.items():
        layer, _, kind = name.rpartition("/")
        if kind == "values":
            found[layer] = each
        elif kind == "left_values" and f"{layer}/values" not in tensors:
            found[layer] = each[:, :, None] * tensors[f"{layer}/right_values"][:, None]
    return {layer: each.reshape(-1, each.shape[-1]) for layer, each in found.items()}


def _drawn(layers: dict[str, np.ndarray], *axes: Axes) -> None:
    spectrum = axes[len(layers)]
    for axis in axes[len(layers) + 1 :]:
        axis.set_axis_off()
    for axis, (name, values) in zip(axes, layers.items(), strict=False):
        few = values[:: -(-len(values) // SIDE), :: -(-values.shape[1] // SIDE)]
        top = max(float(values.max()), 1e-30)
        axis.imshow(
            few.clip(RANGE * top), norm=LogNorm(RANGE * top, top), cmap="magma", aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        axis.set_title(f"{name}, {len(values)} x {values.shape[1]}", fontsize=7, color=INK)
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
    for turn, values in enumerate(layers.values()):
        order = np.sort(values.ravel())[::-1]
        place = np.unique(np.geomspace(1, len(order), 200).astype(int)) - 1
        top = max(float(order[0]), 1e-30)
        shade = 0.15 + 0.7 * turn / max(1, len(layers) - 1)
        spectrum.plot(place + 1, order[place] / top, color=str(shade), linewidth=0.9)
        spectrum.axhline(0.1 * values.mean() / top, color=ORANGE, linewidth=0.5)
    spectrum.set(xscale="log", yscale="log", ylim=(RANGE, 2))
    spectrum.set_title("eigenvalues by rank", fontsize=8, color=GREY)
