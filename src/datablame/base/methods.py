"""Find a method by name: the file's name in its room is the registry.

`find("signals", "knn,k=20")` is `datablame.methods.signals.knn.knn` with `k=20` bound. A dotted
name (`mylab.scores.gradnorm`) is a function elsewhere. The same string is the command-line
argument, the column and the file name of the result.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import math
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datablame.base import progress, renames
from datablame.base.errors import InputError, unknown

JUDGE = "posterior"
"""Who judges where nobody is named: by probabilities of its own."""
ROOMS = {
    "sources": ("where", "split"),
    "noises": ("data", "amount", "seed"),
    "models": ("shape",),
    "heads": ("dim", "classes"),
    "trainers": (),
    "curvature": ("layer",),
    "signals": ("run",),
    "attributors": ("run", "queries"),
    "judges": ("run", "scores"),
}
"""Each room, and what its methods are called with, in this order; options have defaults."""

TRUSTED: set[str] = set()
"""Dotted names that the caller gave, on the command line or in Python. Those that a file gives are
imported only where they are among these: see `trusted`."""

ROOT = Path(__file__).parent.parent / "methods"


def names(room: str) -> list[str]:
    """The methods of a room, sorted."""
    return sorted(found.name for found in pkgutil.iter_modules([str(ROOT / room)]))


def first_line(room: str, name: str) -> str:
    """The first docstring line of a method, and the rest of its sentence, read without importing
    what it needs.
    """
    tree = ast.parse((ROOT / room / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            text = (ast.get_docstring(node) or "").partition("\n\n")[0]
            line = text.partition("\n")[0]
            whole, stop, _ = (
                text.replace("\n", " ").partition(". ")
                if not line.endswith(".")
                else (line, "", "")
            )
            return whole + stop.strip()
    return ""


def opening(room: str, name: str) -> dict[str, str]:
    """What a method's file opens with: `source`, and where it says so, `formula` and `when` to use
    it.
    """
    tree = ast.parse((ROOT / room / f"{name}.py").read_text(encoding="utf-8"))
    parts = re.split(r"^(Formula|When): ", ast.get_docstring(tree) or "", flags=re.MULTILINE)
    named = zip(["source", *(each.lower() for each in parts[1::2])], parts[::2], strict=True)
    return {key: " ".join(text.split()) for key, text in named}


def described(name: str) -> dict[str, dict[str, str]]:
    """All that is known of a method, by its room; one name may be in several.

    Raises InputError where no room has it.
    """
    rooms = [room for room in ROOMS if name in names(room)]
    if not rooms:
        raise unknown("method", name, sorted({each for room in ROOMS for each in names(room)}))
    found = {}
    for room in rooms:
        there = options(find(room, name).func)  # type: ignore[attr-defined]  # a partial
        told = ", ".join(f"{key}={value}" for key, value in there.items() if key not in ROOMS[room])
        opened = opening(room, name)
        found[f"{room}: {name}"] = {"what": first_line(room, name), **opened} | (
            {"options": told} if told else {}
        )
    return found


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """`"knn,k=20"` -> `("knn", {"k": "20"})`."""
    name, *options = (part.strip() for part in spec.split(","))
    pairs = {key: value for key, _, value in (option.partition("=") for option in options)}
    if not name or not all(key and value for key, value in pairs.items()):
        raise InputError(f"'{spec}' is not of the form name,option=value,...")
    return name, pairs


def declared(room: str, spec: str, what: str, *arguments: Any) -> Any:
    """What a method's module declares under a name (`PROBABILITY = True`); None where it does not.

    A function is called, with `arguments` and the spec's options.
    """
    name, options = renames.method(room, *parse(spec))
    if name in names(room):
        module = importlib.import_module(f"datablame.methods.{room}.{name}")
    else:  # elsewhere: what was imported when it was found, never more
        module = sys.modules.get(name.rpartition(".")[0])
    found = getattr(module, what, None)
    return found(*arguments, **options) if callable(found) else found


def current(room: str, spec: str) -> str:
    """A spec of version 0.1 in the words of today; others as they are."""
    name, options = renames.method(room, *parse(spec))
    return ",".join([name, *(f"{key}={value}" for key, value in options.items())])


def find(room: str, spec: str) -> Callable[..., Any]:
    """The method that a spec names, its options bound.

    Raises InputError for an unknown name, option or value, with the nearest there is.
    """
    name, options = renames.method(room, *parse(spec))
    if "." in name:
        function = elsewhere(name, ROOMS[room], f"a {room.removesuffix('s')}")
    elif name in (there := names(room)):
        function = getattr(importlib.import_module(f"datablame.methods.{room}.{name}"), name)
    else:
        raise unknown(room.removesuffix("s"), name, there)
    return functools.partial(function, **cast(function, name, options))


def elsewhere(dotted: str, takes: Sequence[str], what: str) -> Callable[..., Any]:
    """A function or class of another package by its dotted name.

    Raises InputError where it cannot be imported, is neither, or cannot be called with `takes`.
    """
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the module does when it is imported
        raise InputError(f"cannot import '{dotted}': {error}") from None
    if not (inspect.isfunction(found) or inspect.isclass(found)):
        raise InputError(f"'{dotted}' is not a function or class of Python, which {what} must be")
    try:
        inspect.signature(found).bind(*takes)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"'{dotted}' cannot be {what}, which is called with ({', '.join(takes)}): {error}"
        ) from None
    return found


def dotted(spec: str) -> str | None:
    """The dotted name that a spec calls code by; None where it names a method of ours."""
    name = spec.partition(",")[0].strip()
    return name if "." in name and ":" not in name else None


def trusted(specs: Sequence[str], where: str, trust: bool) -> None:
    """Let specs that a file holds name code only where the caller trusts it.

    Raises InputError for a dotted name that the caller has neither given nor trusted.
    """
    named = [name for spec in specs if (name := dotted(spec)) and name not in TRUSTED]
    if named and not trust:
        raise InputError(
            f"{where} names code that would be imported and run: {', '.join(named)}; if you trust "
            "it, add --trust (in Python: Run(path, trust=True), Recipe.read(path, trust=True))"
        )
    for name in named:
        progress.say(f"importing {name}, which {where} names")
    TRUSTED.update(named)


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """The options of a method, and what each is where it is not given; the fields of a dataclass
    among its parameters are options too.
    """
    defaults, inside = _defaults(function)
    return defaults | {
        field.name: getattr(value, field.name)
        for value in inside.values()
        for field in dataclasses.fields(value)
    }


def _defaults(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters that have a default; those whose default is a dataclass."""
    every = {
        key: p.default
        for key, p in inspect.signature(function).parameters.items()
        if p.default is not p.empty
    }
    inside = {key: value for key, value in every.items() if dataclasses.is_dataclass(value)}
    return {key: value for key, value in every.items() if key not in inside}, inside


