"""The most memorised images, and where in them it lies."""

from __future__ import annotations

from datablame.faces import located
from datablame.faces.figures import Section, as_data
from datablame.locating import KINDS, Located, path_of
from datablame.run import Run


def memorization(run: Run) -> Section | None:
    """The first page of the matrices, and the check that what they mark carries the score."""
    parts = []
    for over in KINDS:
        if path_of(run, over).exists():
            found = Located.read(run, over)
            page = (run.path / "figures" / f"matrix-{over}.png").read_bytes()
            parts.append(f'<img class="figure" alt="matrices over {over}" src="{as_data(page)}">{located.check(found)}')
    if not parts:
        return None
    note = (
        "<p>The most memorised images, first-order memorization below each. Beside the image stands its memorization matrix: red adds to the score, "
        "blue takes from it; then what of the image it keeps. Masking the marked cells should lower the score more than masking others.</p>"
    )
    return Section("Learned by heart", note + "".join(parts), 26)
