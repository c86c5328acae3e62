"""The verbs of encoders that others have trained: encoders, fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def encoders() -> dict[str, Any]:
    """List the encoders that have a short name: what they are, their licence, the side in pixels
    that they look at, and whether their weights are on this machine.

    Any model of timm (frozen:timm/NAME) and any classifier of torchvision (frozen:NAME) can be
    named too. Raises InputError where timm is not installed.
    """
    from datablame.network import encoders as known

    return {
        name: {
            "model": f"{known.TIMM}{alias.name}",
            "licence": known.licence(name),
            "side": f"{alias.size} pixels",
            "weights": f"{alias.millions} million, "
            + (str(there) if (there := known.weights_of(name)) else "not on this machine"),
        }
        for name, alias in known.ALIASES.items()
    }


def fetch(name: str, *, to: Path | str | None = None) -> Path:
    """Fetch the weights of an encoder, once, on a machine with a network.

    Returns the file, .safetensors. Raises InputError for an unknown name, and where the weights
    cannot be had.

    Parameters
    ----------
    name
        A name that `datablame encoders` lists, timm/NAME, a classifier of torchvision, or named:
        the weights of the signal `named`.
    to
        Folder to put them in, for a machine without a network: give it there as --weights. By
        default they are put where every command finds them.
    """
    from datablame.network import encoders as known
    from datablame.network.frozen import fetch as fetched

    return fetched(name, Path(to) if to is not None else known.home())
