"""Copies among images: found where they are, not where images are merely alike; what follows."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import TINY, blobs
from PIL import Image
from sklearn.datasets import load_digits

from datablame import Dataset, InputError, Run, audit, verbs
from datablame.analyses import duplicates
from datablame.analyses.duplicates import Duplicates
from datablame.analyses.evidence import Evidence
from datablame.base import hashing
from datablame.inference import approximate
from datablame.inference.copies import _laid, _moved, copies, likeness
from datablame.inference.folds import parts, rest
from datablame.review.session import Session
from datablame.verbs.reading import Reading, splits
from datablame.verdict import DROP, KEEP

SIDE = 48
RANDOM = np.random.default_rng(5)


def pictures(count, seed=0):
    """Smooth pictures in colour, each unlike all others."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype="uint8"))
        found.append(np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return np.array(found, "uint8").reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2).copy()


def changed(image, kind):
    picture = Image.fromarray(image.transpose(1, 2, 0))
    if kind == "halved":
        picture = picture.resize((SIDE // 2,) * 2).resize((SIDE,) * 2)
    elif kind == "cropped":
        cut = 0.05 * SIDE
        picture = picture.resize((SIDE,) * 2, box=(0, cut, SIDE - cut, SIDE))
    elif kind == "mirrored":
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif kind == "compressed":
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=50)
        picture = Image.open(file)
    elif kind == "darkened":
        picture = picture.point(lambda value: value * 0.7 + 10)
    return np.asarray(picture).transpose(2, 0, 1)


KINDS = ("same", "halved", "cropped", "mirrored", "compressed", "darkened")


def of(images, drawn=True):
    return copies(lambda rows: images[rows.numpy()], len(images), drawn).tolist()


def test_copies_of_each_kind_are_found_and_no_others():
    images = pictures(200)
    made = [changed(images[20 * k + i], kind) for k, kind in enumerate(KINDS) for i in range(20)]
    found = of(np.concatenate([images, np.stack(made)]))
    assert found[:200] == list(range(200))
    for k, kind in enumerate(KINDS):
        assert found[200 + 20 * k :][:20] == list(range(20 * k, 20 * k + 20)), kind


def test_copies_of_copies_are_one_group():
    images = pictures(30)
    twice = changed(changed(images[4], "mirrored"), "cropped")
    found = of(np.stack([*images, twice, changed(twice, "compressed"), images[4]]))
    assert found[30:] == [4, 4, 4]


def test_digits_that_are_merely_alike_are_no_copies():
    images = (load_digits().images * 16).clip(0, 255).astype("uint8")[:, None]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert of(images) == list(range(len(images)))
    mirrored = np.concatenate([images[:300], images[:10, :, :, ::-1]])
    assert of(mirrored)[300:] == list(range(10))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_images_and_blank_ones(count):
    assert of(np.zeros((count, 3, 8, 8), "uint8")) == [0] * count
    assert of(pictures(count)) == list(range(count))
    grey = np.arange(count, dtype="uint8")[:, None, None, None] * np.ones((1, 1, 8, 8), "uint8")
    assert of(grey) == list(range(count)), "one grey alone is no picture that could be a copy"


def test_of_features_only_equal_rows_are_copies():
    rows = np.random.default_rng(0).normal(size=(20, 1, 1, 16)).astype("f2")
    rows[7], rows[9] = rows[2], rows[2] * 1.001
    found = of(rows, drawn=False)
    assert found[7] == 2
    assert found[9] == 9


def test_too_many_images_are_compared_by_an_index_alone(monkeypatch, capsys):
    images = pictures(30)
    images = np.stack([*images, images[3], changed(images[5], "mirrored")])
    monkeypatch.setattr(approximate, "ROWS", 20)
    monkeypatch.setattr(approximate, "there", lambda: False)
    assert of(images)[30:] == [3, 31], "equal pixels cost nothing"
    assert "31 images are too many to compare" in capsys.readouterr().err
    assert "pip install 'datablame[index]'" in approximate.INSTALL
    monkeypatch.setattr(approximate, "ROWS", 31)
    assert of(images)[30:] == [3, 5]


def test_one_image_is_laid_over_another():
    """By the stretch and shift that it was moved by; what is left agrees."""
    one = torch.from_numpy(pictures(4)).float()
    place = torch.tensor([[0.0, 0, 0, 0], [0.06, 0, 0, 0], [0, -0.05, 0.05, 0], [0.04, 0.04, -0.04, 0.06]])  # fmt: skip
    moved, inside = _moved(one, place)
    assert inside[0].all()
    assert not inside[1].all()
    found, agreed = _laid(moved.mean(1, keepdim=True), one.mean(1, keepdim=True), torch.zeros(4, 4), 12)  # fmt: skip
    assert torch.allclose(found, place, atol=0.01)
    assert (agreed > 0.995).all()
    coarse, fine = likeness(moved, one)
    assert (fine > 0.99).all()
    coarse, fine = likeness(one, one.flip(0))
    assert (coarse < 0.88).all()
    assert (fine == 0).all(), "no second look at images that are not alike"


def known(test=3):
    data = blobs(10)
    data = dataclasses.replace(data, labels=torch.tensor([0, 0, 1, 1, 0, 1, 0, 1, 0, 1]))
    first = torch.tensor([0, 0, 2, 0, 4, 2, 6, 7, 8, 9, 7, 2, 12][: 10 + test])
    return Duplicates(data, data.take(range(test)) if test else None, first)


def test_clusters_conflicts_and_leaks():
    found = known()
    assert found.clusters == [[0, 1, 3], [2, 5]]  # the first has labels 0, 0, 1; the second 1, 1
    assert found.conflicts == [[0, 1, 3]]
    assert found.leaks == [(0, 7), (1, 2)]
    assert found.of(3) == [0, 1]
    assert found.of(4) == []
    facts = found.to_json()
    assert (facts["copies"], facts["clusters"], facts["conflicts"], facts["leaks"]) == (3, 2, 1, 2)
    assert facts["sentence"] == (
        "3 of 10 images are copies of others, 1 groups of them with different labels; "
        "2 of 3 test images are copies of training images"
    )
    table = found.columns()
    assert table["cluster"] == [0, 0, 0, 2, 2, 2, 7, 7]
    assert table["name"][5] == found.test.name(1)
    assert len({len(column) for column in table.values()}) == 1
    alone = known(0)
    assert alone.leaks == []
    assert "test" not in alone["sentence"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A judged run on 60 pictures, of which 4 are there twice (one with another label), and a test
    set with two of them.
    """
    images = pictures(60)
    labels = (images[:, 0].mean((1, 2)) > 128).astype("int64")
    copied = np.stack([changed(images[k], "mirrored") for k in range(3)] + [images[3]])
    again = labels[:4].copy()
    again[0] = 1 - again[0]
    data = Dataset.from_arrays(np.concatenate([images, copied]), np.concatenate([labels, again]), ("low", "high"))  # fmt: skip
    test = Dataset.from_arrays(np.concatenate([pictures(8, 1), np.stack([changed(images[k], "compressed") for k in (30, 31)])]),
                               [0, 1] * 5, ("low", "high"), split="test")  # fmt: skip
    out = tmp_path_factory.mktemp("runs")
    return audit(data, test=test, recipe=TINY, out=out, retrain=False).path


@pytest.fixture
def run(whole, tmp_path):
    return Run(shutil.copytree(whole, tmp_path / whole.name))


def test_an_audit_looks_for_copies_and_says_what_it_found(run, capsys):
    found = duplicates.found(run)
    assert found.clusters == [[0, 60], [1, 61], [2, 62], [3, 63]]
    assert found.conflicts == [[0, 60]]
    assert found.leaks == [], "they were left out"
    assert len(run.test) == 8
    assert dict(run.test.aside) == {
        name: f"a copy of {of}"
        for name, of in (("test/000008", "train/000030"), ("test/000009", "train/000031"))
    }
    assert found.equal([3, 63])
    assert not found.equal([1, 61])
    said = Evidence(run).reasons(0, [])
    other = run.data.classes[int(run.data.labels[60])]
    assert f"Copies of it are labelled: {other} 1." in said
    assert Evidence(run).copies(1) == [61]
    page = (run.path / "report.html").read_text()
    assert "4 of 64 images are copies of others, 1 groups of them with different labels" in page
    assert "Copies with different labels" in page
    assert "test/000008" in (run.path / "unreadable.csv").read_text()


def test_what_was_found_is_kept(run, monkeypatch):
    path = run.path / duplicates.FILE
    before = path.read_bytes()
    monkeypatch.setattr(duplicates, "of_sets", lambda *given: pytest.fail("looked for again"))
    assert len(duplicates.duplicates(run).clusters) == 4
    monkeypatch.undo()
    path.write_bytes(before[:-40])
    assert len(duplicates.duplicates(run).clusters) == 4
    assert path.read_bytes() == before
    np.save(path, np.full(72, 99))
    with pytest.raises(InputError, match="images that there are not"):
        duplicates.duplicates(run)
    path.unlink()
    assert duplicates.found(run) is None
    assert Evidence(run).copies(0) == []


def test_copies_are_settled_together(run):
    session = Session(run)
    try:
        asked = session.queue({"queue": "copies"})
        assert [item["row"] for item in asked["items"]] == [0, 60, 1, 61, 2, 62, 3, 63]
        assert [item["cluster"] for item in asked["items"][:3]] == [0, 0, 1]
        one = session.queue({"queue": "copies", "cluster": "61"})
        assert [item["row"] for item in one["items"]] == [1, 61]
        session.settle({"decisions": [{"row": row, "act": "drop", "queue": "copies"} for row in (60, 61)]}, "anna")  # fmt: skip
        assert session.queue({"queue": "copies"})["left"] == 6
        with pytest.raises(InputError, match="no example 99"):
            session.queue({"queue": "copies", "cluster": "99"})
        assert session.state()["can_copy"]
    finally:
        session.decisions.close()


def test_copies_are_looked_for_when_they_are_asked_for(run):
    (run.path / duplicates.FILE).unlink()
    session = Session(run)
    try:
        assert session.item(60)["cluster"] == 60
        assert session.queue({"queue": "copies"})["total"] == 8
        assert session.item(60)["cluster"] == 0
    finally:
        session.decisions.close()
    assert json.loads(json.dumps(duplicates.found(run).to_json()))["copies"] == 4


def test_copies_of_texts_by_their_features(tmp_path):
    features = np.random.default_rng(0).normal(size=(80, 8)).astype("float32")
    features[50] = features[3]
    texts = [f"sentence {k}" for k in range(80)]
    labels = (features[:, 0] > 0).astype("int64")
    labels[50] = 1 - labels[3]
    data = Dataset.from_features(features, labels, texts=texts)
    made = audit(data, out=tmp_path, retrain=False)
    assert duplicates.found(made).conflicts == [[3, 50]]
    page = verbs.report(made).read_text()
    assert "sentence 50" in page
    assert "Copies with different labels" in page


def test_groups_stay_in_one_part_and_classes_in_all():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (900,), generator=generator)
    groups = torch.cat([torch.arange(300).repeat_interleave(2), torch.arange(1000, 1290), torch.full((10,), 5000)])  # fmt: skip
    for shares in ((0.25,) * 4, (0.2, 0.8)):
        part = hashing.parted(labels, groups, shares, "seed", 3)
        for group in groups.unique():
            assert len(part[groups == group].unique()) == 1
        for number, share in enumerate(shares):
            counts = labels[part == number].bincount(minlength=4)
            assert (counts - share * labels.bincount()).abs().max() <= 3
    again = hashing.parted(labels, groups, (0.2, 0.8), "seed", 3)
    assert torch.equal(again, part)
    assert not torch.equal(hashing.parted(labels, groups, (0.2, 0.8), "seed", 4), part)


def test_two_groups_of_a_class_each_are_not_in_one_part():
    labels, groups = torch.tensor([0] * 6 + [1] * 6), torch.tensor([7] * 6 + [9] * 6)
    assert sorted(hashing.parted(labels, groups, (0.5, 0.5)).unique().tolist()) == [0, 1]


def grouped(count=90):
    return dataclasses.replace(blobs(count), groups=torch.arange(count) // 5)


def test_folds_and_held_out_parts_leave_groups_whole(tmp_path):
    data = grouped()
    for fold in parts(data, 3, 0):
        inside = data.groups[fold].unique()
        assert not set(inside.tolist()) & set(data.groups[rest(fold, 90)].tolist())
    train, test = data.holdout(0.2, 1)
    assert not set(train.groups.tolist()) & set(test.groups.tolist())
    assert 10 <= len(test) <= 26
    data.save(tmp_path / "set")
    back = Dataset.restore(tmp_path / "set")
    assert torch.equal(back.groups, data.groups)
    assert back.fingerprint == data.fingerprint != blobs().fingerprint
    one = dataclasses.replace(data, groups=torch.zeros(90, dtype=torch.long))
    with pytest.raises(InputError, match="too few, or too large, to hold out 20%"):
        one.holdout(0.2)
    with pytest.raises(InputError, match="3 folds need as many groups"):
        parts(one, 3, 0)
    alone = dataclasses.replace(data, groups=torch.arange(90))
    assert all(map(torch.equal, parts(alone, 3, 0), parts(blobs(), 3, 0)))


def test_copies_are_on_one_side_of_folds_and_of_a_held_out_part():
    images = pictures(60)
    every = np.concatenate([images, images[:20]])
    data = Dataset.from_arrays(every, np.arange(80) % 2, ("low", "high"))
    train, held = splits(data, Reading())
    pairs = {name: f"train/{int(name[-6:]) + 60:06d}" for name in data.names.to_pylist()[:20]}
    names = set(held.names.to_pylist())
    assert all((name in names) == (other in names) for name, other in pairs.items())
    assert any(name in names for name in pairs)
    for fold in parts(train, 4, 0):
        inside = set(train.take(fold).names.to_pylist())
        both = [pair for pair in pairs.items() if set(pair) <= set(train.names.to_pylist())]
        assert all((name in inside) == (other in inside) for name, other in both)


def test_groups_and_copies_are_joined():
    data = dataclasses.replace(grouped(20), groups=torch.arange(20) // 4)
    first = torch.arange(20)
    first[8] = 0  # the third group has a copy of an image of the first
    found = duplicates._joined(data, first)
    assert len(found.unique()) == 4
    assert len({int(found[k]) for k in (0, 3, 8, 11)}) == 1


def test_leaks_are_left_out_unless_they_are_kept(capsys, tmp_path):
    images = pictures(60)
    data = Dataset.from_arrays(images, np.arange(60) % 2, ("low", "high"))
    leak = np.stack([changed(images[k], "mirrored") for k in (4, 5)])
    test = Dataset.from_arrays(np.concatenate([pictures(8, 1), leak]), [0, 1] * 5, ("low", "high"), split="test")  # fmt: skip
    _, fewer = splits(data, Reading(test=test))
    assert len(fewer) == 8
    assert "2 of 10 test images are copies of training images" in capsys.readouterr().err
    assert len(splits(data, Reading(test=test, keep_leaks=True))[1]) == 10
    assert len(splits(data, Reading(test=test), settle=False)[1]) == 10
    equal = Dataset.from_arrays(np.concatenate([pictures(8, 1), images[4:6]]), [0, 1] * 5, ("low", "high"), split="test")  # fmt: skip
    assert len(splits(data, Reading(test=equal))[1]) == 8
    assert len(splits(data, Reading(test=equal, keep_leaks=True))[1]) == 10
    found = verbs.look(data, test=equal, out=tmp_path, encoder="none")
    assert found.issues["leak"].tolist() == [68, 69], "equal ones are told too"
    whole = Dataset.from_arrays(np.stack([changed(images[k], "mirrored") for k in range(9)]), [0, 1, 0] * 3, ("low", "high"), split="test")  # fmt: skip
    assert len(splits(data, Reading(test=whole))[1]) == 9, "what is alike through and through"
    assert "says little of other images" in capsys.readouterr().err


def test_a_class_of_few_pictures_is_left_as_it_is():
    images = np.concatenate([np.repeat(pictures(3), 8, 0), pictures(40, 2)])
    data = Dataset.from_arrays(images, [0] * 24 + [1] * 40, ("low", "high"))
    assert splits(data, Reading(holdout=0.0))[0].groups is None
    some = Dataset.from_arrays(np.concatenate([pictures(30), pictures(30)[:2]]), [0, 1] * 16, ("low", "high"))  # fmt: skip
    found = splits(some, Reading(holdout=0.0))[0]
    assert found.groups.tolist() == [*range(30), 0, 1]


def test_cleaning_leaves_out_copies_and_leaks(run, tmp_path):
    verdict = verbs.judge(run, np.arange(64.0)[::-1].copy(), judge="top,share=0.01")
    act = torch.full((64,), KEEP)
    act[1] = DROP  # then its copy, 61, stays
    dataclasses.replace(verdict, act=act, proposed=torch.full((64,), -1)).save(run.path / "verdict.csv", run.data)  # fmt: skip
    cleaned = verbs.clean(run, out=tmp_path / "cleaned.parquet", drop="duplicates")
    left = set(cleaned.names.to_pylist())
    assert {f"train/{k:06d}" for k in range(64)} - left == {
        f"train/{k:06d}" for k in (1, 60, 62, 63)
    }
    table = (tmp_path / "cleaned-changes.csv").read_text()
    assert '"train/000062","' in table
    assert "a copy of train/000002" in table
    for words, message in (
        ({"drop": "blurred"}, "no kind of image to drop 'blurred'"),
        ({"drop": "leaks"}, "leaks are images of the test split: write it too"),
    ):
        with pytest.raises(InputError, match=message):
            verbs.clean(run, out=tmp_path / "again.parquet", **words)
    assert not (tmp_path / "again.parquet").exists()


def test_of_copies_the_label_of_most_stays():
    labels = torch.tensor([0, 1, 1, 1, 0, 2])
    data = Dataset.from_arrays(pictures(6), labels.tolist(), ("a", "b", "c"))
    known = Duplicates(data, None, torch.tensor([0, 0, 0, 3, 3, 5]))
    nobody = torch.zeros(6, dtype=torch.bool)
    assert set(known.spare(labels, nobody)) == {0, 2, 4}
    gone = nobody.clone()
    gone[1] = gone[3] = True
    assert set(known.spare(labels, gone)) == {2}, "of labels once each, the first image's"


def test_copies_that_are_labelled_otherwise_are_a_signal(run, tmp_path):
    values = verbs.score(run, "copies").values
    assert values[[0, 60]].tolist() == [1, 1]
    assert values.sum() == 2, "copies of one label say nothing"
    images = np.concatenate([pictures(30), np.repeat(pictures(30)[:1], 3, 0)])
    data = Dataset.from_arrays(images, [0, 1] * 15 + [0, 0, 1], ("low", "high"))
    three = verbs.train(data, recipe=TINY.but(folds=0, epochs=1), out=tmp_path, test=Dataset.from_arrays(pictures(8, 1), [0, 1] * 4, ("low", "high")))  # fmt: skip
    found = verbs.score(three, "copies").values
    assert found[[0, 30, 31, 32]].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_outliers_are_a_signal():
    features = np.eye(8)[np.arange(200) % 2].astype("float32") + 0.01 * RANDOM.normal(size=(200, 8))
    features[17] = -1
    data = Dataset.from_features(features.astype("float32"), np.arange(200) % 2)
    made = Run.from_predictions(data.labels, np.full((200, 2), 0.5), features=features)
    values = verbs.score(made, "outlier").values
    assert int(values.argmax()) == 17
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    by_hand = 1 - np.sort(cosine, 1)[:, -10:].mean(1)
    assert np.allclose(values.numpy(), by_hand, atol=2e-3)
    with pytest.raises(InputError, match="k must be"):
        verbs.score(made, "outlier,k=0")
