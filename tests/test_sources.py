"""Sources: order, labels, splits, and bad input named."""

import csv
import dataclasses
import io
import os
import shutil
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from conftest import SHARED, TINY, blobs
from PIL import Image

from datablame import Dataset, InputError, Reading, load, verbs
from datablame.base import decode
from datablame.exchange.sets import dump
from datablame.methods.sources.preset import presets
from datablame.verbs.reading import splits
from datablame.verdict import DROP, FIX


@pytest.fixture
def photos(tmp_path, png):
    """Two class folders of pictures of different sizes."""
    for name, colour in (("cat", (200, 30, 30)), ("dog", (30, 30, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(png(colour, (200 + i, 120)))
    return tmp_path / "photos"


def csv_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def hub_file(path, png, rows=9, metadata=True, blue=0):
    """A Parquet file in the hub's layout."""
    labels = np.arange(rows) % 3
    images = [
        {"bytes": png((80 * int(k), 0, blue)), "path": f"{i}.png"} for i, k in enumerate(labels)
    ]
    table = pa.table(
        {"img": images, "noisy": (labels + (np.arange(rows) == 4)) % 3, "label": labels}
    )
    if metadata:
        import json

        kind = {"_type": "ClassLabel", "names": ["red", "green", "blue"]}
        info = {"info": {"features": {"img": {"_type": "Image"}, "noisy": kind, "label": kind}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    parquet.write_table(table, path)
    return path


def test_digits_are_all_there():
    data = load("digits")
    assert (len(data), data.shape, len(data.classes)) == (1797, (1, 8, 8), 10)
    with pytest.raises(InputError, match="digits has no test split"):
        load("digits", split="test")
    assert len(load("digits", limit=100)) == 100


def test_folder(photos):
    data = load(photos)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0] * 6 + [1] * 6
    assert data.name(7) == "dog/1.png"
    assert data.shape == (3, 64, 64)
    pixels, labels = data.batch(torch.tensor([0, 11]))
    assert pixels.dtype == torch.uint8
    assert labels.tolist() == [0, 1]
    assert pixels[0, 0].float().mean() > 180 > 60 > pixels[1, 0].float().mean()
    assert load(photos, size=32).shape == (3, 32, 32)
    assert load(photos, limit=4).labels.tolist() == [0, 0, 1, 1]


def test_folder_is_decoded_once(photos, monkeypatch):
    first = load(photos)
    monkeypatch.setattr("datablame.base.decode.decoded", lambda *_: pytest.fail("decoded again"))
    assert load(photos).fingerprint == first.fingerprint


def test_folder_with_splits(photos, tmp_path):
    root = tmp_path / "set"
    for split in ("train", "val"):
        shutil.copytree(photos, root / split)
    assert len(load(root)) == 12
    assert load(root, split="test").name(0) == "val/cat/0.png"


def test_unreadable_images_are_left_out_and_named(photos, capsys):
    (photos / "cat" / "broken.jpg").write_bytes(b"not a picture")
    data = load(photos)
    assert len(data) == 12
    assert "left out 1 images that cannot be read: cat/broken.jpg" in capsys.readouterr().err


def test_a_turned_photo_is_put_upright(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    picture = Image.new("RGB", (120, 120))
    picture.paste((255, 255, 255), (0, 0, 60, 120))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned right: white on top
    picture.save(tmp_path / "a" / "1.jpg", exif=exif)
    picture.save(tmp_path / "b" / "1.jpg")
    pixels, _ = load(tmp_path, size=16).batch(torch.tensor([0, 1]))
    assert pixels[0, 0, 2].float().mean() > 200 > 50 > pixels[0, 0, 13].float().mean()
    assert pixels[1, 0, :, 2].float().mean() > 200


def test_parquet_columns(tmp_path, png):
    path = hub_file(tmp_path / "train.parquet", png)
    data = load(path, label="noisy", truth="label")
    assert data.classes == ("red", "green", "blue")
    assert (data.labels != data.truth).nonzero()[:, 0].tolist() == [4]
    assert load(path, limit=5).labels.tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(
        InputError, match=r"no column for the label in .*'labl'; did you mean label"
    ):
        load(path, label="labl")
    with pytest.raises(InputError, match="no column for the truth"):
        load(path, truth="really")


def test_parquet_without_metadata_and_with_words(tmp_path, png):
    path = hub_file(tmp_path / "plain.parquet", png, metadata=False)
    assert load(path).classes == ("0", "1", "2")
    table = (
        parquet.read_table(path)
        .select(["img"])
        .append_column("label", pa.array(["owl", "ant", "owl"] * 3))
    )
    parquet.write_table(table, tmp_path / "words.parquet")
    data = load(tmp_path / "words.parquet")
    assert data.classes == ("ant", "owl")
    assert data.labels.tolist()[:3] == [1, 0, 1]


def test_a_folder_of_parquet_has_splits(tmp_path, png):
    hub_file(tmp_path / "train-00000-of-00001.parquet", png)
    hub_file(tmp_path / "test-00000-of-00001.parquet", png, 6)
    assert (len(load(tmp_path)), len(load(tmp_path, split="test"))) == (9, 6)


def test_test_images_that_are_training_images_are_left_out(tmp_path, png, capsys):
    train = hub_file(tmp_path / "a.parquet", png)
    table = parquet.read_table(hub_file(tmp_path / "b.parquet", png, blue=99))
    mixed = pa.concat_tables([table, parquet.read_table(train).slice(0, 2)])
    parquet.write_table(mixed, tmp_path / "b.parquet")
    data, test = splits(str(train), Reading(test=str(tmp_path / "b.parquet"), label="label"))
    assert (len(data), len(test)) == (9, 9)
    assert "2 of 11 test images are training images too" in capsys.readouterr().err
    with pytest.raises(InputError, match="every image of the test set is in the training set"):
        splits(str(train), Reading(test=str(train), label="label"))


def test_a_test_split_is_read_in_part(tmp_path, png):
    hub_file(tmp_path / "train-00000-of-00001.parquet", png)
    hub_file(tmp_path / "test-00000-of-00001.parquet", png, 6, blue=99)
    data, test = splits(tmp_path, Reading(label="label", test_limit=4))
    assert (len(data), len(test)) == (9, 4)
    whole, every = splits(tmp_path, Reading(label="label"))
    assert (whole.fingerprint, len(every)) == (data.fingerprint, 6)
    assert test.labels.equal(every.labels[:4])
    with pytest.raises(InputError, match=r"--test-limit is of a test split, and .* has none"):
        splits("digits", Reading(test_limit=5))


def test_a_test_file_without_the_noisy_column_is_read_by_the_truth(tmp_path, png):
    train = hub_file(tmp_path / "a.parquet", png)
    other = parquet.read_table(hub_file(tmp_path / "b.parquet", png, blue=99))
    parquet.write_table(other.drop_columns(["noisy"]), tmp_path / "b.parquet")
    data, test = splits(
        str(train), Reading(test=str(tmp_path / "b.parquet"), label="noisy", truth="label")
    )
    assert (len(data), len(test)) == (9, 9)
    assert test.labels.tolist() == data.truth.tolist()


def test_missing_labels_are_named(tmp_path, png):
    path = hub_file(tmp_path / "train.parquet", png, metadata=False)
    table = parquet.read_table(path)
    labels = pa.array([0, None, *([1] * 7)])
    parquet.write_table(table.set_column(2, "label", labels), path)
    with pytest.raises(InputError, match="label -1 of train/000001 is outside"):
        load(path)


def test_corrupt_writes_what_load_reads(tmp_path):
    noisy = verbs.corrupt(
        "digits", noise="uniform", amount=0.25, seed=3, out=tmp_path / "noisy.parquet"
    )
    verbs.corrupt("digits", noise="uniform", amount=0.25, seed=3, out=tmp_path / "noisy.parquet")
    mine = tmp_path / "mine.parquet"
    parquet.write_table(
        parquet.read_table(tmp_path / "noisy.parquet").replace_schema_metadata(None), mine
    )
    before = mine.read_bytes()
    with pytest.raises(InputError, match="was not written by datablame"):
        verbs.corrupt("digits", out=mine)
    assert mine.read_bytes() == before
    back = load(tmp_path / "noisy.parquet", truth="truth")
    assert torch.equal(back.labels, noisy.labels)
    assert torch.equal(back.truth, noisy.truth)
    index = torch.arange(50)
    assert torch.equal(back.batch(index)[0], noisy.batch(index)[0])


def test_a_set_is_written_as_class_folders(photos, tmp_path, png):
    noisy = verbs.corrupt(photos, noise="uniform", amount=0.5, out=tmp_path / "noisy")
    table = csv_of(tmp_path / "noisy" / "labels.csv")
    assert [row["given"] for row in table] == [noisy.classes[k] for k in noisy.labels]
    assert [row["truth"] for row in table] == [noisy.classes[k] for k in noisy.truth]
    for row in table:
        assert (tmp_path / "noisy" / row["file"]).read_bytes() == (
            photos / row["name"]
        ).read_bytes()
    again = verbs.load(str(tmp_path / "noisy"))
    assert sorted(again.labels.tolist()) == sorted(noisy.labels.tolist())
    with pytest.raises(InputError, match="is there and not empty"):
        verbs.corrupt(photos, out=tmp_path / "noisy")
    with pytest.raises(InputError, match=r"name a \.parquet file, or a folder"):
        verbs.corrupt(photos, out=tmp_path / "noisy.zip")
    assert not list(tmp_path.glob(".*"))


def test_two_classes_of_one_name_have_folders_of_their_own(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype="uint8")
    data = Dataset.from_arrays(pixels, np.arange(6) % 3, ("Crane", "crane", "a/b"), source="birds")
    home = dump(data, tmp_path / "birds")
    assert sorted(child.name for child in home.iterdir()) == [
        "Crane-0",
        "a_b",
        "crane-1",
        "labels.csv",
    ]
    back = verbs.load(str(home))
    assert back.classes == ("Crane-0", "a_b", "crane-1")
    for row, line in enumerate(csv_of(home / "labels.csv")):
        where = [back.name(k) for k in range(6)].index(line["file"])
        assert np.array_equal(back.images.array[where], pixels[row])


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nowhere/at/all", "there is no path"),
        ("cifar1", "did you mean cifar10"),
        ("cub200", "DATABLAME_DATA"),
    ],
)
def test_what_is_not_there_is_named(where, words):
    with pytest.raises(InputError, match=words):
        load(where)


def test_one_class_and_no_class(photos, tmp_path):
    shutil.rmtree(photos / "dog")
    with pytest.raises(InputError, match=r"one class only \(cat\)"):
        load(photos)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in class folders"):
        load(tmp_path / "empty")


def test_presets_say_all_that_is_needed(tmp_path, png, monkeypatch):
    sets = presets()
    assert len(sets) == 11
    for facts in sets.values():
        assert {"title", "size", "mean", "std"} <= set(facts)
        assert "hub" in facts or "place" in facts
    monkeypatch.setenv("DATABLAME_DATA", str(tmp_path))
    (tmp_path / "cifar10n").mkdir()
    path = hub_file(tmp_path / "cifar10n" / "train.parquet", png)
    parquet.write_table(
        parquet.read_table(path).rename_columns(["img", "worse_label", "label"]), path
    )
    data = load("cifar10n")
    assert data.truth is not None
    assert data.mean == tuple(sets["cifar10n"]["mean"])
    for name in ("a", "b"):
        (tmp_path / "caltech256" / name).mkdir(parents=True)
        (tmp_path / "caltech256" / name / "1.png").write_bytes(png())
    assert load("caltech256", size=16).shape == (3, 16, 16)


def test_a_preset_says_what_of_it_is_missing(tmp_path, png, monkeypatch, capsys):
    monkeypatch.setenv("DATABLAME_DATA", str(tmp_path))
    (tmp_path / "cifar10n").mkdir()
    path = hub_file(tmp_path / "cifar10n" / "train.parquet", png)
    parquet.write_table(parquet.read_table(path).rename_columns(["img", "noisy", "class"]), path)
    with pytest.raises(
        InputError, match=r"no column for the .* 'worse_label'.* CIFAR-10N.* Write train.parquet"
    ):
        load("cifar10n")
    path = tmp_path / "cifar10n" / "train.parquet"
    parquet.write_table(
        parquet.read_table(path).rename_columns(["img", "worse_label", "label"]), path
    )
    splits("cifar10n", Reading())
    assert "cifar10n has no test split. CIFAR-10N" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"cannot be fetched; .* Put it under"):
        load("caltech256")


def test_a_preset_with_columns_needs_parquet(tmp_path, png, monkeypatch):
    monkeypatch.setenv("DATABLAME_DATA", str(tmp_path))
    for name in ("a", "b"):
        for preset in ("cifar10n", "caltech256"):
            (tmp_path / preset / name).mkdir(parents=True)
            (tmp_path / preset / name / "1.png").write_bytes(png())
    with pytest.raises(InputError, match="no Parquet, and so no columns label, truth"):
        load("cifar10n")
    with pytest.raises(InputError, match="no Parquet, and so no columns nonsense"):
        load("caltech256", label="nonsense")


def test_a_preset_is_read_from_published_files_and_from_an_archive(tmp_path, png, monkeypatch):
    monkeypatch.setenv("DATABLAME_DATA", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    rows = np.zeros((20, 3073), "uint8")
    rows[:, 0] = np.arange(20) % 10
    for k in range(1, 6):
        rows.tofile(tmp_path / "cifar10" / f"data_batch_{k}.bin")
    assert len(load("cifar10")) == 100
    (tmp_path / "caltech256").mkdir()
    with zipfile.ZipFile(tmp_path / "caltech256" / "256.zip", "w") as packed:
        for name in ("a", "b"):
            packed.writestr(f"{name}/1.png", png())
    assert load("caltech256", size=16).classes == ("a", "b")


def test_a_set_of_the_hub_is_read_by_name(tmp_path, png, monkeypatch):
    import datasets

    rows = datasets.load_dataset(
        "parquet",
        data_files=str(hub_file(tmp_path / "x.parquet", png)),
        split="train",
        cache_dir=str(tmp_path / "hf"),
    )
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    data = load("hub:someone/pictures", label="noisy", truth="label")
    assert data.classes == ("red", "green", "blue")
    assert load("hub:someone/pictures", split="test", label="noisy").name(0) == "test/000000"
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train"])
    with pytest.raises(InputError, match="someone/pictures has no test split"):
        load("hub:someone/pictures", split="test")


def test_a_set_that_cannot_be_fetched_is_said_in_one_sentence(monkeypatch):
    import datasets
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for library in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(library, "HF_HUB_OFFLINE", False)  # imported before it was set
    with pytest.raises(InputError, match=r"was not fetched before, and --offline .* forbids"):
        load("hub:nobody/nothing-of-this-name")


def test_nothing_is_fetched_by_guess(tmp_path, monkeypatch):
    """A mistyped path names a customer's folders: it is not sent to the hub."""
    import datasets

    monkeypatch.setattr(
        datasets, "get_dataset_split_names", lambda *_: pytest.fail("the hub was asked")
    )
    with pytest.raises(InputError, match=r"no path photos/catz, .* is named hub:photos/catz"):
        load("photos/catz")


def test_arrays_are_checked():
    with pytest.raises(InputError, match="uint8"):
        Dataset.from_arrays(np.zeros((4, 3, 8, 8)), [0, 1, 0, 1])
    with pytest.raises(InputError, match="4 images, but 3 labels"):
        Dataset.from_arrays(np.zeros((4, 3, 8, 8), "uint8"), [0, 1, 0])
    assert Dataset.from_arrays(None, [0, 1, 2], ["crane", "cat", "crane"]).classes == (
        "crane (0)",
        "cat",
        "crane (2)",
    )


def test_holdout_is_stratified_and_stable():
    data = blobs(90)
    train, test = data.holdout(0.2, 0)
    assert test.labels.bincount().tolist() in ([6, 6, 6], [6, 7, 6], [6, 6, 7], [7, 6, 6])
    assert not set(train.names.to_pylist()) & set(test.names.to_pylist())
    assert torch.equal(test.labels, data.holdout(0.2, 0)[1].labels)


def test_a_set_survives_being_saved(tmp_path):
    data = dataclasses.replace(blobs(), flipped=3).take(torch.tensor([5, 7, 9, 2]))
    data.save(tmp_path / "train")
    back = Dataset.restore(tmp_path / "train")
    assert back.fingerprint == data.fingerprint
    assert back.names.to_pylist() == data.names.to_pylist()
    assert back.flipped == 3
    assert torch.equal(back.batch(torch.arange(4))[0], data.batch(torch.arange(4))[0])


@pytest.mark.skipif(not SHARED.exists(), reason=f"CIFAR-10 with human labels is not at {SHARED}")
def test_real_human_noise():
    data = load(SHARED / "train.parquet", label="worse_label", truth="label", limit=2000)
    assert data.shape == (3, 32, 32)
    assert data.classes[0] == "airplane"
    assert 0.35 < float((data.labels != data.truth).float().mean()) < 0.45


def test_decoding_keeps_pixels(tmp_path):
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 255, (6, 20, 20, 3), dtype="uint8")
    for i, array in enumerate(arrays):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG")
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(file.getvalue())
    pixels, _ = load(tmp_path).batch(torch.arange(6))
    order = [0, 2, 4, 1, 3, 5]
    assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), arrays[order])


