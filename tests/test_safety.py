"""What is read from a stranger: a run is data, and nothing leaves its folder."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY, blobs
from pyarrow import parquet

from datablame import Recipe, Run, verbs
from datablame.base import decode, doctor, methods, tables
from datablame.base.errors import InputError
from datablame.cli import main
from datablame.dataset import UNREADABLE
from datablame.dynamics.detector import Detector
from datablame.exchange import dynamics as recording
from datablame.inference import predictions
from datablame.inference.features import features

PAYLOAD = """
from pathlib import Path
Path({mark!r}).touch()

def net(shape):
    from datablame.methods.models.mlp import mlp
    return mlp(shape)
"""


@pytest.fixture
def foreign(run, tmp_path, monkeypatch):
    """A colleague's run whose recipe names the code that lies in it; `mark` appears when it runs."""
    import shutil

    home = tmp_path / "foreign"
    shutil.copytree(run.path, home)
    mark = tmp_path / "mark"
    (home / "payload.py").write_text(PAYLOAD.format(mark=str(mark)))
    about = json.loads((home / "run.json").read_text())
    about["recipe"]["model"] = "foreign.payload.net"
    (home / "run.json").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(methods, "TRUSTED", set())
    return home, mark


def test_opening_a_run_imports_nothing(foreign):
    home, mark = foreign
    for verb in (lambda: Run(home).recipe, lambda: verbs.explain(home, queries=1)):
        with pytest.raises(InputError, match=r"names code .*foreign\.payload\.net; .* --trust"):
            verb()
    done = subprocess.run(
        [sys.executable, "-m", "datablame", "explain", "foreign", "--method", "similarity"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "foreign.payload.net" in done.stderr
    assert not mark.exists()


def test_a_run_that_is_trusted_says_what_it_imports(foreign, capfd):
    home, mark = foreign
    assert Run(home, trust=True).recipe.model == "foreign.payload.net"
    assert "importing foreign.payload.net" in capfd.readouterr().err
    assert not mark.exists()
    assert Run(home).recipe.model == "foreign.payload.net", "trusted from here on"


def test_code_of_the_callers_own_needs_no_trust(tmp_path, monkeypatch):
    (tmp_path / "callers_lab.py").write_text(PAYLOAD.format(mark=str(tmp_path / "mark")))
    monkeypatch.syspath_prepend(str(tmp_path))
    run = verbs.train(
        blobs(), recipe=TINY.but(model="callers_lab.net", folds=0), out=tmp_path / "runs"
    )
    assert Run(run.path).recipe.model == "callers_lab.net"


@pytest.mark.parametrize("field", ["model", "head", "trainer"])
def test_a_recipe_file_names_no_code(field, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{field}: strangers.lab.thing\n")
    with pytest.raises(InputError, match=r"strangers\.lab\.thing; if you trust it"):
        Recipe.read(path)


@pytest.mark.parametrize(
    ("room", "name", "message"),
    [
        ("heads", "math.gcd", "is not a function or class of Python"),
        ("heads", "os.kill", "is not a function or class of Python"),
        ("signals", "os.getcwd", "is not a function"),
        ("signals", "os.sep", "is not a function"),
        ("judges", "shutil.disk_usage", r"cannot be a judge, which is called with \(run, scores\)"),
        ("trainers", "shutil.disk_usage", r"cannot be a trainer, which is called with \(\)"),
        ("models", "nowhere.to_be_found", "cannot import"),
    ],
)
def test_what_is_called_fits_its_room(room, name, message):
    with pytest.raises(InputError, match=message):
        methods.find(room, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 1.5", "epochs must be a whole number; got 1.5"),
        ("epochs: yes", "epochs must be a whole number"),
        ("lr: words", "lr must be a number; got 'words'"),
        ("lr: .nan", "lr must be"),
        ("lr: .inf", "lr must be"),
        ("seed: 1" + 40 * "0", "seed must be"),
        ("model: [a, b]", "model must be text; got list"),
        ("epochs: 100000000000", "epochs must be at most"),
    ],
)
def test_nonsense_in_a_recipe_is_refused(text, message, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Recipe.read(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digits", "--epochs", "1.5"], "a whole number is expected, got '1.5'"),
        (["train", "digits", "--seed", "1.5"], "a whole number is expected, got '1.5'"),
        (["train", "digits", "--lr", "nan"], "a finite number is expected, got 'nan'"),
        (["train", "digits", "--weight-decay", "inf"], "a finite number is expected, got 'inf'"),
        (["train", "digits", "--epochs", "100000000"], "epochs must be at most 100,000"),
        (["load", "digits", "--limit", 20 * "9"], "limit must be at most 2,147,483,647"),
        (["load", "digits", "--split", "nope"], "no split 'nope'"),
        (["load", "digits", "--split", "../x"], "no split '../x'"),
        (["agree", "RUN", "tracin", "influence", "--rows", "-1"], "rows must be at least 1"),
        (["explain", "RUN", "--rerank", "-1"], "rerank must be at least 0"),
        (["judge", "RUN", "--judge", "mixture,sure=nan"], "sure must be a finite number"),
        (["judge", "RUN", "--judge", "mixture,sure=1.5"], "sure must be at most 1"),
        (["train", "digits", "--schedule", "step,at=2"], "steps are at shares of training"),
        (["load", ""], "name a source"),
        (["load", "/dev/null"], "is not a file or a folder"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(words, message, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [str(run.path) if word == "RUN" else word for word in words]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def photos(tmp_path, png):
    """Two classes of photographs, and a secret next to them."""
    root = tmp_path / "photos"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(6):
            (root / name / f"{i}.png").write_bytes(png((40 * i, 200 * number, 90), (80, 80)))
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "private.png").write_bytes(png((1, 2, 3), (80, 80)))
    return root


@pytest.mark.parametrize("root", ["photos", "/"])
@pytest.mark.parametrize("name", ["../secret.txt", "../private.png", "ABSOLUTE", "cat/link.png"])
def test_export_takes_nothing_along_that_was_not_read(photos, tmp_path, root, name):
    data = verbs.load(photos)
    (photos / "cat" / "link.png").symlink_to(tmp_path / "private.png")
    name = str(tmp_path / "private.png").lstrip("/" * (root == "/")) if name == "ABSOLUTE" else name
    names = [name, *data.names.to_pylist()[1:]]
    home = str(photos) if root == "photos" else "/"
    foreign = dataclasses.replace(data, names=pa.array(names), root=None)
    run = Run.create(foreign, TINY, None, tmp_path / "runs")
    about = json.loads((run.path / "data" / "train.json").read_text())
    (run.path / "data" / "train.json").write_text(json.dumps(about | {"root": home}))
    if root == "/":  # everything lies in it
        with pytest.raises(InputError, match="lies in the source folder /"):
            verbs.export(run.path, tmp_path / "out")
        return
    verbs.export(run.path, tmp_path / "out")
    exported = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(exported) == 13
    assert b"secret" not in exported
    assert (tmp_path / "private.png").read_bytes() not in exported


def test_a_runs_images_are_those_that_it_was_made_on(photos, tmp_path):
    run = Run.create(verbs.load(photos), TINY, None, tmp_path / "runs")
    about = json.loads((run.path / "data" / "train.json").read_text())
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((12, 3, 64, 64), "uint8"))
    about["images"]["path"] = str(other)
    (run.path / "data" / "train.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"other\.npy does not hold the images of this set"):
        _ = Run(run.path).data


WRITERS = {
    "export.csv": lambda run, path: verbs.export(run, path),
    "export.parquet": lambda run, path: verbs.export(run, path),
    "export.npz": lambda run, path: verbs.export(run, path),
    "clean.parquet": lambda run, path: verbs.clean(run, out=path),
    "corrupt.parquet": lambda _, path: verbs.corrupt(blobs(), out=path),
    "teach.safetensors": lambda run, path: verbs.detector.teach(run, out=path, epochs=1),
}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_of_somebody_elses_is_overwritten(name, audited, tmp_path):
    path = tmp_path / f"mine{Path(name).suffix}"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="was not written by datablame"):
        WRITERS[name](audited, path)
    assert path.read_bytes() == b"mine"
    path.unlink()
    (tmp_path / path.name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="was not written by datablame"):
        WRITERS[name](audited, path)
    inside = audited.path / "scores" / path.name
    with pytest.raises(InputError, match="lies in the run"):
        WRITERS[name](audited, inside)
    assert not inside.exists()
    there = audited.path / {".csv": "verdict.csv", ".safetensors": "model.safetensors"}.get(
        path.suffix, f"examples{path.suffix}"
    )
    with pytest.raises(InputError, match="lies in the run"):
        WRITERS[name](audited, there)


def test_metadata_next_to_a_recording_is_not_overwritten(run, tmp_path):
    (tmp_path / "metadata.pth").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"metadata\.pth is there"):
        verbs.export(run, tmp_path / "x.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.pth"]


def test_what_was_written_here_is_written_again(run, tmp_path):
    for seed in range(2):
        noisy = verbs.corrupt(blobs(), seed=seed, out=tmp_path / "noisy.parquet")
    assert torch.equal(verbs.load(tmp_path / "noisy.parquet").labels, noisy.labels)


@pytest.mark.parametrize(
    "verb",
    [
        lambda photos: verbs.train(photos, out=photos),
        lambda photos: verbs.audit(photos, out=photos / "runs"),
        lambda photos: verbs.train(verbs.load(photos), out=photos / "cat"),
        lambda photos: verbs.corrupt(photos, out=photos / "noisy.parquet"),
        lambda photos: verbs.corrupt(verbs.load(photos), out=photos / "noisy"),
    ],
)
def test_nothing_is_written_among_the_images(verb, photos):
    before = sorted(photos.rglob("*"))
    with pytest.raises(InputError, match="lies in the source folder"):
        verb(photos)
    assert sorted(photos.rglob("*")) == before


@pytest.fixture
def mine(run, tmp_path):
    """A copy of a finished run, judged, whose files one may damage."""
    import shutil

    shutil.copytree(run.path, tmp_path / "mine")
    verbs.judge(tmp_path / "mine")
    return tmp_path / "mine"


def test_a_runs_files_are_checked_by_size_when_read_and_by_digest_by_the_doctor(mine, capsys):
    assert main(["doctor", str(mine)]) == 0
    assert "damaged" in capsys.readouterr().out
    weights = mine / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(["doctor", str(mine)]) == 1
    assert f"{weights}: the run cannot be used without it" in capsys.readouterr().out
    weights.write_bytes(whole + b"more")
    with pytest.raises(InputError, match=r"model\.safetensors is damaged \([\d,]+ bytes, written"):
        _ = Run(mine).model
    weights.unlink()
    assert main(["doctor", str(mine)]) == 0
    assert str(weights) in capsys.readouterr().out
    assert main(["doctor", str(mine / "scores")]) == 2
    assert main(["doctor", str(mine), "--bench"]) == 2
    (mine / "manifest.json").write_text("{")
    assert main(["doctor", str(mine)]) == 1
    assert "cannot be checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["scores/aum.npy", "heldout.npy", "test_probabilities.npy", "features.npy"]
)
@pytest.mark.parametrize("damage", ["cut", "text", "short", "nan"])
def test_what_is_derived_is_made_again(mine, name, damage, capfd):
    """Scores, features and probabilities that are cut, of another kind or shape, or no numbers."""
    path = mine / name
    verbs.score(mine)
    if name == "test_probabilities.npy":
        verbs.explain(mine, method="similarity", queries=2)
    right = np.load(path)
    wrong = {
        "text": np.array(["x"] * len(right)),
        "short": right[:-3],
        "nan": np.full_like(right, np.nan),
    }
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        np.save(path, wrong[damage])
    if damage == "nan" and name == "features.npy":
        return  # half precision may overflow: features are not refused for it
    asked = {
        "scores/aum.npy": lambda: verbs.score(mine, "aum").values.numpy(),
        "heldout.npy": lambda: verbs.judge(mine),
        "test_probabilities.npy": lambda: predictions.on_test(Run(mine)),
        "features.npy": lambda: features(Run(mine)),
    }[name]
    if name == "heldout.npy":  # its models were trained: train again, or say so
        with pytest.raises(InputError, match=r"heldout\.npy is damaged .* it is made again"):
            asked()
        return
    assert np.allclose(asked(), right, atol=1e-3)
    assert f"{name} is damaged" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is of format 2, written by a newer datablame"),
        ({"format": "x"}, r"run\.json is damaged \('format' is str\)"),
        ({"recipe": []}, r"run\.json is damaged \('recipe' is list\)"),
        ({"fingerprint": None}, r"run\.json is damaged \('fingerprint' is NoneType\)"),
    ],
)
def test_a_runs_description_is_checked(mine, change, message):
    about = json.loads((mine / "run.json").read_text())
    (mine / "run.json").write_text(json.dumps(about | change))
    with pytest.raises(InputError, match=message):
        _ = Run(mine).recipe


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", "{'a': 1}", '{"format": NaN}'])
def test_json_that_is_none_is_a_sentence(mine, text):
    (mine / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        _ = Run(mine).recipe


@pytest.mark.parametrize(
    ("column", "value"), [("row", -5), ("row", 10**6), ("label", 3), ("label", -1), ("truth", 9)]
)
def test_rows_and_labels_outside_the_set_are_noticed(mine, column, value):
    path = mine / "data" / "train.parquet"
    table = parquet.read_table(path)
    values = table[column].to_pylist()
    values[7] = value
    table = table.set_column(table.column_names.index(column), column, pa.array(values))
    parquet.write_table(table, path)
    (mine / "manifest.json").unlink()
    with pytest.raises(InputError, match=rf"train\.parquet is damaged \(column '{column}' goes"):
        _ = Run(mine).data


EDITS = {
    "twice": (lambda lines: [*lines, lines[1]], r"lines 2 and 92 judge the same example"),
    "given": (
        lambda lines: [lines[0], _cell(lines[1], 1, "left", "middle", "right"), *lines[2:]],
        "line 2: the given label is",
    ),
    "comma": (
        lambda lines: [lines[0], lines[1].replace(lines[1].split(",")[5], '"0,25"'), *lines[2:]],
        r"line 2: score is '0,25', which is no number",
    ),
    "words": (
        lambda lines: [*lines[:3], lines[3].replace(lines[3].split(",")[5], "high"), *lines[4:]],
        r"line 4: score is 'high', which is no number",
    ),
    "nan": (
        lambda lines: [*lines[:3], lines[3].replace(lines[3].split(",")[5], "nan"), *lines[4:]],
        r"line 4: score is 'nan', which is no number",
    ),
    "nul": (lambda lines: [lines[0], lines[1].replace("train", "tr\0in"), *lines[2:]], "line 2"),
    "cut": (lambda lines: [*lines[:4], lines[4][:9]], "is not a verdict"),
    "binary": (lambda lines: ["\xff\xfe\0"], "is not a verdict"),
}


def _cell(line, place, *others):
    cells = line.split(",")
    cells[place] = next(f'"{name}"' for name in others if name not in cells[place])
    return ",".join(cells)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_verdict_is_read_with_care(mine, edit):
    change, message = EDITS[edit]
    path = mine / "verdict.csv"
    lines = path.read_text().splitlines()
    path.write_bytes("\n".join(change(lines)).encode("latin-1") + b"\n")
    with pytest.raises(InputError, match=message):
        verbs.clean(mine, out=mine.parent / "clean.parquet")
    assert not (mine.parent / "clean.parquet").exists()


def test_rows_that_a_verdict_lacks_are_counted(mine, capfd):
    path = mine / "verdict.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:11]) + "\n")
    run = Run(mine)
    assert run.verdict is not None
    assert int((run.verdict.act != 0).sum()) <= 10
    assert "judges 10 of 90 examples: the others count as keep" in capfd.readouterr().err


def test_a_cleaned_set_keeps_its_classes_and_something(mine, tmp_path):
    path = mine / "verdict.csv"
    rows = path.read_text().splitlines()

    def edited(drop):
        return "\n".join(
            ",".join(
                c if k != 4 else ('"drop"' if drop(line) else '"keep"')
                for k, c in enumerate(line.split(","))
            )
            for line in rows[1:]
        )

    path.write_text(f"{rows[0]}\n{edited(lambda _: True)}\n")
    with pytest.raises(InputError, match="drops all 90 examples"):
        verbs.clean(mine, out=tmp_path / "a.parquet")
    path.write_text(
        f"{rows[0]}\n{edited(lambda line: line.split(',')[1] == chr(34) + 'left' + chr(34))}\n"
    )
    with pytest.raises(InputError, match=r"leaves no image of left; .* --lose-classes"):
        verbs.clean(mine, out=tmp_path / "a.parquet")
    assert len(verbs.clean(mine, out=tmp_path / "a.parquet", lose_classes=True)) < 90


def test_text_that_starts_a_formula_is_defused(tmp_path):

    risky = ["=1+1", "＝1", "＋1", "－1", "＠x", "\n=1", "+1", "-1", "@x", "\t=1"]  # noqa: RUF001
    text = tables.spreadsheet({"name": [*risky, "plain"]}).decode()
    assert text.count("\"'") == len(risky)


def test_images_in_large_binary_columns_are_read(tmp_path, png):
    bytes_ = [png((20 * i, 0, 0)) for i in range(12)]
    for kind in (pa.large_binary(), pa.binary()):
        table = pa.table({"image": pa.array(bytes_, kind), "label": [0, 1] * 6})
        parquet.write_table(table, tmp_path / f"{kind}.parquet")
    one, two = (verbs.load(tmp_path / f"{kind}.parquet") for kind in ("large_binary", "binary"))
    assert np.array_equal(one.batch(torch.arange(12))[0], two.batch(torch.arange(12))[0])
    struct = pa.array([{"bytes": b} for b in bytes_], pa.struct([("bytes", pa.large_binary())]))
    parquet.write_table(pa.table({"image": struct, "label": [0, 1] * 6}), tmp_path / "s.parquet")
    assert len(verbs.load(tmp_path / "s.parquet")) == 12


def test_one_odd_file_never_ends_a_set(photos, tmp_path, capfd):
    """A pipe, a device, links to nothing and in a circle, a folder called x.png, an empty file."""
    os.mkfifo(photos / "cat" / "pipe.png")
    (photos / "cat" / "device.png").symlink_to("/dev/zero")
    (photos / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    (photos / "dog" / "circle.png").symlink_to(photos / "dog" / "circle.png")
    (photos / "dog" / "folder.png").mkdir()
    (photos / "dog" / "empty.png").touch()
    (photos / "dog" / "text.jpg").write_text("no picture")
    with (photos / "dog" / "huge.bmp").open("wb") as file:
        file.truncate((1 << 30) + 1)
    data = verbs.load(photos)
    assert len(data) == 12
    names = [name for name, why in data.aside if why == UNREADABLE]
    assert len(names) == len(data.aside) == 8
    assert "left out 8 images that cannot be read" in capfd.readouterr().err
    run = verbs.train(data, recipe=TINY.but(epochs=1, folds=0), out=tmp_path / "runs")
    table = (run.path / "unreadable.csv").read_text()
    assert sorted(re.findall(r"\w+/\w+\.\w{3}", table)) == sorted(names)
    assert Run(run.path).data.aside == data.aside
    verbs.judge(run)
    assert "not read: 8 cannot be read; see unreadable.csv" in verbs.report(run).read_text()
    assert "not read   8 cannot be read: see unreadable.csv" in run.card


def test_a_file_that_vanishes_while_it_is_read_is_left_out(photos, monkeypatch):
    content = decode.content

    def vanishing(path):
        (photos / "dog" / "3.png").unlink(missing_ok=True)
        return content(path)

    monkeypatch.setattr(decode, "content", vanishing)
    assert verbs.load(photos).aside == (("dog/3.png", UNREADABLE),)


def _bad_parquet(path, png, damage):
    table = pa.table(
        {"image": [png((i, 0, 0)) for i in range(40)], "label": [i % 2 for i in range(40)]}
    )
    if damage == "labels":
        table = table.set_column(1, "label", pa.array([0] * 39 + [10**8]))
    if damage == "unsigned":
        table = table.set_column(1, "label", pa.array([0] * 39 + [2**64 - 1], pa.uint64()))
    if damage == "bytes":
        table = table.set_column(1, "label", pa.array([b"\xff\xfe"] * 40))
    if damage == "nulls":
        table = table.set_column(1, "label", pa.nulls(40))
    metadata = {
        "metadata": b"{not json",
        "names": json.dumps({"info": {"features": {"label": {"_type": "ClassLabel"}}}}).encode(),
        "list": b"[]",
        "deep": b"[" * 100_000,
    }.get(damage)
    if metadata:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    parquet.write_table(table, path, compression="none" if damage == "page" else "snappy")
    content = bytearray(path.read_bytes())
    if damage == "page":
        content[4:900] = bytes(896)
    if damage == "cut":
        content = content[: len(content) // 2]
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["labels", "unsigned", "bytes", "nulls", "page", "cut"])
def test_a_damaged_parquet_file_is_a_sentence(tmp_path, png, damage):
    _bad_parquet(tmp_path / "x.parquet", png, damage)
    with pytest.raises(InputError):
        verbs.load(tmp_path / "x.parquet")
    home = tmp_path / "several"
    home.mkdir()
    _bad_parquet(home / "train-0.parquet", png, "")
    _bad_parquet(home / "train-1.parquet", png, damage)
    with pytest.raises(InputError):
        verbs.load(home)


@pytest.mark.parametrize("damage", ["metadata", "names", "list", "deep"])
def test_hostile_metadata_is_left_aside(tmp_path, png, damage):
    _bad_parquet(tmp_path / "x.parquet", png, damage)
    assert len(verbs.load(tmp_path / "x.parquet")) == 40


def test_a_class_folder_whose_name_is_no_text_is_named(tmp_path, photos):
    os.mkdir(os.fsencode(photos) + b"/caf\xe9")
    with pytest.raises(InputError, match="name that is not UTF-8"):
        verbs.load(photos)


def test_nested_aliases_and_brackets_in_a_recipe_are_refused_at_once(tmp_path):
    path = tmp_path / "r.yaml"
    levels = ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))
    path.write_text(f"model: [&a0 [{', '.join('x' * 10)}], {levels}]\n")
    with pytest.raises(InputError, match="model must be text; got list"):
        Recipe.read(path)
    path.write_text("model: " + "[" * 3000)
    with pytest.raises(InputError, match="cannot read the recipe"):
        Recipe.read(path)
    path.write_bytes(b"model: caf\xe9\n")
    with pytest.raises(InputError, match="cannot read the recipe"):
        Recipe.read(path)


