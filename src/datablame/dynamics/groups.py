"""Groups within a class, few and rare ones among them, found in curves and features together; and a
map of curves. HDBSCAN: Campello, Moulavi, Sander, 2013. doi:10.1007/978-3-642-37456-2_14; t-SNE:
van der Maaten, Hinton, 2008. JMLR 9"""

from __future__ import annotations

import numpy as np

from datablame.base.shapes import Float, Int

PARTS = {"curves": 3, "features": 10}
"""Principal components that are looked at: of curves few, for they are smooth."""
FIRST = 50
"""Principal components of curves before t-SNE."""
STEPS = 650
"""Of t-SNE, the first 250 of early exaggeration."""


def _components(values: Float[np.ndarray, "n d"], count: int) -> Float[np.ndarray, "n c"]:
    """The first principal components, all divided by the spread of the first; zeros where all
    examples are alike, such as the only one of a class.
    """
    from sklearn.decomposition import PCA

    count = min(count, *values.shape)
    if len(values) < 2 or not np.ptp(values, axis=0).any():
        return np.zeros((len(values), count))
    found = PCA(count, random_state=0).fit_transform(values.astype("float64"))
    return found / max(float(found[:, 0].std()), 1e-12)


def groups(
    curves: Float[np.ndarray, "n T"], features: Float[np.ndarray, "n D"] | None, least: int = 0
) -> Int[np.ndarray, " n"]:
    """The group of each example of a class, 0 the largest; -1 for those that belong to none.

    A group holds `least` examples or more; 0: a hundredth of the class, and at least 5.
    """
    from sklearn.cluster import HDBSCAN

    least = least or max(5, len(curves) // 100)
    if len(curves) < 2 * least:
        return np.zeros(len(curves), "int64")
    parts = [_components(curves, PARTS["curves"])]
    if features is not None:
        parts.append(_components(features, PARTS["features"]))
    seen = np.concatenate(parts, 1)
    found = HDBSCAN(min_cluster_size=least, min_samples=min(5, least), copy=True).fit_predict(seen)  # type: ignore[arg-type]  # its stub says str
    if found.max() < 0:  # one cloud without denser parts is one group
        return np.zeros(len(seen), "int64")
    order = np.argsort(-np.bincount(found[found >= 0]), kind="stable")
    place = np.argsort(order)
    return np.where(found < 0, -1, place[found.clip(0)])


def flat_map(curves: Float[np.ndarray, "n T"], steps: int = STEPS) -> Float[np.ndarray, "n 2"]:
    """Places on a plane where examples with like curves (or features) are near: t-SNE of the first
    50 principal components, perplexity 50.
    """
    from sklearn.manifold import TSNE

    if len(curves) < 4 or np.ptp(curves, 0).max() == 0:
        return np.zeros((len(curves), 2))
    perplexity = min(50, max(1, (len(curves) - 1) // 4))
    tsne = TSNE(
        perplexity=perplexity,
        max_iter=steps,
        init="pca",
        learning_rate="auto",
        random_state=0,
        n_jobs=-1,
    )
    return tsne.fit_transform(_components(curves, FIRST))
