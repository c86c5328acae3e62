"""The command line: the same words as the library, options read off its signatures."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from datablame import verbs
from datablame.base.errors import InputError, RunError
from datablame.recipe import Recipe, Trust, shipped
from datablame.verbs.experimenting import number

app = App(
    name="datablame",
    default_parameter=Parameter(converter=number),
    help="git blame for training data: find the labelled images that are wrong, show why, "
    "fix them, and prove that it helped.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False
app.meta.group_parameters = Group("For every command", sort_key=90)
START, STEPS, EXPLAIN, COMPARE, MORE = (
    Group(title, sort_key=key)
    for key, title in enumerate(
        ("Start here", "Step by step", "Explain", "Compare and try", "Methods and machines")
    )
)
VERBOSE = "--verbose"
ASKED_FOR = (
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EROFS,
)
"""What the machine answers to a path that was asked for and cannot be."""
GROUPS = {
    START: (
        verbs.look,
        verbs.audit,
        verbs.report,
        verbs.review,
        verbs.clean,
        verbs.certify,
        verbs.decided,
    ),
    STEPS: (
        verbs.load,
        verbs.corrupt,
        verbs.train,
        verbs.score,
        verbs.judge,
        verbs.retrain,
        verbs.export,
    ),
    EXPLAIN: (verbs.explain, verbs.index, verbs.memorization, verbs.classes, verbs.annotators),
    COMPARE: (verbs.measure, verbs.compare, verbs.agree, verbs.ablate),
}
for group, commands in GROUPS.items():
    for verb in commands:
        app.command(verb, group=group)
app.command(verbs.import_dynamics, name="import", group=STEPS)
app.command(verbs.experiment, name="run", group=COMPARE)
memory = App(name="memory", help=verbs.memory.__doc__, help_format="markdown", group=EXPLAIN)
for verb in (verbs.memory.show, verbs.memory.test, verbs.memory.replace):
    memory.command(verb)
detector = App(name="detector", help=verbs.detector.__doc__, help_format="markdown", group=MORE)
detector.command(verbs.detector.teach)
for each in (memory, detector):
    app.command(each)


for each in (verbs.encoders, verbs.fetch):
    app.command(each, group=MORE)


@app.command(group=MORE)
def methods(name: str | None = None) -> dict[str, dict[str, str]]:
    """List every source, noise, model, head, trainer, curvature, signal, attributor and judge, each
    with a line of documentation; or tell of one.

    Parameters
    ----------
    name
        A method: where it is from, its formula, when to use it, its options.
    """
    from datablame.base import methods as finder
    from datablame.methods.sources.preset import presets

    if name is not None:
        return finder.described(name)
    rooms = {
        room: {name: finder.first_line(room, name) for name in finder.names(room)}
        for room in finder.ROOMS
    }
    return rooms | {
        "presets": {name: facts["title"] for name, facts in presets().items()},
        "recipes": shipped(),
    }


@app.command(group=MORE)
def doctor(
    run: Path | None = None, *, bench: Annotated[bool, Parameter(negative=())] = False
) -> dict[str, Any]:
    """Check this machine (versions, devices, memory, disk, and a torchvision that does not fit its
    torch), or a run: whether each file is what was written. Exit code 1 where one is damaged.

    Parameters
    ----------
    run
        Folder of a run, to check its files.
    bench
        Time the machine, too (products in fp32 and bf16, decoding, training, the disk), and say
        what auto chooses here, and why. Under 20 seconds.
    """
    from datablame.base import doctor as examining

    if run is not None and bench:
        raise InputError("--bench is of this machine: leave out the run")
    if run is None:
        known = examining.doctor()
        if bench:
            from datablame.training.machine import bench as timed

            known |= timed()
        return known
    from datablame.decisions import damage
    from datablame.verbs.opening import opened

    found = opened(run).path
    return examining.examine(found, *damage(found))


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    fail_over: str | None = None,
    baseline: Path | None = None,
    recipe: Path | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    trust: Annotated[bool, Parameter(negative=())] = False,
    offline: Annotated[bool, Parameter(negative=())] = False,
    weights: Path | None = None,
    verbose: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run one command.

    Parameters
    ----------
    as_json
        Print one JSON object on standard output; everything else goes to standard error.
    fail_over
        With audit, judge and look: exit with 3 if more than this share of the examples (5% or 0.05)
        is suspect (for `look`: not read, a copy with another label, or in the test set too).
    baseline
        With audit: examples.parquet of an earlier one, or its run; of the suspects only those count
        for --fail-over that were none there, or had another label.
    recipe
        YAML file of a recipe, such as a run's recipe.yaml, or a name that `datablame methods`
        lists; options on the command line override it.
    quiet
        Show no messages and no progress, only results and errors.
    trust
        Import the code that a run or a recipe file names (a model of a package of yours).
    offline
        Fetch nothing: sets and weights that are not on this machine are an error at once.
    weights
        Folder of weights that `datablame fetch --to` filled.
    verbose
        Show where in the program an error came from.
    """
    _settle(trust, offline, weights, quiet)
    tokens += _of_recipe(recipe, tokens) if recipe else ()
    limit = _limit(fail_over, tokens)
    before = _before(baseline, tokens)
    began = time.perf_counter()
    result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    if result is None or isinstance(result, int):  # help or version was printed
        return 0
    facts = _facts_of(result)
    if before is not None and "table" in facts:
        facts["new_suspects"] = before.fresh(Path(facts["table"]))
    shown = (
        json.dumps(facts, ensure_ascii=False) if as_json else said(result, facts)
    )  # by all ranks
    if _main_process():
        print(shown)
        from datablame.base import progress

        if verbose and time.perf_counter() - began > 2 and progress.profile().seconds:
            print(f"\n{progress.profile()}", end="", file=sys.stderr)
    return _exit_code(facts, limit)


