"""quanda's metrics of mislabelled examples and of the linear datamodeling score, asked of our
attribution and of quanda's own wrappers of other libraries: the same net, images and halves.

quanda 0.5 wants captum below 0.9, which wants NumPy below 2, which torch and we do not: install it
into an environment of its own, `pip install --no-deps quanda==0.5.0 captum==0.8.0 torcheval traker
dattri omegaconf` beside this package and its extra `bench`. About twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import datablame as db

ROWS, QUERIES, HALVES, EPOCHS, SEED = 2_000, 100, 60, 20, 0
NAMES = [str(number) for number in range(10)]


def net() -> nn.Module:
    """A small convolutional net without normalisation, which some of the libraries cannot track."""
    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


def fit(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Plain SGD with momentum, the rate falling to zero."""
    generator = torch.Generator().manual_seed(seed)
    steps = EPOCHS * -(-len(images) // 64)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


class Look:
    """Pixels as the net sees them, and back."""

    def __init__(self, data: db.Dataset):
        self.mean, self.std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))

    def normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.cpu().float() / 255 - self.mean) / self.std

    def pixels(self, images: Tensor) -> np.ndarray:
        return ((images * self.std + self.mean) * 255).round().byte().numpy()


def explainers(home: Path, look: Look) -> dict[str, Callable[..., Any]]:
    """Ours and theirs, each made of a model and a training set as quanda makes them."""
    from quanda.explainers import Explainer  # type: ignore[import-not-found]  # installed beside
    from quanda.explainers.wrappers import (  # type: ignore[import-not-found]
        TRAK,
        CaptumSimilarity,
        DattriGradCos,
        DattriGradDot,
        Kronfluence,
    )
    from quanda.explainers.wrappers.kronfluence_tasks import (  # type: ignore[import-not-found]
        ImageClassificationTask,
    )

    class Ours(Explainer):
        """`db.explain` as quanda asks for it."""

        accepted_tasks = ("image_classification",)

        def __init__(self, model: nn.Module, train_dataset: Any, method: str):
            super().__init__(model, train_dataset)
            self.method = method
            images, labels = (torch.stack(list(each)) for each in zip(*train_dataset, strict=True))
            self.run = db.Run.from_model(
                self.set_of(images, labels), model, prepare=look.normalised, out=home / "runs"
            )

        def set_of(self, images: Tensor, labels: Tensor) -> db.Dataset:
            return db.Dataset.from_arrays(look.pixels(images), np.asarray(labels), classes=NAMES)

        def explain(self, test_data: Tensor, targets: Tensor) -> Tensor:
            queries = self.set_of(test_data, targets)
            return torch.from_numpy(
                np.array(db.explain(self.run, queries=queries, method=self.method).values)
            )

        def self_influence(self, batch_size: int = 32) -> Tensor:
            return db.score(self.run, self.method.replace("influence", "self_influence")).values

    def per_sample(model: nn.Module) -> Callable[..., Tensor]:
        """The loss of one example, as dattri asks for it."""

        def loss(params: dict[str, Tensor], example: tuple[Tensor, Tensor]) -> Tensor:
            image, label = example
            logits = torch.func.functional_call(model, params, (image[None],))
            return cross_entropy(logits, label[None])

        return loss

    def ours(method: str) -> Callable[..., Any]:
        return lambda model, train: Ours(model, train, method)

    cache = {"cache_dir": str(home), "batch_size": 32}
    plain = {"loss_func": per_sample, "batch_size": 32}
    return {
        "datablame influence": ours("influence"),
        "datablame influence,damping=100%": ours("influence,damping=100%"),
        "kronfluence (EK-FAC)": lambda model, train: Kronfluence(
            copy.deepcopy(model), ImageClassificationTask(), train, **cache, load_from_disk=False
        ),
        "dattri gradient product": lambda model, train: DattriGradDot(model, train, **plain),
        "dattri gradient cosine": lambda model, train: DattriGradCos(model, train, **plain),
        "captum similarity": lambda model, train: CaptumSimilarity(
            model, train, "similarity", "7", **cache, load_from_disk=False
        ),
        "TRAK, 512 projections": lambda model, train: TRAK(
            model, train, "trak", cache_dir=str(home), proj_dim=512, batch_size=32
        ),
    }