@pytest.mark.parametrize(
    "config", [{"members": 10**6}, {"hidden": 10**9}, {"points": 10**9}, {"views": "x" * 10**5}, 3]
)
def test_a_detector_that_asks_for_too_much_is_refused_before_it_is_built(tmp_path, config):
    from safetensors.torch import save_file

    path = tmp_path / "d.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"config": json.dumps(config), "about": "{}"})
    with pytest.raises(InputError):
        Detector.load(path)


def test_an_unexpected_error_is_one_sentence_and_a_file(monkeypatch, capfd, cache):
    monkeypatch.setattr(doctor, "doctor", lambda: {}["inside"])
    assert main(["doctor"]) == 1
    said = capfd.readouterr().err
    assert said.startswith("datablame: unexpected KeyError: 'inside' (this is a bug; ")
    assert "Traceback" not in said
    assert "KeyError: 'inside'" in (cache / "crash.txt").read_text()
    assert "torch" in (cache / "crash.txt").read_text()
    assert main(["doctor", "--verbose"]) == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"), "not enough"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "memory on the GPU, which others"),
        (
            RuntimeError("CUDA error: unspecified launch failure"),
            "DATABLAME_DEVICE=cpu, with --rec",
        ),
        (RecursionError("maximum recursion depth"), "nested too deeply"),
        (OSError(5, "Input/output error", "x.npy"), "x.npy: Input/output error"),
    ],
)
def test_errors_of_the_machine_have_sentences_of_their_own(error, words, monkeypatch, capfd):
    def broken():
        raise error

    monkeypatch.setattr(doctor, "doctor", broken)
    assert main(["doctor"]) == 1
    assert words in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["float16", "float32", "complex64", "U3"])
