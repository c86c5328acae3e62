"""Influence beside kronfluence: seconds and memory of each stage as ratios in one run, interleaved,
and agreement of the scores.

`python benchmarks/influence.py` takes about a quarter of an hour on two cores, which should have
nothing else to do; `--full` is the seed's whole task, for a GPU.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import dataclasses
import gc
import itertools
import logging
import statistics
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
from datablame.base import hashing
from datablame.influence import factors as fitting
from datablame.influence.factors import Factors, Fisher, margin
from datablame.influence.index import Index
from datablame.influence.products import GradientProducts

EXACT = Fisher(rank=None, labels="given")
LOW = Fisher(labels="given")
QUERIES, BATCH = 32, 64
WIDE, WIDE_ROWS = 1_000, 512
"""2,000 queries of 9 MB are met in two passes, with half of 24 GB to hold them."""
MANY, MANY_ROWS = 256, 1_024
"""Queries and rows for the peer's product of the two: what a pair costs shows against what a
query and a row cost alone."""
STAGES = {name: name for name in ("covariances", "eigenvectors", "eigenvalues", "self", "pairwise")}
INDEX_NUMBERS = 31_040
"""Numbers an example in an index of 64 x 64 blocks of this net."""


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
        for curvature in self.factors.curvature.values():
            curvature.finish()

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


def forward_backward(run: db.Run, rows: Tensor) -> None:
    """One plain training pass over the rows, weight gradients included: the unit `fb`."""
    model = copy.deepcopy(run.model).train()
    for index in rows.split(BATCH):
        images, labels = run.data.batch(index)
        cross_entropy(model(images), labels, reduction="sum").backward()


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


def timed(
    run: db.Run, count: int, rounds: int, folder: str
) -> tuple[dict[str, Cost], dict[str, Cost]]:
    """Seconds and memory of every stage of ours and of the peer, taken in turns."""
    rows = everything = sampled(run, count)
    queries = picked(run, QUERIES)
    ours: dict[str, Cost] = {}
    theirs: dict[str, Cost] = {}

    def note(costs: dict[str, Cost], name: str, work: Callable[[], Any]) -> Any:
        return costs.setdefault(name, Cost()).run(work)

    peer, brief = (
        Peer(run, rows, queries, f"{folder}/whole"),
        Peer(run, rows[:BATCH], queries, f"{folder}/brief"),
    )
    many = sampled(run, WIDE_ROWS)
    for turn in range(rounds + 1):
        rows = everything[:BATCH] if not turn else everything  # the first warms up
        note(ours, "fb", lambda rows=rows: forward_backward(run, rows))
        for name, fisher in (("exact", EXACT), ("low", LOW)):
            mine = Ours(run, rows, queries, fisher)
            note(ours, f"{name} covariances", lambda mine=mine: mine.gather("basis"))
            note(ours, f"{name} eigenvectors", mine.finish)
            note(ours, f"{name} eigenvalues", lambda mine=mine: mine.gather("eigenvalues"))
            mine.finish()
            mine.damp()
            note(ours, f"{name} self", mine.squares)
            held = note(ours, f"{name} queries", mine.hold)
            note(ours, f"{name} pass", lambda mine=mine, held=held: mine.pairwise(held))
            if name == "low":
                wide = [[layer.repeat(WIDE // QUERIES + 1, 1)[:WIDE] for layer in held[0]]]
                note(ours, "wide pass", lambda mine=mine, wide=wide: mine.inner().score(wide, many))
                del wide
                index = note(ours, "index cut", lambda mine=mine: Index(mine.factors))
                note(
                    ours,
                    "index",
                    lambda index=index, rows=rows: [
                        index.rows(part) for part in rows.split(index.batch)
                    ],
                )
                note(ours, "index query", lambda index=index: index.asked(queries, "margin"))
            del held, mine
        for name, what in STAGES.items():
            note(theirs, f"{name}, {BATCH} rows", brief.stage(what))
            if turn:
                note(theirs, name, peer.stage(what))
    for cost in ours.values():
        del cost.seconds[0], cost.extra[0]
    passes = {
        (asked, size): Peer(run, sampled(run, size), picked(run, asked), f"{folder}/whole").stage(
            "pairwise"
        )
        for asked, size in itertools.product((QUERIES, MANY), (BATCH, MANY_ROWS))
    }
    mine = Ours(run, everything, queries, EXACT).fitted()
    held = mine.hold()
    for _ in range(rounds):
        note(ours, f"pass {MANY_ROWS}", lambda: mine.inner().score(held, sampled(run, MANY_ROWS)))
        for (asked, size), work in passes.items():
            note(theirs, f"pairs {asked} {size}", work)
    return ours, theirs


def sampled(run: db.Run, count: int) -> Tensor:
    """The rows that `Fisher` of that many rows is fitted on."""
    return hashing.permutation(len(run.data), "fisher", 0)[:count].sort().values


def picked(run: db.Run, count: int) -> db.Dataset:
    assert run.test is not None
    return run.test.take(torch.arange(count))


def speed_table(ours: dict[str, Cost], theirs: dict[str, Cost], count: int) -> str:
    """The stages beside the peer's, then whole jobs put together of them."""
    fb = ours["fb"].median / count
    row = {name: cost.median / count for name, cost in ours.items()}
    peer = {
        name: (theirs[name].median - theirs[f"{name}, {BATCH} rows"].median) / (count - BATCH)
        for name in STAGES
    }
    t = {
        (q, size): theirs[f"pairs {q} {size}"].median
        for q in (QUERIES, MANY)
        for size in (BATCH, MANY_ROWS)
    }
    fewer, more = (
        (t[MANY, size] - t[QUERIES, size]) / (MANY - QUERIES) for size in (BATCH, MANY_ROWS)
    )
    peer_pair = (more - fewer) / (MANY_ROWS - BATCH)
    peer_query = fewer - BATCH * peer_pair
    passed = (t[QUERIES, MANY_ROWS] - t[QUERIES, BATCH]) / (MANY_ROWS - BATCH)
    peer_pass = passed - QUERIES * peer_pair
    lines = []

    def line(
        what: str, mine: float, other: float, a: Cost | None = None, b: Cost | None = None
    ) -> None:
        memory = f"{a.megabytes:.0f} / {b.megabytes:.0f}" if a and b else ""
        lines.append(
            [what, f"{mine / fb:.2f}", f"{other / fb:.2f}", f"1/{other / mine:.1f}", memory]
        )

    for kind in ("exact", "low"):
        tag = "" if kind == "exact" else f", rank {LOW.rank}"
        for name in ("covariances", "eigenvalues", "self"):
            if kind == "low" and name == "covariances":
                continue
            line(
                f"{name}{tag}",
                row[f"{kind} {name}"],
                peer[name],
                ours[f"{kind} {name}"],
                theirs[name],
            )
        line(f"a query{tag}", ours[f"{kind} queries"].median / QUERIES, peer_query)
    line(
        f"pairwise, a pass with {QUERIES} queries",
        ours[f"pass {MANY_ROWS}"].median / MANY_ROWS,
        passed,
        ours["exact pass"],
        theirs["pairwise"],
    )
    line("building the index (against a plain training step)", row["index"], fb)
    eigen = ours["low eigenvectors"].median, theirs["eigenvectors"].median
    lines.append(
        [
            "eigenvectors, seconds in all",
            f"{eigen[0]:.1f} s",
            f"{eigen[1]:.1f} s",
            f"1/{eigen[1] / eigen[0]:.1f}",
            "",
        ]
    )

    n, q = 10_000, 2_000
    factors = 2_000 * row["low covariances"] + eigen[0] + 2_000 * row["low eigenvalues"]
    peer_factors = n * (peer["covariances"] + peer["eigenvalues"]) + eigen[1]
    peer_whole = peer_factors + q * peer_query + n * (2 * peer_pass + q * peer_pair)
    jobs = {
        "defaults: factors and self-influence of 10,000 rows": (
            factors + n * row["low self"],
            peer_factors + n * peer["self"],
        ),
        "defaults: factors and 2,000 queries against 10,000 rows": (
            factors
            + q * ours["low queries"].median / QUERIES
            + n * (q / WIDE) * ours["wide pass"].median / WIDE_ROWS,
            peer_whole,
        ),
        "index: factors, index and 2,000 queries against 10,000 rows": (
            factors + n * row["index"] + q * ours["index query"].median / QUERIES + search(n, q),
            peer_whole,
        ),
    }
    for what, (mine, other) in jobs.items():
        lines.append([what, f"{mine:.0f} s", f"{other:.0f} s", f"1/{other / mine:.1f}", ""])
    ours_pair = (ours["wide pass"].median / WIDE_ROWS - row["low pass"]) / (WIDE - QUERIES)
    lines.append(
        [
            "a query times a row, us",
            f"{1e6 * ours_pair:.1f}",
            f"{1e6 * peer_pair:.1f}",
            f"1/{peer_pair / ours_pair:.1f}",
            "",
        ]
    )
    head = ["stage (fb a row)", "ours", "kronfluence", "ratio", "extra MB, ours / theirs"]
    return f"fb = {1e3 * fb:.2f} ms. {results.table(head, lines)}".replace("ms. ", "ms.\n\n")


