"""Names of version 0.1, and of the papers' programs, that runs, recipes and scripts may still hold,
and what they are called now.

Read where specs, recipes, traces and verdicts are parsed; nowhere else.
"""

from __future__ import annotations

from typing import Any

METHODS = {
    ("trainers", "temper"): "data_parameters",
    ("trainers", "newton"): "linear_probe",
    ("signals", "sigma"): "temperature",
    ("signals", "heat"): "temperature_curve",
    ("signals", "lstm"): "detector",
    ("noises", "flip"): "pair",
}
OPTIONS = {
    "data_parameters": {
        "of": "level",
        "rate": "lr",
        "class_rate": "class_lr",
        "decay": "weight_decay",
        "class_decay": "class_weight_decay",
        "start": "init",
        "class_start": "class_init",
        "least": "min",
        "most": "max",
    },
    "temperature_curve": {"of": "statistic"},
    "detector": {"detector": "file"},
    "datamap": {"of": "statistic"},
    "influence": {"of": "measure"},
    "tracin": {"of": "measure"},
}
VALUES = {"cooling": "fall", "few": "shipped", "many": "shipped", "auto": "shipped"}
FIELDS = {
    "rate": "lr",
    "decay": "weight_decay",
    "batch": "batch_size",
    "look": "record",
    "top": "top_k",
}
RECORDS = {"pass": "train", "clean": "eval"}
CHANNELS = {"prediction": "guess", "temperature": "sigma"}
"""Channels of a trace by their name of today, and the file's name of before."""
COLUMNS = {"probability": "chance"}
"""Columns of verdict.csv by their name of today, and of before."""


def method(room: str, name: str, options: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A method's name and options in the words of today."""
    name = METHODS.get((room, name), name)
    new = OPTIONS.get(name, {})
    return name, {
        new.get(key, key): VALUES.get(value, value) if key in new else value
        for key, value in options.items()
    }


def recipe(fields: dict[str, Any]) -> dict[str, Any]:
    """A recipe's fields in the words of today."""
    found = {FIELDS.get(name, name): value for name, value in fields.items()}
    if "look" in fields:
        found["record"] = RECORDS.get(fields["look"], fields["look"])
    return found


def origin(about: dict[str, Any]) -> dict[str, Any]:
    """Where a saved set came from; four of the fields were entries of `extra`."""
    old = about.get("extra", {})
    before = {"root": "files", "noise": "planted", "flipped": "noise", "predictions": "predictions"}
    found = {name: about.get(name, old.get(key)) for name, key in before.items()}
    aside = [
        *about.get("aside", ()),
        *([name, "cannot be read"] for name in about.get("unreadable", ())),
    ]
    found["listed"] = bool(about.get("listed"))
    found["annotators"] = tuple(map(str, about.get("annotators", ())))
    return found | {"aside": tuple((str(name), str(why)) for name, why in aside)}
