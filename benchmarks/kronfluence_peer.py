"""kronfluence on our weights and rows, and the same stages of ours without a run's folder between
them: what the three benchmarks of influence share.
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import gc
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import datablame as db
from datablame.base import hashing
from datablame.influence import factors as fitting
from datablame.influence.factors import Factors, margin
from datablame.influence.fisher import Fisher
from datablame.influence.products import GradientProducts

PLAIN: dict[str, Any] = {
    "labels": "given",
    "factors": "fp32",
    "gradients": "fp32",
    "scores": "fp32",
}
EXACT = Fisher(rank=None, **PLAIN)
LOW = Fisher(**PLAIN)
QUERIES, BATCH = 32, 64


@dataclasses.dataclass
class Cost:
    """Seconds and extra memory of one stage, over the repeats."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    extra: list[float] = dataclasses.field(default_factory=list)

    def run(self, work: Callable[[], Any]) -> Any:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(
            0
        )  # what one stage freed is not to hide what the next one takes
        Path("/proc/self/clear_refs").write_text("5")
        before, began = resident("VmRSS"), time.perf_counter()
        result = work()
        self.seconds.append(time.perf_counter() - began)
        self.extra.append(resident("VmHWM") - before)
        return result

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def megabytes(self) -> float:
        return statistics.median(self.extra)


