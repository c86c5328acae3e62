"""Every signal, judge, attributor, curvature, trainer, head and noise on the same sets: how well it
does and how long it takes, for the site's page of it (methods.json beside this file).

digits, whose nets are trained in seconds; 3,000 rows of CIFAR-10 with human labels behind a probe,
and 1,500 from scratch (those of truth.py, whose trainings are kept). Nothing is chosen here.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faithful
import numpy as np
import results
import torch
import truth
from PIL import Image
from torch import Tensor

import datablame as db
from datablame.base import methods
from datablame.evaluation.metrics import metrics

PATH = Path(__file__).parent / "methods.json"
HOME = results.OUT / "methods"
SMALL, PLANTED = "digits, pair 15 %", ("pair", 0.15)
CASES = {
    "human labels, probe": truth.CHOSE["probe, human 18 %"],
    "human labels, from scratch": truth.CHOSE["scratch, human 17 %"],
}
OWN: dict[str, dict[str, Any]] = {
    "attention": {"head": "memory_wrap"},
    "memory_wrap": {"head": "memory_wrap"},
    "dividemix": {"trainer": "dividemix"},
    "temperature": {"trainer": "data_parameters"},
    "temperature_curve": {"trainer": "data_parameters"},
    "trajectory": {"trainer": "data_parameters"},
}
"""What must be trained otherwise for a method; on digits alone."""
LACKING = {"named"}
"""It needs the weights of CLIP, which were not at hand."""
OF_A_NET = {"gradnorm", "loo", "memorization", "self_influence"}
"""They ask a net of what it learned from: where there is a net for each fold alone, the first one, of
three quarters of the images."""
AMOUNTS = (0.0, 0.05, 0.1, 0.2, 0.4)
BINS, HALVES, SHOWN = 24, 40, 6
KIND = {curvature: f"influence,kind={curvature}" for curvature in methods.names("curvature")}


def digits(kind: str = PLANTED[0], amount: float = PLANTED[1], **recipe: Any) -> db.Run:
    """A run on four fifths of digits with planted noise; the rest, with right labels, is its test."""
    train, test = db.load("digits").holdout(0.2)
    if amount:
        train = db.corrupt(train, noise=kind, amount=amount)
    return db.train(train, recipe=db.Recipe(**recipe), test=test, out=HOME)


def fresh(run: db.Run) -> db.Run:
    """A copy of a run without what signals keep, so that their seconds are those of a first time."""
    kept = shutil.ignore_patterns("curvature", "neighbours*", "left_out*", "scores", "features*")
    return db.Run(shutil.copytree(run.path, HOME / run.path.name, ignore=kept))


def timed(what: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return what(), time.perf_counter() - start


def bins(values: Tensor, wrong: Tensor) -> dict[str, list[int]]:
    """How many right and wrong labels have scores in each of BINS parts of the range."""
    low, high = values.min().item(), values.max().item()
    edges = torch.linspace(low, high + 1e-9 * max(1.0, abs(high)), BINS + 1)
    return {
        name: torch.histogram(values[some].float(), edges.float()).hist.int().tolist()
        for name, some in (("right", ~wrong), ("wrong", wrong))
    }


def picture(image: Tensor) -> str:
    """A picture as PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(0).numpy() if len(image) == 1 else image.movedim(0, 2).numpy()).save(
        file, "PNG", optimize=True
    )  # fmt: skip
    return base64.b64encode(file.getvalue()).decode()


def shown(data: db.Dataset, rows: Tensor) -> list[list[str]]:
    images, labels = data.batch(rows)
    return [
        [picture(image.cpu()), data.classes[label]]
        for image, label in zip(images, labels.tolist(), strict=True)
    ]


def ranked(run: db.Run, name: str) -> dict[str, Any]:
    """A signal, or the default blend, beside the truth."""
    assert run.data.wrong is not None
    signal = methods.find("signals", name) if name != "blend" else lambda run: db.score(run).values
    values, seconds = timed(lambda: signal(run))
    return metrics_of(values, run.data.wrong) | {"images": len(run.data), "seconds": seconds}


