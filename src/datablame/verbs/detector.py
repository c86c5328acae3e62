"""The detector of wrong labels: teach it on runs whose truth is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.base.errors import InputError
from datablame.dynamics.config import PAPER, DetectorConfig, DetectorTraining
from datablame.verbs.opening import RunLike, fields_as_keywords, opened

if TYPE_CHECKING:
    from datablame.dynamics.detector import Detector
else:
    Detector = Any


@fields_as_keywords
def teach(
    *runs: RunLike,
    out: Path | str = Path("detector.safetensors"),
    start: str | None = None,
    paper: bool = False,
    config: Annotated[DetectorConfig, Parameter(name="*")] = DetectorConfig(),
    training: Annotated[DetectorTraining, Parameter(name="*")] = DetectorTraining(),
) -> Detector:
    """Teach a detector what a wrong label looks like, on runs whose truth is known;
    `detector,file=FILE` uses it.

    Returns the detector. Raises InputError where the truth of a run is not known, and for
    a detector that learned nothing, which is not written.

    Parameters
    ----------
    runs
        Folders of runs whose truth is known: with planted noise, or a set that was checked.
    out
        File to write the detector to.
    start
        Go on from this detector: shipped, which comes with the package, a file, or the paper's
        .pth.tar.
    paper
        Teach as Jia et al. (2023) do: the probability of the given label, AdamW at learning rate
        0.1 (which often ends in a constant: --lr 0.001 does not), batches of 64, the best accuracy
        kept. With --start, go on from a detector as they do.
    """
    from datablame.base import files, hashing
    from datablame.dynamics.detector import Detector
    from datablame.evaluation import teaching

    own = dataclasses.replace(DetectorTraining(), lr=training.lr, seed=training.seed)
    if paper and (config, training) != (DetectorConfig(), own):
        raise InputError("--paper sets all options of teaching but --lr and --seed; leave them out")
    if start is not None and config != DetectorConfig():
        options = ", ".join(f"--{field.name}" for field in dataclasses.fields(DetectorConfig))
        raise InputError(
            f"a detector that is taught further keeps its configuration; leave out {options}"
        )
    files.refuse_foreign(Path(out))
    if paper:
        config, as_theirs = PAPER
        training = dataclasses.replace(
            as_theirs, lr=training.lr or as_theirs.lr, seed=training.seed
        )
    with hashing.seeded("detector", training.seed):
        detector = Detector.load(start) if start is not None else Detector(config)
    detector = teaching.teach([opened(run) for run in runs], detector, training)
    teaching.check_learned(detector)
    detector.save(Path(out))
    return detector
