"""What variables of the environment say for the whole program."""

from __future__ import annotations

import os
from pathlib import Path


def offline() -> bool:
    """Whether HF_HUB_OFFLINE, or --offline, forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")


def cache() -> Path:
    """Where decoded images are kept: `DATABLAME_CACHE`, else the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DATABLAME_CACHE") or Path(home) / "datablame")
