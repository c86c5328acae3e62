"""Sets of the libraries: WebDataset's shards, what Hugging Face `datasets` writes and streams,
torchvision by name; names of classes from a file.
"""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY
from PIL import Image
from pyarrow import parquet

import datablame as db
from datablame.base.errors import InputError
from datablame.verbs.reading import Reading, read, splits

COLOURS = [(20 * k, 250 - 20 * k, 7 * k) for k in range(10)]
LABELS = [k % 2 for k in range(10)]


@pytest.fixture
def pictures(png):
    return [png(colour) for colour in COLOURS]


def shard(path, files):
    """A tar file of (name, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as packed:
        for name, content in files:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            packed.addfile(about, io.BytesIO(content))
    return path


def examples(pictures, rows, **more):
    """Of an example the picture, and other files: `cls=lambda row: b"3"`."""
    return [
        (f"{row:04d}.{ending}", make(row))
        for row in rows
        for ending, make in ({"png": lambda k: pictures[k]} | more).items()
    ]


@pytest.fixture
def here(pictures):
    return [np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in pictures]


def agrees(data, here, rows=range(10)):
    order = [int(name.rpartition("/")[2].partition(".")[0]) for name in data.names.to_pylist()]
    assert order == list(rows)
    assert all(
        (data.pixels.one(k).transpose(1, 2, 0) == here[row]).all() for k, row in enumerate(rows)
    )
    assert data.labels.tolist() == [LABELS[row] for row in rows]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_shards_of_a_webdataset(tmp_path, pictures, here, ending):
    for number, rows in enumerate((range(6), range(6, 10))):
        shard(
            tmp_path / f"some-{number:04d}{ending}",
            examples(pictures, rows, cls=lambda k: str(LABELS[k]).encode()),
        )
    agrees(read(tmp_path), here)
    agrees(read(tmp_path / f"some-0001{ending}"), here, range(6, 10))
    assert len(read(tmp_path, reading=Reading(limit=3))) == 3
    assert splits(tmp_path, Reading(holdout=0.0))[1] is None
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    assert read(tmp_path).classes == ("ant", "bee")


def test_labels_in_json_truth_annotators_and_splits(tmp_path, pictures, here):
    def about(k):
        words = ["ant", "bee"]
        return json.dumps(
            {"label": words[LABELS[k]], "second": words[k == 3], "truth": words[1]}
        ).encode()

    shard(tmp_path / "train-0.tar", examples(pictures, range(6), json=about))
    shard(tmp_path / "val-0.tar", examples(pictures, range(6, 10), json=about))
    data, test = splits(tmp_path, Reading())
    agrees(data, here, range(6))
    assert data.truth.tolist() == [1] * 6
    assert data.classes == ("ant", "bee")
    agrees(test, here, range(6, 10))
    both = read(tmp_path, reading=Reading(label=("label", "second")))
    assert both.annotators == ("label", "second")
    with pytest.raises(
        InputError, match=r"no column for the label in .*'lable'; did you mean label"
    ):
        read(tmp_path, reading=Reading(label="lable"))


def test_a_run_of_shards_is_opened_and_cleaned(tmp_path, pictures, here):
    files = examples(pictures, range(10), cls=lambda k: str(LABELS[k]).encode())
    shard(tmp_path / "s" / "a.tar", files)
    run = db.train(tmp_path / "s", recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "runs")
    again = db.Run(run.path)
    assert again.data.images.content(4) == pictures[int(again.data.name(4)[6:10])]
    db.judge(run, np.arange(float(len(run.data))), judge="top,share=0.2")
    db.clean(again, out=tmp_path / "cleaned")
    kept = {each.read_bytes() for each in (tmp_path / "cleaned").rglob("*.png")}
    assert kept
    assert kept <= set(pictures)


def test_examples_that_lack_something_are_set_aside(tmp_path, pictures, here, capsys):
    files = examples(pictures, range(10), cls=lambda k: str(LABELS[k]).encode())
    files = [each for each in files if each[0] not in ("0002.cls", "0004.png")]
    files.append(("0006.json", b"{broken"))
    data = read(shard(tmp_path / "x.tar", [*files, ("0002.txt", b"a word")]))
    agrees(data, here, [0, 1, 3, 5, 6, 7, 8, 9])
    assert sorted(data.aside) == [("x.tar/0002.png", "no label"), ("x.tar/0004", "no image")]
    assert "2 examples without image or label" in capsys.readouterr().err


def test_another_label_is_of_other_examples(tmp_path, pictures, here):
    """What is packed for one label does not serve for another, which other examples lack."""

    def about(k):
        both = {"a": LABELS[k], "b": LABELS[k]}
        return json.dumps(
            {name: v for name, v in both.items() if (name, k) not in (("a", 0), ("b", 9))}
        ).encode()

    shard(tmp_path / "x.tar", examples(pictures, range(10), json=about))
    agrees(read(tmp_path / "x.tar", reading=Reading(label="a")), here, range(1, 10))
    agrees(read(tmp_path / "x.tar", reading=Reading(label="b")), here, range(9))
    assert len(read(tmp_path / "x.tar", reading=Reading(label="a", limit=4))) == 4


def test_shards_named_after_their_split(tmp_path, pictures, here):
    for name, rows in (("photos-train-0000", range(6)), ("photos-val-0000", range(6, 10))):
        shard(
            tmp_path / f"{name}.tar",
            examples(pictures, rows, cls=lambda k: str(LABELS[k]).encode()),
        )
    train, test = splits(tmp_path, Reading())
    assert (train.split, test.split, len(train), len(test)) == ("train", "test", 6, 4)
    agrees(train, here, range(6))
    agrees(test, here, range(6, 10))
    alone = tmp_path / "photos-val-0000.tar"
    agrees(
        splits(tmp_path / "photos-train-0000.tar", Reading(test=str(alone)))[1], here, range(6, 10)
    )
    agrees(read(alone), here, range(6, 10))


def test_labels_that_are_none(tmp_path, pictures):
    odd = {3: "-1", 4: "9" * 400}
    files = examples(
        pictures, range(5), json=lambda k: json.dumps({"label": odd.get(k, LABELS[k])}).encode()
    )
    with pytest.raises(InputError, match="label -1"):
        read(shard(tmp_path / "x.tar", files[:8]))
    assert len(read(shard(tmp_path / "y.tar", [*files[:6], *files[8:]]))) == 3
    sidecars = [
        (f"{'ab'[LABELS[int(name[:4])]]}/{name}", content)
        for name, content in examples(pictures, range(4), json=lambda k: b'{"camera": 3}')
    ]
    assert read(shard(tmp_path / "z.tar", sidecars)).classes == ("a", "b")


def test_damaged_and_hostile_shards_are_told(tmp_path, pictures):
    files = examples(pictures, range(10), cls=lambda k: str(LABELS[k]).encode())
    whole = shard(tmp_path / "cut" / "x.tar", files).read_bytes()
    (tmp_path / "cut" / "x.tar").write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "cut")
    shard(tmp_path / "out" / "x.tar", [*files, ("../0011.png", b"x")])
    with pytest.raises(InputError, match="leads out of its folder"):
        read(tmp_path / "out")
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "classes.txt").write_text("one\n")
    shard(
        tmp_path / "few" / "x.tar", examples(pictures, range(4), cls=lambda k: str(k % 2).encode())
    )
    with pytest.raises(InputError, match="names 1 classes, and labels go up to 1"):
        read(tmp_path / "few")


# What Hugging Face `datasets` writes


@pytest.fixture
def rows(pictures):
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])}
    )
    cells = [{"bytes": each, "path": None} for each in pictures]
    return datasets.Dataset.from_dict({"image": cells, "label": LABELS}, features=features)


def test_save_to_disk(tmp_path, rows, pictures, here):
    import datasets

    rows.save_to_disk(str(tmp_path / "one"), num_shards=2)
    data = read(tmp_path / "one")
    agrees(data, here)
    assert data.classes == ("ant", "bee")
    parts = datasets.DatasetDict(
        {"train": rows.select(range(6)), "validation": rows.select(range(6, 10))}
    )
    parts.save_to_disk(str(tmp_path / "two"))
    train, test = splits(tmp_path / "two", Reading())
    agrees(train, here, range(6))
    assert len(test) == 4
    run = db.train(train, recipe=TINY, out=tmp_path / "runs", test=test)
    assert db.Run(run.path).data.images.content(3) == pictures[3]
    arrow = next((tmp_path / "one").glob("*.arrow"))
    assert len(read(arrow)) == 5
    arrow.write_bytes(arrow.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "one")


def test_arrow_files_of_the_other_kind(tmp_path, rows, here):
    table = rows.with_format("arrow")[:]
    with (
        pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=4)
    data = read(tmp_path / "x.arrow")
    agrees(data, here)
    every = rows.with_format("arrow")[:]["image"].to_pylist()
    assert [data.images.content(row) for row in (3, 4, 9)] == [every[k]["bytes"] for k in (3, 4, 9)]


def test_a_state_that_names_files_elsewhere_is_refused(tmp_path, rows):
    rows.save_to_disk(str(tmp_path / "one"))
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../secret.arrow"}]
    (tmp_path / "one" / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="is no file beside it"):
        read(tmp_path / "one")


def test_parquet_in_folders_of_splits_and_without_a_name(tmp_path, rows, here):
    (tmp_path / "a" / "default" / "train").mkdir(parents=True)
    (tmp_path / "a" / "default" / "validation").mkdir(parents=True)
    rows.to_parquet(str(tmp_path / "a" / "default" / "train" / "0000.parquet"))
    rows.select(range(4)).to_parquet(
        str(tmp_path / "a" / "default" / "validation" / "0000.parquet")
    )
    agrees(read(tmp_path / "a"), here)
    assert len(read(tmp_path / "a", "test")) == 4
    (tmp_path / "b").mkdir()
    rows.to_parquet(str(tmp_path / "b" / "part-0000.parquet"))
    agrees(read(tmp_path / "b"), here)
    assert read(tmp_path / "b", "test") is None


def test_a_set_of_paths_is_read_where_these_lie(tmp_path, pictures, monkeypatch):
    """As the library keeps image folders of the hub."""
    import datasets

    for row, content in enumerate(pictures):
        home = tmp_path / "set" / ["ant", "bee"][LABELS[row]]
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{row:04d}.png").write_bytes(content)
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "hf")
    )
    data = read(found)
    same = read(tmp_path / "set")
    assert data.pixels.digest == same.pixels.digest
    assert data.labels.tolist() == same.labels.tolist()
    assert data.names.to_pylist() == same.names.to_pylist()
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: found)
    with pytest.raises(InputError, match="files that are not its own"):
        read("hub:some/set")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    run = db.train(read("hub:some/set"), recipe=TINY, out=tmp_path / "runs")
    assert db.Run(run.path).data.images.content(0) == pictures[0]


def test_a_parquet_files_paths_are_not_followed(tmp_path, pictures):
    """They are a stranger's."""
    (tmp_path / "secret.png").write_bytes(pictures[0])
    cells = [
        {"bytes": None, "path": str(tmp_path / "secret.png")},
        {"bytes": pictures[1], "path": None},
    ]
    parquet.write_table(pa.table({"image": cells, "label": [0, 1]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="one class only"):
        read(tmp_path / "x.parquet")


def test_a_part_of_a_dataset_keeps_its_own_images(tmp_path, rows, here):
    """The library keeps a part as the whole file and two numbers."""
    import datasets

    rows.save_to_disk(str(tmp_path / "one"))
    whole = datasets.load_from_disk(str(tmp_path / "one"))
    renamed = whole.rename_column("image", "picture").rename_column("label", "image")
    parts = [(whole.select(some), some) for some in (range(4, 9), [7, 2, 5, 0], range(10))]
    parts.append((renamed.rename_column("image", "label"), range(10)))
    turned = rows.select([9, 8, 7]).flatten_indices()
    joined = datasets.concatenate_datasets([turned, whole.select(range(3, 10))])
    parts.append((joined, [9, 8, 7, *range(3, 10)]))
    for part, some in parts:
        data = read(part)
        assert data.labels.tolist() == [LABELS[row] for row in some]
        assert all(
            (data.pixels.one(k).transpose(1, 2, 0) == here[row]).all() for k, row in enumerate(some)
        )


def test_a_stream_is_read_to_its_end(rows, here, monkeypatch):
    from datablame.methods.sources import hub

    monkeypatch.setattr(hub, "BATCH", 4)
    data = read(rows.to_iterable_dataset())
    agrees(data, here)
    kept = parquet.ParquetFile(data.images.originals.paths[0]).metadata
    sizes = [kept.row_group(group).num_rows for group in range(kept.num_row_groups)]
    assert sizes == [4, 4, 2], "a batch at a time"
    agrees(read(rows.to_iterable_dataset().take(3)), here, range(3))


def test_the_first_rows_of_a_set_of_the_hub_are_fetched_alone(rows, here, monkeypatch, tmp_path):
    import datasets

    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path))
    asked = []

    def load_dataset(*_, streaming=False, **__):
        asked.append(streaming)
        return rows.to_iterable_dataset() if streaming else rows

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    agrees(read("hub:some/set", reading=Reading(limit=4)), here, range(4))
    agrees(read("hub:some/set", reading=Reading(limit=4)), here, range(4))
    assert asked == [True]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    agrees(read("hub:some/set", reading=Reading(limit=4)), here, range(4))
    agrees(read("hub:some/set", reading=Reading(limit=5)), here, range(5))
    assert asked == [True, False]


