"""What a model with a memory answers by."""

from __future__ import annotations

from datablame.analyses.memory import MEMORIES
from datablame.base import readers
from datablame.pages.figures import Section, as_data
from datablame.pages.templating import rendered
from datablame.run import Run

NAMES = {
    "accuracy": "answers that are right",
    "over_memories": "their standard deviation over memories",
    "explanation_accuracy": "explanations that are right: the most weighted image gets "
    "the same answer",
    "example_accuracy": "right answers where it does (an example)",
    "counterfactual_accuracy": "right answers where it does not (a counterfactual)",
    "kept_memory": "right answers by the memory that the model keeps",
    "whole_set": "right answers by the whole training set",
}


def memory(run: Run) -> Section | None:
    """Memory images and heatmaps that were drawn, and how often answers and explanations are
    right.
    """
    run = run.with_model
    memories, facts = 0, []
    if found := {
        int(path.stem.rpartition("-")[2]): path for path in run.path.glob("evaluation-*.json")
    }:
        memories = max(found)
        known = readers.read_json(found[memories])
        facts = [(text, known[name]) for name, text in NAMES.items() if name in known]
    drawn = [
        (f"{alt}, {kind}", run.path / "figures" / f"memory-{kind}{what}.png")
        for kind in MEMORIES
        for what, alt in (("", "memory images"), ("-heatmaps", "heatmaps"))
    ]
    pictures = [(alt, as_data(path.read_bytes())) for alt, path in drawn if path.exists()]
    if not facts and not pictures:
        return None
    html = rendered("memory", facts=facts, memories=memories, pictures=pictures)
    return Section("What the model remembers", html, 16)
