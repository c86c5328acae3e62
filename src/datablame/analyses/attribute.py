"""Attributing: one sweep of queries against training rows for every method, in blocks, resumed
where it was interrupted.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datablame.attribution import Attribution, Attributor
from datablame.base import arrays, devices, files, hashing, methods, processes, progress, readers
from datablame.base.errors import InputError, at_least
from datablame.base.hashing import batches
from datablame.base.parts import Part, Sliced
from datablame.base.shapes import Float, Int
from datablame.data.matching import matched
from datablame.dataset import Dataset
from datablame.influence.factors import Factors
from datablame.influence.fisher import Fisher
from datablame.influence.index import Index
from datablame.run import Run

BLOCK = 1024
"""Training rows a block: what is done again after an interruption."""


def answered(
    run: Run,
    queries: Dataset,
    method: str,
    keep: int | None,
    index: str,
    rerank: int,
    pictures: bool,
) -> Attribution:
    """From the index or exactly, as `index` says: `auto` (for pictures, where there is one),
    `never`, `only`.

    Raises InputError for `only` where no index answers.
    """
    made, measure = None, ""
    if index == "only" or (
        index == "auto" and pictures and methods.parse(method)[0] == "influence"
    ):
        made, measure = index_of(run, method)
    if index == "only" and made is None:
        raise InputError(
            f"{run.path} has no index for {method}; make it with: datablame index "
            f"{run.path} --method {method}"
        )
    if made is not None:
        return _searched(run, queries, made, measure, keep or 10, rerank)
    return attributed(run, queries, method, keep)


def attributed(
    run: Run, queries: Dataset, method: str = "influence", keep: int | None = None
) -> Attribution:
    """Scores of every query against every training row, or of the `keep` highest and lowest of
    each; computed once.

    Raises InputError for queries of another size, other classes, or none.
    """
    make = methods.find("attributors", method)
    at_least(1, keep=keep)
    queries = _suited(queries, run.data)
    keep = keep if keep is not None and 2 * keep < len(run.data) else None
    folder = _folder(run, method, f",keep={keep}" if keep else "", queries)
    if not processes.agree((folder / "attribution.json").exists()):
        attributor = make(run, queries)
        blocks = _blocks(run, method, queries, attributor)
        others = _folder(run, method, f"{files.PARTS}*", queries)
        if aside := [path for path in others.parent.glob(others.name) if path != blocks]:
            progress.say(f"{aside[0]} was made in another way (precision), so it is left aside")
        sweep = Sweep(folder, attributor, len(queries), len(run.data), keep, blocks)
        sweep.work()
        files.remove_folder(blocks)
        queries.save(folder / "queries")
        files.write_json(
            folder / "attribution.json",
            {"method": method, "keep": keep, "predictions": said(run, queries)} | attributor.facts,
        )
        files.remove(folder / "progress.safetensors")
    return opened(run, folder)


def _folder(run: Run, method: str, more: str, queries: Dataset) -> Path:
    return run.path / "attributions" / f"{method}{more}-{queries.fingerprint[:8]}"


def _blocks(run: Run, method: str, queries: Dataset, attributor: Attributor) -> Path:
    """Where parts of a sweep keep their blocks, if they make them in the same way."""
    mark = hashing.seed_of(_made(attributor)) % 2**32
    return _folder(run, method, f"{files.PARTS}{mark:08x}", queries)


@dataclass(frozen=True, eq=False)
class Share:
    """What a part of a sweep does: every N-th block of training rows, a file each, from which the
    whole sweep is put together.
    """

    part: Part
    folder: Path
    attributor: Attributor
    turns: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, run: Run, queries: Dataset, method: str, part: Part) -> Share:
        """Made while the run is held: what all parts share is fitted by the first of them."""
        queries = _suited(queries, run.data)
        attributor = methods.find("attributors", method)(run, queries)
        folder = _blocks(run, method, queries, attributor)
        whole = _folder(run, method, "", queries) / "attribution.json"
        if processes.agree(whole.exists()):
            progress.say(f"{whole.parent} is there: nothing is left to do")
            return cls(part, folder, attributor, [])
        about, group = folder / "blocks.json", _group(attributor, len(queries))
        if not processes.agree(about.exists()):
            files.write_json(about, {"group": group})
        group = readers.read_json(about, group=int)["group"]
        return cls(part, folder, attributor, _turns(len(queries), len(run.data), group))

    def work(self) -> Sliced:
        """Every block of this part that is not there yet."""
        mine = self.part.mine(self.turns)
        paths = [_block(self.folder, *turn) for turn in mine]
        there = processes.agree([path.exists() for path in paths])
        left = [turn for turn, done in zip(mine, there, strict=True) if not done]
        for queries, rows, scores in _computed(self.attributor, left):
            arrays.write(_block(self.folder, queries, rows), scores.numpy())
        made = [str(path) for path in paths]
        return Sliced(self.part, "blocks of training images", made, len(self.turns))


def _turns(queries: int, rows: int, group: int) -> list[tuple[Tensor, Tensor]]:
    """Groups of queries, as many as memory holds, each with all blocks of training rows."""
    every = torch.arange(queries).split(group), batches(torch.arange(rows), BLOCK)
    return list(itertools.product(*every))


def _computed(
    attributor: Attributor,
    turns: Sequence[tuple[Tensor, Tensor]],
    there: Callable[[Tensor, Tensor], Tensor | None] = lambda queries, rows: None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(queries, training rows, scores) of each turn; what is `there` is not made again, and a group
    of queries is prepared once, when it is needed.
    """
    held: tuple[Tensor, Any] | None = None
    for queries, rows in progress.track(turns, len(turns), "attributing", "blocks"):
        scores = there(queries, rows)
        if scores is None:
            if held is None or held[0] is not queries:
                held = None  # memory holds one group
                held = queries, attributor.prepare(queries)
            scores = _scores(attributor, held[1], len(queries), rows)
        yield queries, rows, scores