def parquet_of(path, png, label, truth, names=None, colour=(200, 30, 30)):
    import json

    table = pa.table(
        {
            "image": [{"bytes": png(colour), "path": None}] * len(label),
            "label": label,
            "truth": truth,
        }
    )
    features = {
        name: {"_type": "ClassLabel", "names": list(classes)}
        for name, classes in (names or {}).items()
    }
    parquet.write_table(
        table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        ),
        path,
    )
    return path


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 5}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_fast_decoder_gives_what_pillow_gives(mode, how, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype="uint8")
    image = Image.fromarray(pixels).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = (decode.encoded(image, "jpeg", **how, **more) for more in ({}, {"exif": exif}))
    every = [plain, turned, plain[:-400], plain[:-2], plain + b"junk", plain[:400] + plain[500:]]
    sizes = [(1, 100, 75), (3, 100, 75), (3, 64, 64)]  # its own, where it is fast, and another
    by = {}
    for name, fast in (("fast", decode._jpeg), ("Pillow", lambda: None)):
        monkeypatch.setattr(decode, "_jpeg", fast)
        by[name] = [decode.decode(data, *size) for data in every for size in sizes]
    for one, other in zip(by["fast"], by["Pillow"], strict=True):
        assert np.array_equal(one, other) if other is not None else one is None