def search(rows: int, queries: int) -> float:
    """Seconds of looking so many queries up in an index of so many rows, at its default block."""
    k = INDEX_NUMBERS
    codes, asked = torch.randint(-127, 127, (2048, k), dtype=torch.int8), torch.randn(queries, k)
    began = time.perf_counter()
    torch.mm(asked, codes.float().T)
    return (time.perf_counter() - began) * rows / 2048


def agreement_table(runs: dict[str, db.Run], count: int, folder: str) -> str:
    """Pearson correlation with the peer, of all pairs, of the worst row, and of self-influence."""
    lines = []
    for name, run in runs.items():
        rows, queries = sampled(run, count), picked(run, QUERIES)
        for kind in ("identity", "diagonal", "kfac", "ekfac"):
            mine = Ours(run, rows, queries, dataclasses.replace(EXACT, kind=kind)).fitted()
            peer = Peer(run, rows, queries, f"{folder}/{name}-{kind}")
            peer.fitted(kind)
            layers = kind == "kfac"
            theirs = [peer.scores(what, kind, modules=layers) for what in ("pairwise", "self")]
            if layers:
                own = mine.by_layer()
                pairs = [(own[layer][0], theirs[0][layer]) for layer in own]
                selves = [(own[layer][1], theirs[1][layer]) for layer in own]
            else:
                pairs = [(mine.pairwise(mine.hold()), next(iter(theirs[0].values())))]
                selves = [(mine.squares(), next(iter(theirs[1].values())))]
            worst = min(pearson(x, y) for a, b in pairs for x, y in zip(a.T, b.T, strict=True))
            lines.append(
                [
                    name,
                    kind + (", worst layer" if layers else ""),
                    f"{min(pearson(a, b) for a, b in pairs):.8f}",
                    f"{worst:.7f}",
                    f"{min(pearson(a, b) for a, b in selves):.8f}",
                ]
            )
    return results.table(["model", "curvature", "pairwise", "worst training row", "self"], lines)


