"""Recipe: the only configuration; with the data's fingerprint it names a run. Experiment: a recipe,
its data, and what is done with the run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from datablame.base import methods, renames
from datablame.base.errors import InputError, at_least, unknown
from datablame.base.options import Kept, Number, Real, Text, Way

SHIPPED = Path(__file__).parent / "methods" / "recipes"


class Trust:
    """Whether the command line was given --trust."""

    files = False


def shipped() -> dict[str, str]:
    """The recipes that come with the package: name, and what the first line of the file says."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for path in sorted(SHIPPED.glob("*.yaml"))
    }


def _value(value: Any, kind: type, name: str, where: str) -> Any:
    """A field's value as its type. Raises InputError for another; a fraction is not rounded."""
    plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    try:
        if plain and (not isinstance(value, float) or kind is not int or value.is_integer()):
            return kind(value)
    except (ValueError, OverflowError):
        pass
    what = {int: "a whole number", float: "a number", str: "text"}[kind]
    got = repr(value)[:40] if isinstance(value, (str, int, float)) else type(value).__name__
    raise InputError(f"{where}: {name} must be {what}; got {got}")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained and what is recorded of it."""

    model: str = "auto"
    """Encoder: a name from `datablame methods` with its options (resnet9,width=0.5), any
    torchvision classifier by name, frozen:resnet50, or auto."""
    head: Text = "linear"
    """What turns features into classes."""
    trainer: Text = "plain"
    """How the weights are found: plain, or a name from `datablame methods` (dividemix,
    data_parameters, linear_probe)."""
    epochs: int = 0
    """Passes over the training set; 0 chooses by the size of the set."""
    batch_size: Number = 0
    """Examples a step, over all processes; 0 chooses by the size of the set."""
    lr: Real = 0.0
    """Peak learning rate; 0 chooses by the model."""
    optimizer: Text = "sgd"
    """sgd, with Nesterov momentum; sgd,nesterov=no; adam or adamw."""
    momentum: Real = 0.9
    """Momentum of SGD; of Adam, that of the mean gradient."""
    weight_decay: Real = 5e-4
    """Weight decay."""
    decays: Text = "matrices"
    """What decays: matrices and filters only, or all weights."""
    schedule: Text = "onecycle"
    """Learning rate over time: onecycle, triangular, cosine, step,at=0.5+0.75,by=0.1 or
    constant."""
    warmup: Real = 0.0
    """Share of training in which the learning rate rises from nothing, on top of the schedule."""
    label_smoothing: Real = 0.0
    """Share of the label that is spread evenly over all classes in the loss that is descended;
    what is recorded is of the label itself."""
    augment: Text = "auto"
    """Random changes of the training images, joined by +: crop, flip, zoom, randaugment,
    autoaugment (found on CIFAR-10; autoaugment_svhn, autoaugment_imagenet); none; or
    auto (crop+flip for colour, crop for grey)."""
    precision: Text = "auto"
    """fp32, bf16 or fp16; auto is bf16 on GPUs and CPUs that have it, else fp32."""
    record: Way = "train"
    """What is recorded: `train`, the model's outputs in the training pass (free), or `eval`, in a
    pass of its own in eval mode, without augmentation."""
    top_k: Kept = 0
    """How many likeliest classes are recorded of each example at each epoch, with their
    probabilities; 0 for none."""
    validate: Kept = 0
    """Log error, top-5 error and loss on the test images every N epochs; 0 for never. Nothing
    is chosen by them."""
    checkpoints: Kept = 0
    """Epochs whose weights are kept, evenly spread, the last among them: what `tracin` needs."""
    folds: Kept = -1
    """Models that each leave out a part of the training set, for held-out probabilities; 0 for
    none, -1 chooses."""
    seed: int = 0
    """Of weights, order and augmentation."""
    accumulate: Number = 1
    """Parts of a batch that the model looks at one after the other before it takes a step: less
    memory, the same step but for BatchNorm, which sees each part."""
    batch_norm: Text = "united"
    """Under several processes, what BatchNorm sees: `united`, the batch of all, so that two train
    what one would; or `apart`, each its own part, which sends less."""

    def __post_init__(self) -> None:
        at_least(0, 100_000, epochs=self.epochs, checkpoints=self.checkpoints)
        at_least(-(2**63), 2**63 - 1, seed=self.seed)
        at_least(
            0,
            batch_size=self.batch_size,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
        )
        at_least(0, top_k=self.top_k, validate=self.validate)
        at_least(1, 10_000, accumulate=self.accumulate)
        at_least(-1, 10_000, folds=self.folds)
        for name in ("momentum", "warmup", "label_smoothing"):
            if (share := getattr(self, name)) >= 1:
                raise InputError(f"{name} is a share below 1; got {share}")
        if self.batch_size == 1:
            raise InputError(
                "a batch of one image cannot be normalised; use --batch-size 2 or more"
            )
        if self.accumulate > 1 and 0 < self.batch_size < 4 * self.accumulate:
            raise InputError(  # the last batch may be half as large
                f"a batch of {self.batch_size} in {self.accumulate} parts may leave one image to a "
                "part, which cannot be normalised; use fewer: --accumulate"
            )
        if self.folds == 1:
            raise InputError(
                "one fold would leave nothing to train on; ask for --folds 2 or more, or 0 for none"
            )
        for name, allowed in (
            ("precision", ("auto", "fp32", "bf16", "fp16")),
            ("record", ("train", "eval")),
            ("decays", ("matrices", "all")),
            ("batch_norm", ("united", "apart")),
        ):
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)

        methods.TRUSTED.update(filter(None, map(methods.dotted, self._specs)))

    @property
    def _specs(self) -> tuple[str, str, str]:
        """The fields that name methods."""
        return self.model, self.head, self.trainer

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(
        cls, fields: dict[str, Any], where: str = "this recipe", trust: bool = False
    ) -> Recipe:
        """A recipe of the fields that a file holds; `where` names the file in messages.

        Raises InputError for a field that there is not, for a value that is no text or number, and
        for code that the file names, unless the caller gave that name too or says `trust`.
        """
        known = get_type_hints(cls)
        fields = renames.recipe(fields)
        for name in fields:
            if name not in known:
                raise unknown("field of a recipe", name, known)
        values = {name: _value(value, known[name], name, where) for name, value in fields.items()}
        if "trainer" in values:
            values["trainer"] = methods.current("trainers", values["trainer"])
        specs = [values.get(name, "") for name in ("model", "head", "trainer")]
        methods.trusted(specs, where, trust or Trust.files)
        return cls(**values)

    @classmethod
    def read(cls, path: Path, trust: bool = False) -> Recipe:
        """A recipe from a YAML file, or one of those that come with the package by its name; fields
        left out keep their defaults. `trust` the code that the file names.

        Raises InputError for a file that is no recipe.
        """
        return Experiment.read(path, trust).recipe

    def to_yaml(self) -> str:
        """The fields as a YAML file, in their order."""
        return Experiment(self).to_yaml()

    def hash(self, fingerprint: str) -> str:
        """Eight hexadecimal digits of the recipe and the data."""
        fields = {
            name: value
            for name, value in self.to_json().items()
            if name not in LATER or value != LATER[name]
        }
        text = json.dumps([fields, fingerprint], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


LATER = {"accumulate": 1, "batch_norm": "united"}
"""Fields that came after runs had been named by their recipes, and what is no other name."""
VERBS = ("train", "audit")
"""What an experiment begins with: the key of its data."""
Step = str | dict[str, Any]
NO_PLACE = re.compile(r"(^|[\s=,])[/~]|\.\.|--out[\s=]+(?!\{out\})")
"""What a step, or a word of one, may not hold: it comes from a file, and writes."""
CODE = re.compile(
    r"(?<![\w./}-])(?<!,file=)(?<!,weights=)(?<!,answers=)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w/])"
)
"""A dotted name, by which methods of one's own are called; not that of a file."""
COLUMNS = ("source", "test", "image", "label", "truth", "from")
"""Options that name data, not methods."""


