"""Readers: the only place that opens what a run, a cache or a stranger left.

Each reader checks kind, shape and size against the file before anything is allocated, and raises
one sentence. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datablame.base import environment
from datablame.base.errors import InputError

MANIFEST = "manifest.json"
"""Bytes and digest of each file of a run, by its name in the run's folder."""
REMEDY = "delete it and run the same command: it is made again"
LOST = "the run cannot be used without it; move its folder away and run the same command again"
CHUNK = 1 << 24
"""Numbers that are looked at together."""
Kinds = type | tuple[type | None, ...]


class Damaged(InputError):
    """A file that cannot be what it should be, and why; one of ours is deleted to have it made
    again, one of the user's nothing makes again.
    """

    def __init__(self, path: Path, why: object, remedy: str = REMEDY):
        self.path = path
        self.why = str(why).strip().partition("\n")[0][:160]
        if "allow_pickle" in self.why:  # numpy's advice
            self.why = "an array of objects, which is never read"
        super().__init__(
            f"{path} is damaged ({self.why}); {remedy}"
            if remedy == LOST or _ours(path)
            else f"{path} cannot be read ({self.why})"
        )


def _ours(path: Path) -> bool:
    """Whether a command makes a file again: it is of a run, or in the cache and not put there by
    the user, or hidden beside the runs.
    """
    run, cache, here = _run(path), environment.cache().resolve(), path.resolve()
    put = any(here.is_relative_to(cache / name) for name in ("sets", "weights"))
    of_run = run is not None and (run / "recipe.yaml").exists()
    return of_run or (here.is_relative_to(cache) and not put) or path.name.startswith(".")


def _run(path: Path) -> Path | None:
    """The folder of the run that a file lies in."""
    above = list(path.absolute().parents)[:5]
    return next((folder for folder in above if (folder / "run.json").exists()), None)


def _whole(path: Path) -> None:
    """Raises Damaged where a file of a run has another size than the run's manifest says."""
    if run := _run(path):
        facts = manifest(run).get(str(path.absolute().relative_to(run)))
        if facts and path.stat().st_size != facts[0]:
            raise Damaged(path, f"{path.stat().st_size:,} bytes, written were {facts[0]:,}")


_KNOWN: dict[Path, tuple[tuple[int, ...], dict[str, tuple[int, str]]]] = {}
"""Manifests that were read, with what tells one file of that name from the next."""


def manifest(run: Path) -> dict[str, tuple[int, str]]:
    """(bytes, digest) of each file that was written into a run, by its name in the run's folder;
    empty for a run made before there were manifests, or whose manifest is damaged.
    """
    path = (run / MANIFEST).absolute()
    try:
        stat = path.stat()
        mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if path not in _KNOWN or _KNOWN[path][0] != mark:
            rows = json.loads(path.read_text(encoding="utf-8")).items()
            _KNOWN[path] = mark, {str(name): (int(size), str(d)) for name, (size, d) in rows}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return dict(_KNOWN[path][1])


def forget(run: Path) -> None:
    """Read a run's manifest anew, since it was written: a clock may not have ticked between."""
    _KNOWN.pop((run / MANIFEST).absolute(), None)


