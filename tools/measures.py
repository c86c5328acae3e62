"""Measures of the house: run it from the repository's root, `python tools/measures.py`.

Lengths are without docstrings; calls are counted by name within the package, so that the depth of
call chains is an upper bound.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path("src/datablame")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def length(node: Function) -> int:
    """Lines of a function without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def depth(calls: dict[str, set[str]]) -> int:
    """The longest chain of calls between functions of the package that have one definition."""
    seen: dict[str, int] = {}

    def walk(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            return 0
        if name not in seen:
            seen[name] = 1 + max((walk(each, (*path, name)) for each in calls[name]), default=0)
        return seen[name]

    return max(walk(name, ()) for name in calls)


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
    defined = [node.name for _, node in functions]
    once = {name for name in defined if defined.count(name) == 1}
    calls = {
        node.name: {
            call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            for call in ast.walk(node)
            if isinstance(call, ast.Call)
        }
        & once
        for _, node in functions
        if node.name in once
    }
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
        "longest chain of calls (at most 10)": depth(calls),
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


if __name__ == "__main__":
    main()