def cast(function: Callable[..., Any], name: str, given: dict[str, str]) -> dict[str, Any]:
    """Options as the function's annotations ask for them."""
    known, (_, inside) = options(function), _defaults(function)
    homes = {
        field.name: key for key, value in inside.items() for field in dataclasses.fields(value)
    }
    hints: dict[str, Any] = {}
    if given:
        hints = typing.get_type_hints(function.__init__ if isinstance(function, type) else function)
    for value in inside.values():
        hints |= typing.get_type_hints(type(value))
    for key in given:
        if key not in known:
            raise unknown(f"option of '{name}'", key, list(known))
    made = {key: _convert(name, key, value, hints.get(key, str)) for key, value in given.items()}
    bound = {key: value for key, value in made.items() if key not in homes}
    for home, value in inside.items():
        mine = {key: each for key, each in made.items() if homes.get(key) == home}
        bound |= {home: dataclasses.replace(value, **mine)} if mine else {}
    return bound


def _convert(name: str, key: str, value: str, kind: Any) -> Any:
    """One option's text as a value of its annotated type (`int`, `float`, `bool`, `str`, or one of
    these or None).
    """
    if isinstance(kind, types.UnionType):
        if value.lower() == "none":
            return None
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if kind is bool:
        if value.lower() in ("true", "yes", "1", "false", "no", "0"):
            return value.lower() in ("true", "yes", "1")
    elif kind in (int, float, str):
        with contextlib.suppress(ValueError, OverflowError):
            found = kind(value)
            if isinstance(found, str) or math.isfinite(found):
                return found
    what = {int: "a whole number", float: "a finite number", bool: "yes or no"}.get(kind, str(kind))
    raise InputError(f"'{name},{key}={value}': {key} must be {what}")
