"""What is read from a stranger: a run is data, and nothing leaves its folder."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY, blobs

from datablame import Recipe, Run, verbs
from datablame.base import methods
from datablame.base.errors import InputError
from datablame.cli import main

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
    for _ in range(2):
        verbs.corrupt(blobs(), out=tmp_path / "noisy.parquet")


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
