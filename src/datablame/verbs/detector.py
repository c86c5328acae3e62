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
    `lstm,detector=FILE` uses it.

    Returns the detector. Raises InputError where the truth of a run is not known.

    Parameters
    ----------
    runs
        Folders of runs whose truth is known: with planted noise, or a set that was checked.
    out
        File to write the detector to.
    start
        Go on from this detector: few or many, which come with the package, a file, or the paper's
        .pth.tar.
    paper
        Teach as Jia et al. (2023) do: the probability of the given label, AdamW at learning rate
        0.1, batches of 64, the best accuracy kept.
    """
    from datablame.base import files, hashing
    from datablame.dynamics.detector import Detector
    from datablame.evaluation import teaching

    if paper and (config, training) != (DetectorConfig(), DetectorTraining()):
        raise InputError("--paper sets all other options of teaching; leave them out")
    if start is not None and (paper or config != DetectorConfig()):
        options = ", ".join(f"--{field.name}" for field in dataclasses.fields(DetectorConfig))
        raise InputError(
            "a detector that is taught further keeps its configuration; leave out "
            f"--paper, {options}"
        )
    files.refuse_foreign(Path(out))
    config, training = PAPER if paper else (config, training)
    with hashing.seeded("detector", training.seed):
        detector = Detector.load(start) if start is not None else Detector(config)
    detector = teaching.teach([opened(run) for run in runs], detector, training)
    detector.save(Path(out))
    return detector