def whole_task(run: db.Run, queries: int, folder: str) -> str:
    """Factors of all rows, and so many queries against all rows: ours and the peer one after the
    other, nothing extrapolated.
    """
    rows, asked = torch.arange(len(run.data)), picked(run, queries)
    narrow = {name: "bf16" for name in ("activations", "gradients", "scores")}

    def ours(fisher: Fisher, sampled: bool = False) -> Tensor:
        mine = Ours(run, rows, asked, fisher)
        if sampled:  # the basis and the eigenvalues on as many rows as the defaults take
            mine.factors = Factors(run, fisher)
        return mine.fitted().pairwise(mine.hold())

    def index() -> Index:
        mine = Ours(run, rows, asked, LOW)
        mine.factors = Factors(run, LOW)
        built = Index(mine.fitted().factors)
        for part in rows.split(built.batch):
            built.rows(part)
        return built

    def theirs(half: bool) -> Tensor:
        peer = Peer(run, rows, asked, f"{folder}/{'bf16' if half else 'fp32'}", half)
        peer.fitted("ekfac")
        return next(iter(peer.scores("pairwise", "ekfac").values()))

    jobs = {
        "kronfluence, fp32": lambda: theirs(False),
        "kronfluence, bf16": lambda: theirs(True),
        "exact": lambda: ours(EXACT),
        "exact, bf16": lambda: ours(dataclasses.replace(EXACT, **narrow)),
        "defaults": lambda: ours(LOW, sampled=True),
        "factors and index, no queries": index,
    }
    exact, lines, first = None, [], 0.0
    for name, job in jobs.items():
        cost = Cost()
        found = cost.run(lambda job=job: synchronised(job))
        first = first or cost.median
        agreement = ""
        if isinstance(found, Tensor):
            exact = found.cpu() if exact is None else exact
            agreement = f"{pearson(exact, found.cpu()):.5f}"
        lines.append([name, f"{cost.median:.1f} s", f"1/{first / cost.median:.1f}", agreement])
    return results.table(["job", "seconds", "against kronfluence, fp32", "Pearson with it"], lines)