@dataclass(frozen=True)
class Experiment:
    """A recipe, the data that it is for, and what is done with the run: what a recipe's file holds.

    A step is a command line, `ablate {run} memorization --seeds {seeds}`, or a mapping: `each`,
    names and their values, with `steps` of its own that are taken for every combination.
    """

    recipe: Recipe
    verb: str = "train"
    """The command that makes the run: train or audit."""
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Its options by name, `source` among them; none where the set came from Python."""
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    """Words of the steps that a user may give another value."""
    steps: tuple[Step, ...] = ()

    @classmethod
    def read(cls, path: Path, trust: bool = False) -> Experiment:
        """An experiment from a YAML file, or a recipe that comes with the package by its name.
        `trust` the code that the file names.

        Raises InputError for a file that is no recipe.
        """
        import yaml

        if not path.exists() and str(path) in shipped():
            path = SHIPPED / f"{path}.yaml"
        try:
            fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(
                f"cannot read the recipe {path}: {str(error)[:200]}; recipes that come with the "
                f"package: {', '.join(shipped())}"
            ) from None
        if not isinstance(fields, dict):
            raise InputError(
                f"{path} is not a recipe: a mapping of fields such as 'epochs: 20' is expected"
            )
        verbs = [verb for verb in VERBS if verb in fields]
        if len(verbs) > 1:
            raise InputError(f"{path}: an experiment begins with train or audit, not with both")
        data = {verb: _mapping(fields.pop(verb), verb, path) for verb in verbs}
        values = _mapping(fields.pop("values", {}), "values", path)
        steps = fields.pop("steps", [])
        _check_steps(steps, path)
        recipe = Recipe.from_json(fields, str(path), trust)
        said = [*_words(steps), *map(str, values.values())]
        for words in said:
            if NO_PLACE.search(words):
                raise InputError(
                    f"{path}: the step or value '{words[:80]}' names a path; steps read and write "
                    "{run}, {first}, {runs}, {source} and what lies in {out}"
                )
        for options in data.values():
            said += [str(value) for name, value in options.items() if name not in COLUMNS]
        called = [word for words in said for word in CODE.findall(words)]
        methods.trusted(called, str(path), trust or Trust.files)
        verb = verbs[0] if verbs else "train"
        words = {name: str(value) for name, value in values.items()}
        return cls(recipe, verb, data.get(verb, {}), words, tuple(steps))

    def to_yaml(self) -> str:
        """The recipe's fields in their order, then the rest that is there, as a YAML file."""
        import yaml

        rest = {self.verb: self.data, "values": self.values, "steps": list(self.steps)}
        known = self.recipe.to_json() | {name: value for name, value in rest.items() if value}
        return yaml.safe_dump(known, sort_keys=False, allow_unicode=True)