def main() -> None:
    from quanda.metrics.downstream_eval import MislabelingDetectionMetric  # type: ignore[import-not-found]
    from quanda.metrics.ground_truth import LinearDatamodelingMetric  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--halves", type=int, default=HALVES)
    parser.add_argument("--only", nargs="*")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    data = db.load(results.SHARED / "train.parquet", limit=ROWS)
    test = db.load(results.SHARED / "test.parquet", limit=QUERIES)
    look = Look(data)
    x, queries = (look.normalised(each.batch(torch.arange(len(each)))[0]) for each in (data, test))
    targets, labels = test.labels, data.labels.clone()
    generator = torch.Generator().manual_seed(SEED)
    wrong = torch.randperm(ROWS, generator=generator)[: ROWS // 10]
    labels[wrong] = (labels[wrong] + torch.randint(1, 10, (len(wrong),), generator=generator)) % 10
    train = torch.utils.data.TensorDataset(x, labels)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = fit(net(), x, labels, SEED)
        right = float((model(queries).argmax(1) == targets).float().mean())
        halves, kept = [], []
        for turn in range(asked.halves):
            half = torch.randperm(ROWS, generator=generator)[: ROWS // 2]
            halves.append(half.tolist())
            kept.append(str(home / f"half-{turn}.pth"))
            torch.save(fit(net(), x[half], labels[half], turn).state_dict(), kept[-1])
        for name, make in explainers(home, look).items():
            if asked.only and not any(word in name for word in asked.only):
                continue
            try:
                began = time.perf_counter()
                explainer = make(model, train)
                scores = explainer.explain(queries, targets).detach().float().cpu()
                pairs = time.perf_counter() - began
                began, selves = time.perf_counter(), None
                if not name.startswith("dattri"):
                    selves = explainer.self_influence(batch_size=32).detach().float().cpu()
                alone = time.perf_counter() - began
            except Exception as error:
                rows.append([name, f"failed: {type(error).__name__} {str(error)[:80]}", *[""] * 3])
                print(rows[-1], flush=True)
                continue
            found = ["", "not run: by all pairs, more than an hour"]
            if selves is not None:
                noise = MislabelingDetectionMetric(
                    model, train, wrong.tolist(), precomputed_self_influence=selves
                )
                found = [f"{noise.compute()['score']:.3f}", f"{alone:.1f} s"]
            score = LinearDatamodelingMetric(
                model, train, m=asked.halves, subset_ids=halves, subset_ckpt_filenames=kept
            )
            score.update(scores, targets, queries)
            each = torch.cat([x.flatten() for x in score.results["scores"]])
            error = float(each.std()) / len(each) ** 0.5 * 1.96
            rows.append(
                [
                    name,
                    f"{float(each.mean()):.3f} ± {error:.3f}",
                    found[0],
                    f"{pairs:.1f} s",
                    found[1],
                ]
            )
            print(rows[-1], flush=True)
    head = ["explainer", "linear datamodeling score", "mislabelled found (area)"]
    text = results.table([*head, f"{QUERIES} queries", "self-influence"], rows)
    note = (
        f"The first {ROWS:,} rows of CIFAR-10, 10 % uniform noise; three convolutions and a linear layer, {EPOCHS} epochs, "
        f"{right:.0%} of {QUERIES} test images right; {asked.halves} random halves. Behind ± the half width of a 95 % interval "
        "over the queries. Seconds of the first column are with the fitting; the second row takes the first one's factors, and "
        "self-influence those of its row. quanda 0.5.0 computes both scores of what each explainer gave, by its own defaults but for the "
        "settings named."
    )
    if asked.only or asked.halves != HALVES:
        print(f"{note}\n\n{text}")
    else:
        results.write("The referee quanda", f"{note}\n\n{text}")


if __name__ == "__main__":
    main()
