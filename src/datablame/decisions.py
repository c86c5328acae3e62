"""Decisions: what people said of examples, in a SQLite file that only grows."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datablame.base.errors import InputError, unknown
from datablame.base.results import Result
from datablame.dataset import Dataset
from datablame.verdict import ASK, DROP, FIX, KEEP, Verdict

FILE = "review.sqlite"
"""Of a run's folder."""
VERSION, OURS = 1, 0x64626C6D
"""Of the tables in it, and what tells that it is ours."""
RIGHT, WRONG, LEAVE, UNSURE = ACTS = ("right", "wrong", "drop", "unsure")
"""The label is right; wrong, another one perhaps named; the image is left out; cannot tell."""
SOMEBODY = "a person"
"""Who gave no name."""
LONGEST = 10_000
"""Signs of a note, and of a person's name."""
TABLES = """
CREATE TABLE decisions (
  number INTEGER PRIMARY KEY AUTOINCREMENT, mark TEXT NOT NULL UNIQUE, "row" INTEGER NOT NULL,
  name TEXT NOT NULL, act TEXT NOT NULL, label TEXT, note TEXT NOT NULL, "by" TEXT NOT NULL,
  at TEXT NOT NULL, score REAL, chance REAL, queue TEXT NOT NULL, again INTEGER NOT NULL,
  undoes INTEGER REFERENCES decisions (number)
);
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TRIGGER kept BEFORE UPDATE ON decisions BEGIN SELECT RAISE (ABORT, 'decisions stay'); END;
CREATE TRIGGER there BEFORE DELETE ON decisions BEGIN SELECT RAISE (ABORT, 'decisions stay'); END;
"""
COLUMNS = (
    "number", "mark", "row", "name", "act", "label", "note", "by", "at", "score", "chance", "queue",
    "again", "undoes",
)  # fmt: skip
QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
SEALS = "CREATE TABLE IF NOT EXISTS seals (number INTEGER PRIMARY KEY, seal TEXT NOT NULL)"
"""Beside the decisions, so that files of before, which have none, are read and added to."""


def sealed(values: Sequence[Any]) -> str:
    """What tells that a row is as it was written: SQLite does not notice other bytes in one."""
    return hashlib.blake2b(json.dumps(list(values)).encode(), digest_size=8).hexdigest()


def rows(db: sqlite3.Connection) -> Iterator[list[Any]]:
    """The rows of the decisions, in the order of COLUMNS. Raises sqlite3.DatabaseError for one that
    is not as it was written.
    """
    there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'seals'").fetchone()
    seals = dict(db.execute("SELECT number, seal FROM seals")) if there else {}
    for values in db.execute(f"SELECT {QUOTED} FROM decisions ORDER BY number"):
        if seals.get(values[0], seal := sealed(values)) != seal:
            raise sqlite3.DatabaseError(f"decision {values[0]} is not as it was written")
        yield list(values)


@dataclass(frozen=True)
class Decision:
    """What somebody said of an example. `label` is the right class where it was named, -1 where it
    was not; `score` what was shown, `chance` the probability with which the example was drawn;
    `undoes` is the number of the decision that this one takes back.
    """

    row: int
    act: str
    label: int = -1
    by: str = ""
    note: str = ""
    score: float | None = None
    chance: float | None = None
    queue: str = "hunt"
    again: bool = False
    undoes: int | None = None
    at: str = ""
    number: int = 0

    @property
    def means(self) -> tuple[str, int]:
        """What two people must say alike to agree."""
        return self.act, self.label


