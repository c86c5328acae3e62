"""Tables of paths: every format reads as class folders do, and bad ones are told in a sentence."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import TINY

import datablame as db
from datablame import InputError, verbs
from datablame.cli import main
from datablame.verbs.reading import Reading, read, splits


@pytest.fixture
def pictures(tmp_path, png):
    """Twelve pictures of two classes in folders, and rows that say so."""
    rows = []
    for i in range(12):
        name = f"pics/{'ab'[i % 2]}/{i:02d}.png"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png((20 * i, 200 - 9 * i, 7 * i)))
        rows.append({"path": name, "label": ["ant", "bee"][i % 2]})
    return rows


def lines(rows, sign=",", head=True):
    names = list(rows[0])
    text = [sign.join(str(row[name]) for name in names) for row in rows]
    return "\n".join([*([sign.join(names)] if head else []), *text]) + "\n"


def write(path, rows):
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(lines(rows, "\t" if path.suffix == ".tsv" else ","))
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"])
def test_every_format_reads_what_the_folders_hold(tmp_path, pictures, ending):
    found = db.load(write(tmp_path / f"set{ending}", pictures))
    folders = db.load(tmp_path / "pics")
    assert found.classes == ("ant", "bee")
    assert found.names.to_pylist() == [row["path"] for row in pictures]
    by = {name: row for row, name in enumerate(folders.names.to_pylist())}
    order = [by[name.removeprefix("pics/")] for name in found.names.to_pylist()]
    assert np.array_equal(found.pixels.array, folders.pixels.array[folders.rows[order].numpy()])
    assert found.labels.tolist() == folders.labels[order].tolist()
    assert found.source == "set"


def test_semicolons_quotes_and_other_names_of_columns(tmp_path, pictures):
    text = "file_name;target;note\n" + "".join(
        f'{row["path"]};{row["label"]};"a; b"\n' for row in pictures
    )
    (tmp_path / "set.csv").write_text(text)
    assert len(db.load(tmp_path / "set.csv")) == 12
    renamed = [{"where": row["path"], "what": row["label"]} for row in pictures]
    write(tmp_path / "odd.csv", renamed)
    with pytest.raises(InputError, match=r"which column of .* is the label\? there is: what"):
        db.load(tmp_path / "odd.csv")
    assert len(db.load(tmp_path / "odd.csv", label="what")) == 12, "the paths end like pictures"


def test_a_set_is_loaded_as_it_is_trained(tmp_path, pictures):
    """With the folder that its paths start from, groups, and names for its numbers."""
    rows = [
        {
            "path": row["path"].removeprefix("pics/"),
            "label": int(row["label"] == "bee"),
            "camera": i // 4,
        }
        for i, row in enumerate(pictures)
    ]
    write(tmp_path / "set.csv", rows)
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    found = db.load(
        tmp_path / "set.csv",
        root=str(tmp_path / "pics"),
        group="camera",
        classes=str(tmp_path / "names.txt"),
    )
    assert found.classes == ("ant", "bee")
    assert [len(set(part.tolist())) for part in found.groups.split(4)] == [1, 1, 1]
    assert len(found.groups.unique()) == 3


def test_truth_numbers_annotators_and_limit(tmp_path, pictures):
    rows = [
        row | {"right": "ant", "one": i % 2, "two": int(i % 2 or i == 0)}
        for i, row in enumerate(pictures)
    ]
    data = read(write(tmp_path / "set.csv", rows), reading=Reading(truth="right", limit=5))
    assert len(data) == 5
    assert data.wrong.tolist() == [False, True, False, True, False]
    several = read(tmp_path / "set.csv", reading=Reading(label=("one", "two")))
    assert several.annotators == ("one", "two")
    assert several.votes[:3].tolist() == [[0, 1], [1, 1], [0, 0]]


def test_a_column_of_splits_gives_the_test_set(tmp_path, pictures):
    words = ["train", "train", "test", "val"]
    rows = [row | {"split": words[i // 2 % 4]} for i, row in enumerate(pictures)]
    path = write(tmp_path / "set.csv", rows)
    train, test = splits(path, Reading())
    assert (len(train), len(test)) == (8, 2)
    assert test.names.to_pylist() == ["pics/a/04.png", "pics/b/05.png"]
    assert test.classes == train.classes
    rows = [row | {"split": "valid" if i > 7 else "training"} for i, row in enumerate(pictures)]
    train, test = splits(write(tmp_path / "two.csv", rows), Reading())
    assert (len(train), len(test)) == (8, 4)
    rows[3]["split"] = "holdout"
    with pytest.raises(InputError, match=r"row 4 of .*three.csv is of the split 'holdout'"):
        db.load(write(tmp_path / "three.csv", rows))
    assert splits(write(tmp_path / "one.csv", pictures), Reading(holdout=0.0))[1] is None


def test_groups_of_a_column_stay_together(tmp_path, pictures):
    rows = [row | {"patient": f"p{i // 4}"} for i, row in enumerate(pictures)]
    path = write(tmp_path / "set.csv", rows)
    data = read(path, reading=Reading(group="patient"))
    assert len(data.groups.unique()) == 3
    assert len(data.groups[:4].unique()) == 1
    train, test = splits(path, Reading(group="patient", holdout=0.34))
    assert (len(train), len(test)) == (8, 4)
    assert not set(train.groups.tolist()) & set(test.groups.tolist())
    rows = [row | {"split": "test" if i % 4 > 1 else "train"} for i, row in enumerate(rows)]
    with pytest.raises(InputError, match="3 groups have images in the training split and in the"):
        splits(write(tmp_path / "both.csv", rows), Reading(group="patient"))
    rows[0]["patient"] = rows[1]["patient"] = ""
    write(tmp_path / "gaps.csv", [{k: v for k, v in row.items() if k != "split"} for row in rows])
    gaps = read(tmp_path / "gaps.csv", reading=Reading(group="patient"))
    assert len(gaps.groups.unique()) == 5, "an empty cell is a group of its own"
    with pytest.raises(InputError, match="no column for the group"):
        read(path, reading=Reading(group="camera"))


def test_paths_start_at_the_table_or_at_a_folder(tmp_path, pictures):
    (tmp_path / "tables").mkdir()
    path = write(tmp_path / "tables" / "set.csv", pictures)
    with pytest.raises(InputError, match=r"none of the images of .* is there: row 1 names pics/a"):
        db.load(path)
    assert len(read(path, reading=Reading(root=str(tmp_path)))) == 12
    absolute = [row | {"path": str(tmp_path / row["path"])} for row in pictures]
    write(path, absolute)
    with pytest.raises(InputError, match=r"row 1 of .* which is not in .*tables; name the folder"):
        db.load(path)
    data = read(path, reading=Reading(root=str(tmp_path)))
    assert data.names.to_pylist()[0] == "pics/a/00.png"
    with pytest.raises(InputError, match="there is no folder nowhere, from which"):
        read(path, reading=Reading(root="nowhere"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../secret.png,ant", "row 3 of .* names '../secret.png', which is not in"),
        ("/etc/passwd,ant", "row 3 of .* names '/etc/passwd', which is not in"),
        ("C:\\x.png,ant", "row 3 of .* which is not in"),
        ("pics/link.png,ant", "row 3 of .* names 'pics/link.png', which is not in"),
        (",ant", "row 3 of .* names no image"),
        ("pics/a/00.png,ant", "row 3 of .* names pics/a/00.png, as row 1 does"),
        ("pics/a/../a/00.png,ant", "as row 1 does"),
        ("pics/a/02.png,", "label -1|no label|missing"),
    ],
)
def test_bad_rows_are_named(tmp_path, pictures, row, message):
    os.symlink("/etc/hostname", tmp_path / "pics" / "link.png")
    text = lines(pictures[:2]) + row + "\n"
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        db.load(tmp_path / "set.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read|has no rows"),
        ("path,label\n", "has no rows"),
        ("path,path,label\na.png,b.png,ant\n", "twice|cannot be read"),
        ("path,label\na.png\n", "cannot be read"),
        ("size,label\n3,ant\n", "which column of .* is the image\\? there is: size, label"),
    ],
)
def test_bad_tables_are_told(tmp_path, text, message):
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        db.load(tmp_path / "set.csv")


def test_a_cut_parquet_and_broken_json_are_told(tmp_path, pictures):
    path = write(tmp_path / "set.parquet", pictures)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        db.load(path)
    (tmp_path / "set.jsonl").write_text('{"path": "x.png", "label": ')
    with pytest.raises(InputError, match="cannot be read"):
        db.load(tmp_path / "set.jsonl")


def test_a_picture_that_is_gone_or_broken_is_left_out(tmp_path, pictures, capsys):
    (tmp_path / pictures[3]["path"]).write_bytes(b"no picture")
    (tmp_path / pictures[5]["path"]).unlink()
    data = db.load(write(tmp_path / "set.csv", pictures))
    assert len(data) == 10
    assert {name for name, _ in data.aside} == {pictures[3]["path"], pictures[5]["path"]}


def test_a_table_is_trained_on_and_cleaned(tmp_path, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set.csv", [row | {"camera": i // 2} for i, row in enumerate(pictures)])
    words = ["train", "set.csv", "--group", "camera", "--out", "runs", "--epochs", "1", "--folds", "2",
             "--model", "mlp", "--batch-size", "4"]  # fmt: skip
    assert main(words) == 0
    run = db.Run("runs")
    assert run.data.groups is not None
    assert db.Run("runs").data.pixels.content(0) == (tmp_path / run.data.name(0)).read_bytes()
    verbs.judge(run, np.arange(float(len(run.data))), judge="top,share=0.1")
    verbs.clean(run, out=tmp_path / "cleaned")
    assert list((tmp_path / "cleaned").rglob("*.png"))
    assert main(["run", "runs", "--dry-run"]) == 0
    assert main(["load", "set.csv", "--label", "nothing"]) == 2
    recipe = verbs.train("set.csv", recipe=TINY.but(folds=0, epochs=1), out=tmp_path / "r")
    assert f"source: {tmp_path / 'set.csv'}" in (recipe.path / "recipe.yaml").read_text()


def test_groups_of_parquet_with_pictures_in_it(tmp_path, pictures):
    cells = [{"bytes": (tmp_path / row["path"]).read_bytes(), "path": None} for row in pictures]
    parquet.write_table(
        pa.table(
            {"image": cells, "label": [0, 1] * 6, "patient": [f"p{i // 3}" for i in range(12)]}
        ),
        tmp_path / "set.parquet",
    )
    data = read(tmp_path / "set.parquet", reading=Reading(group="patient"))
    assert len(data.groups.unique()) == 4
    assert len(data.groups[:3].unique()) == 1
    assert read(tmp_path / "set.parquet").groups is None
    with pytest.raises(InputError, match="no column for the group"):
        read(tmp_path / "set.parquet", reading=Reading(group="camera"))