def test_truth_is_matched_by_class_name(tmp_path, png):
    path = parquet_of(
        tmp_path / "a.parquet",
        png,
        [0, 1, 0],
        [1, 0, 0],
        {"label": ("ant", "bee"), "truth": ("bee", "ant")},
    )
    assert load(path, truth="truth").wrong.tolist() == [False, False, True]
    path = parquet_of(tmp_path / "b.parquet", png, ["ant", "bee", "ant"], ["ant", "ant", None])
    assert load(path, truth="truth").wrong.tolist() == [False, True, False]
    path = parquet_of(tmp_path / "c.parquet", png, [0.0, 1.0, 11.0], [0, 1, 11])
    assert load(path, truth="truth").wrong.tolist() == [False, False, False]


@pytest.mark.parametrize(
    ("label", "truth", "words"),
    [
        (["ant", "bee"], ["ant", "cat"], "classes that the labels have not: cat"),
        ([0.5, 1.0], [0, 1], "holds fractions"),
        ([[0], [1]], [0, 1], "a label is a class name or a whole number"),
        ([], [], "has no rows"),
    ],
)
def test_odd_columns_are_named(tmp_path, png, label, truth, words):
    path = parquet_of(tmp_path / "x.parquet", png, label, truth)
    with pytest.raises(InputError, match=words):
        load(path, truth="truth", image="image", label="label")


