"""Verbs from sets to sets: load, corrupt, clean, export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datablame.base.errors import InputError, unknown
from datablame.base.options import Labels
from datablame.verbs.opening import RunLike, Source, fields_as_keywords, opened
from datablame.verbs.reading import OF_TESTS, Reading, planted, read, unasked

DROPPED = ("duplicates", "leaks")
"""What `clean` leaves out where it is asked to."""

if TYPE_CHECKING:
    from datablame.dataset import Dataset
    from datablame.run import Run
else:
    Dataset = Run = Any


def load(
    source: Source,
    *,
    split: str = "train",
    image: str | None = None,
    label: Labels = (),
    truth: str | None = None,
    group: str | None = None,
    root: str | None = None,
    classes: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset:
    """Read a labelled image set, decode it once, and say what it holds.

    Returns the set. Raises InputError for a source, split or column that is not there.

    Parameters
    ----------
    source
        `digits`, a folder of class folders, a table of paths and labels (.csv, .tsv, .jsonl), a
        Parquet file, boxes (a COCO file; a folder of YOLO or
        Pascal VOC), a preset (`datablame methods`), or hub:owner/name, a set of the Hugging Face
        hub; in Python also a Dataset, or (images,
        labels).
    split
        train or test.
    image
        Column of the images (Parquet, hub); of a COCO file, the folder of its images.
    label
        Column of the given labels (Parquet, hub); of several annotators one each, which may have
        gaps.
    truth
        Column of the right labels where they are known, for measuring only.
    group
        Column of groups (a patient's or a camera's images), which stay on one side of every split.
    root
        Folder that the paths of a table start from; by default the table's own.
    classes
        File that names the classes: a line each in the order of their numbers, or JSON.
    limit
        Read only this number of rows.
    size
        Side in pixels to which images are brought; small images of one size keep theirs.
    """
    if split not in ("train", "test"):
        raise unknown("split", split, ("train", "test"))
    reading = Reading(
        image=image, label=label, truth=truth, group=group, root=root, classes=classes,
        limit=limit, size=size,
    )  # fmt: skip
    found = read(source, split, reading)
    if found is None:
        other = "test" if split == "train" else "train"
        raise InputError(
            f"{source} has no {split} split; ask for --split {other}, or hold a part out: "
            "load(...).holdout(0.2)"
        )
    return found


@fields_as_keywords
def corrupt(
    data: Source,
    noise: str = "uniform",
    *,
    amount: float = 0.2,
    seed: int = 0,
    out: Path | str | None = None,
    reading: Reading = Reading(),
) -> Dataset:
    """Plant label noise of a known kind, and keep the truth.

    Returns the noisy set. Raises InputError for an unknown noise, or one that does not fit the set.

    Parameters
    ----------
    data
        A source, as for `load`.
    noise
        uniform, pair, instance, asym_cifar10; with exact=no each label is flipped independently,
        not an exact number of them.
    amount
        Share of wrong labels.
    seed
        Which labels are flipped, and to what.
    out
        Parquet file to write the noisy set to, with the columns image, label and truth; without an
        ending, a folder of class folders.
    """
    from datablame.base import files, methods
    from datablame.exchange.sets import dump

    unasked(reading, OF_TESTS, "noise is planted in one set, without test images")
    methods.find("noises", noise)  # a wrong name is reported before the set is read
    if out is not None:
        files.refuse_foreign(Path(out), str(data) if isinstance(data, (str, Path)) else None)
    loaded = read(data, "train", reading)
    if loaded is None:
        raise InputError(f"{data} has no training split")
    noisy = planted(loaded, noise, amount, seed)
    if out is not None:
        dump(noisy, Path(out))
    return noisy


def clean(
    run: RunLike,
    *,
    out: Path | str,
    drop: str = "",
    lose_classes: bool = False,
    with_test: bool = False,
) -> Dataset:
    """Write the cleaned set: every image but those that the verdict drops, with the labels that it
    fixes, and changes.csv.

    Images keep the names of their files, and a part that was held out for testing is there too.
    Returns the set. Raises InputError where the run has not been judged, for a path that is taken,
    and where nothing, or nothing of a class, would be left.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    out
        Parquet file to write the set to, with the columns image, label and, where it is known,
        truth; without an ending, a folder of class folders. Boxes are written in the format that
        they were read from: a .json file (COCO) or a folder (YOLO, Pascal VOC). changes.csv in it,
        or <name>-changes.csv beside the file, says of each changed image: file, from, to, why,
        probability.
    drop
        Leave out too: duplicates, all but one of the images that are copies of each other, that of
        the label that most of them have; leaks, test images that are copies of training images
        (with --with-test); or both, with a comma between.
    lose_classes
        Write the set also where all images of a class are dropped.
    with_test
        Write the source's own test split too, as it is, beside the set: cleaned-test.parquet beside
        cleaned.parquet, a folder cleaned-test beside a folder cleaned.
    """
    from datablame.analyses.duplicates import duplicates
    from datablame.base import files, progress
    from datablame.data.matching import together
    from datablame.exchange.sets import dump, unsplit
    from datablame.verdict import DROP

    found = opened(run)
    kinds = [kind for kind in drop.split(",") if kind]
    for kind in kinds:
        if kind not in DROPPED:
            raise unknown("kind of image to drop", kind, DROPPED)
    if "leaks" in kinds and not with_test:
        raise InputError("leaks are images of the test split: write it too, by --with-test")
    verdict, why = found.judged, dict[int, str]()
    if "duplicates" in kinds:
        why = duplicates(found).spare(verdict.labels(found.data), verdict.act == DROP)
        act = verdict.act.clone()
        act[list(why)] = DROP
        verdict = dataclasses.replace(verdict, act=act)
    cleaned = verdict.apply(found.data)
    if (lost := _lost(found.data, cleaned)) and not lose_classes:
        raise InputError(
            f"the verdict leaves no image of {', '.join(lost[:5])}; edit verdict.csv, or write the "
            "set all the same with --lose-classes"
        )
    if found.test is not None and found.test.split == "held-out":
        cleaned = together(cleaned, found.test)
    test, beside = None, Path(out).with_stem(f"{Path(out).stem}-test")
    if with_test:
        test = _own_test(found)
        files.refuse_foreign(beside, test.closed)
        test = duplicates(found).without_leaks() if "leaks" in kinds else test
    dump(cleaned, Path(out), verdict.changes(found.data, why))
    if test is not None:
        dump(unsplit(test), beside)
        progress.say(f"the test split: {beside}")
    return cleaned


def _lost(data: Dataset, cleaned: Dataset) -> list[str]:
    """Classes of which no image is left."""
    counts = (each.labels.bincount(minlength=len(each.classes)) for each in (data, cleaned))
    every = zip(data.classes, *counts, strict=True)
    return [name for name, old, new in every if old and not new]


def _own_test(run: Run) -> Dataset:
    """The test split of a run's source. Raises InputError where it has none of its own."""
    if run.test is None or run.test.split == "held-out":
        held = "; the part that was held out is in the cleaned set anyway" if run.test else ""
        raise InputError(f"{run.data.source} has no test split of its own{held}")
    return run.test


def export(run: RunLike, to: Path | str = Path("examples.csv"), *, form: str | None = None) -> Path:
    """Write the table of all examples, the recorded training dynamics, or the set, by the ending of
    `to`; or in the form of another tool.

    Returns the path. Raises InputError for another ending, and where a table is asked of a run that
    has not been judged.

    Parameters
    ----------
    run
        Folder of a run that has been judged (for .npz and folders, that has been trained).
    to
        examples.csv is safe to open in a spreadsheet; examples.parquet keeps the types;
        training_dynamics.npz holds the recorded probabilities as Jia et al. (2023) keep them, with
        metadata.pth next to it; a name without an ending is a folder, to which the images are
        copied, a folder per class, with labels.csv (`clean` writes what a verdict changes).
    form
        cleanlab: a table with the columns of cleanlab's Datalab (is_label_issue, label_score, ...).
        huggingface: a folder that `datasets.load_dataset` reads and the hub takes, of Parquet with
        the verdict beside the labels, a card that tells how many labels are wrong, and Croissant
        metadata.
    """
    from datablame.exchange import tables

    return tables.export(opened(run), Path(to), form)
