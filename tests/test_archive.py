"""Zip and tar files of class folders: they read as the folders do, and hostile ones are told."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY
from PIL import Image
from pyarrow import parquet
from test_shards import shard
from test_table import write

import datablame as db
from datablame import InputError, verbs
from datablame.base import archives
from datablame.verbs.reading import Reading, read, splits


@pytest.fixture
def photos(tmp_path, png):
    home = tmp_path / "photos"
    for i in range(12):
        folder = home / ("ant" if i % 2 else "bee")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:02d}.png").write_bytes(png((20 * i, 200 - 9 * i, 7 * i)))
    return home


def packed(home: Path, kind: str, top: str = "") -> Path:
    """An archive of a folder, perhaps under another folder."""
    base = home if not top else home.parent / "wrapped"
    if top:
        shutil.copytree(home, base / top)
    format_ = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.xz": "xztar", "tar.bz2": "bztar"}
    made = shutil.make_archive(str(home.parent / "set"), format_[kind], base)
    return Path(made)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("top", ["", "photos"])
def test_an_archive_reads_as_its_folders(photos, kind, top):
    found, folders = db.load(packed(photos, kind, top)), db.load(photos)
    assert found.classes == folders.classes
    rows = [name.removeprefix("photos/") for name in found.names.to_pylist()]
    assert rows == folders.names.to_pylist()
    assert np.array_equal(found.pixels.array, folders.pixels.array)
    assert found.labels.tolist() == folders.labels.tolist()
    assert found.source == "set"
    assert found.pixels.content(3) == (photos / folders.name(3)).read_bytes()


def test_splits_in_an_archive(tmp_path, png):
    for split in ("train", "val"):
        for i in range(6):
            folder = tmp_path / "set" / split / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i}.png").write_bytes(png((9 * i, 100 * (split == "val"), 5)))
    path = packed(tmp_path / "set", "zip", "top")
    train, test = splits(path, Reading())
    assert (len(train), len(test)) == (6, 6)
    assert test.names.to_pylist()[0].endswith("val/a/0.png")
    assert splits(packed(tmp_path / "set" / "train", "tar"), Reading(holdout=0.0))[1] is None


def test_what_is_beside_the_images_is_told(photos, capsys):
    (photos / "loose.png").write_bytes(b"x")
    (photos / "ant" / "notes.txt").write_text("x")
    (photos / "ant" / ".DS_Store").write_text("x")
    (photos / "ant" / "99.png").write_bytes(b"no picture")
    data = db.load(packed(photos, "zip"))
    assert {name: why for name, why in data.aside} == {
        "loose.png": "in no class folder",
        "ant/notes.txt": "no picture",
        "ant/99.png": "cannot be read",
    }
    assert len(data) == 12


def test_a_run_of_an_archive_is_opened_and_cleaned(photos, tmp_path):
    path = packed(photos, "zip")
    run = verbs.train(path, recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "runs")
    again = db.Run(run.path)
    assert again.data.pixels.content(int(again.data.rows[0])) is not None
    verbs.judge(run, np.arange(float(len(run.data))), judge="top,share=0.1")
    verbs.clean(again, out=tmp_path / "cleaned")
    kept = sorted((tmp_path / "cleaned").rglob("*.png"))
    assert {each.read_bytes() for each in kept} <= {
        each.read_bytes() for each in photos.rglob("*.png")
    }
    path.unlink()
    assert db.Run(run.path).data.pixels.content(0) is None


def hostile_zip(path, name, content=b"x", link=False):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_DEFLATED
        if link:
            entry.external_attr = 0o120777 << 16
        file.writestr(entry, content)
    return path


def hostile_tar(path, name, kind=tarfile.REGTYPE, target=""):
    with tarfile.open(path, "w") as file:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        file.addfile(entry, io.BytesIO())
    return path


@pytest.mark.parametrize(
    "name", ["../up.png", "/etc/passwd", "a/../../x.png", "C:/x.png", "a\\..\\x.png"]
)
def test_members_that_lead_out_are_refused(tmp_path, name):
    for path in (hostile_zip(tmp_path / "x.zip", name), hostile_tar(tmp_path / "x.tar", name)):
        with pytest.raises(InputError, match="leads out of its folder"):
            db.load(path)


def test_links_and_devices_are_refused(tmp_path):
    hostile_zip(tmp_path / "x.zip", "a/x.png", b"/etc/passwd", link=True)
    hostile_tar(tmp_path / "x.tar", "a/x.png", tarfile.SYMTYPE, "/etc/passwd")
    hostile_tar(tmp_path / "y.tar", "a/x.png", tarfile.LNKTYPE, "/etc/passwd")
    hostile_tar(tmp_path / "z.tar", "a/x.png", tarfile.CHRTYPE)
    for name in ("x.zip", "x.tar", "y.tar", "z.tar"):
        with pytest.raises(InputError, match="is a link or a device, no file"):
            db.load(tmp_path / name)


def test_bombs_are_refused(tmp_path, monkeypatch):
    bomb = hostile_zip(tmp_path / "x.zip", "a/x.png", bytes(3 << 20))
    with pytest.raises(InputError, match="would unpack to 3,145,728 bytes, from 3,"):
        db.load(bomb)
    monkeypatch.setattr(archives, "RATIO", 2)
    with tarfile.open(tmp_path / "y.tar.gz", "w:gz") as file:
        entry = tarfile.TarInfo("a/x.png")
        entry.size = 5 << 20
        file.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(InputError, match="would unpack to more than 2 times its size"):
        db.load(tmp_path / "y.tar.gz")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_a_cut_archive_is_told(photos, kind):
    path = packed(photos, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(InputError, match=r"cannot be read|no images in class folders"):
        db.load(path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read"):
        db.load(path)


def test_an_empty_archive_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w"):
        pass
    with pytest.raises(InputError, match="no images in class folders"):
        db.load(tmp_path / "x.zip")


def test_the_same_images_through_every_way_are_the_same_pixels(photos, tmp_path):
    """Ten small pictures: class folders, archives, tables, Parquet with bytes, shards, what Hugging
    Face writes and streams, arrays, pictures in memory, frames.
    """
    import datasets
    import pandas
    import polars

    files = sorted(photos.rglob("*.png"))[:10]
    labels = [path.parent.name for path in files]
    home = tmp_path / "ten"
    for path in files:
        (home / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, home / path.parent.name)
    rows = [
        {"path": str(path.relative_to(photos.parent)), "label": path.parent.name} for path in files
    ]
    for kind in ("csv", "jsonl", "parquet"):
        write(tmp_path / f"list.{kind}", rows)
    bytes_ = [{"bytes": path.read_bytes(), "path": None} for path in files]
    parquet.write_table(pa.table({"image": bytes_, "label": labels}), tmp_path / "bytes.parquet")
    shard(
        tmp_path / "shards" / "a.tar",
        [
            (f"{k:03d}.{end}", content)
            for k, path in enumerate(files)
            for end, content in (("png", path.read_bytes()), ("cls", labels[k].encode()))
        ],
    )
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows_of_hub = datasets.Dataset.from_dict({"image": bytes_, "label": labels}, features=features)
    rows_of_hub.save_to_disk(str(tmp_path / "saved"))
    absolute = {"path": list(map(str, files)), "label": labels}
    pictures = [Image.open(path).convert("RGB") for path in files]
    array = np.stack([np.asarray(each) for each in pictures])
    ways = {
        "folder": home,
        **{kind: packed(home, kind) for kind in ("zip", "tar", "tar.gz")},
        **{kind: tmp_path / f"list.{kind}" for kind in ("csv", "jsonl", "parquet")},
        "bytes": tmp_path / "bytes.parquet",
        "shards": tmp_path / "shards",
        "save_to_disk": tmp_path / "saved",
        "arrow": next((tmp_path / "saved").glob("*.arrow")),
        "datasets": rows_of_hub,
        "stream": rows_of_hub.to_iterable_dataset(),
        "pandas": pandas.DataFrame(absolute),
        "polars": polars.DataFrame(absolute),
        "pictures": (pictures, labels),
        "NHWC": (array, labels),
        "NCHW": (array.transpose(0, 3, 1, 2), labels),
        "floats": (array / 255, labels),
    }
    seen = {name: read(way) for name, way in ways.items()}
    assert len({data.pixels.digest for data in seen.values()}) == 1, {
        name: data.pixels.digest for name, data in seen.items()
    }
    assert {tuple(data.classes[k] for k in data.labels.tolist()) for data in seen.values()} == {tuple(labels)}  # fmt: skip
