"""A session: what a reviewer is shown next, and what becomes of the answer."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from datablame.analyses.behind import Behind, Pushed
from datablame.analyses.certificate import Answer, Drawing, certificate, kept
from datablame.analyses.duplicates import Duplicates
from datablame.analyses.evidence import Evidence
from datablame.base.errors import InputError, unknown
from datablame.decisions import FILE, RIGHT, UNSURE, Decision, Decisions
from datablame.exchange.answers import asked
from datablame.pages.figures import encoded
from datablame.pages.memory import heated
from datablame.review import learning
from datablame.run import Run
from datablame.verdict import ACTS, P_WRONG

QUEUES = ("hunt", "learn", "copies", "certify", "conflicts")
EVERY = 20
"""Decisions after which `learn` orders anew."""
AT_ONCE, SHEET, NEAR = 200, 96, 12
"""Examples that are told of together, and that are settled together, at most; neighbours shown."""


class Session:
    """The review of a run, for all who take part in it; its methods may be called by several
    threads.
    """

    def __init__(self, run: Run):
        """Raises InputError for a run that is not judged."""
        if run.verdict is None:
            raise InputError(f"{run.path} is not judged yet: datablame judge {run.path}")
        self.run, self.data, self.verdict = run, run.data, run.undecided
        self.evidence, self.behind = Evidence(run), Behind(run)
        self.decisions = Decisions(run.path / FILE, run.data)
        self.deciding, self.reading, self.learning, self.certifying, self.searching = (
            threading.Lock() for _ in range(5)
        )
        self._learned: tuple[int, np.ndarray] = (-1, np.zeros(0))
        self._suspects, self._drawn = len(self.verdict.suspects), list[int]()
        self._certified: tuple[str, int, dict[str, Any] | None] = ("", -1, None)

    # --- what is next ---

    def queue(self, asked_for: Mapping[str, str]) -> dict[str, Any]:
        """Examples of a queue, in its order: `{total, left, items}`.

        `queue` hunt, learn, copies or conflicts; `signal` ranks; `given`, `proposed` are class
        numbers; `search` a part of a name; `cluster` is the first of some copies; `open=1` leaves
        out what is settled; `start` and `count`.
        """
        name = asked_for.get("queue", "hunt")
        if name not in QUEUES:
            raise unknown("queue", name, QUEUES)
        order = self._order(name, asked_for.get("signal", ""))
        keep = np.ones(len(self.data), bool)
        for key, values in (("given", self.data.labels), ("proposed", self.verdict.proposed)):
            if asked_for.get(key, "") != "":
                keep &= values.numpy() == number(asked_for[key], key)
        if asked_for.get("cluster", "") != "":
            first = number(asked_for["cluster"], "cluster")
            self.check(first)
            keep &= self.copies.first[: len(keep)].numpy() == int(self.copies.first[first])
        if words := asked_for.get("search", ""):
            found = self.data.names.to_pylist()
            keep &= np.fromiter((words.lower() in each.lower() for each in found), bool, len(keep))
        order = order[keep[order]]
        keep[list(self.decisions.settled())] = False
        still = order[keep[order]]
        rows = still if asked_for.get("open", "1") == "1" and name != "conflicts" else order
        start, count = (number(asked_for.get(key, str(usual)), key) for key, usual in
                        (("start", 0), ("count", 30)))  # fmt: skip
        some, known = rows[start : start + min(count, AT_ONCE)].tolist(), self.decisions.by_row()
        items = [self.item(row, known) for row in some]
        return {"total": len(order), "left": len(still), "items": items}

    def _order(self, queue: str, signal: str) -> np.ndarray:
        if queue == "conflicts":
            return np.array(self.decisions.conflicts(), dtype=int)
        if queue == "copies":
            return np.array([row for rows in self.copies.clusters for row in rows], dtype=int)
        if queue == "learn":
            return self._learn()
        if signal and signal != "verdict":
            if signal not in self.evidence.order:
                raise unknown("scores", signal, self.evidence.order)
            return self.evidence.order[signal].argsort().numpy()
        return self._hunted

    @cached_property
    def _hunted(self) -> np.ndarray:
        """All examples, the most suspect first."""
        return self.verdict.suspicion.argsort(descending=True, stable=True).numpy()

    @property
    def copies(self) -> Duplicates:
        """Copies among the images, looked for where nobody did."""
        with self.searching:
            found = self.evidence.duplicates(look=True)
        assert found is not None
        return found

    def _learn(self) -> np.ndarray:
        """All examples, the likeliest to be wrong first, learned anew every EVERY decisions."""
        with self.learning:
            done = {row: each for row, each in self.decisions.settled().items()
                    if each.act != UNSURE}  # fmt: skip
            turn = len(done) // EVERY
            if self._learned[0] != turn:
                rows = np.array(list(done)[: turn * EVERY], dtype=int)
                wrong = np.array([done[row].act != RIGHT for row in rows.tolist()], bool)
                odds = learning.reordered(*self._known, rows, wrong)
                self._learned = turn, np.argsort(-odds, kind="stable")
            return self._learned[1]

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signals, probabilities and pairs of classes that `learn` goes by."""
        known = self.evidence.scores().items()
        scores = [each.numpy() for name, each in known if name != P_WRONG]  # which is the offset
        p = self.verdict.p_wrong
        if p is None:
            place = self.verdict.suspicion.argsort(stable=True).argsort()
            p = (place + 0.5) / len(place)
        pair = self.data.labels * (len(self.data.classes) + 1) + self.verdict.proposed + 1
        return learning.features(scores), p.numpy(), pair.numpy()

    # --- one example ---

    def item(self, row: int, known: Mapping[int, list[Decision]] | None = None) -> dict[str, Any]:
        """An example, in a word: as a contact sheet shows it."""
        proposed, p = int(self.verdict.proposed[row]), self.verdict.p_wrong
        copies = self.evidence.duplicates()
        several = (self.decisions.by_row() if known is None else known).get(row, [])
        return {
            "row": row,
            "name": self.data.name(row),
            "given": int(self.data.labels[row]),
            "proposed": proposed,
            "probability": round(float(self.verdict.probability[row]), 4),
            "p_wrong": None if p is None else round(float(p[row]), 4),
            "act": ACTS[int(self.verdict.act[row])],
            "cluster": row if copies is None else int(copies.first[row]),
            "decided": [{"act": each.act, "label": each.label, "by": each.by, "note": each.note}
                        for each in several],
        }  # fmt: skip

    def example(self, row: int) -> dict[str, Any]:
        """An example with all evidence. Raises InputError where there is none of that number."""
        self.check(row)
        with self.reading:
            near = self.evidence.neighbours(row)
            facts = {
                "reasons": self.evidence.reasons(row, near),
                "likeliest": self.evidence.likeliest(row),
                "trace": self.evidence.trace(row),
                "ranks": self.evidence.ranks(row),
                "neighbours": [
                    {"row": each, "cosine": round(value, 3), "given": int(self.data.labels[each])}
                    for each, value in near[:NEAR]
                ],
            }
        if self.data.texts is not None:
            facts["text"] = self.data.texts[row].as_py()
        return self.item(row) | facts

    def behind_it(self, row: int) -> dict[str, Any]:
        """Training images behind a label and the model's answer, as far as the run knows these."""
        self.check(row)
        facts: dict[str, Any] = {}
        with self.reading:
            if self.behind.index is not None:
                facts["towards"], facts["away"] = map(self._told, self.behind.pushed([row])[0])
            if self.behind.remembers:
                view = self.behind.recalled([row])
                facts["answer"] = [int(view.answers[0]), round(float(view.probabilities[0]), 4)]
                same, other = self.behind.kinds(view, 0)
                facts["examples"], facts["counterfactuals"] = self._told(same), self._told(other)
        return facts

    def _told(self, pairs: list[Pushed]) -> list[dict[str, Any]]:
        return [{"row": row, "given": int(self.data.labels[row]), "value": float(f"{value:.3g}")}
                for row, value in pairs]  # fmt: skip

    def heat(self, row: int) -> tuple[bytes, str]:
        """(heatmaps of an image and what it is recalled by, png). Raises InputError where the model
        has no memory.
        """
        self.check(row)
        if not self.behind.remembers:
            raise InputError(f"{self.run.path} has no memory to answer by")
        self.data.need_pictures("a heatmap")
        with self.reading:
            return encoded(heated(self.behind.recalled([row]), 0)), "png"

    def check(self, row: int) -> None:
        if not 0 <= row < len(self.data):
            raise InputError(f"there is no example {row} among {len(self.data):,}")

    # --- decisions ---

    def decide(self, said: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Keep what somebody said of an example: `{row, act, label?, note?, queue?, mark?}`.

        In the queue `certify` the example must be the one that is asked about next.
        """
        row, label = said.get("row"), said.get("label", -1)
        if not isinstance(row, int) or isinstance(row, bool) or not isinstance(label, int):
            raise InputError("row and label are numbers")
        words = {key: said.get(key, "") for key in ("act", "note", "queue", "mark")}
        if not all(isinstance(each, str) for each in words.values()):
            raise InputError("act, note, queue and mark are words")
        queue, mark = words["queue"] or "hunt", words["mark"]
        if queue not in QUEUES:
            raise unknown("queue", queue, QUEUES)
        self.check(row)
        p = self.verdict.p_wrong
        decision = Decision(row, words["act"], label, by, words["note"], queue=queue)
        decision = dataclasses.replace(decision, score=None if p is None else float(p[row]))
        with self.deciding:
            if (known := self.decisions.marked(mark)) is not None:
                return _kept(known)
            if queue == "certify":
                wanted, again = self._asked(self.answers(by)) or (-1, False)
                if wanted != row:
                    raise InputError(f"example {wanted} is asked about, not {row}: answer in order")
                decision = dataclasses.replace(decision, chance=self._chance(row), again=again)
            return _kept(self.decisions.add(decision, mark))

    def settle(self, said: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Keep several decisions at once: those of a cell of the contact sheet."""
        several = said.get("decisions")
        if not isinstance(several, list) or len(several) > SHEET:
            raise InputError(f"decisions is a list of at most {SHEET}")
        if not all(isinstance(each, dict) for each in several):
            raise InputError("each decision is an object")
        return {"kept": [self.decide(each, by)["number"] for each in several]}

    def undo(self, by: str) -> dict[str, Any]:
        """Take back the last decision of somebody."""
        with self.deciding:
            last = self.decisions.undo(by)
        return {"row": None, "queue": None} if last is None else _kept(last)

    # --- the certificate ---

    @cached_property
    def drawing(self) -> Drawing:
        """From what images are drawn, begun where nobody has."""
        return Drawing.of(self.run, None)

    def _chance(self, row: int) -> float:
        """With which an example is drawn at each draw."""
        stratum = int(self.drawing.stratum[row])
        return float(self.drawing.share[stratum] / self.drawing.sizes[stratum])

    def answers(self, by: str) -> list[Answer]:
        """What somebody answered about images that were drawn, in their order: up to the first that
        another drawing asked about.
        """
        mine = [each for each in self.decisions.standing("certify") if each.by == by]
        order = self._lot(len(mine))
        pairs = zip(mine, order, strict=False)
        same = itertools.takewhile(lambda pair: pair[0].row == pair[1], pairs)
        return [_answer(each, int(self.data.labels[each.row])) for each, _ in same]

    def _lot(self, count: int) -> list[int]:
        """The examples that are asked about, in their order: so many, or more."""
        if len(self._drawn) < count:
            self._drawn = asked(self.drawing.images(2 * count + 64))
        return self._drawn

    def _asked(self, done: list[Answer]) -> tuple[int, bool] | None:
        """(the example that is asked about next, is it for a second time); None where all were."""
        order = self._lot(len(done) + 1)
        if len(done) >= len(order):
            return None
        row = order[len(done)]
        return row, any(each.row == row for each in done)

    def certify(self, by: str) -> dict[str, Any]:
        """The image that is asked about next; None where all were."""
        done = self.answers(by)
        found = self._asked(done)
        item = None if found is None else self.item(found[0]) | {"again": found[1], "decided": []}
        return {"answered": len(done), "next": item}

    def certificate(self, by: str) -> dict[str, Any]:
        """What somebody's answers show so far, kept as `datablame certify` keeps it."""
        with self.certifying:
            done, last = self.answers(by), max(self.decisions.every, default=0)
            if self._certified[:2] != (by, last):
                found = certificate(self.drawing, done) if done else None
                facts = found and kept(self.run, self.drawing, found, done).to_json()
                self._certified = by, last, facts
            return {"answered": len(done), "certificate": self._certified[2]}

    # --- all ---

    def state(self) -> dict[str, Any]:
        """What the page shows around the example."""
        counts = self.decisions.acts()
        return {
            "title": self.data.source,
            "examples": len(self.data),
            "drawn": self.data.drawn,
            "classes": list(self.data.classes),
            "signals": ["verdict", *self.evidence.order],
            "suspects": self._suspects,
            "settled": sum(counts.values()),
            "counts": counts,
            "conflicts": len(self.decisions.conflicts()),
            "behind": self.behind.index is not None or self.behind.remembers,
            "heat": self.behind.remembers and self.data.drawn,
            "can_copy": self.data.images is not None,
            "can_certify": self.verdict.p_wrong is not None,
        }


def _kept(each: Decision) -> dict[str, Any]:
    """What the page is told of a decision."""
    return {"number": each.number, "row": each.row, "act": each.act, "queue": each.queue}


def _answer(each: Decision, given: int) -> Answer:
    """A decision as an answer of a certificate: an image that is left out has a wrong label."""
    right = {RIGHT: given, UNSURE: None}.get(each.act, each.label)
    return Answer(each.row, right, each.again, each.by)


def number(text: str, what: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"{what} is a number; got '{text[:40]}'")
    return int(text)