def metrics_of(values: Tensor, wrong: Tensor) -> dict[str, Any]:
    found = metrics(values, wrong)
    kept = {"average precision": found["average_precision"], "ROC-AUC": found["roc_auc"]}
    return kept | bins(values, wrong)


def signals(sets: dict[str, db.Run]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in [*methods.names("signals"), "blend"]:
        if name in LACKING:
            continue
        for where, run in sets.items():
            if where != SMALL and name in OWN:
                continue
            own = digits(**OWN[name]) if name in OWN else run
            if name in OF_A_NET:
                own = own.with_model
            found.setdefault(name, {})[where] = ranked(own, name)
        print(
            name, {k: round(v["average precision"], 3) for k, v in found[name].items()}, flush=True
        )
    return found


def verdict_of(run: db.Run, name: str) -> dict[str, Any]:
    """A judge beside the truth: how many it says are wrong, and F1 of what it drops or fixes."""
    wrong, scores = truth.wrong_of(run), db.score(run)
    verdict, seconds = timed(lambda: methods.find("judges", name)(run, scores))
    held = np.isin(verdict.act.numpy(), (int(db.Act.DROP), int(db.Act.FIX)))
    return {
        "images": len(wrong),
        "wrong": int(wrong.sum()),
        "estimate": [round(float(end), 1) for end in verdict.estimate],
        "told": bool(verdict.told),
        "held wrong": int(held.sum()),
        "F1": truth.f1(held, wrong),
        "seconds": seconds,
    }


def judges(sets: dict[str, db.Run]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in methods.names("judges"):
        own = OWN.get(name, {})
        for where, run in sets.items():
            if where == SMALL or not own:
                found.setdefault(name, {})[where] = verdict_of(digits(**own) if own else run, name)
        found[name]["amounts"] = [
            verdict_of(digits("uniform", amount, **own), name) for amount in AMOUNTS
        ]
        print(name, [each["estimate"][0] for each in found[name]["amounts"]], flush=True)
    return found


def attributors() -> dict[str, Any]:
    """How well what is said of each training image tells what nets say that were trained on halves:
    the linear datamodeling score (faithful.py).
    """
    found: dict[str, Any] = {}
    answered = {}
    names = {name: name for name in methods.names("attributors")} | KIND
    for name, spec in names.items():
        own = {"folds": 0, "checkpoints": 5} | OWN.get(name, {})
        mark = str(own)
        if mark not in answered:
            run = digits("uniform", 0.1, **own)
            answered[mark] = run, *faithful.halves(run, HALVES, 1, HOME / "halves")
        run, inside, said = answered[mark]
        test = run.test
        assert test is not None
        queries, rows = torch.arange(len(test)), torch.arange(len(run.data))
        start = time.perf_counter()
        pairs = methods.find("attributors", spec)(run, test)
        scores = pairs.score(pairs.prepare(queries), rows).cpu()
        seconds = time.perf_counter() - start
        score = faithful.agreement(scores, inside, said)
        images, labels = test.batch(queries)
        with torch.no_grad():
            query = int((run.model(images).argmax(1) != labels).nonzero()[0, 0])
        order = scores[query].argsort(descending=True)
        found[name] = {
            "linear datamodeling score": float(score.mean()),
            "interval": faithful.interval(score),
            "seconds": seconds,
            "query": shown(test, queries[query : query + 1])[0],
            "answer": run.data.classes[int(run.model(images[query : query + 1]).argmax())],
            "for": shown(run.data, order[:SHOWN]),
            "against": shown(run.data, order.flip(0)[:SHOWN]),
        }
        print(name, found[name]["interval"], flush=True)
    return found


def accuracy(run: db.Run) -> float:
    assert run.test is not None
    images, labels = run.test.batch(torch.arange(len(run.test)))
    with torch.no_grad():
        return float((run.model(images).argmax(1) == labels).float().mean())


def trained(**recipe: Any) -> dict[str, Any]:
    """A net, without folds, on the images of each set of digits."""
    run, seconds = timed(lambda: digits(folds=0, **recipe))
    assert run.data.wrong is not None
    right = [accuracy(digits(folds=0, seed=seed, **recipe)) for seed in (0, 1, 2)]
    values = methods.find("signals", "aum")(run)
    return metrics_of(values, run.data.wrong) | {
        "test accuracy": float(np.mean(right)),
        "seconds": seconds,
    }


def trainers() -> dict[str, Any]:
    source = digits(folds=0, seed=9).path  # whose net learned from the same labels
    plans = {name: {"trainer": name} for name in methods.names("trainers")}
    plans["linear_probe"]["model"] = f"frozen:{source}"
    return {name: trained(**plan) for name, plan in plans.items()}


def heads() -> dict[str, Any]:
    return {name: trained(head=name) for name in methods.names("heads")}


def noises() -> dict[str, Any]:
    """Which class is given for which, and how well `aum` finds the wrong ones; or pictures."""
    found: dict[str, Any] = {}
    for name in methods.names("noises"):
        if name.startswith("pixel"):
            data = db.load("digits")
            noisy = db.corrupt(data, noise=name, amount=3.0)
            rows = torch.arange(SHOWN)
            found[name] = {"before": shown(data, rows), "after": shown(noisy, rows)}
            continue
        if name == "asym_cifar10":
            if not results.SHARED.exists():
                continue
            data = db.corrupt(truth.cifar("label").take(np.arange(3000)), noise=name, amount=0.2)
        else:
            run = digits(name, 0.2)
            data = run.data
            assert data.wrong is not None
            values = methods.find("signals", "aum")(run)
            found[name] = {"average precision": metrics(values, data.wrong)["average_precision"]}
        assert data.truth is not None
        size = len(data.classes)
        counts = torch.bincount(data.truth * size + data.labels, minlength=size * size)
        found.setdefault(name, {}).update(
            classes=list(data.classes), given=counts.view(size, size).tolist()
        )
    return found


def rounded(value: Any) -> Any:
    """Four digits, so that the file stays small."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leave", default="-", help="leave out the sets whose names end so")
    asked = parser.parse_args()
    shutil.rmtree(HOME, ignore_errors=True)
    sets = {SMALL: digits()}
    if results.SHARED.exists():
        cases = {name: case for name, case in CASES.items() if not name.endswith(asked.leave)}
        sets |= {name: fresh(truth.made(case)) for name, case in cases.items()}
    found = {
        "machine": results.machine(),
        "sets": {name: [len(run.data), truth.wrong_of(run).mean()] for name, run in sets.items()},
        "signals": signals(sets),
        "judges": judges(sets),
        "attributors": (every := attributors()),
        "curvature": {name: every.pop(name) for name in KIND},
        "trainers": trainers(),
        "heads": heads(),
        "noises": noises(),
    }
    PATH.write_text(
        json.dumps(rounded(found), indent=None, separators=(",", ":")), encoding="utf-8"
    )
    names = found["signals"]
    rows = [
        [f"`{name}`", *(f"{each[s]['average precision']:.3f}" if s in each else "" for s in sets),
         f"{each[SMALL]['seconds']:.2f} s" if SMALL in each else ""]
        for name, each in sorted(names.items(), key=lambda item: -max(e["average precision"] for e in item[1].values()))
    ]  # fmt: skip
    results.write(
        "Each method",
        "Average precision of each signal, and the seconds that it took on digits, its run and held-out "
        "predictions being there. Judges, attributors, curvature, trainers, heads and noises: "
        "`methods.json`, and the site's page of each.\n\n"
        + results.table(["signal", *sets, "digits"], rows),
    )


if __name__ == "__main__":
    main()
