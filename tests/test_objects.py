"""Anything that has labels is a source; predictions of one's own are one call."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch
from conftest import TINY, blobs
from PIL import Image
from pyarrow import parquet
from torch.utils.data import DataLoader, TensorDataset

import datablame as db
from datablame import InputError, verbs
from datablame.base.decode import View
from datablame.cli import main
from datablame.exchange.objects import dataset_of
from datablame.verdict import DROP, FIX

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 10, 10), dtype="uint8")
LABELS = np.arange(12) % 3
WORDS = np.array(["cat", "ant", "dog"])[LABELS]


class Pairs:
    """A map-style dataset of Pillow's pictures."""

    classes = ("a", "b", "c")

    def __init__(self, example=None):
        self.example = example

    def __len__(self):
        return 12

    def __getitem__(self, row):
        return self.example or (Image.fromarray(PIXELS[row].transpose(1, 2, 0)), int(LABELS[row]))


def _image_folder(path):
    from torchvision.datasets import ImageFolder

    for row in range(12):
        (path / str(WORDS[row])).mkdir(exist_ok=True)
        Image.fromarray(PIXELS[row].transpose(1, 2, 0)).save(path / WORDS[row] / f"{row}.png")
    return ImageFolder(path)


def _frame(path, **more):
    files = []
    for row in range(12):
        files.append(str(path / f"{row}.png"))
        Image.fromarray(PIXELS[row].transpose(1, 2, 0)).save(files[-1])
    return pandas.DataFrame({"file": files, "label": WORDS} | more)


def _hugging_face():
    import datasets

    kind = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    )
    pictures = [Image.fromarray(each.transpose(1, 2, 0)) for each in PIXELS]
    return datasets.Dataset.from_dict({"image": pictures, "label": LABELS.tolist()}, features=kind)


@pytest.mark.parametrize(
    ("make", "classes"),
    [
        (lambda _: (PIXELS, LABELS), "012"),
        (lambda _: (PIXELS.transpose(0, 2, 3, 1), LABELS.tolist()), "012"),
        (lambda _: (PIXELS / 255, LABELS), "012"),
        (lambda _: (torch.from_numpy(PIXELS).float() / 255, torch.from_numpy(LABELS)), "012"),
        (lambda _: (PIXELS.astype("float64"), LABELS), "012"),
        (lambda _: ([*PIXELS], LABELS), "012"),
        (lambda _: (PIXELS, WORDS), ["ant", "cat", "dog"]),
        (lambda _: (PIXELS, WORDS.tolist()), ["ant", "cat", "dog"]),
        (lambda _: Pairs(), "abc"),
        (lambda _: TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS)), "012"),
        (lambda _: DataLoader(Pairs(), batch_size=4), "abc"),
        (_image_folder, ["ant", "cat", "dog"]),
        (_frame, ["ant", "cat", "dog"]),
        (lambda _: _hugging_face(), "abc"),
    ],
)
def test_whatever_has_labels_is_read_to_the_same_pixels(tmp_path, make, classes):
    data = dataset_of(make(tmp_path))
    assert data.classes == tuple(classes)
    known = {PIXELS[row].tobytes(): row for row in range(12)}
    rows = [known[data.images.one(int(row)).tobytes()] for row in data.rows]
    assert sorted(rows) == list(range(12))
    names = WORDS if "ant" in classes else np.array([*classes])[LABELS]
    assert [data.classes[k] for k in data.labels] == names[rows].tolist()