def resident(key: str) -> float:
    """Megabytes of this process: now (VmRSS) or at most since the last reset (VmHWM)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) / 1024


class Peer:
    """kronfluence on the same weights and rows."""

    def __init__(
        self, run: db.Run, rows: Tensor, queries: db.Dataset, folder: str, half: bool = False
    ):
        from kronfluence.analyzer import Analyzer, prepare_model  # type: ignore[import-not-found]  # of the extra `bench`
        from kronfluence.task import Task  # type: ignore[import-not-found]

        logging.disable(logging.WARNING)

        class Classify(Task):
            def compute_train_loss(
                self, batch: Any, model: nn.Module, sample: bool = False
            ) -> Tensor:
                return cross_entropy(model(batch[0]), batch[1], reduction="sum")

            def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
                return margin(model(batch[0]), batch[1]).sum()

        data = run.data.take(rows)
        self.train, self.queries = (
            torch.utils.data.TensorDataset(*each.batch(torch.arange(len(each))))
            for each in (data, queries)
        )
        task, self.half = Classify(), half
        plain = copy.deepcopy(run.model)
        plain.head = as_plain(plain.head)  # type: ignore[arg-type]  # a module
        model = prepare_model(plain, task)
        self.analyzer = Analyzer(
            "peer",
            model,
            task,
            cpu=not torch.cuda.is_available(),
            output_dir=folder,
            disable_tqdm=True,
        )
        self.batch = BATCH

    def stage(
        self,
        what: str,
        strategy: str = "ekfac",
        damping: float | None = None,
        modules: bool = False,
    ) -> Callable[[], Any]:
        """One stage of its work, ready to be timed."""
        from kronfluence.arguments import FactorArguments, ScoreArguments  # type: ignore[import-not-found]
        from kronfluence.utils.common.factor_arguments import all_low_precision_factor_arguments  # type: ignore[import-not-found]
        from kronfluence.utils.common.score_arguments import all_low_precision_score_arguments  # type: ignore[import-not-found]

        if self.half:
            fit = all_low_precision_factor_arguments(strategy, torch.bfloat16)
            fit.use_empirical_fisher = True
            score = all_low_precision_score_arguments(dtype=torch.bfloat16)
        else:
            fit = FactorArguments(strategy=strategy, use_empirical_fisher=True)
            score = ScoreArguments()
        score.damping_factor, score.compute_per_module_scores = damping, modules
        names = {"factors_name": strategy, "overwrite_output_dir": True}
        batch = {"per_device_batch_size": self.batch}
        if what == "factors":
            return lambda: self.analyzer.fit_all_factors(
                dataset=self.train, factor_args=fit, **batch, **names
            )
        if what == "covariances":
            return lambda: self.analyzer.fit_covariance_matrices(
                dataset=self.train, factor_args=fit, **batch, **names
            )
        if what == "eigenvectors":
            return lambda: self.analyzer.perform_eigendecomposition(factor_args=fit, **names)
        if what == "eigenvalues":
            return lambda: self.analyzer.fit_lambda_matrices(
                dataset=self.train, factor_args=fit, **batch, **names
            )
        sizes = {"per_device_train_batch_size": self.batch}
        if what == "pairwise":
            return lambda: self.analyzer.compute_pairwise_scores(
                scores_name=f"pairs-{strategy}", query_dataset=self.queries, train_dataset=self.train, score_args=score,
                per_device_query_batch_size=len(self.queries), **sizes, **names,
            )  # fmt: skip
        return lambda: self.analyzer.compute_self_scores(
            scores_name=f"self-{strategy}",
            train_dataset=self.train,
            score_args=score,
            **sizes,
            **names,
        )

    def fitted(self, strategy: str) -> None:
        """Every stage that a strategy needs before scores."""
        self.stage("factors", strategy)()

    def scores(self, what: str, strategy: str, **options: Any) -> dict[str, Tensor]:
        self.stage(what, strategy, **options)()
        load = (
            self.analyzer.load_pairwise_scores
            if what == "pairwise"
            else self.analyzer.load_self_scores
        )
        found = load(f"{'pairs' if what == 'pairwise' else 'self'}-{strategy}")
        assert found is not None
        return {name: tensor.float().cpu() for name, tensor in found.items()}


def as_plain(head: nn.Module) -> nn.Linear:
    """The head as `nn.Linear` itself: the peer knows layers by their exact type."""
    assert isinstance(head, nn.Linear)
    plain = nn.Linear(head.in_features, head.out_features, device=head.weight.device)
    plain.load_state_dict(head.state_dict())
    return plain


class Ours:
    """The same stages of ours, on the same rows, without the run's folder between them."""

    def __init__(self, run: db.Run, rows: Tensor, queries: db.Dataset, fisher: Fisher):
        count = len(rows)
        self.run, self.rows, self.queries = run, rows, queries
        self.fisher = dataclasses.replace(fisher, basis=count, eigenvalues=count)
        self.factors = Factors(run, self.fisher)

    def gather(self, what: str) -> None:
        with torch.no_grad():
            self.factors.gather(what)

    def finish(self) -> None:
        self.factors.finish()

    def damp(self) -> None:
        for curvature in self.factors.curvature.values():
            curvature.damp(self.fisher.damping_of(curvature.mean))

    def fitted(self) -> Ours:
        for what in self.factors.passes:
            self.gather(what)
            self.finish()
        self.damp()
        return self

    def inner(self) -> GradientProducts:
        return GradientProducts(self.run, self.queries, [(1.0, self.factors)], "margin")

    def hold(self) -> Any:
        return self.inner().prepare(torch.arange(len(self.queries)))

    def pairwise(self, held: Any) -> Tensor:
        return self.inner().score(held, self.rows)

    def by_layer(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each layer alone, pairwise and self scores."""
        found = {}
        for layer in self.factors.layers.every:
            alone = Ours(
                self.run,
                self.rows,
                self.queries,
                dataclasses.replace(self.fisher, layers=layer.name),
            ).fitted()
            found[layer.name] = alone.pairwise(alone.hold()), alone.squares()
        return found

    @torch.no_grad()
    def squares(self) -> Tensor:
        parts = []
        for index in self.rows.split(self.factors.batch):
            images, labels = self.run.data.batch(index)
            parts.append(self.factors.squares(images, fitting.weigher(fitting.loss, labels)))
        return torch.cat(parts)


def pearson(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.double().flatten(), b.double().flatten())[0, 1])


def trained(out: Path, epochs: int, width: float, limit: int) -> db.Run:
    """The seed's net on CIFAR-10 with 10 % wrong labels, after so many epochs."""
    return db.train(
        str(results.SHARED / "train.parquet"),
        recipe=db.Recipe(model=f"resnet9,width={width}", epochs=epochs, folds=0, batch_size=128),
        reading=db.Reading(limit=limit, label="label", test=str(results.SHARED / "test.parquet")),
        noise="uniform",
        amount=0.1,
        out=out,
    )


def sampled(run: db.Run, count: int) -> Tensor:
    """The rows that `Fisher` of that many rows is fitted on."""
    return hashing.permutation(len(run.data), "fisher", 0)[:count].sort().values


def picked(run: db.Run, count: int) -> db.Dataset:
    assert run.test is not None
    return run.test.take(torch.arange(count))
