"""Encoders that others have trained, by name: which there are, how they look at pictures, and where
their weights lie. Nothing is fetched that was not asked for.

timm: Wightman, 2019. github.com/huggingface/pytorch-image-models
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datablame.base import environment, files
from datablame.base.decode import View
from datablame.base.errors import InputError, Unfetched, unknown

FILE = "model.safetensors"
"""Of weights, on the hub."""
FOUND = "DEFAULT"
"""Weights that are on this machine, wherever they are found."""
NAMED = "named"
"""The name of the weights of the signal `named`: CLIP's, pictures and words."""
NAMED_FROM = "timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors"
TIMM = "timm/"
"""Before the name of a model of timm."""


@dataclass(frozen=True)
class Alias:
    """A model of timm under a short name: the side that it looks at, and millions of weights."""

    name: str
    size: int
    millions: int


ALIASES = {
    "dinov2": Alias("vit_small_patch14_reg4_dinov2.lvd142m", 224, 22),
    "dinov2-b": Alias("vit_base_patch14_reg4_dinov2.lvd142m", 224, 86),
    "dinov2-l": Alias("vit_large_patch14_reg4_dinov2.lvd142m", 224, 303),
    "siglip2": Alias("vit_base_patch16_siglip_224.v2_webli", 224, 93),
    "clip": Alias("vit_base_patch32_clip_224.openai", 224, 88),
    "mobilenet": Alias("mobilenetv3_large_100.ra_in1k", 224, 4),
}
BEST = ("dinov2", "siglip2", "clip", "dinov2-b", "dinov2-l", "mobilenet")
"""What `auto` takes for photographs: the first of these whose weights are on this machine."""


def known(name: str) -> bool:
    """Whether this names an encoder of timm's."""
    return name in ALIASES or name.startswith(TIMM)


def full(name: str) -> str:
    """The name that timm has for it."""
    return ALIASES[name].name if name in ALIASES else name.removeprefix(TIMM)


@cache
def about(name: str) -> dict[str, Any]:
    """What timm knows of an encoder: input_size, crop_pct, interpolation, mean, std, license,
    hf_hub_id. Raises InputError without timm, and for a name that it does not have.
    """
    try:
        import timm
    except ImportError:
        raise InputError(
            f"'{name}' is an encoder of timm, which is not installed: pip install "
            "'datablame[encoders]'"
        ) from None
    known = [*timm.list_models(), *timm.list_pretrained()]
    found = timm.get_pretrained_cfg(full(name)) if full(name) in known else None
    if found is None:
        raise unknown("model of timm", full(name), known)
    return found.to_dict()


def view(name: str, size: int | None = None) -> View:
    """How timm's evaluation looks at a picture for this encoder."""
    facts = about(name)
    own = ALIASES[name].size if name in ALIASES else int(facts["input_size"][1])
    side = size or own
    resize = 0 if facts.get("crop_mode") == "squash" else int(side / facts.get("crop_pct", 0.875))
    how = facts.get("interpolation") or "bicubic"
    return View(side, resize, how if how in ("bilinear", "bicubic", "nearest") else "bicubic")


def home() -> Path:
    """The folder of weights: `DATABLAME_WEIGHTS`, which --weights sets, else `weights` in the
    cache.
    """
    return Path(os.environ.get("DATABLAME_WEIGHTS") or environment.cache() / "weights")


def weights_of(name: str) -> Path | None:
    """The file with the weights of an encoder; None where it is not on this machine. What Hugging
    Face's own cache holds counts too.
    """
    kept = home() / f"{full(name)}.safetensors"
    if kept.is_file():
        return kept
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    there = try_to_load_from_cache(about(name).get("hf_hub_id") or TIMM + full(name), FILE)
    return Path(there) if isinstance(there, str) else None


def here() -> str | None:
    """The best encoder whose weights are on this machine; None where there is none, or no timm."""
    try:
        return next((name for name in BEST if weights_of(name)), None)
    except InputError:
        return None