def test_a_recording_keeps_its_precision_and_holds_real_numbers(tmp_path, kind):
    td = np.full((4, 3, 2), 0.3).astype(kind)
    np.savez(tmp_path / "training_dynamics.npz", td=td, labels=np.array([[0, 1], [1, 0]] * 2))
    if kind.startswith("float"):
        assert recording.read(tmp_path / "training_dynamics.npz")[0].numpy().dtype == kind
    else:
        with pytest.raises(InputError, match="is not a recording of training dynamics"):
            recording.read(tmp_path / "training_dynamics.npz")


def test_a_file_of_the_users_is_not_told_to_be_made_again(tmp_path, capsys):
    """Only what lies in a run or in the cache is."""
    objects, names = tmp_path / "mine.npz", tmp_path / "mine.json"
    np.savez(objects, pred_probs=np.array([{}] * 9), labels=np.arange(9) % 3)
    names.write_text("[1")
    (tmp_path / "run.json").write_text("{}")  # of another tool
    for words in (("audit", objects), ("look", "digits", "--classes", names)):
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr().err
        assert f"{words[-1]} cannot be read (" in said
        assert "delete" not in said
        assert "allow_pickle" not in said


def test_the_doctor_needs_neither_the_cache_nor_the_set(audited, tmp_path, monkeypatch, capsys):
    path = tmp_path / "run"
    shutil.copytree(audited.path, path)
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "cache"))
    assert main(["doctor", str(path)]) == 0
    for name in ("data/train.json", "verdict.json"):
        (path / name).write_bytes((path / name).read_bytes()[:-9])
    capsys.readouterr()
    assert main(["doctor", str(path)]) == 1
    told = capsys.readouterr().out
    assert "train.json" in told
    assert "verdict.json" in told