def _limit(fail_over: str | None, tokens: tuple[str, ...]) -> float | None:
    """The share above which a command that finds suspects ends with 3."""
    limit = share(fail_over) if fail_over else None
    if limit is not None and not {"audit", "judge", "look"} & set(tokens[:1]):
        raise InputError(
            "--fail-over goes with audit, judge and look: this command finds no suspects"
        )
    return limit


def _before(baseline: Path | None, tokens: tuple[str, ...]) -> Any:
    """The suspects of an earlier audit, read before anything is trained."""
    if baseline is None:
        return None
    if tokens[:1] != ("audit",):
        raise InputError("--baseline goes with audit: it is compared with what an audit has found")
    from datablame.analyses.baseline import Baseline

    return Baseline.read(baseline)


def _of_recipe(recipe: Path, tokens: tuple[str, ...]) -> tuple[str, ...]:
    """A recipe's fields as options, but those that are given; `retrain` takes a recipe whole."""
    if tokens[:1] == ("retrain",):
        return (f"--recipe={recipe}",)
    given = {token.partition("=")[0] for token in tokens}
    fields = Recipe.read(recipe).to_json().items()
    options = {f"--{name.replace('_', '-')}": value for name, value in fields}
    return tuple(f"{name}={value}" for name, value in options.items() if name not in given)


def _settle(trust: bool, offline: bool, weights: Path | None, quiet: bool) -> None:
    """What holds for every command, and for what it starts."""
    Trust.files = trust
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if weights:
        os.environ["DATABLAME_WEIGHTS"] = str(_folder(weights))
    logging.getLogger("datablame").setLevel(logging.WARNING if quiet else logging.INFO)


def _folder(weights: Path) -> Path:
    """Raises InputError for what is no folder."""
    if not weights.is_dir():
        raise InputError(f"there is no folder of weights {weights}")
    return weights.absolute()


def _exit_code(facts: dict[str, Any], limit: float | None) -> int:
    """0; 1 where a run is damaged, 3 where more is suspect than was allowed."""
    if facts.get("damaged", "none") != "none":
        return 1
    over, what = facts.get("suspect_share", 0), "suspect"
    if "faulty_share" in facts:
        over, what = facts["faulty_share"], "at fault"
    if (new := facts.get("new_suspects")) is not None:
        over, what = len(new) / max(1, facts.get("examples", 0)), "suspect and new"
    if limit is not None and over > limit:
        print(f"{over:.2%} of the examples are {what}, more than {limit:.2%}", file=sys.stderr)
        return 3
    return 0


