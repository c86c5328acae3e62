"""The first look at a set, before anything is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datablame.base.errors import InputError
from datablame.verbs.opening import Source, fields_as_keywords
from datablame.verbs.reading import Reading, splits, unasked

if TYPE_CHECKING:
    from datablame.analyses.look import Look
else:
    Look = Any


@fields_as_keywords
def look(
    source: Source,
    *,
    reading: Reading = Reading(),
    encoder: str = "auto",
    out: Path | str = Path("looks"),
) -> Look:
    """Look at a set before anything is trained: files that cannot be read, copies, copies with
    different labels, test images that are training images, images that are blank, dark, bright,
    blurred or of an odd size, and outliers.

    Returns the look; writes look.html, look.parquet, look.json and, where there are such files,
    unreadable.csv. Raises InputError for a source that cannot be read.

    Parameters
    ----------
    source
        A source, as for `load`.
    encoder
        Whose features tell outliers and images that show nearly the same: a name from `datablame
        encoders`, a classifier of torchvision, none, or auto: the first of dinov2, siglip2, clip,
        dinov2-b, dinov2-l and mobilenet whose weights are on this machine.
    out
        Folder under which the look's own folder is made.
    """
    import numpy as np

    from datablame.analyses.duplicates import between
    from datablame.analyses.look import distances, look_at, space_of, twins
    from datablame.base import arrays, files, folders, progress
    from datablame.network import encoders
    from datablame.network.classifier import FROZEN
    from datablame.pages import look as page
    from datablame.run import plain

    files.refuse_inside(out, source)
    unasked(reading, ("keep_leaks",), "a look shows the copies in a test set and leaves none out")
    data, test = splits(source, reading, holdout=0.0, settle=False)
    if data.images is None:
        raise InputError(f"{source} has labels but no images: there is nothing to look at")
    parts = [data, *([] if test is None else [test])]
    mark = "".join(part.fingerprint for part in parts)
    folder = Path(out) / f"{plain(data.source)}-{arrays.digest(mark.encode())[:8]}"
    found = look_at(folder, between(data, test))
    name = (encoders.here() or "none") if encoder == "auto" else encoder
    if name != "none" or not data.drawn:
        with progress.stage("features"):
            spaces = [space_of(part, FROZEN + name) for part in parts]
            twin, closeness = twins(np.concatenate(spaces))
        found = dataclasses.replace(
            found,
            distance=list(map(distances, spaces)),
            twin=twin if data.drawn else None,
            closeness=closeness if data.drawn else None,
            encoder=name,
        )
    with folders.alone(folder):
        found.save()
        page.draw(found)
    return found