def test_a_column_of_paths_to_nothing_is_named(tmp_path):
    parquet.write_table(
        pa.table({"image": ["a.png", "b.png"], "label": [0, 1]}), tmp_path / "x.parquet"
    )
    with pytest.raises(InputError, match=r"row 1 names a\.png, which would be"):
        load(tmp_path / "x.parquet")


@pytest.mark.parametrize("mode", ["I;16", "F", "P", "RGBA", "CMYK", "L", "1"])
def test_every_kind_of_picture_keeps_its_contrast(tmp_path, mode):

    ramp = np.tile(np.arange(64, dtype="uint8") * 4, (64, 1))
    if mode == "I;16":
        image = Image.fromarray(ramp.astype("uint16") * 257)
    elif mode == "F":
        image = Image.fromarray(ramp.astype("float32") / 255)
    else:
        image = Image.fromarray(ramp).convert("RGB").convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF")
    pixels = decode.decode(file.getvalue(), 3, 64, 64)
    assert pixels is not None
    assert pixels[:, :, :8].mean() < 60 < 190 < pixels[:, :, -8:].mean()


def test_a_class_named_train_is_a_class(tmp_path, png):
    for name in ("train", "bus"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png())
    assert load(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_a_set_that_changes_while_it_is_read_is_told(photos, tmp_path, png, monkeypatch, kind):

    path = photos if kind == "folder" else hub_file(tmp_path / "x.parquet", png)
    changing = photos / "dog" / "3.png" if kind == "folder" else path
    before = decode.decoded

    def meanwhile(*given):
        os.utime(changing, (9, 9))
        return before(*given)

    monkeypatch.setattr(decode, "decoded", meanwhile)
    with pytest.raises(
        InputError, match=f"1 files changed while they were read, such as .*{changing.name}; run"
    ):
        load(path)
    monkeypatch.undo()
    assert len(load(path)) == (12 if kind == "folder" else 9)


def test_a_cleaned_cache_is_filled_again(photos, tmp_path):
    first = load(photos)
    assert first.images is not None
    assert first.images.path is not None
    first.images.path.unlink()
    assert torch.equal(load(photos).batch(torch.arange(3))[0], first.batch(torch.arange(3))[0])


def test_nothing_to_hold_out():
    with pytest.raises(InputError, match="no class with two examples"):
        load("digits", limit=10).holdout(0.2)


def test_test_classes_are_numbered_as_the_training_sets(tmp_path, png):
    train = parquet_of(tmp_path / "a.parquet", png, ["ant", "bee", "cat"], [None] * 3)
    test = parquet_of(tmp_path / "b.parquet", png, ["cat", "bee"], [None] * 2, colour=(9, 9, 9))
    data, held = splits(str(train), Reading(test=str(test)))
    assert [data.classes[k] for k in held.labels] == ["cat", "bee"]
    odd = parquet_of(tmp_path / "c.parquet", png, ["cat", "dog"], [None] * 2, colour=(9, 9, 9))
    with pytest.raises(InputError, match="classes that the training set has not: dog"):
        splits(str(train), Reading(test=str(odd)))


def test_what_is_not_read_is_told(photos, tmp_path, png, capsys):
    """Formats that are not read, loose pictures, other files, empty classes; system files pass."""
    for name in (
        "cat/a.svg",
        "cat/notes.txt",
        "dog/Thumbs.db",
        "dog/.DS_Store",
        "loose.png",
        "readme.md",
    ):
        (photos / name).write_bytes(png())
    (photos / "violin").mkdir()
    data = load(photos)
    assert data.not_read == {
        ".svg is not read here": 1,
        "no picture": 2,
        "in no class folder": 1,
        "empty class folder": 1,
    }
    assert dict(data.aside)["loose.png"] == "in no class folder"
    assert dict(data.aside)["violin"] == "empty class folder"
    assert "1 in no class folder: loose.png" in capsys.readouterr().err
    run = verbs.train(data, recipe=TINY.but(epochs=1, folds=0), out=tmp_path / "runs")
    assert run.to_json()["not_read"] == data.not_read
    assert "1 in no class folder" in run.card
    assert (
        '"train","cat/a.svg",".svg is not read here"' in (run.path / "unreadable.csv").read_text()
    )
    (tmp_path / "flat" / "sub").mkdir(parents=True)
    (tmp_path / "flat" / "1.png").write_bytes(png())
    with pytest.raises(InputError, match="but 1 pictures beside them"):
        load(tmp_path / "flat")


def test_avif_is_read_where_pillow_can(tmp_path):
    from PIL import Image, features

    with warnings.catch_warnings(action="ignore"):  # Pillow 10.4 does not know the word
        known = features.check("avif")
    if not known:
        pytest.skip("this Pillow was built without AVIF")
    for name, level in (("a", 40), ("b", 200)):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (20, 20), (level, i, 0)).save(tmp_path / name / f"{i}.avif")
    data = load(tmp_path)
    assert (len(data), data.not_read) == (4, {})


