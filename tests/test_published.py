"""Sets as they were published: the same images through each layout; cut and foreign files."""

import gzip

import numpy as np
import pytest
from scipy.io import savemat

import datablame as db
from datablame import InputError
from datablame.verbs.reading import Reading, splits

RNG = np.random.default_rng(0)


def cifar10(home, images, labels, split):
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], 1).astype("uint8")
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] if split == "train" else ["test_batch.bin"]
    for name, part in zip(names, np.array_split(rows, len(names)), strict=True):
        part.tofile(home / name)
    (home / "batches.meta.txt").write_text("\n".join(f"class {k}" for k in range(10)) + "\n\n")


def cifar100(home, images, labels, split):
    pair = np.stack([labels // 5, labels], 1)
    np.concatenate([pair, images.reshape(len(images), -1)], 1).astype("uint8").tofile(home / f"{split}.bin")  # fmt: skip
    (home / "fine_label_names.txt").write_text("\n".join(f"class {k}" for k in range(10)))


def stl10(home, images, labels, split):
    images.transpose(0, 1, 3, 2).tofile(home / f"{split}_X.bin")
    (labels + 1).astype("uint8").tofile(home / f"{split}_y.bin")
    (home / "class_names.txt").write_text("\n".join(f"class {k}" for k in range(10)))


def mnist(home, images, labels, split, pack=False):
    stem = "train" if split == "train" else "t10k"
    for name, array, magic in (
        ("images-idx3", images[:, 0], 0x803),
        ("labels-idx1", labels, 0x801),
    ):
        head = np.array([magic, *array.shape], ">u4").tobytes()
        content = head + array.astype("uint8").tobytes()
        path = home / f"{stem}-{name}-ubyte"
        if pack:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)


def packed(*given):
    mnist(*given, pack=True)


def svhn(home, images, labels, split):
    y = np.where(labels == 0, 10, labels)[:, None]
    savemat(home / f"{split}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": y})


LAYOUTS = {cifar10: (3, 32), cifar100: (3, 32), stl10: (3, 96), mnist: (1, 28), packed: (1, 28), svhn: (3, 32)}  # fmt: skip


@pytest.fixture(params=LAYOUTS, ids=lambda each: each.__name__)
def made(request, tmp_path):
    channels, side = LAYOUTS[request.param]
    home = tmp_path / "set"
    home.mkdir()
    sets = {}
    for split, count in (("train", 20), ("test", 10)):
        images = RNG.integers(0, 256, (count, channels, side, side)).astype("uint8")
        labels = np.arange(count) % 10
        request.param(home, images, labels, split)
        sets[split] = images, labels
    return request.param, home, sets


def test_every_layout_gives_its_images_and_labels(made):
    layout, home, sets = made
    for split, (images, labels) in sets.items():
        found = db.load(home, split=split)
        assert np.array_equal(found.pixels.array, images)
        assert found.labels.tolist() == labels.tolist()
        assert found.split == split
        assert found.source == "set"
        named = layout in (cifar10, cifar100, stl10)
        assert found.classes[3] == ("class 3" if named else "3")
        assert found.names[2].as_py() == f"{split}/000002"
    assert len(db.load(home, limit=12)) == 12
    train, test = splits(home, Reading())
    assert (len(train), len(test)) == (20, 10)


def test_a_cut_file_is_told(made):
    _, home, _ = made
    largest = max(home.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size * 2 // 3 - 5])
    with pytest.raises(InputError, match=f"{largest.name}.*(cut|cannot be read)"):
        [db.load(home, split=split) for split in ("train", "test")]


def test_a_missing_part_is_told(made):
    _, home, _ = made
    test = next(p for p in sorted(home.iterdir()) if p.name.startswith(("test", "t10k")))
    test.unlink()
    with pytest.raises(InputError, match="which belongs to the set"):
        db.load(home, split="test")


def test_files_of_another_layout_are_told(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(
        np.array([0x801, 3], ">u4").tobytes() + b"123"
    )
    with pytest.raises(InputError, match="is no IDX file of bytes with 3 axes"):
        db.load(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((4, 4)), "y": np.zeros(4)})
    with pytest.raises(InputError, match="holds float64"):
        db.load(tmp_path)


def test_more_images_than_labels_are_told(tmp_path):
    images = np.zeros((6, 1, 28, 28), "uint8")
    mnist(tmp_path, images, np.arange(6) % 2, "train")
    short = tmp_path / "train-labels-idx1-ubyte"
    short.write_bytes(np.array([0x801, 5], ">u4").tobytes() + bytes(5))
    with pytest.raises(InputError, match="has 6 images and 5 labels"):
        db.load(tmp_path)


def test_pickles_of_cifar_are_not_read(tmp_path):
    (tmp_path / "batches.meta").write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(InputError, match="take the binary version"):
        db.load(tmp_path)