def read_text(path: Path) -> str:
    """A UTF-8 text file. Raises Damaged for another."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(path, error) from None


def parse_json(text: str | bytes, path: Path | str, fields: dict[str, Kinds] | None = None) -> Any:
    """What JSON says; with `fields`, an object that has each of these, of these kinds (None for
    null). Raises Damaged, with `path`, for anything else.
    """
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Damaged(Path(path), error) from None
    if not isinstance(value, dict):
        if fields is None:
            return value
        raise Damaged(Path(path), f"an object is expected, not {type(value).__name__}")
    for name, kinds in (fields or {}).items():
        if name not in value:
            raise Damaged(Path(path), f"'{name}' is missing")
        allowed = kinds if isinstance(kinds, tuple) else (kinds,)
        found = value[name]
        if not any(found is None if kind is None else isinstance(found, kind) for kind in allowed):
            raise Damaged(Path(path), f"'{name}' is {type(found).__name__}")
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def read_json(path: Path, **fields: Kinds) -> Any:
    """An object in a JSON file, with these fields of these kinds. Raises Damaged for anything
    else.
    """
    _whole(path)
    return parse_json(read_text(path), path, fields)


def read_lines(path: Path, **fields: Kinds) -> list[Any]:
    """What each line of a file of JSON lines says, as `read_json`. Raises Damaged for anything
    else.
    """
    return [parse_json(line, path, fields) for line in read_text(path).splitlines()]


def read_array(
    path: Path,
    shape: Sequence[int | None] | None = None,
    kind: str | None = None,
    finite: bool = False,
    mode: str = "r",
) -> np.ndarray:
    """The array of a `.npy` file, memory-mapped.

    `shape` has None for what may be any length; `kind` is a numpy type (`float16`) or kind (`f`);
    `finite` looks at every number. Raises Damaged where the file holds anything else.
    """
    _whole(path)
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[arg-type]
    except Exception as error:  # the parser of headers raises many kinds
        raise Damaged(path, error) from None
    if not isinstance(array, np.ndarray):
        raise Damaged(path, "several arrays")
    _fits(path, array, shape, kind)
    if finite:
        flat = array.reshape(-1)
        for start in range(0, len(flat), CHUNK):
            if not np.isfinite(flat[start : start + CHUNK]).all():
                raise Damaged(path, "a value that is not a finite number")
    return array


def _fits(path: Path, array: np.ndarray, shape: Any, kind: str | None) -> None:
    if shape is not None and (
        len(shape) != array.ndim
        or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True))
    ):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise Damaged(path, f"shape {list(array.shape)}, expected [{wanted}]")
    if kind is not None and kind not in (array.dtype.name, array.dtype.kind):
        raise Damaged(path, f"type {array.dtype}, expected {kind}")


def read_arrays(path: Path, most: int) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, which may unpack to at most `most` bytes. Raises Damaged for
    anything else.
    """
    _whole(path)
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > most:
            raise InputError(f"{path} unpacks to {size:,} bytes, more than the {most:,} there are")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except InputError:
        raise
    except Exception as error:  # zip, its decompressors and numpy each raise their own
        raise Damaged(path, error) from None


FORMULA = r"[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - full-width signs start formulas too
"""What a spreadsheet would take for the beginning of a formula: a quote is written before it."""


def read_csv(path: Path, columns: Sequence[str] | None = None) -> Any:
    """A CSV's table with these columns, or all, as text, without the quote before what would be a
    formula. Raises pyarrow's ArrowInvalid, and KeyError for a column that is not there.
    """
    import pyarrow as pa
    import pyarrow.compute
    from pyarrow import csv

    functions: Any = pyarrow.compute  # made at run time, where no type checker sees them
    head = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    names = columns or [name.strip().strip('"') for name in head.split(",")]
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=list(names),
        strings_can_be_null=False,
    )
    table = csv.read_csv(path, convert_options=options)
    plain = [
        functions.replace_substring_regex(table[name], f"^'({FORMULA})", r"\1") for name in names
    ]
    return pa.table(plain, names=list(names))


def read_table(path: Path, **columns: str) -> Any:
    """A Parquet file's table, with these columns of these types (`string`, or a kind of numbers:
    `int`, `float`). Raises Damaged for anything else.
    """
    import pyarrow as pa
    from pyarrow import parquet

    _whole(path)
    tests: dict[str, Callable[[Any], bool]] = {
        "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
        "int": pa.types.is_integer,
        "float": pa.types.is_floating,
    }
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Damaged(path, error) from None
    for name, kind in columns.items():
        if name not in table.column_names:
            raise Damaged(path, f"no column '{name}'")
        if not tests[kind](table[name].type) or table[name].null_count:
            raise Damaged(path, f"column '{name}' is {table[name].type}, or has gaps")
    return table


def read_tensors(
    path: Path, device: str = "cpu", endings: tuple[str, ...] = ("",)
) -> tuple[dict[str, Any], dict[str, str]]:
    """(tensors, metadata) of a safetensors file, or of it the tensors whose names end so. Raises
    Damaged for anything else, and where a number is not finite.
    """
    from safetensors import SafetensorError, safe_open

    _whole(path)
    try:
        with safe_open(path, "pt", device=device) as file:
            names = [name for name in file.keys() if name.endswith(endings)]  # noqa: SIM118 - not a dict
            tensors = {name: file.get_tensor(name) for name in names}
            facts = file.metadata() or {}
    except (OSError, SafetensorError, ValueError, RuntimeError, TypeError) as error:
        raise Damaged(path, error) from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise Damaged(path, f"'{name}' has a value that is not a finite number")
    return tensors, facts


def read_pth(path: Path) -> Any:
    """What a PyTorch file holds, tensors and plain containers only (`weights_only`). Raises Damaged
    for anything else.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zip and the unpickler each raise their own
        raise Damaged(path, error) from None


def into(model: Any, weights: dict[str, Any], path: Path) -> None:
    """Put weights into a module. Raises Damaged, naming the file, where they do not fit it."""
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        there = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        odd = sorted(name for name in there | found if there.get(name) != found.get(name))
        raise Damaged(
            path, f"{len(odd)} tensors do not fit the model, the first is {odd[0]}"
        ) from None