# torchvision


def test_sets_of_torchvision_by_name(tmp_path, pictures, capsys):
    for row, content in enumerate(pictures):
        home = tmp_path / "EuroSAT" / "eurosat" / "2750" / ["ant", "bee"][LABELS[row]]
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{row:04d}.png").write_bytes(content)
    data = read("torchvision:EuroSAT", reading=Reading(root=str(tmp_path / "EuroSAT")))
    assert data.classes == ("ant", "bee")
    assert data.labels.tolist() == sorted(LABELS)
    assert data.images.content(0) == pictures[0]
    assert (
        len(
            read(
                "torchvision:EuroSAT", reading=Reading(root=str(tmp_path / "EuroSAT"), limit=4)
            ).labels.unique()
        )
        == 2
    )
    assert read("torchvision:EuroSAT", "test") is None
    with pytest.raises(InputError, match="no set of torchvision 'EuroSat'; did you mean EuroSAT"):
        read("torchvision:EuroSat")
    with pytest.raises(InputError, match=r"DTD cannot be read from .*download=True.*--root"):
        read("torchvision:DTD")


@pytest.mark.parametrize("limit", [None, 4])
def test_a_set_of_the_hub_reads_nothing_of_others(tmp_path, rows, pictures, monkeypatch, limit):
    """An image of it that is a path on this machine, or an address."""
    import datasets

    (tmp_path / "mine.png").write_bytes(pictures[0])
    for path in (str(tmp_path / "mine.png"), "http://127.0.0.1:9/x.png"):
        cells = [
            {"bytes": None, "path": path},
            *({"bytes": each, "path": None} for each in pictures[1:]),
        ]
        odd = datasets.Dataset.from_dict({"image": cells, "label": LABELS}, features=rows.features)
        monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train"])
        found = odd if limit is None else odd.to_iterable_dataset()
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, found=found, **__: found)
        if limit is None:
            assert len(read("hub:some/set")) == 9
        else:
            # the second is an old pyarrow's own, before any row is seen
            with pytest.raises(InputError, match=r"no file of its own|Schema at index 1"):
                read("hub:some/set", reading=Reading(limit=limit))


