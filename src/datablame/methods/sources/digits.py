"""Handwritten digits: 1,797 real 8x8 images bundled with scikit-learn (Alpaydin, Kaynak, 1998.

UCI).
"""

from __future__ import annotations

import numpy as np

from datablame.dataset import Dataset


def digits(where: str = "digits", split: str = "train", limit: int | None = None) -> Dataset | None:
    """scikit-learn's 1,797 handwritten digits, the embedded default."""
    if split != "train":
        return None
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels).reshape(-1, 1, 8, 8) * 255 / 16).round().astype("uint8")[:limit]
    return Dataset.from_arrays(images, labels[:limit], map(str, range(10)), source="digits")