class Decisions:
    """The decisions of a run's review. A decision that `add` has returned is on disk."""

    def __init__(self, path: Path, data: Dataset):
        """Opens the file of a run, or begins it.

        Raises InputError where it is of another set, of a later version, or damaged.
        """
        self.path, self.data = path, data
        self.lock = threading.RLock()
        self.every: dict[int, Decision] = {}
        self.undone: set[int] = set()
        self.marks: dict[str, int] = {}
        self.said: dict[int, list[Decision]] = {}
        """Of each example all that stand, in their order."""
        self.last: dict[int, list[Decision]] = {}
        """Of each example the last of each person."""
        self.agreed: dict[int, Decision] = {}
        """Of each example the last, where all who looked at it say the same."""
        with self._sound(), contextlib.ExitStack() as undo:
            self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            undo.callback(self.db.close)
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self._begin()
            for values in rows(self.db):
                self._know(dict(zip(COLUMNS, values, strict=True)))
            undo.pop_all()

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """One thread at a time; a damaged file is a sentence."""
        with self.lock:
            try:
                yield
            except InputError:
                raise
            except (sqlite3.Error, TypeError, ValueError) as error:  # of bytes that are damaged
                raise InputError(
                    f"{self.path} cannot be used as decisions of a review ({error}); move it away "
                    "to begin anew"
                ) from None

    def _begin(self) -> None:
        version, ours = (
            self.db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("user_version", "application_id")
        )
        if version > VERSION:
            raise InputError(
                f"{self.path} was written by a later version of datablame (its format {version}; "
                f"this one reads {VERSION}): upgrade, or move it away to begin anew"
            )
        mark = self.data.fingerprint
        if not version:
            self.db.execute("BEGIN IMMEDIATE")
            if self.db.execute("PRAGMA user_version").fetchone()[0]:  # another began it meanwhile
                self.db.execute("ROLLBACK")
                return self._begin()
            for statement in TABLES.split(";\n"):
                if statement.strip():
                    self.db.execute(statement)
            self.db.execute("INSERT INTO about VALUES ('fingerprint', ?)", (mark,))
            self.db.execute(f"PRAGMA application_id={OURS}")
            self.db.execute(f"PRAGMA user_version={VERSION}")
            self.db.execute("COMMIT")
            return
        found = self.db.execute("SELECT value FROM about WHERE name='fingerprint'").fetchone()
        if ours != OURS or found is None or found[0] != mark:
            raise InputError(f"{self.path} holds decisions of another set; move it away")

    def _know(self, facts: dict[str, Any]) -> Decision:
        label = facts["label"]
        if not 0 <= facts["row"] < len(self.data) or facts["act"] not in (*ACTS, "undo"):
            raise InputError(f"{self.path} holds decisions of another set; move it away")
        if label is not None and label not in self.data.classes:
            raise InputError(f"{self.path} names a class that is not there: {label[:60]}")
        facts["label"] = -1 if label is None else self.data.classes.index(label)
        mark = facts.pop("mark")
        del facts["name"]
        facts["again"] = bool(facts["again"])
        decision = Decision(**facts)
        self.every[decision.number] = decision
        self.marks[mark] = decision.number
        said = self.said.setdefault(decision.row, [])
        if decision.undoes is None:
            said.append(decision)
        else:
            self.undone |= {decision.undoes, decision.number}
            said[:] = [each for each in said if each.number != decision.undoes]
        self._settle(decision.row, said)
        return decision

    def _settle(self, row: int, said: list[Decision]) -> None:
        """What all that was said of an example comes to."""
        self.last[row] = several = list({each.by: each for each in said}.values())
        if not several:
            del self.last[row]
        if len({each.means for each in several}) == 1:
            self.agreed[row] = several[-1]
        else:
            self.agreed.pop(row, None)

    def add(self, decision: Decision, mark: str = "") -> Decision:
        """Keep a decision. `mark` is the caller's own: what comes with the same one a second time
        is not kept twice.

        Raises InputError for an example, an act or a class that is not there.
        """
        if decision.act not in (*ACTS, "undo"):
            raise unknown("decision", decision.act, ACTS)
        if not 0 <= decision.row < len(self.data):
            raise InputError(f"there is no example {decision.row} among {len(self.data):,}")
        if not -1 <= decision.label < len(self.data.classes):
            raise InputError(f"there is no class {decision.label}")
        if decision.label >= 0 and decision.act != WRONG:
            raise InputError(f"a class goes with '{WRONG}', not with '{decision.act}'")
        if decision.label >= 0 and decision.label == int(self.data.labels[decision.row]):
            decision = dataclasses.replace(decision, act=RIGHT, label=-1)
        if max(len(decision.note), len(decision.by)) > LONGEST:
            raise InputError(f"a note and a name have at most {LONGEST:,} signs")
        with self._sound():
            if (known := self.marked(mark)) is not None:
                return known
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            facts = dataclasses.asdict(decision) | {"at": at}
            facts["number"] = max(self.every, default=0) + 1
            facts["mark"] = mark or f"{at}-{facts['number']}"
            facts["name"] = self.data.name(decision.row)
            label = self.data.classes[decision.label] if decision.label >= 0 else None
            facts |= {"label": label, "again": int(decision.again)}
            self._write(facts)
            return self._know(facts)

    def _write(self, facts: dict[str, Any]) -> None:
        """A row, and the digest of what SQLite made of it."""
        slots, number = ", ".join("?" * len(COLUMNS)), facts["number"]
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute(SEALS)
            values = [facts[name] for name in COLUMNS]
            self.db.execute(f"INSERT INTO decisions ({QUOTED}) VALUES ({slots})", values)
            query = f"SELECT {QUOTED} FROM decisions WHERE number = ?"
            seal = sealed(self.db.execute(query, (number,)).fetchone())
            self.db.execute("INSERT INTO seals VALUES (?, ?)", (number, seal))
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise

    def marked(self, mark: str) -> Decision | None:
        """The decision that came with this mark, if one did."""
        return self.every[self.marks[mark]] if mark in self.marks else None

    def undo(self, by: str) -> Decision | None:
        """Take back the last decision of a person that stands, and return it."""
        with self.lock:
            mine = (each for each in reversed(self.every.values()) if each.by == by)
            last = next((each for each in mine if each.number not in self.undone), None)
            if last is not None:
                self.add(Decision(last.row, "undo", by=by, queue=last.queue, undoes=last.number))
            return last

    def standing(self, queue: str | None = None) -> list[Decision]:
        """All that were not taken back, in their order."""
        with self.lock:
            every = [each for number, each in self.every.items() if number not in self.undone]
        return [each for each in every if queue in (None, each.queue)]

    def by_row(self) -> dict[int, list[Decision]]:
        """The last decision of each person on each example."""
        with self.lock:
            return dict(self.last)

    def settled(self) -> dict[int, Decision]:
        """The last decision on each example of which all who looked at it say the same."""
        with self.lock:
            return dict(self.agreed)

    def acts(self) -> dict[str, int]:
        """How many examples are settled by each act."""
        found = Counter(each.act for each in self.settled().values())
        return {act: found[act] for act in ACTS}

    def conflicts(self) -> list[int]:
        """Examples of which people say different things."""
        with self.lock:
            return [row for row in self.last if row not in self.agreed]

    def applied(self, verdict: Verdict) -> Verdict:
        """A verdict in which what people decided stands: fixed to the class that they named,
        dropped where they named none, kept where the label is right, and asked about where they
        differ or cannot tell.
        """
        settled, conflicts = self.settled(), self.conflicts()
        if not settled and not conflicts:
            return verdict
        people = sorted({each.by or SOMEBODY for each in settled.values()})
        rows = torch.tensor(list(settled), dtype=torch.long)
        acts = np.array([each.act for each in settled.values()])
        labels = torch.tensor([each.label for each in settled.values()], dtype=torch.long)
        decided = torch.full((len(self.data),), -1)
        decided[rows] = torch.tensor([people.index(e.by or SOMEBODY) for e in settled.values()])
        new = {RIGHT: KEEP, UNSURE: ASK}
        named = labels >= 0  # with WRONG alone
        act, proposed = verdict.act.clone(), verdict.proposed.clone()
        act[rows] = torch.tensor([int(new.get(each, DROP)) for each in acts])
        act[rows[named]], proposed[rows[named]] = int(FIX), labels[named]
        probability = verdict.probability.clone()
        probability[rows[named]] = 1.0
        p_wrong = None if verdict.p_wrong is None else verdict.p_wrong.clone()
        if p_wrong is not None:
            sure = torch.from_numpy(np.isin(acts, (RIGHT, WRONG)))
            p_wrong[rows[sure]] = torch.from_numpy(acts == WRONG)[sure].float()
        act[torch.tensor(conflicts, dtype=torch.long)] = int(ASK)
        return dataclasses.replace(
            verdict,
            act=act,
            proposed=proposed,
            probability=probability,
            p_wrong=p_wrong,
            decided=decided,
            people=tuple(people),
        )

    def columns(self) -> dict[str, Any]:
        """A row for each decision that was ever made, those that were taken back among them."""
        every = list(self.every.values())
        names = np.array([*self.data.classes, ""], dtype=object)
        return {
            "number": [each.number for each in every],
            "name": [self.data.name(each.row) for each in every],
            "given": [str(names[int(self.data.labels[each.row])]) for each in every],
            "act": [each.act for each in every],
            "label": [str(names[each.label]) for each in every],
            "stands": [each.number not in self.undone for each in every],
            "by": [each.by for each in every],
            "at": [each.at for each in every],
            "note": [each.note for each in every],
            "queue": [each.queue for each in every],
        }

    def close(self) -> None:
        with self.lock:
            self.db.close()


