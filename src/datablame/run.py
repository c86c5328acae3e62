"""Run: a folder whose recipe and data never change, so an artifact is valid if it exists.

That is resuming.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datablame import decisions
from datablame.base import arrays, devices, files, processes, progress, tables
from datablame.base.card import card
from datablame.base.errors import InputError
from datablame.base.methods import JUDGE
from datablame.base.readers import read_array, read_json, read_lines, read_table
from datablame.base.results import Result
from datablame.base.shapes import Float, Int
from datablame.data.annotators import labelled
from datablame.data.predictions import check_order, probabilities, space
from datablame.dataset import Dataset
from datablame.network.classifier import FROZEN, Classifier, Prepared, trained, unit, view_of
from datablame.recipe import Recipe
from datablame.trace import Recorder, Trace
from datablame.verdict import KEEP, P_WRONG, Verdict

FORMAT = 1
"""Of run folders. A newer one is refused; an older one is read."""


class Run(Result):
    """What one training left behind, and what was read from it since. docs/run-folder.md specifies
    the folder.
    """

    def __init__(self, path: Path | str, trust: bool = False):
        """Open a run; `trust` the code that its recipe may name (a model of a package of yours).

        Raises InputError for a folder that is no run.
        """
        self.path = _the_run(Path(path))
        self.trust = trust
        self.recorder: Recorder | None = None
        self.epoch = 0
        self.read: tuple[str, tuple[Verdict, Verdict]] | None = None

    @classmethod
    def create(
        cls,
        data: Dataset,
        recipe: Recipe,
        test: Dataset | None = None,
        out: Path | str = "runs",
        name: str = "",
    ) -> Run:
        """The run of this recipe on this data under `out`, made if it is not there.

        Raises InputError where the folder of that name belongs to another recipe or other data, or
        lies among the images of the set.
        """
        files.refuse_inside(out, data.closed)
        data, test = _looked_at(recipe.model, data), test and _looked_at(recipe.model, test)
        fingerprint = _fingerprint(data, test)
        path = Path(out) / (name or _name(data, recipe, fingerprint))
        processes.alike("the run, which data and recipe name,", str(path))
        if processes.agree((path / "run.json").exists()):
            run = cls(path)
            if (run.about["fingerprint"], run.recipe) != (fingerprint, recipe):
                what = "other data" if run.recipe == recipe else "another recipe"
                raise InputError(f"{path} holds a run of {what}; name another folder with --out")
            parts = {"train": data} | ({} if test is None else {"test": test})
            moved = any(part.moved(path / "data" / name) for name, part in parts.items())
            if processes.agree(moved):
                _keep(path, data, test)
            return run._of(data, test)
        _keep(path, data, test)
        files.write_text(path / "recipe.yaml", recipe.to_yaml())
        about = {
            "format": FORMAT,
            "recipe": recipe.to_json(),
            "fingerprint": fingerprint,
            "started": _now(),
        }
        files.write_json(
            path / "run.json",
            about | {"finished": None, "test_accuracy": None, "made_with": _versions()},
        )
        return cls(path)._of(data, test)

    @classmethod
    def there(
        cls, data: Dataset, recipe: Recipe, test: Dataset | None, out: Path | str
    ) -> Run | None:
        """The run that `create` would make, where it is there and its training has ended."""
        data, test = _looked_at(recipe.model, data), test and _looked_at(recipe.model, test)
        path = Path(out) / _name(data, recipe, _fingerprint(data, test))
        found = cls(path) if processes.agree((path / "run.json").exists()) else None
        return found if found is not None and found.finished else None

    def _of(self, data: Dataset, test: Dataset | None) -> Run:
        """This run, with the sets that it was made of: their photographs may be in memory alone."""
        self.data, self.test = data, test
        return self

    @classmethod
    def record(
        cls, data: Dataset, epochs: int, out: Path | str = "runs", test: Dataset | None = None
    ) -> Run:
        """Start a run in a new folder, to be filled by calling `observe` in your own loop."""
        recipe = Recipe(model="own", epochs=epochs, folds=0)
        name = f"{plain(data.source)}-own-{recipe.hash(data.fingerprint)}"
        names = (name if turn == 1 else f"{name}-{turn}" for turn in itertools.count(1))
        fresh = next(name for name in names if not (Path(out) / name).exists())
        return cls.create(data, recipe, test, out, processes.agree(fresh))

    @classmethod
    def from_predictions(
        cls,
        labels: Any,
        pred_probs: Any,
        features: Any = None,
        *,
        images: Any = None,
        classes: Any = None,
        names: Any = None,
        out: Path | str | None = None,
    ) -> Run:
        """A run from what people already have, without training: signals, judges, reports and
        exports work on it.

        `labels` [N] integers, or [N,M] of several annotators, -1 where one gave none; `pred_probs`
        [N,K], probabilities by a model that did not train on the example (held out); `features`
        [N,D] of any encoder, for `knn`; `images` uint8 [N,C,H,W], for pictures. Without `out` the
        run lies in a temporary folder, which is deleted with the run. Raises InputError where
        shapes do not fit, rows are not probabilities, or their columns are in another order than
        the classes.
        """
        p = probabilities(pred_probs, len(labels))
        classes = tuple(map(str, range(p.shape[1]) if classes is None else classes))
        if len(classes) != p.shape[1]:
            raise InputError(
                f"pred_probs have {p.shape[1]} columns, but there are {len(classes)} classes"
            )
        if features is not None:
            features = space(features, len(labels))
        data = labelled(
            lambda each: Dataset.from_arrays(images, each, classes, names, source="predictions"),
            labels,
        )
        check_order(p, data.labels, classes)
        data = dataclasses.replace(data, predictions=arrays.digest(p.numpy(), features))
        home = None if out else processes.agree(tempfile.mkdtemp(prefix="datablame-"))
        out = out or str(home)
        run = cls.create(
            data,
            Recipe(model="own", epochs=1, folds=0),
            None,
            out,
            f"predictions-{data.predictions}-{data.fingerprint[:8]}",
        )
        if not run.finished:
            arrays.write(run.path / "heldout.npy", p.numpy())
            if features is not None:
                arrays.write(run.path / "features.npy", np.asarray(features, np.float16))
            run.observe(0, torch.arange(len(p)), p.clamp_min(1e-7).log(), data.labels)
            run.finish()
        if home:
            weakref.finalize(run, files.drop, Path(home))
        return run

    @classmethod
    def from_model(
        cls,
        data: Dataset,
        model: nn.Module,
        test: Dataset | None = None,
        prepare: Callable[[Tensor], Tensor] = unit,
        out: Path | str = "runs",
    ) -> Run:
        """Wrap your trained `nn.Module` as a run, for `score`, `explain` and all else; it is not
        modified.

        `prepare` turns uint8 pixels `[B,C,H,W]` into what the module takes; without it they are
        floats in [0, 1]. What the module says of every training example is recorded as one epoch.
        Weights stay with the caller: to come back to the run, call this again. Raises InputError
        where the module does not give one logit a class.
        """
        prepared = Prepared(model.to(devices.device()), prepare)
        mark = arrays.digest(*(t.detach().cpu().numpy() for t in model.state_dict().values()))
        recipe = Recipe(model=f"own,weights={mark}", epochs=1, folds=0)
        run = cls.create(data, recipe, test, out)
        vars(run)["model"] = prepared.eval()  # where the cached property keeps it
        for index in torch.arange(len(data)).split(256) if not run.finished else ():
            images, labels = data.batch(index)
            with torch.inference_mode():
                logits = run.model(images)
            if logits.shape != (len(index), len(data.classes)):
                raise InputError(
                    f"the model must give [B,K] logits of {len(data.classes)} classes; it "
                    f"gave {list(logits.shape)} for a batch of {len(index)}"
                )
            run.observe(0, index, logits, labels)
        return run if run.finished else run.finish()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __str__(self) -> str:
        return self.card.rstrip("\n")

    def to_json(self) -> dict[str, Any]:
        """Paths, and what was found so far: verdict, measures, comparison."""
        taught = "weights=" in self.recipe.model or self.given_features
        images = None if taught else self.data.images
        out: dict[str, Any] = {
            "run": str(self.path),
            "table": str(self.path / "examples.parquet"),
            "report": self.report and str(self.report),
            "data": repr(self.data),
            "examples": len(self.data),
            "not_read": self.data.not_read,
            "model": self.recipe.model,
            "elsewhere": self.elsewhere,
            "epochs": self.recipe.epochs,
            "folds": self.recipe.folds,
            "test_examples": len(self.test) if self.test is not None else 0,
            "test_accuracy": self.about["test_accuracy"],
            "heldout": self.heldout_agreement,
            "cleaned": f"cleaned{self.data.ending}",
            "small_photographs": images is not None and images.photographs and max(self.data.shape),
        }
        if self.verdict:
            out |= self.verdict.to_json()
            out |= {
                "wrong_by_class": self.verdict.by_class(self.data),
                "confusions": self.verdict.confusions(self.data),
            }
        if (self.path / "measures.json").exists():
            out |= (self.measures or {}) | {"signals": read_json(self.path / "measures.json")}
        if (self.path / "test_labels.json").exists():
            out["test_labels"] = read_json(self.path / "test_labels.json", images=int, suspects=int)
        if (self.path / "certificate.json").exists():
            facts = read_json(self.path / "certificate.json", sentence=str)
            if facts.get("verdict") not in (None, "", self.verdict_digest):
                of_then = dict.fromkeys(("left", "fix_right", "drop_wrong", "more"))
                facts |= of_then | {"standing": False, "sentence": facts["counted"]}
            out["certificate"] = {name: facts[name] for name in facts if name != "answered"}
        if (self.path / "annotators.json").exists():
            out["annotators"] = read_json(self.path / "annotators.json", sentence=str)
        if self.comparison:
            out["comparison"] = self.comparison
        return out

    def columns(self) -> dict[str, Any]:
        """The table of examples: as it was judged, or names and labels until then."""
        path = self.path / "examples.parquet"
        return read_table(path).to_pydict() if path.exists() else self.data.columns()

    @property
    def issues(self) -> Any:
        """The table of examples as it was judged, a row each: a frame where pandas is installed,
        else a pyarrow table. Raises InputError before the run is judged.
        """
        path = self.path / "examples.parquet"
        if not path.exists():
            raise InputError(f"{self.path} is not judged yet: datablame judge {self.path}")
        table = read_table(path)
        try:
            return table.to_pandas()
        except ImportError:
            return table

    @property
    def suspects(self) -> Any:
        """The rows of `issues` that are to be fixed or dropped, the most suspect first."""
        import pyarrow as pa

        found = self.issues
        if isinstance(found, pa.Table):
            acts = pa.array(["fix", "drop"])
            kept = found.filter(tables.compute().is_in(found["act"], value_set=acts))
            return kept.sort_by("rank")
        return found[found["act"].isin(["fix", "drop"])].sort_values("rank")

    def pictures(self) -> list[Path]:
        """The contact sheet of suspects."""
        return [self.path / "figures" / "suspects.png"]

    @property
    def verdict(self) -> Verdict | None:
        """What verdict.csv says, with what people decided in a review; None before the run is
        judged.
        """
        return self._verdicts()[1] if (self.path / "verdict.csv").exists() else None

    @property
    def undecided(self) -> Verdict:
        """What verdict.csv says by itself. Raises InputError before the run is judged."""
        return self._verdicts()[0]

    @property
    def judged(self) -> Verdict:
        """`verdict`. Raises InputError before the run is judged."""
        return self._verdicts()[1]

    def _verdicts(self) -> tuple[Verdict, Verdict]:
        """(verdict.csv, the same with decisions), read once as long as neither changes."""
        path = self.path / "verdict.csv"
        mark = self.verdict_mark if path.exists() else ""
        if self.read is None or self.read[0] != mark:
            own = Verdict.read(path, self.data)
            self.read = mark, (own, decisions.decided(self.path, self.data, own))
        return self.read[1]

    @property
    def verdict_digest(self) -> str:
        """That of verdict.csv."""
        return files.digest_of(self.path / "verdict.csv")

    @property
    def verdict_mark(self) -> str:
        """What tells the verdict that stands from others: the digest of verdict.csv, and how many
        decisions there are.
        """
        count = decisions.count(self.path)
        return self.verdict_digest + (f"+{count}" if count else "")

    @property
    def report(self) -> Path | None:
        """report.html, if it is of the verdict that now stands there."""
        page = self.path / "report.html"
        if not page.exists():
            return None
        with page.open(encoding="utf-8") as file:
            told = re.search(r'<meta name="verdict" content="(.*?)">', file.read(4096))
        mark = self.verdict_mark if (self.path / "verdict.csv").exists() else ""
        return page if told is None or told[1] == mark else None

    @property
    def measures(self) -> dict[str, float | None] | None:
        """The metrics of the verdict's probabilities, or of the scores that the run was judged by,
        where they were measured.
        """
        measures, judged = self.path / "measures.json", self.path / "verdict.json"
        if not (measures.exists() and judged.exists()):
            return None
        known, facts = read_json(measures), read_json(judged, scores=str, by=str)
        own = known.get(P_WRONG) if facts["by"].startswith(JUDGE) else None
        return own or known.get(facts["scores"])

    @property
    def comparison(self) -> dict[str, Any] | None:
        """What retraining showed, if it is of the verdict that now stands there."""
        path, verdict = self.path / "comparison.json", self.path / "verdict.csv"
        if not (path.exists() and verdict.exists()):
            return None
        lists = dict.fromkeys(("gain", "before", "after", "control"), list)
        facts = read_json(path, verdict=str, conclusion=str, sentence=str, **lists)
        return facts if facts["verdict"] == self.verdict_mark else None

    @property
    def card(self) -> str:
        """A few lines: where the table is, what was found, whether cleaning helped, what is next;
        as things are now.
        """
        return card(self.to_json())

    @property
    def heldout_agreement(self) -> dict[str, float] | None:
        """Shares of all labels, and of those that the verdict keeps, with which held-out
        predictions agree, and how sure these are on average; None where there are none.
        """
        path = self.path / "heldout.npy"
        if not path.exists():
            return None
        shape = (len(self.data), len(self.data.classes))
        p = torch.from_numpy(np.array(read_array(path, shape, "f", finite=True)))
        confidence, best = p.max(1)
        agrees = best == self.data.labels
        kept = torch.ones_like(agrees) if self.verdict is None else self.verdict.act == KEEP
        found = {
            "agreement": agrees,
            "kept_agreement": agrees[kept],
            "confidence": confidence[kept],
        }
        return {name: round(float(each.float().mean()), 4) for name, each in found.items()}

    @property
    def about(self) -> dict[str, Any]:
        """run.json. Raises InputError where it is damaged, or was written by a newer version."""
        path = self.path / "run.json"
        kinds = {"fingerprint": str, "finished": (str, None), "test_accuracy": (float, int, None)}
        about = read_json(path, format=int, recipe=dict, made_with=dict, **kinds)
        if about["format"] > FORMAT:
            raise InputError(
                f"{path} is of format {about['format']}, written by a newer datablame; this one "
                f"reads up to {FORMAT}: update it"
            )
        return about

    @functools.cached_property
    def recipe(self) -> Recipe:
        """How the run was trained."""
        return Recipe.from_json(self.about["recipe"], str(self.path), self.trust)

    @functools.cached_property
    def data(self) -> Dataset:
        """The training set."""
        return Dataset.restore(self.path / "data" / "train")

    @functools.cached_property
    def test(self) -> Dataset | None:
        """The test set; None where there is none."""
        return (
            Dataset.restore(self.path / "data" / "test")
            if (self.path / "data" / "test.json").exists()
            else None
        )

    @property
    def own(self) -> bool:
        """Whether this run wraps the user's own module, by `from_model`."""
        return self.recipe.model.startswith("own,weights=")

    @property
    def elsewhere(self) -> bool:
        """Whether its model was trained elsewhere: by a loop of the user's, of which this is a
        record, or by one of which only predictions or the module are known.
        """
        return self.recipe.model.partition(",")[0] == "own"

    @property
    def given_features(self) -> bool:
        """Whether its features come from elsewhere: from an encoder that does not train, or from
        the user.
        """
        return self.recipe.model.startswith(FROZEN) or self.recipe.model == "own"

    @property
    def finished(self) -> bool:
        """Whether its training has ended."""
        return self.about["finished"] is not None

    @property
    def cross_fitted(self) -> bool:
        """Whether the models of its folds stand for it: it has no test set, and none saw all
        images.
        """
        return self.recipe.folds > 1 and not (self.path / "data" / "test.json").exists()

    @property
    def with_model(self) -> Run:
        """This run, or the first of its folds where it is cross-fitted: one with model and test
        images.
        """
        return Run(self.path / "folds" / "0", self.trust) if self.cross_fitted else self

    @property
    def _unfinished(self) -> InputError:
        """Error for results requested before training has finished."""
        return InputError(
            f"{self.path} has not finished training; train it again, by the same command, to resume"
        )

    @property
    def trace(self) -> Trace:
        """What was recorded. Raises InputError while the run is unfinished."""
        if not self.finished:
            raise self._unfinished
        return Trace(self.path / "trace", self.recipe.epochs, len(self.data))

    @property
    def log(self) -> list[dict[str, Any]]:
        """One entry an epoch."""
        path = self.path / "log.jsonl"
        number = (int, float)
        kinds = {"epoch": int, "loss": number, "train_error": number}
        return read_lines(path, **kinds) if path.exists() else []

    @functools.cached_property
    def model(self) -> Classifier | Prepared:
        """The trained model, in eval mode, on the device."""
        path = self.path / "model.safetensors"
        if self.own:
            raise InputError(
                f"{self.path} is of a model of your own; open it with Run.from_model(data, model)"
            )
        if not path.exists():
            if not self.finished:
                raise self._unfinished
            if self.cross_fitted:
                raise InputError(
                    f"{self.path} has a model for each fold and none of all images; open "
                    f"{self.with_model.path}"
                )
            raise InputError(f"{self.path} has no model: its predictions were recorded elsewhere")
        with torch.inference_mode(
            False
        ):  # whoever asks first, the weights can be differentiated through later
            return trained(self.recipe, self.data, path)

    def keep(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array `<name>.npy` of this run, made if it is not there."""
        return arrays.keep(self.path / f"{name}.npy", make)

    def change(self, **facts: Any) -> None:
        """Set facts in run.json."""
        files.write_json(self.path / "run.json", self.about | facts)

    def observe(
        self,
        epoch: int,
        index: Int[Tensor, " B"],
        logits: Float[Tensor, "B K"],
        labels: Int[Tensor, " B"],
    ) -> None:
        """Record what your model says of these examples (positions in `data`) in this
        epoch.

        Epochs come in order, from 0; each example once an epoch. `finish` closes the record.
        """
        if self.recorder is None:
            self.recorder = Recorder(self.path / "trace", self.recipe.epochs, len(self.data))
        if not 0 <= epoch < self.recipe.epochs or epoch not in (self.epoch, self.epoch + 1):
            raise InputError(
                f"epoch {epoch} cannot follow epoch {self.epoch} in a record of "
                f"{self.recipe.epochs} epochs"
            )
        if epoch > self.epoch:
            self.recorder.write(self.epoch)
            self.epoch = epoch
        self.recorder.put(index, logits, labels)

    def finish(self, early: bool = False, **facts: Any) -> Run:
        """Close a run: its trace is complete from here on.

        Raises InputError if epochs are missing, unless it ended `early`: then it is one of as many
        epochs as were observed.
        """
        if self.recorder is not None:
            if early and self.epoch + 1 < self.recipe.epochs:
                self.recipe = self.recipe.but(epochs=self.epoch + 1)
                files.write_text(self.path / "recipe.yaml", self.recipe.to_yaml())
                facts["recipe"] = self.recipe.to_json()
            if self.epoch + 1 != self.recipe.epochs:
                raise InputError(
                    f"{self.recipe.epochs} epochs were announced, {self.epoch + 1} observed"
                )
            self.recorder.write(self.epoch)
            self.recorder.flush()
        self.change(finished=_now(), **facts)
        files.list_run(self.path)
        return self


def _the_run(path: Path) -> Path:
    """The folder of a run: the path itself, or the one run that lies in it.

    Raises InputError for none or several.
    """
    if (path / "run.json").exists():
        return path
    inside = sorted(file.parent for file in path.glob("*/run.json"))
    audited = [each for each in inside if (each / "verdict.csv").exists()]
    if len(inside) > 1 and len(audited) == 1:
        progress.say(f"{path} holds {len(inside)} runs; the judged one is {audited[0]}")
        inside = audited
    if not inside:
        raise InputError(
            f"{path} is not a run: it has no run.json; make one with: datablame train SOURCE"
        )
    if len(inside) > 1:
        raise InputError(
            f"{path} holds {len(inside)} runs; name one of them: {', '.join(map(str, inside[:4]))}"
        )
    return inside[0]


def _looked_at(model: str, data: Dataset) -> Dataset:
    """A set as the encoder of a recipe looks at it."""
    return data.looked_at(view_of(model))


def _fingerprint(data: Dataset, test: Dataset | None) -> str:
    return data.fingerprint + (test.fingerprint if test is not None else "")


def _name(data: Dataset, recipe: Recipe, fingerprint: str) -> str:
    """What a run's folder is called, unless told: its set, its model, and a hash of all, a file of
    weights among it.
    """
    weights = Path(recipe.model.partition(",weights=")[2].partition(",")[0])
    if weights.is_file():
        fingerprint += files.digest_of(weights)
    kind, _, encoder = recipe.model.partition(",")[0].rpartition(":")
    model = plain(f"{kind}_{Path(encoder).name}")
    return f"{plain(data.source)}-{model}-{recipe.hash(fingerprint)}"


def _keep(path: Path, data: Dataset, test: Dataset | None) -> None:
    """Note the sets of a run and where they lie; in unreadable.csv what was not read of them."""
    data.save(path / "data" / "train")
    if test is not None:
        test.save(path / "data" / "test")
    parts = [data] if test is None else [data, test]
    lost = [(part.split, *each) for part in parts for each in part.aside]
    tables.write_any(path / "unreadable.csv", ("split", "name", "why"), lost)


def plain(name: str) -> str:
    """A name that is safe in a path."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("._") or "set"


def _now() -> str:
    import datetime

    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, Any]:
    """Of what a result depends on."""
    import platform
    from importlib.metadata import version

    packages = {name: version(name) for name in ("datablame", "torch", "torchvision", "numpy")}
    return packages | {
        "python": platform.python_version(),
        "device": str(devices.device()),
        "processes": processes.size(),
        "threads": torch.get_num_threads(),
    }
