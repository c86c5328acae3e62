"""Features of ten million images and more by Ray: from Parquet with columns `image` (bytes, or a
struct of them) and `label`, on a disk or an object store, to one Parquet file of features, from
which `datablame audit features.parquet` goes on.

    python examples/ray_features.py s3://bucket/photos/ features.parquet --model frozen:dinov2

Ray is not part of datablame: pip install 'ray[data]'. A worker holds one encoder and one batch;
what is done lies in `<out>.parts/`, a file for each block, and is put together at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from pyarrow import parquet

MARGIN = 0.9
"""Share of a GPU that an encoder takes, where there are any."""


class Encode:
    """An encoder in a worker: a batch of encoded images to their features."""

    def __init__(self, model: str, side: int):
        import torch

        from datablame.base.decode import View
        from datablame.network.classifier import encoder_of, view_of

        self.view = view_of(model) or View(side, side)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        shape = (3, self.view.size, self.view.size)
        self.encoder: Any = encoder_of(model, shape).eval().to(self.device)
        self.mean, self.std = (
            torch.tensor(values, device=self.device).view(-1, 1, 1)
            for values in (self.encoder.mean, self.encoder.std)
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        import torch

        from datablame.base.decode import look

        cells = [cell["bytes"] if isinstance(cell, dict) else cell for cell in batch["image"]]
        seen = [look(cell, self.view) for cell in cells]
        kept = [place for place, pixels in enumerate(seen) if pixels is not None]
        if not kept:
            return {
                "features": np.zeros((0, self.encoder.dim), "float16"),
                "label": batch["label"][:0],
            }
        pixels = torch.from_numpy(np.stack([seen[place] for place in kept])).to(self.device)
        with torch.inference_mode():
            found = self.encoder((pixels.float() / 255 - self.mean) / self.std)
        return {"features": found.half().cpu().numpy(), "label": batch["label"][kept]}


def united(parts: Path, out: Path) -> int:
    """One Parquet file of those that the workers wrote, in their order; how many rows."""
    rows = 0
    with parquet.ParquetWriter(
        out, pa.schema([("features", pa.list_(pa.float32())), ("label", pa.int64())])
    ) as writer:
        for path in sorted(parts.glob("*.parquet")):
            table = parquet.read_table(path)
            vectors = np.stack(table["features"].to_numpy()).astype("float32")
            column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
            label = table["label"].cast(pa.int64())
            writer.write_table(
                pa.table({"features": column.cast(pa.list_(pa.float32())), "label": label})
            )
            rows += len(table)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="Parquet on a disk or an object store")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="frozen:resnet50")
    parser.add_argument(
        "--side", type=int, default=224, help="where the encoder has none of its own"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    asked = parser.parse_args()
    ray.init(ignore_reinit_error=True)
    parts = asked.out.with_suffix(".parts").absolute()
    gpus = MARGIN if ray.cluster_resources().get("GPU") else 0
    images = ray.data.read_parquet(asked.source, columns=["image", "label"])
    images.map_batches(
        Encode,
        fn_constructor_args=(asked.model, asked.side),
        batch_size=asked.batch,
        concurrency=asked.workers,
        num_cpus=0 if gpus else 0.5,  # reading and writing want some, too
        num_gpus=gpus,
    ).write_parquet(str(parts))
    print(f"{united(parts, asked.out):,} rows of features: datablame audit {asked.out}")


if __name__ == "__main__":
    main()
