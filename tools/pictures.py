"""The pictures of the documents that are drawn from runs on the embedded digits: `python
tools/pictures.py`, a minute on two cores.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import datablame as db

DOCS = Path(__file__).parents[1] / "docs"
RIGHT, WRONG = "#8a8a8a", "#c0392b"


def idea(run: db.Run) -> None:
    """What is recorded, what is made of it, and what is found."""
    wrong = run.data.wrong.numpy()
    loss = losses(run)
    suspect = run.verdict.p_wrong.numpy()
    page = Figure(figsize=(10, 4.8), layout="constrained")
    upper, lower = page.subfigures(2, 1, height_ratios=(2.2, 1))
    curves, scores = upper.subplots(1, 2)
    for rows, colour, name in ((~wrong, RIGHT, "right labels"), (wrong, WRONG, "wrong labels")):
        some = np.flatnonzero(rows)[:40]
        curves.plot(np.arange(1, len(loss) + 1), loss[:, some], color=colour, alpha=0.25, lw=0.8)
        curves.plot([], [], color=colour, label=name)
        scores.hist(suspect[rows], np.linspace(0, 1, 41), color=colour, alpha=0.75, label=name)
    curves.set(xlabel="epoch", ylabel="loss (nats)", title="1  What the net says while it learns")
    scores.set(xlabel="probability that the label is wrong", title="2  Signals, put together")
    scores.set(ylabel="images", yscale="log")
    for axis in (curves, scores):
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    lower.suptitle("3  The most suspect: as labelled, and as proposed", fontsize=12)
    order = run.verdict.p_wrong.argsort(descending=True, stable=True)
    fixed = [int(row) for row in order if run.verdict.proposed[row] >= 0][:12]
    for axis, row in zip(lower.subplots(1, 12), fixed, strict=True):
        axis.imshow(run.data.pixels.one(row)[0], cmap="gray_r")
        given = run.data.classes[int(run.data.labels[row])]
        axis.set_title(f"{given} → {run.data.classes[int(run.verdict.proposed[row])]}", fontsize=10)
        axis.set_axis_off()
    page.savefig(DOCS / "idea.png", dpi=110)


def losses(run: db.Run) -> np.ndarray:
    return np.stack([run.trace.at("loss", epoch) for epoch in range(run.trace.epochs)])


def temperatures(run: db.Run) -> np.ndarray:
    return np.asarray(run.trace["temperature"], "float32")


def curves(name: str, run: db.Run, values: np.ndarray, what: str) -> None:
    """Numbers `[T,N]` over the epochs: some of the right labels, and of the wrong ones."""
    page = Figure(figsize=(6.4, 2.8), layout="constrained")
    axis = page.subplots()
    wrong = run.data.wrong.numpy()
    for rows, colour, words in ((~wrong, RIGHT, "right labels"), (wrong, WRONG, "wrong labels")):
        some = np.flatnonzero(rows)[:30]
        axis.plot(np.arange(1, len(values) + 1), values[:, some], color=colour, alpha=0.25, lw=0.8)
        axis.plot([], [], color=colour, label=words)
    axis.set(xlabel="epoch", ylabel=what)
    _saved(page, axis, name)


def shares(name: str, run: db.Run, signal: str, what: str) -> None:
    """A signal of the right labels, and of the wrong ones."""
    values = db.score(run, signal).values.numpy()
    page = Figure(figsize=(6.4, 2.8), layout="constrained")
    axis = page.subplots()
    wrong = run.data.wrong.numpy()
    bins = np.linspace(*np.quantile(values, (0.002, 0.998)), 50)
    for rows, colour, words in ((~wrong, RIGHT, "right labels"), (wrong, WRONG, "wrong labels")):
        axis.hist(values[rows].clip(bins[0], bins[-1]), bins, color=colour, alpha=0.75, label=words)
    axis.set(xlabel=what, ylabel="images", yscale="log")
    _saved(page, axis, name)


def _saved(page: Figure, axis: Axes, name: str) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    page.savefig(DOCS / f"method-{name}.png", dpi=110)


def one(data: db.Dataset, row: int) -> np.ndarray:
    """The image of a row."""
    return data.pixels.one(int(data.rows[row]))


def pointing() -> None:
    """Queries, and the images that Memory Wrap's answers rest on."""
    found = db.memory.show("demo", queries=4)
    page = Figure(figsize=(6.4, 4.4), layout="constrained")
    table = page.subplots(4, 7)
    for axes, (query, rows, weights) in zip(
        table, zip(range(4), found.rows, found.weights, strict=True), strict=True
    ):
        shown = [(one(found.queries, query), "query")]
        shown += [
            (one(found.run.data, int(row)), f"{weight:.0%}")
            for row, weight in zip(rows[:6], weights[:6], strict=False)
        ]
        for axis in axes:
            axis.set_axis_off()
        for axis, (image, words) in zip(axes, shown, strict=False):
            axis.imshow(image[0], cmap="gray_r")
            axis.set_title(words, fontsize=9)
    page.savefig(DOCS / "method-memory-wrap.png", dpi=110)


def main() -> None:
    noise = {"noise": "pair", "amount": 0.2}
    with tempfile.TemporaryDirectory() as home:
        idea(db.audit("digits", **noise, retrain=False, out=home))
        plain = db.train("digits", **noise, epochs=25, folds=0, out=home)
        curves("training-dynamics", plain, losses(plain), "loss (nats)")
        shares("influence", plain, "self_influence", "self-influence (nats)")
        warm = db.train("digits", **noise, trainer="data_parameters", folds=0, epochs=25, out=home)
        curves("data-parameters", warm, temperatures(warm), "temperature")
        shares("memorization", plain, "loo", "loss without the example (nats)")
    pointing()


if __name__ == "__main__":
    main()