def _mapping(value: Any, name: str, path: Path) -> dict[str, Any]:
    """Raises InputError for what is no mapping of names to plain values or lists of these."""
    plain = (str, int, float, bool)
    if not isinstance(value, dict) or not all(
        isinstance(each, plain)
        or (isinstance(each, list) and all(isinstance(part, plain) for part in each))
        for each in value.values()
    ):
        raise InputError(f"{path}: {name} must be a mapping such as 'source: photos/'")
    return {str(key): each for key, each in value.items()}


def _words(steps: Sequence[Step]) -> Iterator[str]:
    """Every text of steps: commands, and the values of `each`."""
    for step in steps:
        if isinstance(step, str):
            yield step
        else:
            for value in step["each"].values():
                yield from map(str, value if isinstance(value, list) else [value])
            yield from _words(step["steps"])


def _check_steps(steps: Any, path: Path) -> None:
    """Raises InputError for what is no list of steps."""
    if not isinstance(steps, list):
        raise InputError(f"{path}: steps must be a list of commands such as 'report {{run}}'")
    for step in steps:
        if isinstance(step, dict) and set(step) == {"each", "steps"}:
            _mapping(step["each"], "each", path)
            _check_steps(step["steps"], path)
        elif not isinstance(step, str):
            raise InputError(
                f"{path}: a step is a command such as 'report {{run}}', or each and steps; got "
                f"{str(step)[:60]}"
            )