@dataclass(frozen=True, eq=False, repr=False)
class Decided(Result):
    """What people decided of a run: how many examples are settled and how, and of how many they say
    different things.
    """

    every: dict[str, Any]
    settled: dict[str, int]
    conflicts: int
    people: tuple[str, ...]
    examples: int

    @classmethod
    def of(cls, path: Path, data: Dataset) -> Decided:
        """By a run's folder. Raises InputError where nothing was decided."""
        if not (path / FILE).exists():
            raise InputError(f"nothing was decided in {path} yet: datablame review {path}")
        with contextlib.closing(Decisions(path / FILE, data)) as kept:
            people = sorted({each.by or SOMEBODY for each in kept.standing()})
            conflicts = len(kept.conflicts())
            return cls(kept.columns(), kept.acts(), conflicts, tuple(people), len(data))

    def to_json(self) -> dict[str, Any]:
        total = sum(self.settled.values())
        return {"examples": self.examples, "decided": total} | self.settled | {
            "conflicts": self.conflicts, "people": list(self.people)
        }  # fmt: skip

    def columns(self) -> dict[str, Any]:
        """A row for each decision, those that were taken back among them."""
        return self.every


def decided(path: Path, data: Dataset, verdict: Verdict) -> Verdict:
    """A verdict with the decisions of a run's folder, where there are any."""
    if not (path / FILE).exists():
        return verdict
    with contextlib.closing(Decisions(path / FILE, data)) as kept:
        return kept.applied(verdict)


def damage(run: Path) -> list[str]:
    """What is wrong with the decisions of a run's folder, which is only read; nothing where there
    are none.
    """
    path = run / FILE
    if not path.exists():
        return []
    waiting = path.with_name(f"{FILE}-wal").exists()
    try:
        with contextlib.closing(_reading(path, "mode=ro" if waiting else "immutable=1")) as db:
            said = str(db.execute("PRAGMA integrity_check").fetchone()[0])
            list(rows(db))
    except (sqlite3.Error, TypeError, ValueError) as error:
        said = str(error)
    return [] if said == "ok" else [f"{path}: {said.partition(chr(10))[0]}"]


def _reading(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)


def count(path: Path) -> int:
    """How many decisions a run's folder has."""
    if not (path / FILE).exists():
        return 0
    try:
        with contextlib.closing(_reading(path / FILE, "mode=ro")) as db:
            return int(db.execute("SELECT coalesce(max(number), 0) FROM decisions").fetchone()[0])
    except sqlite3.Error:
        return 0  # said by who reads them