def test_grey_pictures_and_pictures_of_several_sizes():
    assert dataset_of((PIXELS[:, 0], LABELS)).shape == (1, 10, 10)
    mixed = [Image.new("RGB", (30 + row, 40), (row, 0, 0)) for row in range(11)]
    data = dataset_of(([*mixed, Image.new("L", (99, 50))], LABELS))
    assert data.shape == (3, 64, 64)
    assert data.images.one(3)[0, 5, 5] == 3


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "a source is a path, a name, a Dataset, .images, labels., a torchvision ImageFolder"),
        (PIXELS, "an array of images needs its labels"),
        ((PIXELS, LABELS[:5]), "12 images, but 5 labels"),
        ((PIXELS / 127.5 - 1, LABELS), "without a transform that normalises them"),
        ((PIXELS.astype("int32") * 9, LABELS), "bytes go to 255"),
        ((PIXELS, [*WORDS[:-1], None]), "some labels are missing"),
        (Pairs(example=3), "must be .picture, label.; example 0 is int"),
        (Pairs(example=(np.zeros((2, 2, 2, 2)), 1)), r"a picture is \[C,H,W\]"),
        (pandas.DataFrame({"x": ["nowhere.png"], "label": [1]}), "a frame needs a column of paths"),
        (pandas.DataFrame({"file": []}), "this frame has no rows"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(source, words, tmp_path):
    with pytest.raises(InputError, match=words):
        db.audit(source, out=tmp_path)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_frame_with_class_numbers(tmp_path, png, kind):
    library = pytest.importorskip(kind)
    rows = {"path": [], "label": [0, 1, 0, 1]}
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(png((60 * k, 9, 9)))
        rows["path"].append(str(tmp_path / f"{k}.png"))
    data = dataset_of(library.DataFrame(rows))
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.classes == ("0", "1")
    for label, message in (([0, 1, None, 1], "are missing"), ([0.0, 1, 0.5, 1], "whole numbers")):
        with pytest.raises(InputError, match=message):
            dataset_of(library.DataFrame(rows | {"label": label}))


def test_a_frame_with_several_columns_says_what_it_needs(tmp_path):
    frame = _frame(tmp_path, split=["train"] * 12)
    assert len(dataset_of(frame)) == 12
    with pytest.raises(InputError, match="one called label"):
        dataset_of(frame.rename(columns={"label": "what"}))


def test_an_image_folder_keeps_its_files(tmp_path):
    (tmp_path / "photos").mkdir()
    run = db.train(
        _image_folder(tmp_path / "photos"),
        recipe=TINY.but(folds=0, epochs=1),
        out=tmp_path / "runs",
    )
    verbs.judge(run)
    db.clean(run, out=tmp_path / "cleaned", lose_classes=True)
    for path in (tmp_path / "cleaned").rglob("*.png"):
        inside = path.relative_to(tmp_path / "cleaned")
        assert any(
            path.read_bytes() == each.read_bytes()
            for each in (tmp_path / "photos").rglob(inside.name)
        )


def _predicted(n=90):
    data = blobs(n, 0, (7, 20))
    p = np.full((n, 3), 0.05)
    p[np.arange(n), data.truth.numpy()] = 0.9
    return data, p


def test_predictions_are_judged_by_one_call(tmp_path):
    data, p = _predicted()
    run = db.find(data.labels.numpy(), p)
    assert set(torch.isin(run.verdict.act, torch.tensor([DROP, FIX])).nonzero()[:, 0].tolist()) == {
        7,
        20,
    }
    issues = run.issues
    assert isinstance(issues, pandas.DataFrame)
    assert len(issues) == 90
    assert run.suspects["rank"].tolist() == [1, 2]
    assert set(run.suspects["act"]) <= {"fix", "drop"}
    words = np.array(["x", "b", "m"])[data.labels.numpy()]
    order = [1, 2, 0]  # columns in sorted order of the words: b, m, x
    sorted_out = db.find(words, p[:, order]).verdict
    assert sorted_out.act.tolist() == run.verdict.act.tolist()
    named = db.find(words, p, classes=["x", "b", "m"])
    assert named.verdict.act.tolist() == run.verdict.act.tolist()
    with pytest.raises(InputError, match="no class 'x'"):
        db.find(words, p, classes=["a", "b", "m"])
    with pytest.raises(InputError, match="pred_probs have 3 columns, but there are 2 classes"):
        db.find(words[data.labels.numpy() != 0], p[data.labels.numpy() != 0])


def test_predictions_in_another_order_are_refused():
    generator = np.random.default_rng(0)
    for rows, width in ((300, 2), (300, 10)):
        truth = generator.integers(0, width, rows)
        p = np.full((rows, width), 0.02)
        p[np.arange(rows), truth] = 1.02 - 0.02 * width
        given = np.where(generator.random(rows) < 0.15, (truth + 1) % width, truth)
        db.Run.from_predictions(given, p)
        with pytest.raises(InputError, match="put otherwise; they must be in that of the cl"):
            db.find(given, np.roll(p, 1, axis=1))
        with pytest.raises(InputError, match=rf"for 0 of {rows}"):
            db.find((truth + 1) % width, p)  # every label is wrong
        db.Run.from_predictions(generator.permutation(given), p)  # knows nothing, by chance


def test_issues_without_pandas_are_an_arrow_table(monkeypatch):
    data, p = _predicted()
    run = db.find(data.labels.numpy(), p)

    table = parquet.read_table(run.path / "examples.parquet")
    monkeypatch.setattr("datablame.run.read_table", lambda _: _NoPandas(table))
    assert isinstance(run.issues, _NoPandas)
    with pytest.raises(InputError, match="is not judged yet"):
        db.Run.from_predictions(data.labels.numpy(), p).issues  # noqa: B018 - asked for


class _NoPandas:
    def __init__(self, table):
        self.table = table

    def to_pandas(self):
        raise ModuleNotFoundError("no pandas")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_predictions_in_a_file_are_audited(tmp_path, capsys, kind):
    data, p = _predicted()
    path = tmp_path / f"predictions.{kind}"
    if kind == "npz":
        np.savez(path, labels=data.labels.numpy(), pred_probs=p)
    else:
        parquet.write_table(
            pa.table({"label": data.labels.numpy(), "pred_probs": p.tolist()}), path
        )
    assert main(["audit", str(path), "--out", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "suspects   2 of 90" in out
    assert "90 examples in 3 classes" in out
    assert "model      your own; held-out" in out
    assert "retrain" not in out.partition("next")[2], "there is nothing to train"
    assert len(list((tmp_path / "runs").glob("*/verdict.csv"))) == 1
    assert Path(re.search(r"report +(.+)", out)[1]).is_file()


def test_predictions_are_judged_as_asked_and_options_of_a_training_are_refused(tmp_path, capsys):
    data, p = _predicted()
    path = tmp_path / "predictions.npz"
    np.savez(path, labels=data.labels.numpy(), pred_probs=p)
    out = ["--out", str(tmp_path / "runs")]
    assert (
        main(["audit", str(path), "--judge", "top,share=0.1", "--signals", "confident", *out]) == 0
    )
    assert "7 hard ones to look at" in capsys.readouterr().out, "nine, of which two are wrong"
    (run,) = (tmp_path / "runs").iterdir()
    assert (db.Run(run).verdict.by, db.Run(run).verdict.scores) == ("top,share=0.1", "confident")
    assert main(["audit", str(path), "--at", "f1", *out]) == 0
    assert "by posterior,f1=yes" in capsys.readouterr().out
    for extra in (["--limit", "9"], ["--epochs", "3"], ["--dry-run"], ["--noise", "pair"]):
        assert main(["audit", str(path), *extra, "--out", str(tmp_path / "other")]) == 2
        told = capsys.readouterr().err
        assert "predictions, which are judged without training: leave out" in told
        assert told.rstrip().endswith(extra[0])
    assert not (tmp_path / "other").exists()


def test_what_was_trained_elsewhere_is_retrained_by_a_recipe_alone(tmp_path, capsys):
    data, p = _predicted()
    run = db.Run.from_predictions(data.labels, p, out=tmp_path)
    verbs.judge(run)
    assert "report     none of this verdict yet: datablame report" in run.card
    with pytest.raises(InputError, match=r"trained elsewhere: .* of your own$"):
        verbs.retrain(run, recipe=TINY)
    images = data.pixels.array[data.rows.numpy()]
    shown = db.Run.from_predictions(data.labels, p, images=images, out=tmp_path / "shown")
    verbs.judge(shown)
    with pytest.raises(InputError, match="of your own, or name a --recipe to train by"):
        verbs.retrain(shown)


def test_a_file_without_predictions_says_what_they_are(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", labels=np.arange(3))
    assert main(["audit", str(tmp_path / "x.npz")]) == 2
    assert "predictions are the arrays labels [N] and pred_probs [N,K]" in capsys.readouterr().err
    parquet.write_table(pa.table({"pred_probs": [[0.5, 0.5]] * 4}), tmp_path / "y.parquet")
    assert main(["audit", str(tmp_path / "y.parquet")]) == 2
    assert "no column label" in capsys.readouterr().err


def test_a_folder_of_several_runs_means_the_one_that_was_judged(tmp_path, capsys):
    data = dataclasses.replace(blobs(60), truth=None)
    first = verbs.train(data, recipe=TINY.but(folds=0, epochs=1), out=tmp_path)
    verbs.train(data, recipe=TINY.but(folds=0, epochs=2), out=tmp_path)
    with pytest.raises(InputError, match="holds 2 runs; name one of them"):
        db.Run(tmp_path)
    verbs.judge(first)
    assert db.Run(tmp_path).path == first.path
    assert "holds 2 runs; the judged one is" in capsys.readouterr().err


def test_an_encoder_sees_large_pictures_of_a_list_at_full_size(tmp_path):
    ramp = np.linspace(0, 255, 150).astype("uint8")
    large = [np.stack([np.tile(ramp, (120, 1)) // (row + 1)] * 3) for row in range(9)]
    data = dataset_of(([Image.fromarray(each.transpose(1, 2, 0)) for each in large], LABELS[:9]))
    assert data.shape == (3, 64, 64)
    seen = data.looked_at(View(120))  # squashed, no more
    assert seen.shape == (3, 120, 120)
    whole = data.looked_at(View(120, 120)).batch(torch.tensor([4, 0]))[0]
    assert (whole[0].numpy() == large[4][:, :, 15:135]).all()
    assert (whole[1].numpy() == large[0][:, :, 15:135]).all()
    run = verbs.train(
        data,
        model="frozen:resnet18,weights=none,size=32",
        trainer="linear_probe",
        out=tmp_path / "runs",
        holdout=0,
        folds=3,
    )
    assert run.data.shape == (3, 32, 32)
    again = db.Run(run.path)
    assert verbs.score(again, "knn").values.shape == (9,)  # by the features that are kept
    for kept, where, size in ((run, "whole", (150, 120)), (again, "small", (64, 64))):
        verbs.export(kept, tmp_path / where)
        with Image.open(tmp_path / where / "0/000000.png") as written:
            assert written.size == size
