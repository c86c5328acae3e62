"""A set as the Hugging Face hub keeps one: Parquet by split, a card that tells how many labels are
wrong, and Croissant metadata. huggingface.co/docs/hub/datasets-cards;
docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html (Akhtar et al., 2024)
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datablame.base import files, tables
from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.exchange.sets import tables_of
from datablame.run import Run
from datablame.verdict import ACTS, DROP, FIX, Verdict

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGER = "1M<n<10M"
COLUMNS = {
    "image": "the picture",
    "label": "its class, as it was given",
    "truth": "its right class, where that is known",
    "proposed": "the class that datablame would give it",
    "p_wrong": "the probability that `label` is wrong",
    "act": "what datablame would do: keep, fix (take `proposed`), drop, or ask a person",
}
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "sc": "https://schema.org/",
    "source": "cr:source",
    "transform": "cr:transform",
}
"""Croissant's own, of the terms that are used here."""


def export(run: Run, to: Path) -> Path:
    """A folder: README.md, croissant.json, data/train-00000-of-00001.parquet, and the test split
    where the set has one of its own. Raises InputError for a path with an ending, and for a set
    without pictures.
    """
    if to.suffix:
        raise InputError(f"cannot write a set of the hub to '{to}': name a folder")
    run.data.need_pictures("a set of the hub")
    verdict = run.verdict
    parts = {"train": run.data}
    if run.test is not None and run.test.split != "held-out":
        parts["test"] = run.test
    placed: dict[str, Path] = {}

    def save(split: str, data: Dataset, more: dict[str, np.ndarray], path: Path) -> None:
        tables.pour(path, tables_of(data, more, ("proposed",)))
        placed[split] = path

    def content() -> Iterator[tuple[str, Any]]:
        for split, data in parts.items():
            more = _more(verdict) if split == "train" else {}
            yield _file(split), functools.partial(save, split, data, more)
        yield "croissant.json", json.dumps(_croissant(run, parts, placed), indent=2).encode()
        yield "README.md", _card(run, parts).encode()

    return files.write_folder(to, content())


def _file(split: str) -> str:
    return f"data/{split}-00000-of-00001.parquet"


def _more(verdict: Verdict | None) -> dict[str, np.ndarray]:
    """What was found out about the training images; nothing where nothing was."""
    if verdict is None:
        return {}
    found = {"proposed": verdict.proposed.numpy(), "act": np.array(ACTS)[verdict.act]}
    if verdict.p_wrong is not None:
        found["p_wrong"] = verdict.p_wrong.numpy().astype("float32")
    return found


def _columns(run: Run, split: str, data: Dataset) -> list[str]:
    truth = ["truth"] if data.truth is not None else []
    return ["image", "label", *truth, *(_more(run.verdict) if split == "train" else {})]


def _card(run: Run, parts: dict[str, Dataset]) -> str:
    """Metadata that the hub reads, then what a person reads."""
    import yaml

    total = sum(map(len, parts.values()))
    head = {
        "pretty_name": run.data.source,
        "task_categories": ["image-classification"],
        "size_categories": [next((word for most, word in SIZES if total < most), LARGER)],
        "tags": ["datablame", "label-noise"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*.parquet"} for split in parts
                ],
            }
        ],
    }
    lines = [
        f"# {run.data.source}",
        "",
        f"{total:,} images of {len(run.data.classes)} classes.",
        "",
        "## How many labels are wrong",
        "",
        *_told(run),
        "",
        "## Columns",
        "",
        "| column | what it holds |",
        "| --- | --- |",
        *(f"| `{name}` | {COLUMNS[name]} |" for name in _columns(run, "train", run.data)),
        "",
        "Who made the images and the labels, and under which licence, is for you to add.",
        "",
    ]
    about = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{about}---\n\n" + "\n".join(lines)


def _told(run: Run) -> list[str]:
    """The noise estimate, and which classes are taken for which."""
    verdict, data = run.verdict, run.data
    if verdict is None:
        return ["The labels were not judged."]
    estimate, low, high = verdict.estimate
    by = f"by datablame ({verdict.by})"
    if not verdict.told:
        return [f"Cannot be told: at most {high:,.0f} of {len(data):,} ({by}; 95 % interval)."]
    share = f"{estimate / len(data):.1%} of the training labels"
    count = f"About {estimate:,.0f} of {len(data):,} ({share}; 95 % interval {low:,.0f} to"
    each = f"{verdict.count(DROP, FIX):,} are called wrong one by one, in the column `act`."
    found = [f"{count} {high:,.0f}), {by}. {each}"]
    if pairs := verdict.confusions(data, 5):
        found += ["", "| given | likely right | about |", "| --- | --- | --- |"]
        found += [f"| {p['given']} | {p['right']} | {p['wrong']:,.0f} |" for p in pairs]
    return found


def _croissant(run: Run, parts: dict[str, Dataset], placed: dict[str, Path]) -> dict[str, Any]:
    """Croissant 1.0: a file and a set of records each split, and one of the classes."""
    named = [{"labels/number": k, "labels/name": name} for k, name in enumerate(run.data.classes)]
    classes = {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "key": {"@id": "labels/number"},
        "field": [_field("labels/number", "sc:Integer"), _field("labels/name", "sc:Text")],
        "data": named,
    }
    records = [
        {
            "@type": "cr:RecordSet",
            "@id": split,
            "name": split,
            "field": [_of_column(split, name) for name in _columns(run, split, data)],
        }
        for split, data in parts.items()
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": run.data.source,
        "description": f"{run.data.source}. " + " ".join(_told(run)[:1]),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": f"{split}-file",
                "name": f"{split}-file",
                "contentUrl": _file(split),
                "encodingFormat": "application/x-parquet",
                "sha256": _sha256(placed[split]),
            }
            for split in parts
        ],
        "recordSet": [classes, *records],
    }


def _field(name: str, kind: str) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": name, "name": name, "dataType": kind}


def _of_column(split: str, name: str) -> dict[str, Any]:
    """A field that is read off a column."""
    kinds = {"image": "sc:ImageObject", "p_wrong": "sc:Float", "act": "sc:Text"}
    found = _field(f"{split}/{name}", kinds.get(name, "sc:Integer")) | {
        "description": COLUMNS[name],
        "source": {"fileObject": {"@id": f"{split}-file"}, "extract": {"column": name}},
    }
    if name == "image":
        found["source"]["transform"] = {"jsonPath": "bytes"}
    elif name == "label":
        found["references"] = {"field": {"@id": "labels/number"}}
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