def licence(name: str) -> str:
    return str(about(name).get("license") or "not known")


def made(name: str, weights: str | None = FOUND, size: int | None = None) -> nn.Module:
    """An encoder of timm's with its weights: of a safetensors file, of a folder of such files, or
    where they are found (`FOUND`); None draws them at random.

    Raises Unfetched where they are not on this machine, InputError where a file holds others.
    """
    import timm

    facts = about(name)
    side, options = view(name, size).size, dict[str, Any]()
    if "clip" not in full(name) or facts.get("num_classes", 0) in (0, 1000):
        options["num_classes"] = 0
    if facts.get("fixed_input_size"):
        options["img_size"] = side
    if weights is None:
        return _tried(timm.create_model, full(name), side, options)
    path = _file(name, weights)
    try:
        with _loading() as missing:
            net = timm.create_model(
                full(name), pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options
            )
        if missing:
            raise ValueError(f"{len(missing)} are missing, such as {missing[0]}")
        return _measured(net, side)
    except Exception as error:  # timm, torch and safetensors each raise their own
        raise InputError(
            f"{path} does not hold weights of {full(name)} for {side} pixels: "
            f"{str(error).strip().partition(chr(10))[0]}"
        ) from None


def _tried(make: Any, name: str, side: int, options: dict[str, Any]) -> nn.Module:
    """A net of random weights. Raises InputError for a side that it cannot look at."""
    try:
        return _measured(make(name, pretrained=False, **options), side)
    except (AssertionError, ValueError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise InputError(f"{name} cannot look at {side} pixels: {why}") from None


@contextlib.contextmanager
def _loading() -> Iterator[list[str]]:
    """The weights that are in no file that is loaded inside: timm leaves those at random."""
    missing: list[str] = []
    plain = nn.Module.load_state_dict

    def watched(self: nn.Module, *given: Any, **options: Any) -> Any:
        found = plain(self, *given, **options)
        missing.extend(found.missing_keys)
        return found

    nn.Module.load_state_dict = watched  # type: ignore[method-assign]
    try:
        yield missing
    finally:
        nn.Module.load_state_dict = plain  # type: ignore[method-assign]


def _file(name: str, weights: str) -> Path:
    """The safetensors file of an encoder's weights. Raises Unfetched where there is none."""
    path = weights_of(name) if weights == FOUND else Path(weights)
    if path is not None and path.is_dir():
        path = path / f"{full(name)}.safetensors"
    if path is None:
        raise Unfetched(absent(name, licence(name)))
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no file of weights {path} (.safetensors)")
    return path


def absent(name: str, terms: str) -> str:
    """That weights are not on this machine, and what to do."""
    return (
        f"the weights of {name} (licence: {terms}) are not on this machine; datablame fetch {name} "
        f"fetches them; without a network, datablame fetch {name} --to DIR on another machine, and "
        "--weights DIR here"
    )


def fetched(name: str, path: Path) -> Path:
    """The weights of an encoder of timm's from the Hugging Face hub, copied to `path`. Raises
    InputError where they cannot be had.
    """
    from huggingface_hub import hf_hub_download

    if environment.offline():
        raise InputError(f"{name} is not on this machine, and --offline forbids the network")
    hub, file = NAMED_FROM
    if name != NAMED:
        hub, file = about(name).get("hf_hub_id") or TIMM + full(name), FILE
    try:
        there = hf_hub_download(hub, file)
    except Exception as error:  # the hub's library raises many kinds: not to be had
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"
        raise InputError(f"the weights of {name} cannot be fetched from {hub}: {why}") from None
    return files.write(path, lambda part: shutil.copyfile(there, part))


def _measured(net: nn.Module, side: int) -> nn.Module:
    """A net that knows the number of its features."""
    with torch.inference_mode():
        net.dim = net.eval()(torch.zeros(1, 3, side, side)).shape[1]
    return net