def _facts_of(result: Any) -> dict[str, Any]:
    """A command's result as plain values under stable names."""
    if isinstance(result, dict):
        return result
    return {"path": str(result)} if isinstance(result, Path) else result.to_json()


def said(result: Any, facts: dict[str, Any]) -> str:
    """A command's result for a person."""
    from datablame.base.results import text

    if isinstance(result, dict):
        return text(facts)
    if "new_suspects" not in facts:
        return str(result)
    from datablame.analyses.baseline import told

    return f"{result}\n{told(facts['new_suspects'])}"


def _main_process() -> bool:
    from datablame.base import processes

    return processes.rank() == 0


def share(text: str) -> float:
    """`5%` or `0.05`. Raises InputError for anything else."""
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"--fail-over takes a share such as 5% or 0.05; got '{text}'")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 failure, 2 usage or input, 3 over
    --fail-over, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot show is shown as it can be
            stream.reconfigure(errors="backslashreplace")
    try:
        return _answered(arguments)
    except Exception as error:
        if VERBOSE in arguments:
            traceback.print_exc()
        _complain(f"datablame: {_unexpected(error, arguments)}")
        return 2 if isinstance(error, OSError) and error.errno in ASKED_FOR else 1


def _answered(arguments: list[str]) -> int:
    """`main`, but for what nobody expected."""
    try:
        with _together(arguments):
            return (
                app.meta(
                    arguments, exit_on_error=False, print_error=False, result_action="return_value"
                )
                or 0
            )
    except KeyboardInterrupt:
        _complain(
            "\ninterrupted; what is done is saved. Resume with:\n  datablame "
            f"{shlex.join(arguments)}"
        )
        return 130
    except (InputError, CycloptsError) as error:
        if VERBOSE in arguments:
            traceback.print_exc()
        _complain(f"datablame: {error}")
        return 2
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RunError as error:
        _complain(f"datablame: {error}")
        return 1


def _complain(sentence: str) -> None:
    """Say why the program ends; of several processes only the first says it."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from datablame.base import processes

        if not processes.speaks():
            return
    print(sentence, file=sys.stderr)


def _unexpected(error: Exception, arguments: list[str]) -> str:
    """A sentence for an error that nobody expected; crash.txt in the cache gets its traceback."""
    from datablame.base import environment, files, processes

    text = str(error).strip().partition("\n")[0][:200]
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        where = " on the GPU, which others may use, too" if "CUDA" in text else ""
        return f"not enough memory{where}; try a smaller --batch-size or --size, or --limit the set"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply to be read"
    if processes.lost(error):
        return processes.PEER
    if isinstance(error, OSError) and error.strerror:
        return f"{str(error.filename or 'a file')[:200]}: {error.strerror}"
    path = environment.cache() / "crash.txt"
    report = f"datablame {shlex.join(arguments)}\n\n{traceback.format_exc()}\n{_versions()}\n"
    if text.startswith(("CUDA error", "CUDA driver", "cuDNN error", "CUBLAS")):
        with contextlib.suppress(Exception):
            files.write_alone(path, [report.encode()])
        return (
            f"the GPU failed ({text}; {path} says where); what is done is saved. Run the same "
            "command to resume, or go on without it: DATABLAME_DEVICE=cpu, with --recipe "
            "RUN/recipe.yaml for the same run"
        )
    what = f"unexpected {type(error).__name__}: {text}"
    with contextlib.suppress(Exception):
        files.write_alone(path, [report.encode()])
        return f"{what} (this is a bug; {path} says where)"
    return f"{what} (this is a bug; --verbose says where)"


def _versions() -> str:
    """Of the machine and of the packages that matter."""
    import platform
    from importlib.metadata import version

    names = ("datablame", "torch", "torchvision", "numpy", "pyarrow")
    each = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{platform.platform()}, Python {platform.python_version()}, {each}"


@contextlib.contextmanager
def _together(arguments: list[str]) -> Any:
    """Join the other processes under torchrun; without it nothing heavy is imported."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    from datablame.base import processes

    processes.start()
    try:
        processes.alike("the version", _versions().partition(", Python ")[2])
        processes.alike("the command", shlex.join(arguments))
        yield
    except BaseException as error:
        processes.fail(error)
        raise
    finally:
        processes.stop()