def test_sets_of_torchvision_of_another_make_are_sentences(tmp_path):
    from torchvision.datasets import FakeData

    class Odd(FakeData):
        def __getitem__(self, index):
            return super().__getitem__(index)[0], None

    with pytest.raises(InputError, match="the label of example 0 of Odd is NoneType"):
        read(Odd(5, (3, 8, 8)))
    with pytest.raises(InputError, match="no set of torchvision 'LSUN'"):
        read("torchvision:LSUN")


def test_splits_of_torchvision(tmp_path, pictures):
    """DTD: a list of files for each split, and lists of labels that the class keeps to itself."""
    home = tmp_path / "dtd" / "dtd"
    (home / "labels").mkdir(parents=True)
    for row, content in enumerate(pictures):
        name = ["ant", "bee"][LABELS[row]]
        (home / "images" / name).mkdir(parents=True, exist_ok=True)
        (home / "images" / name / f"{row:04d}.png").write_bytes(content)
    for split, some in (("train", range(6)), ("test", range(6, 10)), ("val", range(2))):
        lines = [f"{['ant', 'bee'][LABELS[row]]}/{row:04d}.png" for row in some]
        (home / "labels" / f"{split}1.txt").write_text("\n".join(lines) + "\n")
    train, test = splits("torchvision:DTD", Reading(root=str(tmp_path)))
    assert (len(train), len(test)) == (6, 4)
    assert train.images.content(0) == pictures[0]


