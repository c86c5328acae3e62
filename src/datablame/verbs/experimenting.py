"""A whole experiment from its file: the run, and what is done with it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from cyclopts import App, CycloptsError, Parameter, Token, convert

from datablame.base.errors import InputError, unknown
from datablame.base.results import Result
from datablame.recipe import VERBS, Experiment, Recipe, Step
from datablame.verbs import detector, memory
from datablame.verbs.auditing import audit
from datablame.verbs.explaining import agree, classes, explain, index, memorization
from datablame.verbs.judging import judge, measure, score
from datablame.verbs.opening import opened
from datablame.verbs.reporting import report
from datablame.verbs.retraining import ablate, retrain
from datablame.verbs.training import train

STEPS = {
    "ablate": ablate, "agree": agree, "classes": classes, "detector teach": detector.teach,
    "explain": explain, "index": index, "judge": judge, "measure": measure,
    "memorization": memorization, "memory show": memory.show, "memory test": memory.test,
    "report": report, "retrain": retrain, "score": score, "train": train,
}  # fmt: skip
"""What a step may be: commands that write into the runs of the experiment."""
RUN = "RUN"
"""What is said for a run that is not made yet."""


def number(kind: Any, tokens: Sequence[Token]) -> Any:
    """Tokens as the type of an option. Raises ValueError for a fraction where a whole number is
    wanted, and for a number that is not finite.
    """
    kinds = get_args(kind) or (kind,)
    for token in tokens:
        if int in kinds and float not in kinds and str not in kinds:
            if not re.fullmatch(r"[+-]?\d+", token.value):
                raise ValueError(f"a whole number is expected, got '{token.value}'")
        elif float in kinds and not math.isfinite(float(token.value)):
            raise ValueError(f"a finite number is expected, got '{token.value}'")
    return convert(kind, tokens)


@dataclass(frozen=True, eq=False, repr=False)
class Experimented(Result):
    """Every command of an experiment in its order, with what it returned (nothing where it was only
    to be said).
    """

    commands: list[str]
    results: list[Any]

    def to_json(self) -> dict[str, Any]:
        if not self.results:
            return {f"{number}": command for number, command in enumerate(self.commands, 1)}
        return {
            command: {"path": str(found)} if isinstance(found, Path) else found.to_json()
            for command, found in zip(self.commands, self.results, strict=True)
        }

    def __str__(self) -> str:
        if not self.results:
            return "\n".join(f"datablame {command}" for command in self.commands)
        return "\n\n".join(
            f"datablame {command}\n{found}"
            for command, found in zip(self.commands, self.results, strict=True)
        )


def experiment(
    file: Path | str,
    source: str | Path | None = None,
    *,
    out: Path | str = Path("runs"),
    dry_run: bool = False,
    **options: Any,
) -> Experimented:
    """Run a whole experiment from a recipe's file: its data, its training, and its steps.

    Repeats a run from its `recipe.yaml` alone; takes the experiments of the papers by name. What
    is there already is not made again. Returns what each command returned. Raises InputError for a
    file that is no recipe, and for a step or an option that there is not.

    Parameters
    ----------
    file
        YAML file of a recipe, a run, whose recipe.yaml is meant, or a name that `datablame methods`
        lists.
    source
        The set, as for `load`; by default, the one that the file names.
    out
        Folder under which all its runs are made.
    dry_run
        Only say the commands.
    options
        Options of the file's first command (train or audit), such as --limit 500 or --epochs 5, and
        words of its steps, in place of what the file says.
    """
    path = Path(file)
    known = Experiment.read(opened(path).path / "recipe.yaml" if path.is_dir() else path)
    words = {name: str(options.pop(name)) for name in known.values if name in options}
    where = source if source is not None else known.data.get("source")
    if where is None:
        raise InputError(f"{file} names no data; name it: datablame run {file} SOURCE")
    usual = Recipe().to_json()
    fields = {name: value for name, value in known.recipe.to_json().items() if value != usual[name]}
    kept = fields | known.data | options
    kept = {name: value for name, value in kept.items() if name != "source"}
    work = _Work(kept, known.values | words | {"source": str(where), "out": str(out)})
    steps = [f"{known.verb} {{source}}", *known.steps]
    said = list(work.commands(steps, dry_run=True))  # a wrong step is known before any is run
    fresh = dataclasses.replace(work, runs=[])
    done = said if dry_run else list(fresh.commands(steps, dry_run=False))
    commands = [shlex.join(tokens) for tokens, _ in done]
    return Experimented(commands, [] if dry_run else [found for _, found in done])


@dataclass
class _Work:
    """An experiment under way: `kept`, options of each command that makes a run; `words`, what
    stands for the names in braces."""

    kept: Mapping[str, Any]
    words: Mapping[str, str]
    runs: list[str] = dataclasses.field(default_factory=list)

    def commands(
        self, steps: Sequence[Step], dry_run: bool, more: Mapping[str, str] = {}
    ) -> Iterator[tuple[list[str], Any]]:
        """Each command with what it returned; where it is a dry run, with nothing."""
        for step in steps:
            if isinstance(step, dict):
                names = list(step["each"])
                choices = [self.several(values, more) for values in step["each"].values()]
                for chosen in itertools.product(*choices):
                    these = {**more, **dict(zip(names, chosen, strict=True))}
                    yield from self.commands(step["steps"], dry_run, these)
                continue
            tokens = self.filled(step, more)
            call = _parsed(tokens)
            found = None if dry_run else call()
            if tokens[0] in VERBS:
                made = [RUN] if found is None else _paths(found)
                self.runs += [path for path in made if path not in self.runs or path == RUN]
            yield tokens, found

    def several(self, values: Any, more: Mapping[str, str]) -> list[str]:
        """The values of a name of `each`: a list, or words."""
        listed = values if isinstance(values, list) else shlex.split(str(values))
        return [word for value in listed for word in self.word(str(value), more)]

    def filled(self, step: str, more: Mapping[str, str]) -> list[str]:
        """A step's words with what stands for the names in braces; a command that makes a run has
        the file's options too, where the step does not name them."""
        tokens = [token for word in shlex.split(step) for token in self.word(word, more)]
        if tokens[:1] and tokens[0] in VERBS:
            named = {token.partition("=")[0] for token in tokens if token.startswith("--")}
            for name, value in ({**self.kept, "out": self.words["out"]}).items():
                flag = f"--{name.replace('_', '-')}"
                if flag not in named:
                    tokens += _option(flag, value)
        return tokens

    def word(self, word: str, more: Mapping[str, str]) -> list[str]:
        """A word, or the several that stand for `{name}`."""
        runs = self.runs or [RUN]
        known = {**self.words, "run": runs[-1], "first": runs[0], **more}
        name = word[1:-1] if word.startswith("{") and word.endswith("}") else ""
        if name == "runs":
            return runs
        if name in self.words and name not in ("source", "out"):
            return shlex.split(known[name])
        try:
            return [re.sub(r"\{(\w+)\}", lambda found: known[found[1]], word)]
        except KeyError as missing:
            raise unknown("word of a step", missing.args[0], [*known, "runs"]) from None


def _option(flag: str, value: Any) -> list[str]:
    """An option's tokens."""
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, (list, tuple)):
        return [flag, *map(str, value)]
    return [f"{flag}={value}"]


def _paths(found: Any) -> list[str]:
    """The runs that a command made: one, or one a seed."""
    return [str(found.path)] if hasattr(found, "path") else list(found.runs)


def _parsed(tokens: list[str]) -> Callable[[], Any]:
    """What a step calls. Raises InputError for a step that there is not, or that does not fit."""
    app = App(default_parameter=Parameter(converter=number), help_flags=(), version_flags=())
    known = {"audit": audit, **STEPS}
    name = next((name for name in known if name.split() == tokens[: len(name.split())]), None)
    if name is None:
        raise unknown("step", " ".join(tokens[:1]), known)
    app.default(known[name])
    try:
        command, bound, _ = app.parse_args(
            tokens[len(name.split()) :], exit_on_error=False, print_error=False
        )
    except CycloptsError as error:
        raise InputError(f"the step '{shlex.join(tokens)[:200]}': {error}") from None
    return lambda: command(*bound.args, **bound.kwargs)
