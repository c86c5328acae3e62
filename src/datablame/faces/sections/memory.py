"""What a model with a memory answers by."""

from __future__ import annotations

from datablame.faces.figures import Section, as_data
from datablame.faces.recalled import picture_of
from datablame.ground import store
from datablame.recalling import MEMORIES
from datablame.run import Run

NAMES = {
    "accuracy": "answers that are right",
    "over_memories": "their standard deviation over memories",
    "explanation_accuracy": "explanations that are right: the most weighted image gets the same answer",
    "example_accuracy": "right answers where it does (an example)",
    "counterfactual_accuracy": "right answers where it does not (a counterfactual)",
    "kept_memory": "right answers by the memory that the model keeps",
    "whole_set": "right answers by the whole training set",
}


def memory(run: Run) -> Section | None:
    """Memory images and heatmaps that were drawn, and how often answers and explanations are right."""
    parts = []
    if found := {int(path.stem.rpartition("-")[2]): path for path in run.path.glob("evaluation-*.json")}:
        count = max(found)
        facts = store.read_json(found[count])
        lines = "".join(
            f"<tr><td>{text}</td><td>{facts[name]:.2%}</td></tr>" for name, text in NAMES.items() if name in facts
        )
        parts.append(f"<p>Over {count} random memories:</p><table>{lines}</table>")
    for kind in MEMORIES:
        for what, alt in (("", "memory images"), ("-heatmaps", "heatmaps")):
            if (path := picture_of(run, kind, what)).exists():
                parts.append(f'<img class="figure" alt="{alt}, {kind}" src="{as_data(path.read_bytes())}">')
    if not parts:
        return None
    note = (
        "<p>Each answer rests on training images, whose weights sum to 1. Those that get the same answer are its examples; the others are "
        "counterfactuals, and an answer whose most weighted image is one deserves doubt. Heatmaps show what adds to the answer (red) and what "
        "takes from it (blue). A frame marks a training label that is known to be wrong.</p>"
    )
    return Section("What the model remembers", note + "".join(parts), 16)