def test_heic_is_read_with_the_extra(tmp_path, monkeypatch, png):
    """Without pillow-heif it is told; with it, its opener is registered and .heic counts."""
    import sys
    import types

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.heic").write_bytes(png())
        (tmp_path / name / "1.png").write_bytes(png())
    calls = []
    fake = types.ModuleType("pillow_heif")
    fake.register_heif_opener = lambda: calls.append(1)
    fake.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "pillow_heif", fake)
    decode.endings.cache_clear()
    assert (len(load(tmp_path)), calls) == (4, [1])
    monkeypatch.delitem(sys.modules, "pillow_heif")
    decode.endings.cache_clear()
    if ".heic" not in decode.endings():
        assert load(tmp_path).not_read == {".heic is not read here": 2}


def test_a_cleaned_folder_is_the_same_set_without_what_was_dropped(tmp_path, png, capsys):
    """Names with spaces and in folders of their own, an empty class, a relabelled and a dropped
    image, and a held-out part."""
    photos = tmp_path / "photos"
    for name, colour in (("english springer", 30), ("b", 120), ("violin", 0)):
        (photos / name / "more").mkdir(parents=True)
        for i in range(8) if colour else ():
            where = "more/" if i % 2 else ""
            (photos / name / f"{where}it's {i}.png").write_bytes(png((colour + i, 0, 0)))
    run = verbs.train(str(photos), recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "runs")
    assert run.test is not None
    verdict = verbs.judge(run, np.arange(float(len(run.data))), judge="top,share=0.01")
    act, proposed = torch.zeros(len(run.data), dtype=torch.long), verdict.proposed.clone()
    act[0], act[1], proposed[1] = DROP, FIX, 1 - run.data.labels[1]
    proposed[1] = {0: 1, 1: 0}[int(run.data.labels[1])]
    dataclasses.replace(verdict, act=act, proposed=proposed).save(
        run.path / "verdict.csv", run.data
    )
    cleaned = verbs.clean(run, out=tmp_path / "cleaned")
    whole, back = load(photos), load(tmp_path / "cleaned")
    assert len(whole) == len(cleaned) + 1 == len(back) + 1
    assert back.classes == whole.classes == ("b", "english springer", "violin")
    changed = {run.data.name(0), run.data.name(1)}
    kept = set(whole.names.to_pylist()) - changed
    assert kept < set(back.names.to_pylist())
    for name in kept:
        assert (tmp_path / "cleaned" / name).read_bytes() == (photos / name).read_bytes()
    rows = csv_of(tmp_path / "cleaned" / "changes.csv")
    assert [row["file"] for row in rows] == [run.data.name(0), run.data.name(1)]
    assert [row["to"] for row in rows] == ["", run.data.classes[int(proposed[1])]]
    assert rows[0]["why"].startswith("drop by top")
    assert rows[1]["from"] == run.data.classes[int(run.data.labels[1])]
    assert load(tmp_path / "cleaned").not_read == {"empty class folder": 1}
    verbs.clean(run, out=tmp_path / "cleaned.parquet")
    assert csv_of(tmp_path / "cleaned-changes.csv") == rows