def _block(folder: Path, queries: Int[Tensor, " q"], rows: Int[Tensor, " b"]) -> Path:
    return folder / f"{int(queries[0])}-{len(queries)}-{int(rows[0])}-{len(rows)}.npy"


def _group(attributor: Attributor, queries: int) -> int:
    """Queries that memory holds together; groups are of about as many each."""
    fit = max(1, devices.free() // 2 // max(1, attributor.size))
    passes = -(-queries // fit)
    return processes.agree(-(-queries // passes))


def _made(attributor: Attributor) -> str:
    """How scores are made: what two parts of one sweep must have in common."""
    return json.dumps(attributor.facts, sort_keys=True, default=str)


def _scores(
    attributor: Attributor, held: Any, count: int, rows: Int[Tensor, " b"]
) -> Float[Tensor, "q b"]:
    """One block's scores, of which each process does its part of the rows; for rank 0 alone."""
    mine = processes.shard(rows)
    part = attributor.score(held, mine) if len(mine) else torch.zeros(count, 0)
    part = part.T.contiguous().to(devices.device())
    return processes.collected(part, len(rows)).T.cpu()


def _searched(
    run: Run, queries: Dataset, index: Index, measure: str, keep: int, rerank: int
) -> Attribution:
    """The `keep` highest and lowest training examples of each query, found by the index and ranked
    again exactly.
    """
    queries = _suited(queries, run.data)
    how = f"index,{index.folder.name},{measure}" + (f",rerank={rerank}" if rerank else "")
    folder = run.path / "attributions" / f"{how},keep={keep}-{queries.fingerprint[:8]}"
    if not processes.agree((folder / "attribution.json").exists()):
        began = time.perf_counter()
        rows, values = index.search(queries, measure, keep, rerank)
        seconds = time.perf_counter() - began
        arrays.write(folder / "rows.npy", rows.astype("int32"))
        arrays.write(folder / "values.npy", values)
        queries.save(folder / "queries")
        facts = {
            "method": "influence",
            "keep": keep,
            "measure": measure,
            "seconds": round(seconds, 3),
        }
        agreement = index.agreement(measure, rerank)
        files.write_json(
            folder / "attribution.json",
            facts | {"predictions": said(run, queries), "index": agreement},
        )
    return opened(run, folder)


def _suited(queries: Dataset, data: Dataset) -> Dataset:
    """The queries with their classes numbered as the training set's.

    Raises InputError where there are none, or they do not fit.
    """
    if not len(queries):
        raise InputError("there are no queries; name images, or ask for --queries of the test set")
    bad = (queries.labels < 0) | (queries.labels >= len(queries.classes))
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"label {int(queries.labels[row])} of query {queries.name(row)} is outside the "
            f"{len(queries.classes)} classes"
        )
    return matched(queries, data, "query images")


def index_of(run: Run, method: str, block: int = 0) -> tuple[Index | None, str]:
    """(the index that answers for an influence link, the scalar of its queries): of this block, or
    the one that was made; None if none was.

    Raises InputError for links that no index answers for.
    """
    if methods.parse(method)[0] != "influence":
        raise InputError(f"an index answers for influence; got {method}")
    bound = methods.find("attributors", method).keywords  # type: ignore[attr-defined]  # a partial
    fisher, measure = bound.get("fisher", Fisher()), bound.get("measure", "margin")
    made = sorted(
        int(path.parent.name.rpartition("-")[2]) for path in run.path.glob("index/*/codes.npy")
    )[::-1]
    for size in [block] if block else made:
        index = Index(Factors(run, fisher).fit(), size)
        if block or (index.folder / "codes.npy").exists():
            return index, measure
    return None, measure


def said(run: Run, queries: Dataset, count: int = 64) -> list[tuple[int, float]]:
    """(predicted class, its probability) of the first queries."""
    images, _ = queries.batch(torch.arange(min(count, len(queries))))
    with torch.inference_mode():
        probability, best = run.model(images).softmax(1).max(1)
    return [(int(k), round(float(p), 4)) for k, p in zip(best, probability, strict=True)]


def opened(run: Run, folder: Path) -> Attribution:
    """Attribution that lie in a folder of the run."""
    facts = readers.read_json(folder / "attribution.json", method=str, predictions=list)
    queries, rows = Dataset.restore(folder / "queries"), None
    values = readers.read_array(folder / "values.npy", (len(queries), None), "f", finite=True)
    if (folder / "rows.npy").exists():
        rows = readers.read_array(folder / "rows.npy", values.shape, "i")
        if rows.size and not 0 <= rows.min() <= rows.max() < len(run.data):
            raise readers.Damaged(folder / "rows.npy", "rows that the training set has not")
    elif values.shape[1] != len(run.data):
        raise readers.Damaged(folder / "values.npy", f"scores of {values.shape[1]} images")
    return Attribution(facts["method"], folder, run.data, queries, values, rows, facts)


class Sweep:
    """Groups of queries, as many as memory holds, each against all training rows a block at a
    time.
    """

    def __init__(
        self,
        folder: Path,
        attributor: Attributor,
        queries: int,
        rows: int,
        keep: int | None,
        parts: Path | None = None,
    ):
        self.folder, self.attributor, self.keep = folder, attributor, keep
        self.parts = parts
        self.group, self.done, self.state = self.resume(queries)
        self.turns = _turns(queries, rows, self.group)
        self.last = rows - 1
        width = 2 * keep if keep else rows
        self.values = arrays.mapped(folder / "values.npy", (queries, width), "float32")
        self.rows = arrays.mapped(folder / "rows.npy", (queries, width), "int32") if keep else None

    def resume(self, queries: int) -> tuple[int, int, dict[str, Tensor]]:
        """(queries a group, blocks that are done, the best of the group so far)."""
        path = self.folder / "progress.safetensors"
        if processes.agree(path.exists()):
            state, facts = readers.read_tensors(path)
            if facts.get("made") == self._made:
                progress.say(f"resuming {self.folder} after {facts['done']} blocks")
                return int(facts["group"]), int(facts["done"]), state
            progress.say(f"{self.folder} was begun in another way (precision), so it begins anew")
        about = self.parts and self.parts / "blocks.json"
        if about and processes.agree(about.exists()):
            return readers.read_json(about, group=int)["group"], 0, {}
        return _group(self.attributor, queries), 0, {}

    @property
    def _made(self) -> str:
        return _made(self.attributor)

    def work(self) -> None:
        """Every block that is not done yet."""
        left = self.turns[self.done :]
        for queries, rows, scores in _computed(self.attributor, left, self.there):
            self.put(queries, rows, scores)
            self.done += 1
            self.save(last=int(rows[-1]) == self.last)
        for name, array in (("values", self.values), ("rows", self.rows)):
            if array is not None and processes.rank() == 0:
                array.flush()
                files.listed(self.folder / f"{name}.npy")

    def there(
        self, queries: Int[Tensor, " q"], rows: Int[Tensor, " b"]
    ) -> Float[Tensor, "q b"] | None:
        """A block that a part has made."""
        path = self.parts and _block(self.parts, queries, rows)
        if path is None or not processes.agree(path.exists()):
            return None
        shape = len(queries), len(rows)
        return torch.from_numpy(readers.read_array(path, shape, "f", finite=True).copy())

    def put(
        self, queries: Int[Tensor, " q"], rows: Int[Tensor, " b"], scores: Float[Tensor, "q b"]
    ) -> None:
        """Write a block, or merge it into the highest and lowest of each query."""
        first, last = int(queries[0]), int(queries[-1]) + 1
        if processes.rank() != 0:
            return
        if self.keep is None:
            self.values[first:last, int(rows[0]) : int(rows[-1]) + 1] = scores.numpy()
            return
        index = rows.int().expand_as(scores)
        for side, sign in (("high", 1), ("low", -1)):
            values = torch.cat([self.state.get(side, scores[:, :0]), scores], 1)
            where = torch.cat([self.state.get(f"{side} rows", index[:, :0]), index], 1)
            best = (sign * values).argsort(dim=1, descending=True, stable=True)[:, : self.keep]
            self.state |= {side: values.gather(1, best), f"{side} rows": where.gather(1, best)}
        if int(rows[-1]) == self.last:
            assert self.rows is not None
            self.values[first:last] = torch.cat(
                [self.state["high"], self.state["low"].flip(1)], 1
            ).numpy()
            self.rows[first:last] = torch.cat(
                [self.state["high rows"], self.state["low rows"].flip(1)], 1
            ).numpy()

    def save(self, last: bool) -> None:
        """What a resumed sweep needs; a finished group's best are in the arrays."""
        self.state = {} if last else self.state
        facts = {"group": str(self.group), "done": str(self.done), "made": self._made}
        arrays.write_tensors(self.folder / "progress.safetensors", self.state, facts)