def test_a_set_of_torchvision_that_is_in_memory(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for stem in ("train", "t10k"):
        images = generator.integers(0, 255, (12, 28, 28), dtype="uint8")
        head = np.array([0x803, 12, 28, 28], ">u4").tobytes()
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        labels = np.arange(12, dtype="uint8") % 10
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(
            np.array([0x801, 12], ">u4").tobytes() + labels.tobytes()
        )
    train, test = splits("torchvision:MNIST", Reading(root=str(tmp_path)))
    assert (train.shape, len(test), len(train.classes)) == ((1, 28, 28), 12, 10)
    assert (test.pixels.one(3)[0] == images[3]).all()


# Names of classes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "ant\nbee\n\ncat\n"),
        ("names.json", '["ant", "bee", "cat"]'),
        ("id2label.json", '{"0": "ant", "1": "bee", "2": "cat"}'),
        ("class_to_idx.json", '{"cat": 2, "ant": 0, "bee": 1}'),
    ],
)
def test_class_names_from_a_file(tmp_path, here, name, text):
    (tmp_path / name).write_text(text)
    asked = Reading(classes=str(tmp_path / name))
    parquet.write_table(
        pa.table({"path": [f"{k}.png" for k in range(10)], "label": LABELS, "truth": [1] * 10}),
        tmp_path / "x.parquet",
    )
    for k, pixels in enumerate(here):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    data = read(tmp_path / "x.parquet", reading=asked)
    assert data.classes == ("ant", "bee", "cat")
    assert data.labels.tolist() == LABELS
    assert data.truth.tolist() == [1] * 10
    words = (np.stack(here), [["cat", "ant"][k] for k in LABELS])
    data = read(words, reading=asked)
    assert data.classes == ("ant", "bee", "cat")
    assert data.labels.tolist() == [[2, 0][k] for k in LABELS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ant\n", "names 1 classes, and .* has labels up to 1"),
        ("[1, 2]", "names no classes"),
        ("{}", "names no classes"),
        ('{"a": 0, "b": 5}', "names no classes"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_that_names_no_classes(tmp_path, here, text, message):
    path = tmp_path / ("x.txt" if text.startswith("ant") else "x.json")
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read((np.stack(here), LABELS), reading=Reading(classes=str(path)))
    with pytest.raises(InputError, match="class names cannot be read"):
        read((np.stack(here), LABELS), reading=Reading(classes=str(tmp_path / "none.txt")))


def test_a_class_that_the_file_has_not(tmp_path, here):
    (tmp_path / "x.txt").write_text("ant\nbee\n")
    with pytest.raises(InputError, match=r"no class in .*x.txt 'cat'"):
        read(
            (np.stack(here), [["ant", "cat"][k] for k in LABELS]),
            reading=Reading(classes=str(tmp_path / "x.txt")),
        )