def test_a_set_in_a_train_folder_keeps_its_place_and_name(tmp_path, png):
    for split in ("train", "val"):
        for name, colour in (("a", 30), ("b", 120)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(4):
                (tmp_path / "photos" / split / name / f"{i}.png").write_bytes(
                    png((colour + i, 9 * (split == "val"), 0))
                )
    assert load(tmp_path / "photos" / "train").source == "photos"
    data = load(tmp_path / "photos")
    home = dump(data, tmp_path / "out")
    assert load(home).names.to_pylist() == data.names.to_pylist()


def test_the_test_split_goes_along_with_the_cleaned_set(tmp_path, png):
    photos = tmp_path / "photos"
    for split, base in (("train", 0), ("test", 7)):
        for name, colour in (("a", 30), ("b", 120)):
            (photos / split / name).mkdir(parents=True)
            for i in range(6):
                (photos / split / name / f"{i}.png").write_bytes(png((colour + i, base, 0)))
    run = verbs.train(str(photos), recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "runs")
    verbs.judge(run, np.arange(12.0), judge="top,share=0.1")
    verbs.clean(run, out=tmp_path / "cleaned.parquet")
    assert not (tmp_path / "cleaned-test.parquet").exists()
    for name, names in (
        ("tidy", ["a/0.png", "b/5.png"]),
        ("tidy.parquet", ["test/a/0.png", "test/b/5.png"]),
    ):
        verbs.clean(run, out=tmp_path / name, with_test=True)
        beside = (tmp_path / name).with_stem("tidy-test")
        found = load(beside)
        assert len(found) == 12
        assert found.classes == ("a", "b")
        if not beside.suffix:
            assert [found.names.to_pylist()[k] for k in (0, -1)] == names
            assert (beside / "b/5.png").read_bytes() == (photos / "test/b/5.png").read_bytes()
    (tmp_path / "other-test").mkdir()
    (tmp_path / "other-test" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="other-test"):
        verbs.clean(run, out=tmp_path / "other", with_test=True)
    assert not (tmp_path / "other").exists()
    held = verbs.train(
        str(photos / "train"), recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "r"
    )
    verbs.judge(held, np.arange(float(len(held.data))), judge="top,share=0.1")
    with pytest.raises(InputError, match="no test split of its own; the part that was held out is"):
        verbs.clean(held, out=tmp_path / "again", with_test=True)


def test_names_of_a_strangers_run_stay_in_the_folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 4, 4), dtype="uint8")
    names = ["../../x", "/etc/passwd", "a/..", ".."]
    data = Dataset.from_arrays(pixels, [0, 1] * 2, ("../up", "."), names)
    (tmp_path / "mine").mkdir()
    mine = dataclasses.replace(data, root=str(tmp_path / "mine"))
    home = dump(mine, tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "mine"}
    assert len(list(home.rglob("*.png"))) == 4
    assert all(path.is_relative_to(home) for path in home.rglob("*"))
