"""Measures of the house: run it from the repository's root, `python tools/measures.py`.

Lengths are without docstrings. Calls are looked up as Python would (see `Calls`).
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from torch import Tensor, nn

ROOT = Path("src/datablame")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def length(node: Function) -> int:
    """Lines of a function without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


FOREIGN = {
    name
    for kind in (
        str,
        bytes,
        list,
        dict,
        set,
        tuple,
        Path,
        io.BytesIO,
        np.ndarray,
        Tensor,
        nn.Module,
    )
    for name in dir(kind)
}
"""Methods of what is not ours: `x.split()` is no call of a function of the package."""


class Calls:
    """Who calls whom in the package.

    A name is looked up among the file's imports and definitions, `self.m` in its class, and the
    method of another object by its name, where one class of the package alone has such a method.
    Methods that are found by name (`find("signals", ...)`) start chains of their own.
    """

    def __init__(self, trees: dict[Path, ast.Module]):
        self.functions: dict[str, tuple[str, str, Function]] = {}  # -> (module, class, node)
        self.scopes: dict[str, dict[str, str]] = {}
        for path, tree in trees.items():
            parts = path.relative_to(ROOT.parent).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self.scopes[module] = {
                alias.asname or alias.name: f"{node.module}.{alias.name}"
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            for node in tree.body:
                inside = node.body if isinstance(node, ast.ClassDef) else [node]
                owner = f"{module}.{node.name}" if isinstance(node, ast.ClassDef) else module
                for each in inside:
                    if isinstance(each, Function):
                        kind = owner if isinstance(node, ast.ClassDef) else ""
                        self.functions[f"{owner}.{each.name}"] = (module, kind, each)
        self.methods: dict[str, list[str]] = {}
        for name, (_, kind, _) in self.functions.items():
            if kind:
                self.methods.setdefault(name.rpartition(".")[2], []).append(name)
        self.chains: dict[str, tuple[str, ...]] = {}

    def target(self, module: str, kind: str, call: ast.expr) -> str | None:
        """The function of the package that a call reaches, None where it is not ours."""
        scope = self.scopes[module]
        if isinstance(call, ast.Name):
            name = scope.get(call.id, f"{module}.{call.id}")
            return name if name in self.functions else self.known(f"{name}.__init__")
        if not isinstance(call, ast.Attribute):
            return None
        if isinstance(call.value, ast.Name):
            if call.value.id in ("self", "cls"):
                return self.known(f"{kind}.{call.attr}")
            if call.value.id in scope:
                return self.known(f"{scope[call.value.id]}.{call.attr}")
        owners = self.methods.get(call.attr, [])
        return owners[0] if len(owners) == 1 and call.attr not in FOREIGN else None

    def known(self, name: str) -> str | None:
        return name if name in self.functions else None

    def chain(self, name: str, above: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The longest chain of calls that begins at a function."""
        if name in above:
            return ()
        if name not in self.chains:
            module, kind, node = self.functions[name]
            below = {
                self.target(module, kind, call.func)
                for call in ast.walk(node)
                if isinstance(call, ast.Call)
            } - {None}
            each = [self.chain(str(one), (*above, name)) for one in sorted(map(str, below))]
            self.chains[name] = (name, *max(each, key=len, default=()))
        return self.chains[name]


def main() -> None:
    paths = sorted(ROOT.rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    functions = [
        (path, node)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    ]
    classes = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]
    lengths = [length(node) for _, node in functions]
    names = [node.name for _, node in functions] + [node.name for node in classes]
    own = [name for name in names if not name.startswith("__")]
    folders = {
        folder: len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        for folder in {path.parent for path in paths}
    }
    subjects = {f: n for f, n in folders.items() if f != ROOT and f.parent.name != "methods"}
    calls = Calls(trees)
    longest = max(map(calls.chain, calls.functions), key=len)
    exported = set(
        re.findall(r'"(\w+)"', (ROOT / "verbs" / "__init__.py").read_text(encoding="utf-8"))
    )
    groups = ("memory.py", "detector.py")
    public = [
        node
        for path, node in functions
        if path.parent.name == "verbs"
        and (node.name in exported or path.name in groups)
        and node in trees[path].body
        and ast.get_docstring(node)
    ]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "datablame", "--help"], capture_output=True, check=True)
    seconds = time.perf_counter() - began
    wide = sum(
        len(re.split(r"  # (?:type: ignore|noqa)", line)[0]) > 100
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    rows = {
        "files at the top (at most 12)": folders[ROOT] + 1,
        "largest folder outside methods (at most 15)": max(subjects.values()),
        "longest chain of calls (at most 10)": len(longest),
        "lines over 100 columns, waivers left out (0)": wide,
        "lines of a function, median / p90 / max (under 8, -, 60)": (
            f"{statistics.median(lengths):g} / {sorted(lengths)[int(0.9 * len(lengths))]} / {max(lengths)}"
        ),
        "functions over 60 lines (0)": sum(n > 60 for n in lengths),
        "private functions and classes (15 %)": f"{sum(n.startswith('_') for n in own) / len(own):.1%}",
        "functions with a docstring": f"{sum(ast.get_docstring(n) is not None for _, n in functions) / len(functions):.0%}",
        "verbs that document Returns and Raises": (
            f"{sum('Returns' in (d := ast.get_docstring(n) or '') and 'Raises' in d for n in public)} of {len(public)}"
        ),
        "seconds of `datablame --help` (0.3)": f"{seconds:.2f}",
    }
    for name, value in rows.items():
        print(f"{name:<58} {value}")
    print("the longest chain:", " > ".join(".".join(each.split(".")[-2:]) for each in longest))


if __name__ == "__main__":
    main()
