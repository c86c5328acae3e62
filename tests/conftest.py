"""Shared pieces. Shapes in annotations are checked at run time by beartype while the tests run."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from jaxtyping import install_import_hook

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
from house import floors

UNCHECKED = {"verbs", "cli", "__main__", "__init__"}
"""The command line reads other types from these."""
CHECKED = {name.replace("/", ".") for name in floors()} - UNCHECKED
install_import_hook([f"datablame.{name}" for name in sorted(CHECKED)], "typecheck.checked")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from datablame import Recipe, verbs  # noqa: E402
from datablame.dataset import Dataset  # noqa: E402
from datablame.optimization import state  # noqa: E402
from datablame.optimization.state import TrainingState  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10"
TINY = Recipe(
    model="mlp,hidden=32", epochs=6, batch_size=16, lr=0.1, folds=3, augment="none", checkpoints=2
)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Decoded images go to a folder of the tests' own."""
    os.environ["DATABLAME_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("DATABLAME_DATA", None)
    return Path(os.environ["DATABLAME_CACHE"])


@pytest.fixture(autouse=True)
def loud():
    """A test that was quiet leaves the next one its messages."""
    yield
    logging.getLogger("datablame").setLevel(logging.NOTSET)


def blobs(n: int = 90, seed: int = 0, wrong: tuple[int, ...] = (7,), grey: bool = True) -> Dataset:
    """Three clean, well separated classes of 8x8 images; the labels of the rows in `wrong` are
    moved on by one class.
    """
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    images = generator.normal(90, 12, (n, 1 if grey else 3, 8, 8))
    for k in range(3):
        images[truth == k, :, :, 3 * k - (k == 2) : 3 * k + 2] += 90
    labels = truth.copy()
    labels[list(wrong)] = (labels[list(wrong)] + 1) % 3
    return Dataset.from_arrays(
        images.clip(0, 255).astype("uint8"),
        labels,
        ("left", "middle", "right"),
        truth=truth,
        source="blobs",
    )


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run on blobs with one wrong label, row 7."""
    out = tmp_path_factory.mktemp("runs")
    return verbs.train(blobs(), recipe=TINY, out=out, test=blobs(30, 1, ()))


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    """A whole audit of digits with planted noise, by the command line's own verb."""
    return verbs.audit(
        "digits",
        recipe=Recipe(epochs=15),
        noise="uniform",
        amount=0.1,
        out=tmp_path_factory.mktemp("audit"),
    )


@pytest.fixture
def interrupted(monkeypatch):
    """Interrupts a training once its fourth epoch is kept, and lets the next one be."""

    def call(train: Callable[[], object]) -> None:
        save = TrainingState.save

        def stop(self, epoch):
            save(self, epoch)
            if epoch == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr(TrainingState, "save", stop)
        monkeypatch.setattr(state, "PAUSE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train()
        monkeypatch.undo()

    return call


@pytest.fixture
def png():
    """Bytes of a small PNG with a given colour."""
    import io

    from PIL import Image

    def make(
        colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (12, 12)
    ) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", size, colour).save(file, "PNG")
        return file.getvalue()

    return make