def synchronised(job: Callable[[], Any]) -> Any:
    """What the job returns once the device has done it."""
    found = job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the trained nets are kept")
    parser.add_argument("--full", action="store_true", help="the seed's whole task, for a GPU")
    parser.add_argument("--images", type=int, default=50_000, help="training images of --full")
    parser.add_argument("--queries", type=int, default=2_000, help="queries of --full")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    out = options.out or Path(tempfile.mkdtemp(prefix="influence-"))
    if options.full:
        net = trained(out, 6 if options.images < 50_000 else 25, 1.0, options.images)
        with tempfile.TemporaryDirectory() as folder:
            table = whole_task(net, options.queries, folder)
        results.write(
            "Influence compared with kronfluence 1.0.1: the whole task",
            f"The seed's ResNet-9, {len(net.data):,} training images, {options.queries:,} "
            "queries, factors of all rows included, one job after the other; empirical "
            f"Fisher.\n\n{table}",
        )
        return
    half = trained(out, 6, 1.0, 5_120)
    digits = db.train(
        "digits",
        recipe=db.Recipe(model="mlp", epochs=10, folds=0),
        noise="uniform",
        amount=0.1,
        out=out,
    )
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = timed(half, options.rows, options.rounds, folder)
        speed = speed_table(ours, theirs, options.rows)
        agree = agreement_table(
            {"ResNet-9, half trained": half, "MLP on digits": digits}, 128, folder
        )
    results.write(
        "Influence compared with kronfluence 1.0.1",
        "The seed's ResNet-9 (2.27 million weights in 9 layers), 6 epochs on 5,120 CIFAR "
        f"images with 10 % wrong labels; batches of {BATCH} for kronfluence, of 24 (the "
        "default on a CPU) for ours; "
        f"empirical Fisher, fp32, damping 10 % of the mean eigenvalue; {options.rows} rows "
        f"and {QUERIES} queries, medians of {options.rounds} rounds in turns, "
        f"after one of {BATCH} rows to warm up. fb: a plain forward and backward pass with "
        "weight gradients over the same rows. kronfluence has costs that do not grow with "
        "the rows (it loads and saves factors), "
        f"so what a row costs it is the difference between {options.rows} and {BATCH} "
        f"rows; what a query, a row and a pair cost it comes from {MANY} and {QUERIES} "
        f"queries on {MANY_ROWS:,} and {BATCH} rows. Whole jobs are put together from the "
        "stages: ours fits the "
        "basis and the eigenvalues on 2,000 rows each (its default at 10,000), and makes "
        f"{2_000 // WIDE} passes of {WIDE:,} queries, as many as half of 24 GB hold, each "
        f"as measured on {WIDE_ROWS} rows; "
        f"kronfluence uses all rows and two query batches as in its example.\n\n"
        f"{speed}\n\nAgreement on {128} rows; K-FAC layer by layer, since its scale for "
        f"convolutions differs by design:\n\n{agree}",
    )


if __name__ == "__main__":
    main()
