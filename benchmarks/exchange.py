"""What we write for other tools, read by their own libraries, each in an environment of its own:

    python exchange.py --label-studio ENV/bin/python --fiftyone ENV/bin/python

with `pip install label-studio-sdk` in one and `pip install fiftyone` in the other (its data base is
not started).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import results

import datablame as db
from datablame.decisions import FILE, Decision, Decisions

HOME = results.OUT / "exchange"
LABEL_STUDIO = """
import json, sys
import importlib.metadata
from label_studio_sdk.label_interface import LabelInterface
tasks, classes = json.load(open(sys.argv[1])), sys.argv[2].split(",")
choices = "".join(f'<Choice value="{each}"/>' for each in classes)
asked = LabelInterface(
    '<View><Image name="image" value="$image"/>'
    f'<Choices name="label" toName="image">{choices}</Choices></View>'
)
predictions = [asked.validate_prediction(each) for task in tasks for each in task.get("predictions", [])]
annotations = [asked.validate_annotation(each) for task in tasks for each in task["annotations"]]
bad = json.loads(json.dumps(tasks[0]["predictions"][0]))
bad["result"][0]["value"]["choices"] = ["no such class"]
print(json.dumps({
    "version": importlib.metadata.version("label-studio-sdk"),
    "predictions": [sum(predictions), len(predictions)],
    "annotations": [sum(annotations), len(annotations)],
    "a wrong one": asked.validate_prediction(bad),
}))
"""
FIFTYONE = """
import importlib.metadata, json, sys
from fiftyone.utils.data.importers import FiftyOneDatasetImporter
found = FiftyOneDatasetImporter(sys.argv[1])
assert found._is_legacy_format_data()
found = found._to_legacy_importer()
found.setup()
samples = list(found)
print(json.dumps({
    "version": importlib.metadata.version("fiftyone"),
    "samples": len(samples),
    "labels": [sample.ground_truth.label for sample in samples],
    "tags": [sample.tags for sample in samples],
    "confidence": [sample.proposed and sample.proposed.confidence for sample in samples],
}))
"""


def decided() -> db.Run:
    """A run on digits with wrong labels, some of which people decided on."""
    shutil.rmtree(HOME, ignore_errors=True)
    run = db.audit("digits", noise="uniform", amount=0.1, out=HOME, retrain=False)
    assert isinstance(run, db.Run)
    assert run.verdict is not None
    rows = run.verdict.suspects.tolist()
    acts = [("wrong", 3), ("right", -1), ("drop", -1), ("unsure", -1), ("wrong", -1)]
    with contextlib.closing(Decisions(run.path / FILE, run.data)) as kept:
        for place, row in enumerate(rows[:100]):
            act, label = acts[place % len(acts)]
            kept.add(Decision(row, act, label, by="anna"))
    return run


def asked(python: str, code: str, *words: str) -> dict:
    done = subprocess.run([python, "-c", code, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label-studio", required=True)
    parser.add_argument("--fiftyone", required=True)
    given = parser.parse_args()
    run = decided()
    tasks = db.decided(run, out=HOME / "tasks.json")
    samples = db.decided(run, out=HOME / "fiftyone" / "samples.json")
    assert isinstance(tasks, Path)
    assert isinstance(samples, Path)
    classes = ",".join([*run.data.classes, "drop", "wrong"])
    theirs = asked(given.label_studio, LABEL_STUDIO, str(tasks), classes)
    fiftyone = asked(given.fiftyone, FIFTYONE, str(samples.parent))
    ours = json.loads(samples.read_text())["samples"]
    same = sum(
        label == own["ground_truth"]["label"] and tags == own["tags"]
        for label, tags, own in zip(fiftyone["labels"], fiftyone["tags"], ours, strict=True)
    )
    kinds = [
        f"{theirs[kind][0]:,} of {theirs[kind][1]:,} {kind}"
        for kind in ("predictions", "annotations")
    ]
    refused = "accepted" if theirs["a wrong one"] else "refused"
    text = f"""Label Studio's own validator (label-studio-sdk {theirs["version"]}) accepts \
{" and ".join(kinds)} of tasks.json; a class that is not there: {refused}.

FiftyOne {fiftyone["version"]} reads {fiftyone["samples"]:,} of {len(ours):,} samples, of which \
{same:,} have our labels and tags."""
    results.write("Exchange with other tools", text)


if __name__ == "__main__":
    main()
